// SPDX-License-Identifier: Apache-2.0
/*
 * Reports of `vmm run`: what became of it as JSON, and the files it is written to.
 *
 * Theory of operation. A run becomes one JSON object, of which a JSON report has a list; a JUnit
 * report is made from the same object (run/junit.c). So a matrix of runs, each of them a process
 * of its own that writes an object to a file, makes its report from those. Objects are written as
 * they come: many runs take no memory.
 *
 * What the guest said is text of any kind. Bytes that are not UTF-8, and NUL, become U+FFFD.
 * Streams are kept to their last 64 KiB, results of tests to what run/ktap.h says.
 *
 * #syscalls spawn: openat newfstatat fstat write close rename unlink uname fcntl
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "arch/arch.h"
#include "vmm/run/report.h"

const char *const run_how_names[] = { "cannot",	    "exited",	    "signal", "not-executed",
				      "complained", "tests-failed", "panic",  "hang",
				      "timeout",    "died",	    "stopped" };

static const char *const phase_names[RUN_PHASES] = { "monitor", "kernel", "agent", "command",
						     "end" };

/* --- Text --- */

void run_tail_add(struct run_tail *tail, const void *data, size_t len)
{
	const char *from = data;
	size_t at, piece;

	if (tail->data == NULL)
		tail->data = malloc(RUN_TAIL_SIZE);
	if (tail->data == NULL)
		return;
	if (len > RUN_TAIL_SIZE) {
		tail->total += len - RUN_TAIL_SIZE;
		from += len - RUN_TAIL_SIZE;
		len = RUN_TAIL_SIZE;
	}
	at = tail->total % RUN_TAIL_SIZE;
	piece = RUN_TAIL_SIZE - at < len ? RUN_TAIL_SIZE - at : len;
	memcpy(tail->data + at, from, piece);
	memcpy(tail->data, from + piece, len - piece);
	tail->total += len;
}

void run_tail_fini(struct run_tail *tail)
{
	free(tail->data);
	*tail = (struct run_tail){ 0 };
}

/* The length of the UTF-8 character at @p, of which @left bytes are there; 0: it is none. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	/* The second byte says whether it is too long a form, a surrogate, or too large. */
	unsigned char low = 0x80, high = 0xbf;
	size_t len = *p < 0x80	 ? 1
		     : *p < 0xc2 ? 0
		     : *p < 0xe0 ? 2
		     : *p < 0xf0 ? 3
		     : *p < 0xf5 ? 4
				 : 0;

	if (len > left)
		return 0;
	if (*p == 0xe0)
		low = 0xa0;
	else if (*p == 0xed)
		high = 0x9f;
	else if (*p == 0xf0)
		low = 0x90;
	else if (*p == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
		if (p[i] < low || p[i] > high)
			return 0;
	return len;
}

/* A JSON string of any bytes; NULL when out of memory. */
static json_t *text_json(const char *text, size_t len)
{
	static const char replacement[] = "\xef\xbf\xbd";
	char *clean = malloc(3 * len + 1);
	size_t n = 0;
	json_t *json;

	if (clean == NULL)
		return NULL;
	while (len > 0) {
		size_t c = *text != '\0' ? utf8_len((const unsigned char *)text, len) : 0;

		memcpy(clean + n, c > 0 ? text : replacement, c > 0 ? c : 3);
		n += c > 0 ? c : 3;
		text += c > 0 ? c : 1;
		len -= c > 0 ? c : 1;
	}
	json = json_stringn(clean, n);
	free(clean);
	return json;
}

static json_t *string_json(const char *text)
{
	return text_json(text, strlen(text));
}

/* What is kept of a stream; from the first whole character on. */
static json_t *tail_json(const struct run_tail *tail)
{
	size_t len = tail->total < RUN_TAIL_SIZE ? tail->total : RUN_TAIL_SIZE, skip = 0;
	size_t at = tail->total > len ? tail->total % RUN_TAIL_SIZE : 0;
	char *text = malloc(len + 1);
	json_t *json;

	if (text == NULL)
		return NULL;
	memcpy(text, tail->data + at, len - at);
	memcpy(text + len - at, tail->data, at);
	while (tail->total > len && skip < 3 && ((unsigned char)text[skip] & 0xc0) == 0x80)
		skip++;
	json = text_json(text + skip, len - skip);
	free(text);
	return json;
}

/* --- The object --- */

static void set_text(json_t *to, const char *key, const char *text)
{
	if (text != NULL)
		json_object_set_new(to, key, string_json(text));
}

static void set_count(json_t *to, const char *key, uint64_t value)
{
	json_object_set_new(to, key, json_integer((json_int_t)value));
}

