// SPDX-License-Identifier: Apache-2.0
/*
 * The agent: process 1 of the guest of `vmm run`. It makes ready what the monitor asks for, runs
 * one command, passes its streams on, and says how it ended.
 *
 * Theory of operation. The kernel starts us from the initramfs that the monitor made. We load the
 * modules in it, open the port (guest/agent.h) and do the monitor's steps; then there is one loop
 * over the port, the command's streams, the kernel's log and SIGCHLD. What the command writes is
 * read straight behind room for a frame's header and goes out by one write(). What comes for its
 * standard input waits in a ring that the window bounds.
 *
 * The command has ended when its process has: what is in its pipes by then is passed on, but
 * who still holds them open in the background is not waited for. Orphans are reaped all the
 * time.
 *
 * Limits: one command. Nothing here is hardened against it: it may be root here, and what
 * happens in the guest is nothing the monitor trusts.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "guest/agent/agent.h"

#define ALIVE_MS     1000
#define KLOG_RECORDS 64 /* in one go */

struct output {
	int fd; /* -1: ended */
	uint16_t stream;
	uint32_t credit;
};

struct agent {
	int port, klog, children;
	struct port_input input;
	struct job job;
	struct command cmd;
	uint32_t step;
	bool running, exited;
	int status; /* as of waitpid() */
	struct agent_clock ended;
	struct output out, err;

	/* Waiting for the command to read it. */
	uint8_t stdin_ring[AGENT_WINDOW];
	size_t stdin_head, stdin_len;
	bool stdin_ended;

	uint8_t frame[sizeof(struct agent_header) + AGENT_DATA_MAX];
};

/* Too large for a stack, and there is one. */
static struct agent agent;

struct agent_clock clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (struct agent_clock){ (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec };
}

void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT); /* a kernel without ACPI cannot */
	for (;;)
		pause();
}

/* --- From the command to the monitor --- */

static void end_output(struct agent *a, struct output *o)
{
	if (o->fd < 0)
		return;
	port_send(a->port, AGENT_END, o->stream, NULL, 0);
	if (o->fd != a->cmd.in) /* a terminal is both */
		close(o->fd);
	o->fd = -1;
}

/* Pass on one piece. False: there is none. */
static bool pass_output(struct agent *a, struct output *o)
{
	size_t room = o->credit < AGENT_DATA_MAX ? o->credit : AGENT_DATA_MAX;
	ssize_t n;

	if (o->fd < 0 || room == 0)
		return false;
	n = read(o->fd, a->frame + sizeof(struct agent_header), room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* EIO: nobody has the terminal open any more */
		end_output(a, o);
		return false;
	}
	o->credit -= (uint32_t)n;
	port_send_frame(a->port, AGENT_DATA, o->stream, a->frame, (uint32_t)n);
	return true;
}

/* /dev/kmsg gives one record for each read(): Documentation/ABI/testing/dev-kmsg. */
static void pass_klog(struct agent *a)
{
	uint8_t *to = a->frame + sizeof(struct agent_header);
	uint32_t len = 0;

	for (unsigned i = 0; i < KLOG_RECORDS && len < AGENT_DATA_MAX / 2; i++) {
		ssize_t n = read(a->klog, to + len, AGENT_DATA_MAX - len);

		if (n < 0 && errno == EPIPE) /* records were overwritten: the next is there */
			continue;
		if (n <= 0)
			break;
		len += (uint32_t)n;
	}
	if (len > 0)
		port_send_frame(a->port, AGENT_DATA, AGENT_KLOG, a->frame, len);
}

/* --- From the monitor to the command --- */

static void end_stdin(struct agent *a)
{
	if (a->cmd.in < 0)
		return;
	if (a->job.tty)
		return; /* the user types what ends it */
	close(a->cmd.in);
	a->cmd.in = -1;
}

