/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's own messages: one line each, "vmm: ..." on stderr (or a file),
 * never into the guest's output.
 *
 * A line is composed in a buffer on the stack and leaves in one write(2), so
 * lines of several threads never mix and nothing is allocated. A line is at most
 * LOG_LINE_MAX bytes; a longer one ends in "...". While the terminal is in raw mode
 * lines end in "\r\n" (log_set_raw). A reader that does not read (a full pipe, a
 * terminal stopped by Ctrl-s) holds a line up for LOG_WAIT_MS once; after that lines
 * are dropped until there is room again, and then their number is said. A closed pipe
 * raises SIGPIPE: main.c ignores that signal.
 *
 * Messages that a guest can cause must go through log_limited(), which lets at most
 * LOG_LIMIT_BURST lines through per LOG_LIMIT_SECONDS and place in the code and says
 * how many were left out with the next line it lets through: a guest must not be able
 * to fill a disk.
 *
 * One of the two files that are allowed mutable globals (main.c is the other).
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LINE_MAX 1024
#define LOG_WAIT_MS  500

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Show messages up to @level (default LOG_WARN). */
void log_set_level(enum log_level level);
/* Is @level shown? For work that is done only to be logged. */
bool log_enabled(enum log_level level);
/* Begin lines with their level, "vmm: warning: ...". */
void log_set_show_level(bool show);
/* Write to @fd (borrowed, default 2) from now on; -1: nowhere. */
void log_set_fd(int fd);
int log_get_fd(void);
/* The terminal is in raw mode: end lines with "\r\n". */
void log_set_raw(bool raw);

/*
 * One line. Control characters and bytes that are not UTF-8 are replaced by '?': text
 * from a guest must not steer the terminal it is shown on. Keeps errno.
 */
void log_print(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_print(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_print(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_print(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_print(LOG_DEBUG, __VA_ARGS__)

#define LOG_LIMIT_BURST	  5
#define LOG_LIMIT_SECONDS 10

struct log_limit {
	/*
	 * CLOCK_MONOTONIC seconds when the window began << 32 | lines asked for in it.
	 * One word, so that a race between two threads cannot let a line too many through.
	 */
	_Atomic uint64_t state;
};

/* May one more line pass? Prints the "N similar messages left out" line itself. Any thread. */
bool log_limit_pass(struct log_limit *limit);

/* log_print() for what a guest can cause; one limit per place in the code. */
#define log_limited(level, ...)                                                                    \
	do {                                                                                       \
		static struct log_limit limit_here_;                                               \
		if (log_enabled(level) && log_limit_pass(&limit_here_))                            \
			log_print(level, __VA_ARGS__);                                             \
	} while (0)

#endif