/* To a thousandth: more would be noise. */
static void set_ms(json_t *to, const char *key, double ms)
{
	if (ms >= 0)
		json_object_set_new(to, key, json_real((double)(int64_t)(ms * 1000 + 0.5) / 1000));
}

static void add_results(json_t *to, const struct ktap *k, const char *from)
{
	for (size_t i = 0; i < ktap_ntests(k); i++) {
		const struct ktap_test *test = ktap_test(k, i);
		char path[1024];
		json_t *json;

		if (!test->counts)
			continue;
		json = json_object();
		set_text(json, "from", from);
		if (test->parent != KTAP_NO_PARENT)
			set_text(json, "suite",
				 ktap_path(k, ktap_test(k, test->parent), path, sizeof(path)));
		set_text(json, "name", test->name);
		set_text(json, "result", ktap_result_names[test->result]);
		set_text(json, "why", test->why);
		set_text(json, "text", test->diag);
		json_array_append_new(to, json);
	}
}

/* Of the kernel log and the output. NULL when there was none. */
static json_t *tests_json(const struct run_result *r)
{
	const struct ktap *from[] = { r->log_tests, r->output_tests };
	static const char *const names[] = { "kernel-log", "stdout" };
	struct ktap_sum sum = { 0 };
	json_t *json, *results;

	for (unsigned i = 0; i < 2; i++) {
		const struct ktap_sum *s = from[i] != NULL ? ktap_sum(from[i]) : NULL;

		if (s == NULL)
			continue;
		for (unsigned k = 0; k < KTAP_RESULTS; k++)
			sum.results[k] += s->results[k];
		sum.total += s->total;
		sum.failed += s->failed;
		sum.dropped += s->dropped;
		sum.wrong_numbers += s->wrong_numbers;
	}
	if (sum.total == 0)
		return NULL;
	json = json_object();
	results = json_array();
	set_count(json, "total", sum.total);
	set_count(json, "failed", sum.failed);
	for (unsigned k = 0; k < KTAP_RESULTS; k++)
		set_count(json, ktap_result_names[k], sum.results[k]);
	set_count(json, "dropped", sum.dropped);
	set_count(json, "wrong_numbers", sum.wrong_numbers);
	for (unsigned i = 0; i < 2; i++)
		if (from[i] != NULL)
			add_results(results, from[i], names[i]);
	json_object_set_new(json, "results", results);
	return json;
}

static json_t *log_json(const struct run_result *r)
{
	json_t *json = json_object(), *complaint, *tail;

	set_count(json, "lines", r->log_lines);
	if (r->complaint != NULL) {
		complaint = json_object();
		set_text(complaint, "kind", r->complaint_kind);
		set_text(complaint, "line", r->complaint);
		json_object_set_new(json, "complaint", complaint);
	}
	set_text(json, "panic", r->panic);
	if (r->log_tail_n > 0) {
		tail = json_array();
		for (unsigned i = 0; i < r->log_tail_n; i++)
			json_array_append_new(tail, string_json(r->log_tail[i]));
		json_object_set_new(json, "tail", tail);
	}
	return json;
}

json_t *run_report_json(const struct run_result *r)
{
	json_t *json = json_object(), *part = json_object(), *tests;

	if (json == NULL || part == NULL) {
		json_decref(json);
		json_decref(part);
		return NULL;
	}
	set_text(part, "path", r->kernel);
	set_text(part, "release", r->release);
	json_object_set_new(json, "kernel", part);
	part = json_array();
	for (char *const *word = r->words; word != NULL && *word != NULL; word++)
		json_array_append_new(part, string_json(*word));
	json_object_set_new(json, "command", part);
	set_count(json, "status", (uint64_t)r->status);
	set_text(json, "how", run_how_names[r->how]);
	if (r->signal > 0)
		set_count(json, "signal", (uint64_t)r->signal);
	set_text(json, "sentence", r->sentence);

	part = json_object();
	for (unsigned i = 0; i < RUN_PHASES; i++)
		set_ms(part, phase_names[i], r->ms[i]);
	set_ms(part, "total", r->total_ms);
	json_object_set_new(json, "times_ms", part);
	json_object_set_new(json, "log", log_json(r));
	tests = tests_json(r);
	if (tests != NULL)
		json_object_set_new(json, "tests", tests);
	part = json_object();
	if (r->out != NULL && r->out->data != NULL)
		json_object_set_new(part, "stdout", tail_json(r->out));
	if (r->err != NULL && r->err->data != NULL)
		json_object_set_new(part, "stderr", tail_json(r->err));
	json_object_set_new(json, "output", part);
	set_text(json, "artifacts", r->artifacts);
	return json;
}

/* --- Files --- */

struct run_report {
	enum run_format format;
	char *path, *temporary; /* NULL: it is written in place */
	FILE *file;
	unsigned n;
};