static void feed_stdin(struct agent *a)
{
	uint32_t done = 0;

	while (a->stdin_len > 0) {
		size_t piece = sizeof(a->stdin_ring) - a->stdin_head;
		ssize_t n = -1;

		if (piece > a->stdin_len)
			piece = a->stdin_len;
		if (a->cmd.in >= 0)
			n = write(a->cmd.in, a->stdin_ring + a->stdin_head, piece);
		if (n < 0 && a->cmd.in >= 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0) { /* nobody reads it */
			n = (ssize_t)piece;
			end_stdin(a);
		}
		a->stdin_head = (a->stdin_head + (size_t)n) % sizeof(a->stdin_ring);
		a->stdin_len -= (size_t)n;
		done += (uint32_t)n;
	}
	if (done > 0)
		port_send(a->port, AGENT_CREDIT, AGENT_STDIN, &done, sizeof(done));
	if (a->stdin_len == 0 && a->stdin_ended)
		end_stdin(a);
}

static void take_stdin(struct agent *a, const uint8_t *data, size_t len)
{
	size_t at = (a->stdin_head + a->stdin_len) % sizeof(a->stdin_ring);
	size_t piece = sizeof(a->stdin_ring) - at;

	if (len > sizeof(a->stdin_ring) - a->stdin_len)
		power_off(); /* more than we said it may send */
	if (piece > len)
		piece = len;
	memcpy(a->stdin_ring + at, data, piece);
	memcpy(a->stdin_ring, data + piece, len - piece);
	a->stdin_len += len;
	feed_stdin(a);
}

static void send_signal(struct agent *a, uint32_t sig)
{
	if (a->running && !a->exited && sig > 0 && sig < 65)
		(void)kill(-a->cmd.pid, (int)sig); /* it leads a session of its own */
}

static void resize(struct agent *a, const struct agent_winsize *size)
{
	struct winsize ws = { .ws_row = size->rows, .ws_col = size->cols };

	if (a->job.tty && a->cmd.out >= 0)
		(void)ioctl(a->cmd.out, TIOCSWINSZ, &ws);
}

/* --- The job --- */

static void failed(struct agent *a, int error)
{
	struct agent_failed msg = { .step = a->step, .error = (uint32_t)error };

	port_send(a->port, AGENT_FAILED, 0, &msg, sizeof(msg));
}

static void exited(struct agent *a, enum agent_end how, uint32_t value)
{
	struct agent_exited msg = { .how = how, .value = value, .clock = a->ended };

	sync();
	pass_klog(a);
	port_send(a->port, AGENT_EXITED, 0, &msg, sizeof(msg));
}

static void run(struct agent *a)
{
	struct agent_clock now = clock_now();
	bool exec_failed = false;
	int r = command_start(&a->job, &a->cmd, &exec_failed);

	if (r < 0 && exec_failed) {
		a->ended = clock_now();
		exited(a, AGENT_END_EXEC, (uint32_t)-r);
		return;
	}
	if (r < 0) {
		failed(a, -r);
		return;
	}
	a->running = true;
	a->out = (struct output){ a->cmd.out, AGENT_STDOUT, AGENT_WINDOW };
	a->err = (struct output){ a->cmd.err, AGENT_STDERR, AGENT_WINDOW };
	port_send(a->port, AGENT_STARTED, 0, &now, sizeof(now));
}

/* A frame came. False: a step failed, and no more is done. */
static bool handle(struct agent *a, const struct agent_header *h, const uint8_t *data)
{
	struct agent_winsize size;
	uint32_t value = 0;
	int r;

	if (h->len >= sizeof(value))
		memcpy(&value, data, sizeof(value));
	switch (h->type) {
	case AGENT_STEP:
		r = step_do(&a->job, (const char *)data, h->len);
		if (r < 0) {
			failed(a, -r);
			return false;
		}
		a->step++;
		break;
	case AGENT_RUN:
		if (!a->running)
			run(a);
		break;
	case AGENT_DATA:
		if (h->stream == AGENT_STDIN)
			take_stdin(a, data, h->len);
		break;
	case AGENT_END:
		a->stdin_ended = true;
		feed_stdin(a);
		break;
	case AGENT_CREDIT:
		if (h->stream == AGENT_STDOUT)
			a->out.credit += value;
		else if (h->stream == AGENT_STDERR)
			a->err.credit += value;
		break;
	case AGENT_SIGNAL:
		send_signal(a, value);
		break;
	case AGENT_WINSIZE:
		if (h->len == sizeof(size)) {
			memcpy(&size, data, sizeof(size));
			resize(a, &size);
		}
		break;
	}
	return true;
}

