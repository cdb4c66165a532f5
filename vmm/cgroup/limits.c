// SPDX-License-Identifier: Apache-2.0
/*
 * The option --cgroup, and the files its limits are written to: cgroup-v2.rst, "Controllers";
 * version 1: cgroup-v1/memory.rst, blkio-controller.rst, pids.rst, and
 * Documentation/scheduler/sched-bwc.rst.
 *
 * #syscalls: none once the guest runs
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/cgroup.h"
#include "vmm/cgroup/impl.h"

#define PERIOD_US 100000 /* of cpu.max, as is usual */

/* Tables, aligned by hand. */
/* clang-format off */

#define KEY(name_, type_, field, ...)                                                      \
	{ .name = name_, .type = type_, .offset = offsetof(struct vm_cgroup_config, field), \
	  __VA_ARGS__ }

const struct opt_key vm_cgroup_keys[] = {
	KEY("parent", OPT_STR, parent, .arg = "PATH",
	    .help = "the group it is made in, by its path below the mount; that of the process if not given"),
	KEY("cpu-max", OPT_MILLI, cpu_max, .arg = "N", .min = 10, .max = 100000000,
	    .help = "CPU time, in CPUs: 0.5 is half a one"),
	KEY("cpu-weight", OPT_UINT, cpu_weight, .arg = "N", .min = 1, .max = 10000,
	    .help = "share of CPU time when there is not enough; 100 is what others have"),
	KEY("cpuset", OPT_STR, cpuset, .arg = "LIST",
	    .help = "the CPUs it may run on: 0-3, or one of several parts by \"\\,\""),
	KEY("memory-max", OPT_SIZE, memory_max, .arg = "SIZE", .min = MIB,
	    .help = "memory, the monitor's (some MiB) and page tables included; who exceeds it is killed"),
	KEY("memory-high", OPT_SIZE, memory_high, .arg = "SIZE", .min = MIB,
	    .help = "memory above which it is slowed down"),
	KEY("pids-max", OPT_UINT, pids_max, .arg = "N", .min = 1, .max = INT32_MAX,
	    .help = "processes and threads, the monitor's included: some 4, and one for each vCPU"),
	KEY("io-max", OPT_STR, io_max, .arg = "LIMITS",
	    .help = "bytes or requests in a second by device: \"8:0 rbps=1048576 wiops=100\"; more devices after a +"),
	KEY("io-weight", OPT_UINT, io_weight, .arg = "N", .min = 1, .max = 10000,
	    .help = "share of disk time when there is not enough; 100 is what others have"),
	{ 0 }
};

/* clang-format on */

/* "8:0 rbps=1 wiops=max", of which @text has more after each '+'. */
static bool is_io_max(const char *text)
{
	static const char *const keys[] = { "rbps=", "wbps=", "riops=", "wiops=", NULL };

	for (const char *p = text;; p++) {
		size_t n = strspn(p, "0123456789"), words = 0;

		if (n == 0 || p[n] != ':' || strspn(p + n + 1, "0123456789") == 0)
			return false;
		p += n + 1;
		p += strspn(p, "0123456789");
		for (; *p == ' '; words++) {
			const char *const *key = keys;

			p++;
			while (*key != NULL && strncmp(p, *key, strlen(*key)) != 0)
				key++;
			if (*key == NULL)
				return false;
			p += strlen(*key);
			n = strncmp(p, "max", 3) == 0 ? 3 : strspn(p, "0123456789");
			if (n == 0)
				return false;
			p += n;
		}
		if (words == 0 || (*p != '+' && *p != '\0'))
			return false;
		if (*p == '\0')
			return true;
	}
}

bool vm_cgroup_asked_for(const struct vm_cgroup_config *cfg)
{
	return cfg->cpu_max != 0 || cfg->cpu_weight != 0 || cfg->cpuset != NULL ||
	       cfg->memory_max != 0 || cfg->memory_high != 0 || cfg->pids_max != 0 ||
	       cfg->io_max != NULL || cfg->io_weight != 0;
}

int vm_cgroup_check(const struct vm_cgroup_config *cfg, struct err *err)
{
	if (cfg->parent != NULL && !cgroup_is_path(cfg->parent))
		return err_set(err, EINVAL,
			       "parent: '%.200s' is not a relative path without . and ..",
			       cfg->parent);
	if (cfg->cpuset != NULL &&
	    (*cfg->cpuset == '\0' || strspn(cfg->cpuset, "0123456789,-") != strlen(cfg->cpuset)))
		return err_set(err, EINVAL, "cpuset: '%.100s' is not a list of CPUs, such as 0-3",
			       cfg->cpuset);
	if (cfg->io_max != NULL && !is_io_max(cfg->io_max))
		return err_set(err, EINVAL,
			       "io-max: '%.100s' is not MAJOR:MINOR and rbps=, wbps=, riops= or "
			       "wiops=, such as 8:0 rbps=1048576",
			       cfg->io_max);
	if (cfg->parent != NULL && !vm_cgroup_asked_for(cfg))
		return err_set(err, EINVAL,
			       "there is a parent, but no limit; give one, such as cpu-max=1");
	return 0;
}

