/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's own messages: one line each, "vmm: ..." on stderr (or a file),
 * never into the guest's output.
 *
 * A line is composed in a buffer on the stack and leaves in one write(2), so
 * lines of several threads never mix and nothing is allocated. While the
 * terminal is in raw mode lines end in "\r\n" (log_set_raw). Messages that a
 * guest can cause must go through log_limited(), which lets at most
 * LOG_LIMIT_BURST lines through per LOG_LIMIT_SECONDS and place in the code and
 * then says how many were left out: a guest must not be able to fill a disk.
 *
 * One of the two files that are allowed mutable globals (main.c is the other).
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Show messages up to @level (default LOG_WARN). */
void log_set_level(enum log_level level);
/* Is @level shown? For work that is done only to be logged. */
bool log_enabled(enum log_level level);
/* Write to @fd (borrowed, default 2) from now on. */
void log_set_fd(int fd);
/* The terminal is in raw mode: end lines with "\r\n". */
void log_set_raw(bool raw);

/* One line; control characters in the text are replaced by '?'. Keeps errno. */
void log_print(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_print(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_print(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_print(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_DEBUG, __VA_ARGS__)

#define LOG_LIMIT_BURST	  5
#define LOG_LIMIT_SECONDS 10

struct log_limit {
	_Atomic uint64_t window;  /* CLOCK_MONOTONIC seconds when the window began */
	_Atomic uint32_t count;	  /* lines asked for in this window */
};

/* May one more line pass? Prints the "N similar messages left out" line itself. */
bool log_limit_pass(struct log_limit *limit);

/* log_print() for what a guest can cause; one limit per place in the code. */
#define log_limited(level, ...)                                     \
	do {                                                        \
		static struct log_limit limit_here_;                \
		if (log_enabled(level) && log_limit_pass(&limit_here_)) \
			log_print(level, __VA_ARGS__);              \
	} while (0)

#endif
