// SPDX-License-Identifier: Apache-2.0
/*
 * What is kept of a run for --json, --junit and --artifacts, and the kernel's own tests.
 *
 * The kernel log comes twice, by the agent and on the console, and neither is all of it
 * (run/log.c). Tests in it are looked for in both; the one that had more results counts.
 * With `quiet` it is the agent's; when the kernel dies before there is an agent, the console's.
 *
 * The folder of --artifacts gets, under these names: kernel.log, stdout, stderr (all of it, as it
 * came), cmdline, report.json, junit.xml; and vmcore, when the guest dies. What an earlier run has
 * left there under these names is gone.
 *
 * #syscalls files: openat write close
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/run/kernel.h"
#include "vmm/run/record.h"
#include "vmm/run/trace.h"

#define REPORTS_MAX 4

/* A stream of the command's. */
struct stream {
	const char *name;
	int fd; /* in the folder; -1: none */
	struct run_tail tail;
};

struct run_record {
	const struct run_config *cfg;
	struct run_tracer tracer;
	bool wanted; /* there is a report */
	char release[RUN_RELEASE_MAX];
	char log[PATH_MAX], core[PATH_MAX]; /* in the folder, or empty */
	struct stream out, err;
	struct ktap *kmsg, *console, *output; /* the last: NULL unless wanted */
	struct run_report *report[REPORTS_MAX];
	unsigned nreports;
	char *tail[RUN_LOG_TAIL];
	unsigned ntail;
};

/* --- Opening --- */

static int path_in(const struct run_record *rec, const char *name, char path[PATH_MAX],
		   struct err *err)
{
	if (snprintf(path, PATH_MAX, "%s/%s", rec->cfg->artifacts, name) >= PATH_MAX)
		return err_set(err, ENAMETOOLONG, "--artifacts %s: the path is too long",
			       rec->cfg->artifacts);
	return 0;
}

static int open_in(const struct run_record *rec, const char *name, int *fd, struct err *err)
{
	char path[PATH_MAX];

	if (path_in(rec, name, path, err) < 0)
		return -err->code;
	*fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	return *fd < 0 ? err_sys(err, errno, "--artifacts: cannot open %s", path) : 0;
}

static int open_report(struct run_record *rec, const char *path, enum run_format format,
		       struct err *err)
{
	struct run_report *report;

	if (path == NULL || rec->cfg->vm.dry_run)
		return 0;
	report = run_report_open(path, format, err);
	if (report == NULL)
		return -err->code;
	rec->report[rec->nreports++] = report;
	rec->wanted = true;
	return 0;
}

static int open_artifacts(struct run_record *rec, struct err *err)
{
	const char *dir = rec->cfg->artifacts;
	char path[PATH_MAX];

	if (dir == NULL || rec->cfg->vm.dry_run)
		return 0;
	if (mkdir(dir, 0777) < 0 && errno != EEXIST)
		return err_sys(err, errno, "--artifacts %s: cannot make the folder", dir);
	if (path_in(rec, "kernel.log", rec->log, err) < 0 ||
	    open_in(rec, "stdout", &rec->out.fd, err) < 0 ||
	    open_in(rec, "stderr", &rec->err.fd, err) < 0 ||
	    path_in(rec, "vmcore", rec->core, err) < 0 ||
	    path_in(rec, "report.json", path, err) < 0 ||
	    open_report(rec, path, RUN_JSON, err) < 0 || path_in(rec, "junit.xml", path, err) < 0)
		return -err->code;
	if (unlink(rec->core) < 0 && errno != ENOENT)
		return err_sys(err, errno, "--artifacts: cannot remove the old %s", rec->core);
	return open_report(rec, path, RUN_JUNIT, err);
}

struct run_record *run_record_new(const struct run_config *cfg, struct broker *broker,
				  struct err *err)
{
	struct run_record *rec = calloc(1, sizeof(*rec));
	struct err ignored = ERR_INIT;

	if (rec == NULL) {
		err_sys(err, ENOMEM, "reports");
		return NULL;
	}
	rec->cfg = cfg;
	if (run_tracer_init(&rec->tracer, broker, err) < 0)
		goto fail;
	rec->out = (struct stream){ .name = "stdout", .fd = -1 };
	rec->err = (struct stream){ .name = "stderr", .fd = -1 };
	rec->kmsg = ktap_new(KTAP_KMSG);
	rec->console = ktap_new(KTAP_CONSOLE);
	if (open_report(rec, cfg->json, RUN_JSON, err) < 0 ||
	    open_report(rec, cfg->junit, RUN_JUNIT, err) < 0 || open_artifacts(rec, err) < 0)
		goto fail;
	if (rec->wanted)
		rec->output = ktap_new(KTAP_OUTPUT);
	if (rec->kmsg == NULL || rec->console == NULL || (rec->wanted && rec->output == NULL)) {
		err_sys(err, ENOMEM, "reports");
		goto fail;
	}
	if (rec->wanted)
		(void)arch_kernel_release(cfg->vm.machine.kernel, rec->release,
					  sizeof(rec->release), &ignored);
	return rec;
fail:
	run_record_free(rec);
	return NULL;
}

