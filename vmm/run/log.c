// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel log of a guest under `vmm run`.
 *
 * Theory of operation. It comes twice. The agent passes on all records of /dev/kmsg, as text
 * with its time, but not what the kernel says while it dies. The console has that, but with
 * `quiet` little else. So records are the log, and lines of the console wait: one that comes as a
 * record, too, is dropped, and what still waits at the end is the end of the log. Both have the
 * same text, "[    1.234567] ...".
 *
 * The guest is hostile: lines are cut, waiting lines are bounded, and whoever shows a line makes it
 * printable (log_print() does). Of those that wait too long, as with --verbose while there is no
 * agent yet, the oldest go to the log; of them only hashes are kept, by which their records are
 * known. Both come in the same order.
 *
 * Limits: with CONFIG_PRINTK_CALLER the two texts differ, and what is on the console is in the
 * log twice. So are lines that wait when PASSED_MAX others have passed.
 *
 * #syscalls: write close
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/base/opt.h"
#include "vmm/run/log.h"

#define WAITING_MAX 256	  /* lines of the console */
#define PASSED_MAX  16384 /* hashes of such */
#define AHEAD_MAX   64	  /* lines of the console that no record may have, between two that have */
#define NKINDS	    12

/* What the kernel prints when something is wrong; the words of Linux 6.x. */
static const struct {
	const char *kind, *words;
} complaints[] = {
	{ "kasan", "BUG: KASAN:" },
	{ "kcsan", "BUG: KCSAN:" },
	{ "kmsan", "BUG: KMSAN:" },
	{ "lockup", "BUG: soft lockup" },
	{ "lockup", "hard LOCKUP" },
	{ "oops", "BUG: unable to handle" },
	{ "oops", "BUG: kernel NULL pointer dereference" },
	{ "oops", "Oops: " },
	{ "oops", "general protection fault" },
	{ "oops", "kernel BUG at" },
	{ "lockdep", "WARNING: possible recursive locking" },
	{ "lockdep", "WARNING: possible circular locking" },
	{ "lockdep", "WARNING: possible irq lock inversion" },
	{ "lockdep", "WARNING: inconsistent lock state" },
	{ "lockdep", "WARNING: bad unlock balance" },
	{ "lockdep", "WARNING: suspicious RCU usage" },
	{ "lockdep", "BUG: Invalid wait context" },
	{ "bug", "BUG: " },
	{ "warn", "WARNING: " },
	{ "ubsan", "UBSAN: " },
	{ "rcu", "rcu: INFO: rcu_" },
	{ "rcu", "self-detected stall on CPU" },
	{ "hung", "blocked for more than" },
	{ "leak", "kmemleak: " },
};

static const char *const kinds[NKINDS + 1] = { "oops",	"bug",	 "warn",   "lockdep",
					       "kasan", "ubsan", "kcsan",  "kmsan",
					       "rcu",	"hung",	 "lockup", "leak" };

static const char panic_words[] = "Kernel panic - not syncing";

/* A line that is being put together. */
struct line {
	char text[RUN_LOG_LINE];
	size_t len;
};

struct run_log {
	int fd;		 /* -1: no file */
	unsigned counts; /* kinds that count, by bit */
	uint64_t lines;
	struct line kmsg, console;
	char *tail[RUN_LOG_TAIL]; /* a ring; the oldest is at lines % RUN_LOG_TAIL */
	char *waiting[WAITING_MAX];
	unsigned nwaiting;
	uint64_t passed[PASSED_MAX]; /* a ring: line number i is at i % PASSED_MAX */
	uint64_t passed_first, passed_end;
	char *complaint, *panic;
	const char *kind;
};

static int parse_kinds(struct run_log *log, const char *list, struct err *err)
{
	while (*list != '\0') {
		size_t len = strcspn(list, ",");
		char word[16] = "";
		unsigned i;

		snprintf(word, sizeof(word), "%.*s", (int)len, list);
		for (i = 0; i < NKINDS && strcmp(word, kinds[i]) != 0; i++)
			;
		if (strcmp(word, "all") == 0) {
			log->counts = (1u << NKINDS) - 1;
		} else if (i < NKINDS) {
			log->counts |= 1u << i;
		} else {
			const char *near = opt_nearest(word, kinds);

			return err_set(
				err, EINVAL,
				"--fail-on: '%s' is not one of oops, bug, warn, lockdep, kasan, "
				"ubsan, kcsan, kmsan, rcu, hung, lockup, leak, all%s%s%s",
				word, near != NULL ? "; did you mean '" : "",
				near != NULL ? near : "", near != NULL ? "'?" : "");
		}
		list += len + (list[len] == ',');
	}
	return 0;
}

struct run_log *run_log_new(const char *path, const char *fail_on, struct err *err)
{
	struct run_log *log = calloc(1, sizeof(*log));

	if (log == NULL) {
		err_sys(err, ENOMEM, "the kernel log");
		return NULL;
	}
	log->fd = -1;
	if (fail_on != NULL && parse_kinds(log, fail_on, err) < 0)
		goto fail;
	if (path != NULL) {
		log->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
		if (log->fd < 0) {
			err_sys(err, errno, "--log %s: cannot open", path);
			goto fail;
		}
	}
	return log;
fail:
	run_log_free(log);
	return NULL;
}

void run_log_free(struct run_log *log)
{
	if (log == NULL)
		return;
	if (log->fd >= 0)
		close(log->fd);
	for (unsigned i = 0; i < RUN_LOG_TAIL; i++)
		free(log->tail[i]);
	for (unsigned i = 0; i < log->nwaiting; i++)
		free(log->waiting[i]);
	free(log->complaint);
	free(log->panic);
	free(log);
}

