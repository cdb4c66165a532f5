// SPDX-License-Identifier: Apache-2.0
/*
 * Child processes: starting, watching, ending. See child.h.
 *
 * What a child is not given. It has no descriptor but those meant for it, no terminal, its own
 * process group (a Ctrl-C for us is not one for it), no signal blocked or ignored. Its standard
 * error is a pipe that is read only when something is wanted from it, and never blocks the
 * writer: what does not fit is lost.
 *
 * Starting. vfork(), as guest memory may be large and a fork would make its pages copy-on-write.
 * The child runs in our memory until it is another program, with all signals blocked, and does
 * nothing but system calls; why it failed comes by a pipe. (posix_spawn() does much the same, but
 * has nothing to ask for a signal at the parent's death.)
 *
 * When the guest runs the broker does all that for us: see broker.c.
 *
 * Copies of the monitor are children, too; what they keep of it and what not is their own affair.
 *
 * #syscalls: waitid read close poll pidfd_send_signal
 * #syscalls spawn: vfork execve pipe2 pidfd_open rt_sigaction setpgid prctl
 * #syscalls spawn: getppid dup2 close_range openat fork socketpair
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "devices/broker.h"

#define STDERR_MAX 4096
#define READS_MAX  32 /* more than a pipe holds */

/* What the child needs, made by the parent. */
struct plan {
	const char *const *argv;
	int fds[3 + CHILD_FDS_MAX]; /* all above the numbers they will have */
	unsigned nfds;
	int death;
	pid_t parent;
};

/* In the child. Returns only when it failed, with an errno value. */
static int become(const struct plan *plan)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	/* The numbers are few, the real-time ones of libraries included; some may not be set. */
	for (int sig = 1; sig < NSIG; sig++)
		(void)sigaction(sig, &action, NULL);
	if (setpgid(0, 0) < 0)
		return errno;
	if (plan->death != 0) {
		if (prctl(PR_SET_PDEATHSIG, plan->death) < 0)
			return errno;
		if (getppid() != plan->parent) /* it was faster */
			return ESRCH;
	}
	for (unsigned i = 0; i < plan->nfds; i++) {
		if (dup2(plan->fds[i], (int)i) < 0)
			return errno;
	}
	/* Not yet: through one of them a failure is told. */
	if (close_range(plan->nfds, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return errno;
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return errno;
	execvp(plan->argv[0], (char *const *)plan->argv);
	return errno;
}

/* @fd again, above the numbers the child will use. */
static int copy_up(int fd, unsigned nfds)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, (int)nfds);
}

/* Start it; when it cannot become the program it writes why to @report. 0 or an errno value. */
static int __attribute__((noinline)) spawn(const struct plan *plan, int report, pid_t *pid)
{
	sigset_t all, old;
	int error = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	*pid = vfork();
	if (*pid == 0) {
		int why = become(plan);

		(void)!write(report, &why, sizeof(why));
		/* Not an exit: nothing of the parent's is to be run or flushed here. */
		for (;;)
			kill(getpid(), SIGKILL);
	}
	if (*pid < 0)
		error = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return error;
}

/* The same, and why it could not. */
static int spawn_and_hear(const struct plan *plan, pid_t *pid)
{
	int pipe[2], report, error, why = 0;

	if (pipe2(pipe, O_CLOEXEC) < 0)
		return errno;
	report = copy_up(pipe[1], plan->nfds);
	error = report < 0 ? errno : spawn(plan, report, pid);
	close(pipe[1]);
	if (report >= 0)
		close(report);
	/* The end comes when it is another program. */
	if (error == 0 && read(pipe[0], &why, sizeof(why)) == sizeof(why)) {
		waitpid(*pid, NULL, 0);
		error = why;
	}
	close(pipe[0]);
	return error;
}

static int start(struct child *c, struct plan *plan, const int *fds, pid_t *pid)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), pipe[2] = { -1, -1 }, r = 0;

	if (null < 0 || pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		r = errno;
	for (unsigned i = 0; r == 0 && i < plan->nfds; i++) {
		unsigned piped = c->output ? STDOUT_FILENO : STDERR_FILENO;

		plan->fds[i] = copy_up(i == piped     ? pipe[1]
				       : i < CHILD_FD ? null
						      : fds[i - CHILD_FD],
				       plan->nfds);
		if (plan->fds[i] < 0)
			r = errno;
	}
	if (r == 0)
		r = spawn_and_hear(plan, pid);
	for (unsigned i = 0; i < plan->nfds; i++) {
		if (plan->fds[i] >= 0)
			close(plan->fds[i]);
	}
	if (null >= 0)
		close(null);
	if (pipe[1] >= 0)
		close(pipe[1]);
	c->stderr_fd = pipe[0];
	return r;
}

int child_start(struct child *c, const char *const *argv, const int *fds, unsigned nfds, int death,
		struct err *err)
{
	struct plan plan = {
		.argv = argv, .nfds = CHILD_FD + nfds, .death = death, .parent = getpid()
	};
	pid_t pid = -1;
	int r;

