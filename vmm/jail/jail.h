/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmm jail`: starts a monitor as another user, in an empty root of its own. Takes the options of
 * Firecracker's jailer, leaves the same files in the same places (its docs/jailer.md), and can
 * start this program as well as that. See jail.c for the order of things.
 */
#ifndef VMM_JAIL_JAIL_H
#define VMM_JAIL_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "vmm/base/err.h"
#include "vmm/base/opt.h"

/* Its options; the table ends with name == NULL. */
extern const struct opt jail_options[];

/* What jail_main() returns when it was asked for help. */
#define JAIL_HELP 1000

/*
 * The command: argv[0] is the first option. On success the program asked for takes this process'
 * place, or, where it got one of its own (--new-pid-ns; --daemonize by the leader of a process
 * group), it runs there and 0 is returned. Otherwise JAIL_HELP, -code, or in a process that was to
 * become the program the exit status to end with: its parent says what was wrong.
 */
int jail_main(int argc, char **argv, struct err *err);

/* --- The root (root.c) --- */

struct jail_root {
	char *path;	      /* BASE/NAME/ID/root, malloc'ed */
	const char *name;     /* of the program, its last path component; not owned */
	int fd;		      /* the root */
	int program, pidfile; /* in it: O_PATH, and for writing */
};

/*
 * Makes the folders, or takes those that are there, and in them a copy of @program, an open file,
 * as @name, dev/kvm and the other devices, and an empty NAME.pid. All belongs to @uid and @gid but
 * the copy and NAME.pid. Links that are there are not followed: whoever was in the jail before may
 * have left some. Fill @root with -1 and NULL before; jail_root_close() after success and failure.
 */
int jail_root_make(struct jail_root *root, const char *base, const char *name, const char *id,
		   int program, uid_t uid, gid_t gid, struct err *err);
/*
 * In new namespaces of mounts, System V IPC and host names, makes @root the only thing that can be
 * seen, and goes there.
 */
int jail_root_enter(const struct jail_root *root, struct err *err);
void jail_root_close(struct jail_root *root);

/* --- Control groups (cgroup.c) --- */

struct jail_cgroups {
	const char *mounts; /* the table of mounts: /proc/self/mounts */
	unsigned version;   /* 1, 2, or 0: wherever the controller is */
	const char *parent; /* relative path of the groups' parent */
	bool parent_given;
	const char *id;
	const char *const *settings; /* FILE=VALUE */
	size_t n;
};

/* Is @setting, as far as can be seen without looking at the host's hierarchies, FILE=VALUE? */
int jail_cgroup_check(const char *setting, struct err *err);
/*
 * Makes the groups PARENT/ID that the settings need, writes them, and moves this process there.
 * Without settings it goes into PARENT, which must be there, if version 2 and a parent were given.
 */
int jail_cgroups_enter(const struct jail_cgroups *groups, struct err *err);

#endif