void run_record_free(struct run_record *rec)
{
	if (rec == NULL)
		return;
	for (unsigned i = 0; i < rec->nreports; i++)
		run_report_drop(rec->report[i]);
	for (unsigned i = 0; i < rec->ntail; i++)
		free(rec->tail[i]);
	if (rec->out.fd >= 0)
		close(rec->out.fd);
	if (rec->err.fd >= 0)
		close(rec->err.fd);
	run_tail_fini(&rec->out.tail);
	run_tail_fini(&rec->err.tail);
	ktap_free(rec->kmsg);
	ktap_free(rec->console);
	ktap_free(rec->output);
	free(rec);
}

const char *run_record_log(const struct run_record *rec)
{
	if (rec->cfg->log != NULL)
		return rec->cfg->log;
	return *rec->log != '\0' ? rec->log : NULL;
}

const char *run_record_core(const struct run_record *rec)
{
	return *rec->core != '\0' ? rec->core : NULL;
}

/* --- While it runs --- */

/* All of it, or a sentence once and no more of it. */
static void keep(struct stream *s, const char *data, size_t len)
{
	while (s->fd >= 0 && len > 0) {
		ssize_t n = write(s->fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_error("--artifacts: cannot write %s: %s; the rest of it is not kept",
				  s->name, strerrordesc_np(n < 0 ? errno : ENOSPC));
			close(s->fd);
			s->fd = -1;
			return;
		}
		data += n;
		len -= (size_t)n;
	}
}

void run_record_output(struct run_record *rec, bool err, const void *data, size_t len)
{
	struct stream *s = err ? &rec->err : &rec->out;

	if (!rec->wanted)
		return;
	run_tail_add(&s->tail, data, len);
	keep(s, data, len);
	if (!err)
		ktap_feed(rec->output, data, len);
}

void run_record_kmsg(struct run_record *rec, const char *data, size_t len)
{
	ktap_feed(rec->kmsg, data, len);
}

void run_record_console(struct run_record *rec, const char *data, size_t len)
{
	ktap_feed(rec->console, data, len);
}

/* --- After it --- */

static const struct ktap *log_tests(const struct run_record *rec)
{
	return ktap_ntests(rec->kmsg) >= ktap_ntests(rec->console) ? rec->kmsg : rec->console;
}

bool run_record_end(struct run_record *rec, char *text, size_t size)
{
	const struct ktap_test *first;
	const struct ktap_sum *sum;
	char path[256];

	ktap_end(rec->kmsg);
	ktap_end(rec->console);
	if (rec->output != NULL)
		ktap_end(rec->output);
	sum = ktap_sum(log_tests(rec));
	if (sum->failed == 0)
		return false;
	first = ktap_first_failed(log_tests(rec));
	snprintf(text, size, "%llu of the kernel's own %llu tests failed%s%s",
		 (unsigned long long)sum->failed, (unsigned long long)sum->total,
		 first != NULL ? ", first " : "",
		 first != NULL ? ktap_path(log_tests(rec), first, path, sizeof(path)) : "");
	return true;
}

static void keep_line(void *owner, const char *text)
{
	struct run_record *rec = owner;

	rec->tail[rec->ntail] = strdup(text);
	rec->ntail += rec->tail[rec->ntail] != NULL;
}

unsigned run_record_tail(struct run_record *rec, const struct run_log *log, char *const **lines)
{
	const char *kernel = rec->cfg->vm.machine.kernel;
	struct err ignored = ERR_INIT;

	if (rec->ntail == 0) {
		run_log_tail(log, keep_line, rec);
		if (rec->release[0] == '\0')
			(void)arch_kernel_release(kernel, rec->release, sizeof(rec->release),
						  &ignored);
		run_trace_decode(kernel, rec->release, rec->tail, rec->ntail, &rec->tracer);
	}
	*lines = rec->tail;
	return rec->ntail;
}

static int write_cmdline(struct run_record *rec, const char *cmdline, struct err *err)
{
	struct stream s = { .name = "cmdline" };

	if (rec->cfg->artifacts == NULL || cmdline == NULL)
		return 0;
	if (open_in(rec, s.name, &s.fd, err) < 0)
		return -err->code;
	keep(&s, cmdline, strlen(cmdline));
	keep(&s, "\n", 1);
	if (s.fd >= 0)
		close(s.fd);
	return 0;
}

int run_record_write(struct run_record *rec, struct run_result *result, const char *cmdline,
		     struct err *err)
{
	json_t *json;
	int r = 0;

	if (!rec->wanted)
		return 0;
	result->kernel = rec->cfg->vm.machine.kernel;
	result->release = *rec->release != '\0' ? rec->release : NULL;
	result->words = rec->cfg->words;
	result->log_tail = rec->tail;
	result->log_tail_n = rec->ntail;
	result->log_tests = log_tests(rec);
	result->output_tests = rec->output;
	result->out = &rec->out.tail;
	result->err = &rec->err.tail;
	result->artifacts = rec->cfg->artifacts;
	json = run_report_json(result);
	if (json == NULL)
		return err_sys(err, ENOMEM, "reports");
	for (unsigned i = 0; i < rec->nreports; i++) {
		struct run_report *report = rec->report[i];
		struct err e = ERR_INIT;

		rec->report[i] = NULL;
		if (run_report_add(report, json, &e) < 0)
			run_report_drop(report);
		else
			(void)run_report_close(report, result->status, &e);
		if (e.code != 0 && r == 0) {
			*err = e;
			r = -e.code;
		}
	}
	json_decref(json);
	if (r == 0)
		r = write_cmdline(rec, cmdline, err);
	return r;
}