static void reap(struct agent *a)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(a->children, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (!a->running || a->exited || pid != a->cmd.pid)
			continue;
		a->exited = true;
		a->status = status;
		a->ended = clock_now();
	}
}

/* The command has ended and its last output is on its way: say so, once. */
static void finish(struct agent *a)
{
	end_output(a, &a->out);
	end_output(a, &a->err);
	if (WIFSIGNALED(a->status))
		exited(a, AGENT_END_SIGNAL, (uint32_t)WTERMSIG(a->status));
	else
		exited(a, AGENT_END_STATUS, (uint32_t)WEXITSTATUS(a->status));
	a->running = false;
}

static short wants(const struct output *o)
{
	return o->fd >= 0 && o->credit > 0 ? POLLIN : 0;
}

/* All of an ended command's output is on its way. A slow reader is waited for: nothing is lost. */
static bool drained(struct agent *a, bool passed)
{
	bool stuck =
		(a->out.fd >= 0 && a->out.credit == 0) || (a->err.fd >= 0 && a->err.credit == 0);

	return !passed && !stuck;
}

static void loop(struct agent *a)
{
	enum { PORT, KLOG, CHILDREN, OUT, ERR, IN, N };
	uint64_t alive = 0;
	size_t used = 0;

	for (;;) {
		struct pollfd p[N] = {
			[PORT] = { .fd = a->port, .events = POLLIN },
			[KLOG] = { .fd = a->klog, .events = POLLIN },
			[CHILDREN] = { .fd = a->children, .events = POLLIN },
			[OUT] = { .fd = wants(&a->out) ? a->out.fd : -1, .events = POLLIN },
			[ERR] = { .fd = wants(&a->err) ? a->err.fd : -1, .events = POLLIN },
			[IN] = { .fd = a->stdin_len > 0 ? a->cmd.in : -1, .events = POLLOUT },
		};
		struct agent_header header;
		const uint8_t *data;
		bool passed = false;

		if (poll(p, N, a->exited && a->running ? 10 : ALIVE_MS) < 0 && errno != EINTR)
			power_off();
		if (clock_now().ns - alive >= ALIVE_MS * 1000000ull) {
			port_send(a->port, AGENT_ALIVE, 0, NULL, 0);
			alive = clock_now().ns;
		}
		if (p[PORT].revents & (POLLIN | POLLHUP)) {
			if (!port_read(a->port, &a->input))
				power_off();
			while (port_next(&a->input, &used, &header, &data))
				if (!handle(a, &header, data))
					pause(); /* the monitor ends us */
		}
		if (p[KLOG].revents & POLLIN)
			pass_klog(a);
		if (p[CHILDREN].revents & POLLIN)
			reap(a);
		if (p[IN].revents != 0)
			feed_stdin(a);
		/* Of a command that has ended, also what poll() did not see yet. */
		if (p[OUT].revents != 0 || a->exited)
			passed |= pass_output(a, &a->out);
		if (p[ERR].revents != 0 || a->exited)
			passed |= pass_output(a, &a->err);
		if (a->exited && a->running && drained(a, passed))
			finish(a);
	}
}

int main(void)
{
	struct agent *a = &agent;
	struct agent_hello hello = { .version = AGENT_VERSION, .clock = clock_now() };
	sigset_t set;

	if (getpid() != 1)
		return 1;
	a->out.fd = a->err.fd = a->cmd.in = a->cmd.out = a->cmd.err = -1;
	umask(0);
	(void)mkdir("/proc", 0755);
	(void)mkdir("/sys", 0755);
	(void)mkdir("/dev", 0755);
	(void)mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	(void)mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
	(void)mount("dev", "/dev", "devtmpfs", MS_NOSUID, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	a->children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	a->klog = open("/dev/kmsg", O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	steps_load_modules();
	a->port = port_open();
	umask(022);
	port_send(a->port, AGENT_HELLO, 0, &hello, sizeof(hello));
	loop(a);
	return 0;
}
