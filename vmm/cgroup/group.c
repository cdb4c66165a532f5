// SPDX-License-Identifier: Apache-2.0
/*
 * A VM's own control group (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/).
 *
 * It is PARENT/vmm-NAME: on version 2 one group, on version 1 one in each hierarchy whose
 * controller is needed. The process moves itself there before there is guest memory (pages stay
 * with the group that first touched them), and so do the processes and kernel threads it starts.
 *
 * Version 2 gives controllers only to groups whose parent has no processes of its own, so a
 * process that is alone in its group (a scope or service that was delegated to it) goes into the
 * new one before it asks for controllers, and takes them back before it returns.
 *
 * Leaving. The process has to go back to where it came from, as a group with processes cannot be
 * removed, and one that is killed, by the kernel because of memory.max say, cannot. So a second
 * process, the keeper, waits in the group for the end of the first, moves it out and removes the
 * group: keeper.c.
 *
 * Core scheduling: Documentation/admin-guide/hw-vuln/core-scheduling.rst.
 *
 * Limits: guest and monitor are not told apart, as all controllers but cpu, cpuset and pids want
 * whole processes. Nothing is frozen while a VM is paused: the monitor must answer, and vCPUs sleep
 * anyway. Killed together with its keeper it leaves an empty group, which the next VM of that
 * name takes.
 *
 * #syscalls: close
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "vmm/base/cgroup.h"
#include "vmm/base/log.h"
#include "vmm/cgroup/impl.h"
#include "vmm/config.h"

/* Where this process is in the hierarchy of @g that has @controller, to @path. proc_pid_cgroup(5)
 */
static int find_own(const struct vm_cgroup *cg, const struct vm_cgroup_group *g,
		    const char *controller, char path[PATH_MAX], struct err *err)
{
	char file[PATH_MAX], line[2 * PATH_MAX];
	bool found = false;
	FILE *table;

	snprintf(file, sizeof(file), "%s/cgroup", cg->proc);
	table = fopen(file, "re");
	while (table != NULL && !found && fgets(line, sizeof(line), table) != NULL) {
		char *rest = line, *id = strsep(&rest, ":"), *has = strsep(&rest, ":");

		if (rest == NULL)
			continue;
		rest[strcspn(rest, "\n")] = '\0';
		found = g->version == 2 ? strcmp(id, "0") == 0 && *has == '\0'
					: cgroup_has_word(has, controller, ",");
		if (strcmp(rest, "/") == 0)
			*rest = '\0';
		/* "/..": it is outside of its namespace, and the path would lead anywhere. */
		found = found && (*rest == '\0' || cgroup_is_path(rest + 1)) &&
			snprintf(path, PATH_MAX, "%s%s", g->mount, rest) < PATH_MAX;
	}
	if (table != NULL)
		fclose(table);
	if (!found)
		return err_set(err, ENOENT,
			       "cgroup: cannot find the group of this process in %.200s", g->mount);
	return 0;
}

int vm_cgroup_open(const char *path, const char *file, int flags)
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "%s/%s", path, file) >= (int)sizeof(name))
		return -1;
	return open(name, flags | O_CLOEXEC);
}

/* Make the group of @g and go there. On version 2 it has no controllers yet. */
static int enter(struct vm_cgroup *cg, struct vm_cgroup_group *g, const char *controller,
		 struct err *err)
{
	const char *first = g->version == 2 ? "cgroup" : controller;
	char own[PATH_MAX];

