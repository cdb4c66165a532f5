/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of a run while it lasts, for its reports and --artifacts. See run/record.c.
 */
#ifndef VMM_RUN_RECORD_H
#define VMM_RUN_RECORD_H

#include "vmm/run/run.h"
#include "vmm/run/log.h"
#include "vmm/run/report.h"

struct run_record;

struct broker;

/*
 * Open what @cfg (borrowed) asks for: reports, the folder of --artifacts and the files in it. What
 * cannot be written is told before the guest runs. What has to be started later is started by
 * @broker. NULL with @err filled.
 */
struct run_record *run_record_new(const struct run_config *cfg, struct broker *broker,
				  struct err *err);
void run_record_free(struct run_record *rec);

/* The kernel log's file: --log, that in the folder of --artifacts, or NULL. */
const char *run_record_log(const struct run_record *rec);
/* Where --artifacts wants a core of a guest that dies, or NULL. Nothing is there yet. */
const char *run_record_core(const struct run_record *rec);

/* The command's output; @err: its standard error. */
void run_record_output(struct run_record *rec, bool err, const void *data, size_t len);
/* The kernel log, as to run/log.h. */
void run_record_kmsg(struct run_record *rec, const char *data, size_t len);
void run_record_console(struct run_record *rec, const char *data, size_t len);

/*
 * There will be no more. True when tests in the kernel log, KUnit's, have failed; then there is
 * a sentence on them in @text.
 */
bool run_record_end(struct run_record *rec, char *text, size_t size);
/* The last lines of @log, with file and line where that can be found out, until @rec is freed. */
unsigned run_record_tail(struct run_record *rec, const struct run_log *log, char *const **lines);

/*
 * Write the reports. What @rec has itself (kernel, command, tests, output, artifacts) is filled
 * in in @result. @cmdline (may be NULL): the kernel's.
 */
int run_record_write(struct run_record *rec, struct run_result *result, const char *cmdline,
		     struct err *err);

#endif