static json_t *host_json(void)
{
	struct utsname name;
	json_t *json = json_object();
	const char *why;

	uname(&name);
	set_text(json, "name", name.nodename);
	set_text(json, "release", name.release);
	set_text(json, "machine", name.machine);
	set_count(json, "cpus", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
	json_object_set_new(json, "hardware_virtualisation", json_boolean(arch_host_native(&why)));
	return json;
}

static void begin(struct run_report *report)
{
	json_t *host;

	if (report->format == RUN_JUNIT) {
		fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"vmm run\">\n",
		      report->file);
		return;
	}
	host = host_json();
	fputs("{\n\"vmm\": \"" VMM_VERSION "\",\n\"host\": ", report->file);
	json_dumpf(host, report->file, JSON_INDENT(2));
	fputs(",\n\"runs\": [", report->file);
	json_decref(host);
}

static const char *option_of(enum run_format format)
{
	return format == RUN_JSON ? "--json" : "--junit";
}

/* The temporary file beside it; or itself when it is a pipe, a terminal, a device. */
static int open_file(struct run_report *report, struct err *err)
{
	const char *option = option_of(report->format), *path = report->path;
	struct stat st;
	int fd;

	if (stat(path, &st) < 0 || S_ISREG(st.st_mode)) {
		if (asprintf(&report->temporary, "%s.%d.tmp", path, (int)getpid()) < 0) {
			report->temporary = NULL;
			return err_sys(err, ENOMEM, "%s", option);
		}
		path = report->temporary;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (fd < 0)
		return err_sys(err, errno, "%s %s: cannot open %s", option, report->path, path);
	report->file = fdopen(fd, "w");
	if (report->file == NULL) {
		close(fd);
		return err_sys(err, ENOMEM, "%s", option);
	}
	return 0;
}

static int failed(struct run_report *report, int code, struct err *err)
{
	return err_sys(err, code, "%s %s: cannot write", option_of(report->format), report->path);
}

struct run_report *run_report_open(const char *path, enum run_format format, struct err *err)
{
	struct run_report *report = calloc(1, sizeof(*report));

	if (report == NULL || (report->path = strdup(path)) == NULL) {
		err_sys(err, ENOMEM, "%s", option_of(format));
		free(report);
		return NULL;
	}
	report->format = format;
	if (open_file(report, err) < 0) {
		run_report_drop(report);
		return NULL;
	}
	begin(report);
	/* What cannot be written is told early, and a process that is forked has nothing to write.
	 */
	if (fflush(report->file) != 0) {
		failed(report, errno, err);
		run_report_drop(report);
		return NULL;
	}
	return report;
}

int run_report_add(struct run_report *report, const json_t *run, struct err *err)
{
	if (report->format == RUN_JUNIT) {
		run_junit_suite(report->file, run);
	} else {
		fputs(report->n > 0 ? ",\n" : "\n", report->file);
		if (json_dumpf(run, report->file, JSON_INDENT(2)) < 0)
			return failed(report, errno != 0 ? errno : EIO, err);
	}
	report->n++;
	return fflush(report->file) != 0 ? failed(report, errno, err) : 0;
}

int run_report_close(struct run_report *report, int status, struct err *err)
{
	bool good;
	int r = 0;

	if (report->format == RUN_JUNIT)
		fputs("</testsuites>\n", report->file);
	else
		fprintf(report->file, "\n],\n\"status\": %d\n}\n", status);
	good = fflush(report->file) == 0 && !ferror(report->file);
	if (fclose(report->file) != 0 || !good)
		r = failed(report, errno != 0 ? errno : EIO, err);
	report->file = NULL;
	if (r == 0 && report->temporary != NULL) {
		if (rename(report->temporary, report->path) < 0) {
			r = failed(report, errno, err);
		} else {
			free(report->temporary);
			report->temporary = NULL;
		}
	}
	run_report_drop(report);
	return r;
}

void run_report_drop(struct run_report *report)
{
	if (report == NULL)
		return;
	if (report->file != NULL)
		fclose(report->file);
	if (report->temporary != NULL)
		unlink(report->temporary);
	free(report->temporary);
	free(report->path);
	free(report);
}

void run_report_forget(struct run_report *report)
{
	if (report == NULL)
		return;
	free(report->temporary);
	report->temporary = NULL;
	run_report_drop(report);
}

int run_report_write(const char *path, enum run_format format, const json_t *run, int status,
		     struct err *err)
{
	struct run_report *report;

	if (path == NULL)
		return 0;
	report = run_report_open(path, format, err);
	if (report == NULL)
		return -err->code;
	if (run_report_add(report, run, err) < 0) {
		run_report_drop(report);
		return -err->code;
	}
	return run_report_close(report, status, err);
}
