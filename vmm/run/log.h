/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel log of a guest: kept, written to a file, searched for complaints. See run/log.c.
 */
#ifndef VMM_RUN_LOG_H
#define VMM_RUN_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"

#define RUN_LOG_LINE 1024 /* bytes of a line; the rest is cut */
#define RUN_LOG_TAIL 50	  /* lines kept to be shown */

struct run_log;

/*
 * @path: write it there, too (NULL: not). @fail_on: the kinds of complaints that count, as in the
 * option --fail-on (NULL: none). Sentences name the option.
 */
struct run_log *run_log_new(const char *path, const char *fail_on, struct err *err);
void run_log_free(struct run_log *log);

/* Records as /dev/kmsg gives them, cut anywhere. */
void run_log_kmsg(struct run_log *log, const char *data, size_t len);
/* What the kernel printed on its console, cut anywhere. */
void run_log_console(struct run_log *log, const char *data, size_t len);
/* There will be no more: what only the console had is added. */
void run_log_end(struct run_log *log);

/* The last RUN_LOG_TAIL lines: call @line for each. */
void run_log_tail(const struct run_log *log, void (*line)(void *owner, const char *text),
		  void *owner);
/* The first complaint that counts: its line, and its kind in *@kind; NULL: there was none. */
const char *run_log_complaint(const struct run_log *log, const char **kind);
/* The first line of a panic; NULL: there was none. */
const char *run_log_panic(const struct run_log *log);
/* Lines seen. */
uint64_t run_log_lines(const struct run_log *log);

#endif
