/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: group.c makes the group, keeper.c removes it, limits.c has
 * the option and sets the limits, usage.c says what is used.
 */
#ifndef VMM_CGROUP_IMPL_H
#define VMM_CGROUP_IMPL_H

#include <limits.h>
#include <sys/types.h>
#include "vmm/cgroup/cgroup.h"

#define CGROUP_GROUPS_MAX 8
#define CGROUP_USAGE_MAX  16
#define MIB		  (1ULL << 20)

/* The VM's group in one hierarchy. */
struct vm_cgroup_group {
	unsigned version;
	char mount[PATH_MAX];
	char parent[PATH_MAX], path[PATH_MAX];
	char controllers[256]; /* that are needed of it: " cpu cpuacct" */
	char taken[256];       /* those its parent gives because of us: "-cpu -memory " */
	bool own_parent;       /* the parent is where the process was */
	bool made;
	/* Of the keeper, once there is one; -1 otherwise. */
	int dir;     /* the parent */
	int control; /* its cgroup.subtree_control, on version 2 */
	int back;    /* cgroup.procs of where the process was */
};

struct vm_cgroup {
	const struct vm_cgroup_config *cfg;
	const char *proc;
	uint64_t cpu_max; /* thousandths of a CPU; 0: no limit */
	char name[NAME_MAX + 1];
	struct vm_cgroup_group groups[CGROUP_GROUPS_MAX];
	unsigned n;
	struct {
		const struct usage_file *file;
		int fd;
	} usage[CGROUP_USAGE_MAX];
	unsigned nusage;
	int keeper; /* the pipe to it; its end tells it to remove what is left */
	pid_t keeper_pid;
};

/* Is there any limit? */
bool vm_cgroup_asked_for(const struct vm_cgroup_config *cfg);
/* The group with @controller, or NULL. */
struct vm_cgroup_group *vm_cgroup_find(struct vm_cgroup *cg, const char *controller);
/* @file of group @path, or -1. */
int vm_cgroup_open(const char *path, const char *file, int flags);
/* Set the limits: the groups with their controllers are there. */
int vm_cgroup_limit(struct vm_cgroup *cg, struct err *err);
/* Open what says what is used. */
void vm_cgroup_open_usage(struct vm_cgroup *cg);
/* Start the process that removes the groups when this one ends. */
int vm_cgroup_start_keeper(struct vm_cgroup *cg, struct err *err);
/* Back to where the process was, and the groups are removed: by the keeper, if there is one. */
void vm_cgroup_leave(struct vm_cgroup *cg);

#endif