	if (find_own(cg, g, controller, own, err) < 0)
		return -err->code;
	strcpy(g->parent, cg->cfg->parent != NULL ? g->mount : own);
	if (cg->cfg->parent != NULL &&
	    cgroup_make(g->parent, cg->cfg->parent, first, g->version, err) < 0)
		return -err->code;
	g->own_parent = strcmp(g->parent, own) == 0;
	if (snprintf(g->path, PATH_MAX, "%s/%s", g->parent, cg->name) >= PATH_MAX)
		return err_set(err, ENAMETOOLONG, "cgroup: path too long");
	/* One that was left behind goes, with its limits; one with somebody in it stays. */
	if (rmdir(g->path) < 0 && errno == EBUSY)
		return err_set(err, EBUSY,
			       "cgroup: %.300s is in use: a VM of that name runs; give another "
			       "--name",
			       g->path);
	strcpy(g->path, g->parent);
	if (cgroup_make(g->path, cg->name, first, g->version, err) < 0)
		return -err->code;
	g->made = true;
	g->dir = open(g->parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	g->back = vm_cgroup_open(own, "cgroup.procs", O_WRONLY);
	if (g->version == 2)
		g->control = vm_cgroup_open(g->parent, "cgroup.subtree_control", O_WRONLY);
	return cgroup_write(g->path, "cgroup.procs", "0", err); /* whoever writes it */
}

/* Have the group @g of version 2, where the process is, get @controller. */
static int take(struct vm_cgroup *cg, struct vm_cgroup_group *g, const char *controller,
		struct err *err)
{
	/* From the mount on only where a path from there was named. */
	const char *from = cg->cfg->parent != NULL ? g->mount : g->parent;
	char path[PATH_MAX], has[1024];

	cgroup_read(g->path, "cgroup.controllers", has, sizeof(has));
	if (cgroup_has_word(has, controller, " "))
		return 0;
	strcpy(path, from);
	if (cgroup_make(path, g->path + strlen(from), controller, 2, err) < 0) {
		if (err->code == EBUSY)
			return err_set(
				err, EBUSY,
				"cgroup: %.200s has other processes in it, so that groups in "
				"it cannot have the controller '%s'; name another one by "
				"parent=PATH",
				path, controller);
		if (err->code == ENOENT)
			return err_set(err, ENOENT,
				       "cgroup: %.200s does not have the controller '%s' to give",
				       path, controller);
		return -err->code;
	}
	if (g->own_parent)
		snprintf(g->taken + strlen(g->taken), sizeof(g->taken) - strlen(g->taken), "-%s ",
			 controller);
	return 0;
}

struct vm_cgroup_group *vm_cgroup_find(struct vm_cgroup *cg, const char *controller)
{
	for (unsigned i = 0; i < cg->n; i++)
		if (cgroup_has_word(cg->groups[i].controllers, controller, " "))
			return &cg->groups[i];
	return NULL;
}

/* There is to be a group with @controller, and the process in it. */
static int need(struct vm_cgroup *cg, const char *controller, struct err *err)
{
	char mounts[PATH_MAX], mount[PATH_MAX];
	struct vm_cgroup_group *g = cg->groups;
	int version;

	snprintf(mounts, sizeof(mounts), "%s/mounts", cg->proc);
	version = cgroup_find(mounts, 0, controller, mount, err);
	if (version < 0)
		return version;
	while (g < cg->groups + cg->n && strcmp(g->mount, mount) != 0)
		g++;
	if (g == cg->groups + cg->n) {
		if (cg->n == CGROUP_GROUPS_MAX)
			return err_set(err, E2BIG, "cgroup: too many hierarchies");
		cg->n++;
		*g = (struct vm_cgroup_group){
			.version = (unsigned)version, .dir = -1, .control = -1, .back = -1
		};
		strcpy(g->mount, mount);
		if (enter(cg, g, controller, err) < 0)
			return -err->code;
	}
	snprintf(g->controllers + strlen(g->controllers),
		 sizeof(g->controllers) - strlen(g->controllers), " %s", controller);
	return version == 2 ? take(cg, g, controller, err) : 0;
}

static int need_all(struct vm_cgroup *cg, struct err *err)
{
	const struct vm_cgroup_config *cfg = cg->cfg;
	struct err none = ERR_INIT;

	if (cg->cpu_max != 0 || cfg->cpu_weight != 0) {
		if (need(cg, "cpu", err) < 0)
			return -err->code;
		/* Who only counts, in version 1. */
		if (vm_cgroup_find(cg, "cpu")->version == 1 && need(cg, "cpuacct", &none) < 0 &&
		    none.code != ENOENT)
			return err_set(err, none.code, "%s", none.msg);
	}
	if ((cfg->cpuset != NULL && need(cg, "cpuset", err) < 0) ||
	    ((cfg->memory_max != 0 || cfg->memory_high != 0) && need(cg, "memory", err) < 0) ||
	    (cfg->pids_max != 0 && need(cg, "pids", err) < 0))
		return -err->code;
	if (cfg->io_max == NULL && cfg->io_weight == 0)
		return 0;
	if (need(cg, "blkio", &none) == 0) /* its name in version 1 */
		return 0;
	return none.code == ENOENT ? need(cg, "io", err) : err_set(err, none.code, "%s", none.msg);
}

void vm_cgroup_free(struct vm_cgroup *cg)
{
	if (cg == NULL)
		return;
	vm_cgroup_leave(cg);
	for (unsigned i = 0; i < cg->nusage; i++)
		close(cg->usage[i].fd);
	free(cg);
}

static int make(struct vm_cgroup *cg, const struct vm_config *cfg, struct err *err)
{
	if (cfg->name == NULL)
		snprintf(cg->name, sizeof(cg->name), "vmm-%d", getpid());
	else if (strchr(cfg->name, '/') != NULL ||
		 snprintf(cg->name, sizeof(cg->name), "vmm-%s", cfg->name) >= (int)sizeof(cg->name))
		return err_set(err, EINVAL,
			       "cgroup: '%.100s' cannot be the name of one; give another --name",
			       cfg->name);
	if (need_all(cg, err) < 0 || vm_cgroup_start_keeper(cg, err) < 0 ||
	    vm_cgroup_limit(cg, err) < 0)
		return -err->code;
	vm_cgroup_open_usage(cg);
	return 0;
}

int vm_cgroup_new(struct vm_cgroup **cgroup, const struct vm_config *cfg, const char *proc,
		  struct err *err)
{
	const struct vm_cgroup_config *c = &cfg->cgroup;
	uint64_t share = cfg->machine.cpus.share % 1000 != 0 ? cfg->machine.cpus.share : 0;
	struct vm_cgroup *cg;
	struct err why;

