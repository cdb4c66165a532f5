/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of the host's resources a VM may use: a control group of its own (--cgroup, and --cpus
 * with a fraction), what it uses, and core scheduling. See group.c. Main thread.
 */
#ifndef VMM_CGROUP_CGROUP_H
#define VMM_CGROUP_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/base/opt.h"

struct vm_config;
struct vm_cgroup;

/* The option --cgroup; 0 or NULL: no such limit. */
struct vm_cgroup_config {
	char *parent;	     /* path of its parent below the mount; NULL: where the process is */
	uint64_t cpu_max;    /* thousandths of a CPU */
	uint64_t cpu_weight; /* 1 to 10000; others have 100 */
	char *cpuset;
	uint64_t memory_max, memory_high; /* bytes */
	uint64_t pids_max;
	char *io_max; /* MAJOR:MINOR KEY=N ..., parted by '+' */
	uint64_t io_weight;
};

extern const struct opt_key vm_cgroup_keys[];

/* Can it be right, as far as can be seen without looking at the host? 0 or -code. */
int vm_cgroup_check(const struct vm_cgroup_config *cfg, struct err *err);

/*
 * Make the group that @cfg asks for and move this process there; *@cgroup is NULL when it asks for
 * none. @proc is the folder with the files mounts and cgroup: /proc/self. 0 or -code; then the
 * process is where it was, and no group of the VM's is left.
 */
int vm_cgroup_new(struct vm_cgroup **cgroup, const struct vm_config *cfg, const char *proc,
		  struct err *err);
/* Back to where the process was, and the group is removed. NULL is good. */
void vm_cgroup_free(struct vm_cgroup *cgroup);

/* What is used, by version 2's names. A gauge goes up and down, the others only up. */
struct vm_cgroup_count {
	const char *name;
	uint64_t value;
	bool gauge;
};
#define VM_CGROUP_COUNTS 16
/* As many as the host's kernel knows; none with a @cgroup of NULL. */
unsigned vm_cgroup_usage(const struct vm_cgroup *cgroup,
			 struct vm_cgroup_count counts[VM_CGROUP_COUNTS]);
/* Is the count called @name a gauge? */
bool vm_cgroup_gauge(const char *name);

/* Other threads of a core run only threads of this process and its children, from now on. */
int vm_core_sched(struct err *err);

#endif