	for (unsigned i = 0; i < CHILD_FD + CHILD_FDS_MAX; i++)
		plan.fds[i] = -1;
	if (nfds > CHILD_FDS_MAX)
		return err_set(err, EMFILE, "%s: too many descriptors", argv[0]);
	child_stop(c);
	c->id = -1;
	if (broker_started(c->by)) {
		const char *const *ours = c->by->rule[c->rule].argv;

		while (*ours != NULL)
			ours++, argv++;
		return broker_run(c->by, c->rule, argv, fds, nfds, death, c->output, c, err);
	}
	r = start(c, &plan, fds, &pid);
	if (r == ENOENT)
		return err_set(err, r, "%s is not installed", argv[0]);
	/* A folder of PATH may be closed to this user, which says nothing of the others. */
	if (r == EACCES && strchr(argv[0], '/') == NULL)
		return err_set(err, r, "%s is not installed, or this user may not start it",
			       argv[0]);
	if (r != 0)
		return err_sys(err, r, "cannot start %s", argv[0]);
	c->pidfd.fd = pidfd_open(pid, 0);
	if (c->pidfd.fd < 0) {
		r = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_sys(err, r, "cannot watch %s", argv[0]);
	}
	return 0;
}

int child_fork(struct child *c, int (*body)(void *arg, int socket, pid_t parent), void *arg,
	       struct err *err)
{
	pid_t parent = getpid(), pid;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return err_sys(err, errno, "cannot start a process");
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		_exit(body(arg, fds[1], parent));
	}
	if (pid > 0)
		c->pidfd.fd = pidfd_open(pid, 0);
	if (pid < 0 || c->pidfd.fd < 0) {
		err_sys(err, errno, "cannot start a process");
		close(fds[0]);
		fds[0] = -err->code;
	}
	close(fds[1]);
	return fds[0];
}

static void close_pidfd(struct child *c)
{
	loop_del_fd(&c->pidfd);
	close(c->pidfd.fd);
	c->pidfd.fd = -1;
}

bool child_reap(struct child *c, char *how, size_t size)
{
	siginfo_t si = { 0 };

	if (c->pidfd.fd >= 0 && c->id >= 0) {
		if (!broker_reap(c->by, c->id, how, size))
			return false;
		close_pidfd(c);
		return true;
	}
	if (c->pidfd.fd < 0 || waitid(P_PIDFD, (id_t)c->pidfd.fd, &si, WEXITED | WNOHANG) < 0 ||
	    si.si_pid == 0)
		return false;
	close_pidfd(c);
	if (si.si_code == CLD_EXITED)
		snprintf(how, size, "with status %d", si.si_status);
	else
		snprintf(how, size, "by signal %d", si.si_status);
	return true;
}

void child_words(struct child *c, const char *but, char *text, size_t size)
{
	char buf[STDERR_MAX + 1];
	ssize_t n = 0, r;
	char *line = NULL, *save = NULL;

	/* The pipe holds more than the buffer: the end is what counts. It holds no end of data. */
	for (unsigned i = 0; i < READS_MAX && c->stderr_fd >= 0; i++) {
		r = read(c->stderr_fd, buf, STDERR_MAX);
		if (r <= 0)
			break;
		n = r;
	}
	buf[n] = '\0';
	for (char *l = strtok_r(buf, "\n", &save); l != NULL; l = strtok_r(NULL, "\n", &save)) {
		if ((but == NULL || strstr(l, but) == NULL) && *l != '\0')
			line = l;
	}
	snprintf(text, size, "%s", line != NULL ? line : "");
}

void child_wait(struct child *c, int ms)
{
	struct pollfd pfd = { .fd = c->pidfd.fd, .events = POLLIN };

	if (pfd.fd >= 0)
		(void)poll(&pfd, 1, ms);
	child_stop(c);
}

void child_end(struct child *c, int ms)
{
	if (c->pidfd.fd >= 0 && pidfd_send_signal(c->pidfd.fd, SIGTERM, NULL, 0) == 0)
		child_wait(c, ms);
	else
		child_stop(c);
}

void child_stop(struct child *c)
{
	struct pollfd pfd = { .fd = c->pidfd.fd, .events = POLLIN };
	char how[64];
	siginfo_t si;

	if (c->pidfd.fd >= 0) {
		(void)pidfd_send_signal(c->pidfd.fd, SIGKILL, NULL, 0);
		if (c->id < 0)
			(void)waitid(P_PIDFD, (id_t)c->pidfd.fd, &si, WEXITED);
		else if (poll(&pfd, 1, -1) > 0)
			(void)broker_reap(c->by, c->id, how, sizeof(how));
		close_pidfd(c);
	}
	if (c->stderr_fd >= 0)
		close(c->stderr_fd);
	c->stderr_fd = -1;
}