static unsigned kind_bit(const char *kind)
{
	for (unsigned i = 0; i < NKINDS; i++)
		if (strcmp(kind, kinds[i]) == 0)
			return 1u << i;
	return 0;
}

static void look_for_complaints(struct run_log *log, const char *text)
{
	if (log->panic == NULL && strstr(text, panic_words) != NULL)
		log->panic = strdup(text);
	for (size_t i = 0; log->complaint == NULL && i < sizeof(complaints) / sizeof(complaints[0]);
	     i++) {
		if (strstr(text, complaints[i].words) == NULL)
			continue;
		/* A special kind is the general one as well: a KASAN report is a bug. */
		if ((log->counts & kind_bit(complaints[i].kind)) != 0) {
			log->complaint = strdup(text);
			log->kind = complaints[i].kind;
		}
	}
}

/* One line more of the log. Takes @text, which is malloc'ed. */
static void add(struct run_log *log, char *text)
{
	char **place = &log->tail[log->lines++ % RUN_LOG_TAIL];
	size_t len = strlen(text);

	look_for_complaints(log, text);
	if (log->fd >= 0) {
		text[len] = '\n'; /* for the moment: one write */
		(void)!write(log->fd, text, len + 1);
		text[len] = '\0';
	}
	free(*place);
	*place = text;
}

/* FNV-1a. A guest that makes two lines of one hash loses one of them. */
static uint64_t hash(const char *text)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	for (; *text != '\0'; text++)
		h = (h ^ (uint8_t)*text) * 0x100000001b3ULL;
	return h;
}

/* Line @text of the console has waited long enough. */
static void pass(struct run_log *log, char *text)
{
	log->passed[log->passed_end++ % PASSED_MAX] = hash(text);
	if (log->passed_end - log->passed_first > PASSED_MAX)
		log->passed_first++;
	add(log, text);
}

/* Is this the record of a line that has passed? */
static bool has_passed(struct run_log *log, const char *text)
{
	uint64_t h, end = log->passed_first + AHEAD_MAX;

	if (log->passed_first == log->passed_end)
		return false;
	if (end > log->passed_end)
		end = log->passed_end;
	h = hash(text);
	for (uint64_t i = log->passed_first; i < end; i++) {
		if (log->passed[i % PASSED_MAX] != h)
			continue;
		log->passed_first = i + 1;
		return true;
	}
	return false;
}

static void wait_for(struct run_log *log, char *text)
{
	if (log->nwaiting == WAITING_MAX) {
		pass(log, log->waiting[0]);
		memmove(log->waiting, log->waiting + 1,
			sizeof(log->waiting[0]) * (WAITING_MAX - 1));
		log->nwaiting--;
	}
	log->waiting[log->nwaiting++] = text;
}

/* It came as a record: the same line of the console is not needed. */
static void drop_waiting(struct run_log *log, const char *text)
{
	for (unsigned i = 0; i < log->nwaiting; i++) {
		if (strcmp(log->waiting[i], text) != 0)
			continue;
		free(log->waiting[i]);
		log->nwaiting--;
		memmove(log->waiting + i, log->waiting + i + 1,
			sizeof(log->waiting[0]) * (log->nwaiting - i));
		return;
	}
}

/*
 * A record: "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT", or a line of its dictionary,
 * which begins with a space.
 */
static void record(struct run_log *log, const char *text)
{
	const char *message = strchr(text, ';'), *comma = strchr(text, ',');
	unsigned long long us;
	char *line;

	if (*text == ' ' || message == NULL || comma == NULL || comma > message)
		return;
	comma = strchr(comma + 1, ',');
	if (comma == NULL || comma > message)
		return;
	us = strtoull(comma + 1, NULL, 10);
	if (asprintf(&line, "[%5llu.%06llu] %s", us / 1000000, us % 1000000, message + 1) < 0)
		return;
	if (has_passed(log, line)) {
		free(line);
		return;
	}
	drop_waiting(log, line);
	add(log, line);
}

static void console(struct run_log *log, const char *text)
{
	char *line = strdup(text);

	if (line != NULL)
		wait_for(log, line);
}

/* Put lines together, and hand each complete one to @fn. */
static void split(struct run_log *log, struct line *l, const char *data, size_t len,
		  void (*fn)(struct run_log *log, const char *text))
{
	for (; len > 0; data++, len--) {
		if (*data == '\n') {
			l->text[l->len] = '\0';
			fn(log, l->text);
			l->len = 0;
		} else if (*data != '\r' && *data != '\0' && l->len < sizeof(l->text) - 1) {
			l->text[l->len++] = *data;
		}
	}
}

void run_log_kmsg(struct run_log *log, const char *data, size_t len)
{
	split(log, &log->kmsg, data, len, record);
}

void run_log_console(struct run_log *log, const char *data, size_t len)
{
	split(log, &log->console, data, len, console);
}

void run_log_end(struct run_log *log)
{
	if (log->console.len > 0)
		run_log_console(log, "\n", 1);
	for (unsigned i = 0; i < log->nwaiting; i++)
		add(log, log->waiting[i]);
	log->nwaiting = 0;
}

void run_log_tail(const struct run_log *log, void (*line)(void *owner, const char *text),
		  void *owner)
{
	for (unsigned i = 0; i < RUN_LOG_TAIL; i++) {
		const char *text = log->tail[(log->lines + i) % RUN_LOG_TAIL];

		if (text != NULL)
			line(owner, text);
	}
}

const char *run_log_complaint(const struct run_log *log, const char **kind)
{
	*kind = log->kind;
	return log->complaint;
}

const char *run_log_panic(const struct run_log *log)
{
	return log->panic;
}

uint64_t run_log_lines(const struct run_log *log)
{
	return log->lines;
}