	*cgroup = NULL;
	if (!vm_cgroup_asked_for(c) && share == 0)
		return 0;
	cg = calloc(1, sizeof(*cg));
	if (cg == NULL)
		return err_set(err, ENOMEM, "no memory for a cgroup");
	cg->cfg = c;
	cg->proc = proc;
	cg->keeper = -1;
	cg->cpu_max = c->cpu_max != 0 ? c->cpu_max : share;
	if (make(cg, cfg, err) < 0) {
		why = *err;
		if (why.code == EACCES || why.code == EPERM || why.code == EROFS)
			err_set(err, why.code, "%.330s; %s", why.msg,
				cg->groups[0].version == 1
					? "version 1 of control groups is for root"
					: "an ordinary user needs a group that was delegated: "
					  "systemd-run --user --scope -p Delegate=yes vmm ...");
		vm_cgroup_free(cg);
		return vm_cgroup_asked_for(c) ? -err->code
					      : err_context(err, "--cpus with a fraction");
	}
	if (c->memory_max != 0 && c->memory_max < cfg->machine.mem.size)
		log_warn(
			"--cgroup: memory-max is %llu MiB, less than the guest's memory of %llu MiB: "
			"if it uses that, the VM is killed",
			(unsigned long long)(c->memory_max / MIB),
			(unsigned long long)(cfg->machine.mem.size / MIB));
	*cgroup = cg;
	return 0;
}

/* --- Core scheduling --- */

int vm_core_sched(struct err *err)
{
	if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0) == 0)
		return 0;
	if (errno == ENODEV)
		return err_set(err, ENODEV,
			       "--core-sched: this host's cores have one thread each, or SMT is "
			       "off: nobody shares them; leave it out");
	if (errno == EINVAL)
		return err_set(
			err, EINVAL,
			"--core-sched: this host's kernel has no core scheduling (Linux 5.14, "
			"CONFIG_SCHED_CORE)");
	return err_sys(err, errno, "--core-sched");
}
