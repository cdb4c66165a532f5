// SPDX-License-Identifier: Apache-2.0
/*
 * What a VM's control group uses. The files are opened when the group is made, as the monitor may
 * be in an empty root later, and read from their beginning each time, which has the kernel write
 * them anew.
 *
 * #syscalls: pread64
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/cgroup/impl.h"

/* Tables, aligned by hand. */
/* clang-format off */

#define SUM(name, key, divisor) { name, key, divisor, false }
#define GAUGE(name)		    { name, NULL, 1, true }

/* Files that say what is used. @key stands before the number, or before each of those to be added up;
 * NULL: the file is the number. */
static const struct usage_file {
	unsigned version;
	const char *controller, *file;
	struct count {
		const char *name, *key;
		unsigned divisor;
		bool gauge;
	} counts[4];
} usage_files[] = {
	{ 2, "cpu", "cpu.stat", { SUM("cpu_usage_usec", "usage_usec", 1), SUM("cpu_nr_throttled", "nr_throttled", 1),
				  SUM("cpu_throttled_usec", "throttled_usec", 1) } },
	{ 2, "memory", "memory.current", { GAUGE("memory_current") } },
	{ 2, "memory", "memory.peak", { GAUGE("memory_peak") } },
	{ 2, "memory", "memory.events", { SUM("memory_events_high", "high", 1), SUM("memory_events_max", "max", 1),
					  SUM("memory_events_oom_kill", "oom_kill", 1) } },
	{ 2, "pids", "pids.current", { GAUGE("pids_current") } },
	{ 2, "pids", "pids.events", { SUM("pids_events_max", "max", 1) } },
	{ 2, "io", "io.stat", { SUM("io_rbytes", "rbytes", 1), SUM("io_wbytes", "wbytes", 1),
				SUM("io_rios", "rios", 1), SUM("io_wios", "wios", 1) } },
	{ 1, "cpuacct", "cpuacct.usage", { SUM("cpu_usage_usec", NULL, 1000) } },
	{ 1, "cpu", "cpu.stat", { SUM("cpu_nr_throttled", "nr_throttled", 1),
				  SUM("cpu_throttled_usec", "throttled_time", 1000) } },
	{ 1, "memory", "memory.usage_in_bytes", { GAUGE("memory_current") } },
	{ 1, "memory", "memory.max_usage_in_bytes", { GAUGE("memory_peak") } },
	{ 1, "memory", "memory.failcnt", { SUM("memory_events_max", NULL, 1) } },
	{ 1, "pids", "pids.current", { GAUGE("pids_current") } },
	{ 1, "pids", "pids.events", { SUM("pids_events_max", "max", 1) } },
	{ 1, "blkio", "blkio.throttle.io_service_bytes", { SUM("io_rbytes", "Read", 1), SUM("io_wbytes", "Write", 1) } },
	{ 1, "blkio", "blkio.throttle.io_serviced", { SUM("io_rios", "Read", 1), SUM("io_wios", "Write", 1) } },
};

/* clang-format on */

void vm_cgroup_open_usage(struct vm_cgroup *cg)
{
	for (size_t i = 0; i < sizeof(usage_files) / sizeof(usage_files[0]); i++) {
		const struct usage_file *file = &usage_files[i];
		const struct vm_cgroup_group *g = vm_cgroup_find(cg, file->controller);
		int fd;

		if (g == NULL || g->version != file->version || cg->nusage == CGROUP_USAGE_MAX)
			continue;
		fd = vm_cgroup_open(g->path, file->file, O_RDONLY);
		if (fd < 0) /* an older kernel */
			continue;
		cg->usage[cg->nusage].file = file;
		cg->usage[cg->nusage++].fd = fd;
	}
}

/* The numbers after @key in @text, added up; false: there is none. */
static bool read_count(const char *text, const char *key, uint64_t *sum)
{
	size_t len = key != NULL ? strlen(key) : 0;
	bool found = key == NULL;

	*sum = key == NULL ? strtoull(text, NULL, 10) : 0;
	for (const char *p = text; key != NULL && (p = strstr(p, key)) != NULL; p += len) {
		if ((p != text && p[-1] != ' ' && p[-1] != '\n') ||
		    (p[len] != ' ' && p[len] != '='))
			continue;
		*sum += strtoull(p + len + 1, NULL, 10);
		found = true;
	}
	return found;
}

unsigned vm_cgroup_usage(const struct vm_cgroup *cg,
			 struct vm_cgroup_count counts[VM_CGROUP_COUNTS])
{
	char text[8192];
	unsigned n = 0;

	for (unsigned i = 0; cg != NULL && i < cg->nusage; i++) {
		const struct usage_file *file = cg->usage[i].file;
		ssize_t len = pread(cg->usage[i].fd, text, sizeof(text) - 1, 0);

		text[len > 0 ? len : 0] = '\0';
		for (unsigned k = 0; len > 0 && k < 4 && file->counts[k].name != NULL; k++) {
			struct vm_cgroup_count *c = &counts[n];

			if (n == VM_CGROUP_COUNTS ||
			    !read_count(text, file->counts[k].key, &c->value))
				continue;
			c->name = file->counts[k].name;
			c->gauge = file->counts[k].gauge;
			c->value /= file->counts[k].divisor;
			n++;
		}
	}
	return n;
}

bool vm_cgroup_gauge(const char *name)
{
	for (size_t i = 0; i < sizeof(usage_files) / sizeof(usage_files[0]); i++)
		for (unsigned k = 0; k < 4 && usage_files[i].counts[k].name != NULL; k++)
			if (strcmp(usage_files[i].counts[k].name, name) == 0)
				return usage_files[i].counts[k].gauge;
	return false;
}