static int set(const struct vm_cgroup_group *g, const char *file, struct err *err, const char *fmt,
	       ...) __attribute__((format(printf, 4, 5)));
static int set(const struct vm_cgroup_group *g, const char *file, struct err *err, const char *fmt,
	       ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return cgroup_write(g->path, file, text, err);
}

static int no_such(const char *key, const char *instead, struct err *err)
{
	return err_set(err, ENOTSUP,
		       "cgroup: this host's control groups are of version 1, which has no %s%s%s",
		       key, instead != NULL ? "; use " : "; leave it out",
		       instead != NULL ? instead : "");
}

static int limit_cpu(const struct vm_cgroup *cg, const struct vm_cgroup_group *g, struct err *err)
{
	unsigned long long quota = cg->cpu_max * PERIOD_US / 1000, weight = cg->cfg->cpu_weight;

	if (g->version == 2)
		return (quota != 0 && set(g, "cpu.max", err, "%llu %u", quota, PERIOD_US) < 0) ||
				       (weight != 0 &&
					set(g, "cpu.weight", err, "%llu", weight) < 0)
			       ? -err->code
			       : 0;
	/* What weight 100 is in version 2, 1024 is here (kernel/sched/core.c,
	 * cpu_weight_write_u64). */
	return (quota != 0 && (set(g, "cpu.cfs_period_us", err, "%u", PERIOD_US) < 0 ||
			       set(g, "cpu.cfs_quota_us", err, "%llu", quota) < 0)) ||
			       (weight != 0 &&
				set(g, "cpu.shares", err, "%llu", (weight * 1024 + 50) / 100) < 0)
		       ? -err->code
		       : 0;
}

static int limit_memory(const struct vm_cgroup_config *cfg, const struct vm_cgroup_group *g,
			struct err *err)
{
	unsigned long long max = cfg->memory_max, high = cfg->memory_high;

	if (g->version == 1 && high != 0)
		return no_such("memory-high", "memory-max", err);
	if (high != 0 && set(g, "memory.high", err, "%llu", high) < 0)
		return -err->code;
	if (max == 0)
		return 0;
	return set(g, g->version == 2 ? "memory.max" : "memory.limit_in_bytes", err, "%llu", max);
}

/* One device of io-max on version 1: a file for each of its limits. */
static int limit_io_1(const struct vm_cgroup_group *g, char *words, struct err *err)
{
	static const struct {
		const char *key, *file;
	} files[] = {
		{ "rbps", "blkio.throttle.read_bps_device" },
		{ "wbps", "blkio.throttle.write_bps_device" },
		{ "riops", "blkio.throttle.read_iops_device" },
		{ "wiops", "blkio.throttle.write_iops_device" },
	};
	const char *device = strsep(&words, " ");

	for (char *value, *key; (value = strsep(&words, " ")) != NULL;) {
		size_t i = 0;

		key = strsep(&value, "=");
		while (strcmp(files[i].key, key) != 0)
			i++;
		if (set(g, files[i].file, err, "%s %s", device,
			strcmp(value, "max") == 0 ? "0" : value) < 0)
			return -err->code;
	}
	return 0;
}

static int limit_io(const struct vm_cgroup_config *cfg, const struct vm_cgroup_group *g,
		    struct err *err)
{
	char *copy = cfg->io_max != NULL ? strdup(cfg->io_max) : NULL, *rest = copy, *words;
	int r = 0;

	if (cfg->io_max != NULL && copy == NULL)
		return err_set(err, ENOMEM, "no memory for a cgroup");
	while (r == 0 && (words = strsep(&rest, "+")) != NULL)
		r = g->version == 2 ? set(g, "io.max", err, "%s", words)
				    : limit_io_1(g, words, err);
	free(copy);
	if (r < 0 || cfg->io_weight == 0)
		return r;
	if (g->version == 1)
		return no_such("io-weight", NULL, err);
	return set(g, "io.weight", err, "%llu", (unsigned long long)cfg->io_weight);
}

int vm_cgroup_limit(struct vm_cgroup *cg, struct err *err)
{
	const struct vm_cgroup_config *cfg = cg->cfg;
	const struct vm_cgroup_group *cpu = vm_cgroup_find(cg, "cpu"),
				     *memory = vm_cgroup_find(cg, "memory"),
				     *io = vm_cgroup_find(cg, "io");

	if (io == NULL)
		io = vm_cgroup_find(cg, "blkio");
	if ((cpu != NULL && limit_cpu(cg, cpu, err) < 0) ||
	    (cfg->cpuset != NULL &&
	     set(vm_cgroup_find(cg, "cpuset"), "cpuset.cpus", err, "%s", cfg->cpuset) < 0) ||
	    (memory != NULL && limit_memory(cfg, memory, err) < 0) ||
	    (io != NULL && limit_io(cfg, io, err) < 0) ||
	    (cfg->pids_max != 0 && set(vm_cgroup_find(cg, "pids"), "pids.max", err, "%llu",
				       (unsigned long long)cfg->pids_max) < 0))
		return -err->code;
	return 0;
}
