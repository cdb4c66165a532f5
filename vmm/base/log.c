// SPDX-License-Identifier: Apache-2.0
/*
 * The monitor's own messages: see log.h.
 *
 * The state below is a few words, each atomic, so that any thread may log and change
 * settings without a lock: a vCPU thread must never wait for another thread's message.
 * Nothing here calls anything that logs.
 *
 * Limits: dropped lines are counted, not kept. Two threads that write to a pipe with
 * room for one line may both be told that there is room; the second then waits in
 * write(2) until the reader reads.
 *
 * #syscalls main vcpu io share: write ppoll clock_gettime
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "vmm/base/log.h"

#define NS_PER_MS 1000000L

static _Atomic int log_level_ = LOG_WARN;
static atomic_bool log_show_level_;
static _Atomic int log_fd_ = STDERR_FILENO;
static atomic_bool log_raw_;
static _Atomic uint64_t log_dropped_; /* lines since the reader stopped reading */

void log_set_level(enum log_level level)
{
	atomic_store(&log_level_, (int)level);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&log_level_, memory_order_relaxed);
}

void log_set_show_level(bool show)
{
	atomic_store(&log_show_level_, show);
}

void log_set_fd(int fd)
{
	atomic_store(&log_fd_, fd);
}

int log_get_fd(void)
{
	return atomic_load(&log_fd_);
}

void log_set_raw(bool raw)
{
	atomic_store(&log_raw_, raw);
}

/*
 * Bytes of the well-formed UTF-8 sequence at @s (RFC 3629: shortest form, no surrogates,
 * at most U+10FFFF), or 0. C1 controls (U+0080 to U+009F) count as ill-formed here:
 * terminals obey them like escape sequences.
 */
static size_t utf8_len(const unsigned char *s, size_t left)
{
	static const uint32_t lowest[] = { 0, 0, 0xa0, 0x800, 0x10000 };
	size_t len;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (len > left)
		return 0;
	c = s[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < lowest[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return len;
}

/* Replace what could steer a terminal, or forge a second line, by '?'. */
static void sanitize(char *text, size_t len)
{
	unsigned char *s = (unsigned char *)text;
	size_t step;

	for (size_t i = 0; i < len; i += step) {
		step = utf8_len(s + i, len - i);
		if (step == 0 || s[i] < 0x20 || s[i] == 0x7f) {
			s[i] = '?';
			step = 1;
		}
	}
}

/*
 * Write all of @buf. One write(2) unless that is cut short; a bounded number of attempts,
 * so that a terminal taking a byte at a time cannot hold a vCPU thread for minutes.
 */
static bool write_line(const char *buf, size_t len, long wait_ms)
{
	int fd = atomic_load(&log_fd_);
	size_t done = 0;

	for (int tries = 0; tries < 4 && done < len; tries++) {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		struct timespec ts = { .tv_nsec = wait_ms * NS_PER_MS };
		ssize_t n;

		/* Asked first, because on a blocking descriptor write() itself would wait. */
		n = ppoll(&pfd, 1, &ts, NULL);
		if (n == 0)
			break;
		if (n > 0)
			n = write(fd, buf + done, len - done);
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || (errno != EINTR && errno != EAGAIN))
			break;
	}
	return done == len;
}

/* End the line of @len bytes in @buf, which has LOG_LINE_MAX bytes. Returns its length. */
static size_t finish_line(char *buf, size_t len, bool cut)
{
	if (cut)
		memcpy(buf + len - 3, "...", 3);
	sanitize(buf, len);
	if (atomic_load_explicit(&log_raw_, memory_order_relaxed))
		buf[len++] = '\r';
	buf[len++] = '\n';
	return len;
}

/* Say how many lines were dropped, if there is room for that now. */
static void say_dropped(void)
{
	uint64_t dropped = atomic_exchange(&log_dropped_, 0);
	char buf[LOG_LINE_MAX];
	int n;

	if (dropped == 0)
		return;
	n = snprintf(buf, sizeof(buf) - 2, "vmm: %llu messages dropped: nobody was reading",
		     (unsigned long long)dropped);
	if (!write_line(buf, finish_line(buf, (size_t)n, false), 0))
		atomic_fetch_add(&log_dropped_, dropped);
}

void log_print(enum log_level level, const char *fmt, ...)
{
	static const char prefix[] = "vmm: ";
	static const char *const names[] = { "error: ", "warning: ", "info: ", "debug: " };
	bool show = atomic_load_explicit(&log_show_level_, memory_order_relaxed);
	const char *name = show ? names[level] : "";
	const size_t head = sizeof(prefix) - 1 + strlen(name);
	const size_t room = LOG_LINE_MAX - 2; /* for "\r\n" */
	int saved_errno = errno;
	char buf[LOG_LINE_MAX];
	size_t len;
	va_list ap;
	int n;

	if (!log_enabled(level) || atomic_load(&log_fd_) < 0)
		return;
	stpcpy(stpcpy(buf, prefix), name);
	va_start(ap, fmt);
	n = vsnprintf(buf + head, room - head, fmt, ap);
	va_end(ap);
	if (n < 0) /* cannot happen with the formats in use; better raw than silent */
		n = snprintf(buf + head, room - head, "%s", fmt);
	len = head + (size_t)n;
	if (len >= room)
		len = room - 1;
	len = finish_line(buf, len, head + (size_t)n >= room);

	if (atomic_load(&log_dropped_) != 0)
		say_dropped();
	/* Once a reader has been found asleep, nobody waits for it any more. */
	if (!write_line(buf, len, atomic_load(&log_dropped_) != 0 ? 0 : LOG_WAIT_MS))
		atomic_fetch_add(&log_dropped_, 1);
	errno = saved_errno;
}

bool log_limit_pass(struct log_limit *limit)
{
	uint64_t old = atomic_load_explicit(&limit->state, memory_order_relaxed);
	uint32_t now, count, left_out;
	struct timespec ts;
	uint64_t new;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint32_t)ts.tv_sec;
	do {
		count = (uint32_t)old;
		left_out = 0;
		/* Signed: another thread's window may be younger than our @now. */
		if ((int32_t)(now - (uint32_t)(old >> 32)) >= LOG_LIMIT_SECONDS) {
			left_out = count > LOG_LIMIT_BURST ? count - LOG_LIMIT_BURST : 0;
			count = 0;
			new = (uint64_t)now << 32 | 1;
		} else if (count == UINT32_MAX) {
			return false; /* counting on would carry into the seconds */
		} else {
			new = old + 1;
		}
	} while (!atomic_compare_exchange_weak(&limit->state, &old, new));

	/* LOG_ERROR: it must be seen wherever the lines it speaks of would have been. */
	if (left_out > 0)
		log_print(LOG_ERROR, "%u similar messages left out", left_out);
	return count < LOG_LIMIT_BURST;
}
