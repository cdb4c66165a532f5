/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of a `vmm run`, for programs: JSON and JUnit. See run/report.c and run/junit.c.
 */
#ifndef VMM_RUN_REPORT_H
#define VMM_RUN_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>
#include "vmm/base/err.h"
#include "vmm/run/ktap.h"

#define RUN_TAIL_SIZE (64u << 10) /* of each output stream, in reports */

/* How it ended. */
enum run_how {
	RUN_CANNOT,	  /* it could not be done */
	RUN_EXITED,	  /* the command returned */
	RUN_SIGNAL,	  /* a signal killed the command */
	RUN_NOT_EXECUTED, /* there is no such command, or it is no program */
	RUN_COMPLAINED,	  /* the command returned 0, the kernel log has what --fail-on names */
	RUN_TESTS_FAILED, /* the command returned 0, the kernel's own tests failed */
	RUN_PANIC,
	RUN_HANG,
	RUN_TIMEOUT,
	RUN_DIED,
	RUN_STOPPED, /* by whoever started it */
};

extern const char *const run_how_names[];

/* The end of a stream. */
struct run_tail {
	char *data; /* a ring of RUN_TAIL_SIZE; NULL: nothing came */
	uint64_t total;
};

/* The stream's next bytes. Out of memory: they are forgotten. */
void run_tail_add(struct run_tail *tail, const void *data, size_t len);
void run_tail_fini(struct run_tail *tail);

enum run_phase {
	RUN_PHASE_MONITOR, /* from the program's start to the guest's first instruction */
	RUN_PHASE_KERNEL,  /* to the agent's first word */
	RUN_PHASE_AGENT,   /* to the command's start */
	RUN_PHASE_COMMAND,
	RUN_PHASE_END, /* from the command's end to that of the VM */
	RUN_PHASES,
};

/* All that a report says; everything is borrowed, and any pointer may be NULL. */
struct run_result {
	const char *kernel, *release;
	char *const *words; /* the command */
	enum run_how how;
	int status, signal; /* the program's own status; signal: 0 if none */
	const char *sentence;
	double ms[RUN_PHASES], total_ms; /* negative: not reached */
	uint64_t log_lines;
	const char *complaint, *complaint_kind, *panic;
	char *const *log_tail; /* its last lines, when the kernel died */
	unsigned log_tail_n;
	const struct ktap *log_tests, *output_tests;
	const struct run_tail *out, *err;
	const char *artifacts;
};

/* As a JSON object, or NULL when out of memory. Text that is not UTF-8 is made so. */
json_t *run_report_json(const struct run_result *result);

/* --- Files of reports --- */

enum run_format { RUN_JSON, RUN_JUNIT };

struct run_report;

/*
 * A report on any number of runs. It is written beside @path and takes its place when closed, so
 * that nobody reads half of it; what is no regular file is written to at once. Sentences name the
 * option. NULL with @err filled.
 */
struct run_report *run_report_open(const char *path, enum run_format format, struct err *err);
/* One more of them, as run_report_json() made it. 0 or -code; then only dropping it is left. */
int run_report_add(struct run_report *report, const json_t *run, struct err *err);
/* @status: of the program. Frees @report. */
int run_report_close(struct run_report *report, int status, struct err *err);
/* Without a report, unless it is NULL. */
void run_report_drop(struct run_report *report);
/* In a forked process: it is the other's, which goes on with it. */
void run_report_forget(struct run_report *report);

/* Both of that for one run. @path may be NULL: nothing to be done. */
int run_report_write(const char *path, enum run_format format, const json_t *run, int status,
		     struct err *err);

/* --- run/junit.c --- */

/* The <testsuite> of @run. What cannot be written is found by ferror(). */
void run_junit_suite(FILE *file, const json_t *run);
/* @text with what XML cannot have replaced. */
void run_junit_text(FILE *file, const char *text);

#endif
