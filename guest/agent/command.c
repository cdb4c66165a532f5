// SPDX-License-Identifier: Apache-2.0
/*
 * The command: three pipes or a terminal, the user, the working folder, exec.
 *
 * What goes wrong between fork and exec comes back by a pipe that exec closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "guest/agent/agent.h"

#define PIPE_BYTES (1 << 20)

struct failure {
	int error;
	bool exec;
};

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
}

static int open_terminal(const struct job *job, int *master, int *slave)
{
	struct winsize size = { .ws_row = job->rows, .ws_col = job->cols };
	char path[32];
	int unlock = 0, number;

	*master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (*master < 0)
		return -errno;
	if (ioctl(*master, TIOCSPTLCK, &unlock) < 0 || ioctl(*master, TIOCGPTN, &number) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/dev/pts/%d", number);
	*slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0)
		return -errno;
	(void)ioctl(*slave, TIOCSWINSZ, &size);
	if (job->has_user)
		(void)fchown(*slave, job->uid, (gid_t)-1);
	return 0;
}

/* In the child: does not return. */
static void become(const struct job *job, const int fds[3], int report)
{
	struct failure f = { .exec = false };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	for (int i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			goto failed;
	if (job->tty && ioctl(0, TIOCSCTTY, 0) < 0)
		goto failed;
	if (job->has_user && (setgroups(job->ngroups, job->groups) < 0 || setgid(job->gid) < 0 ||
			      setuid(job->uid) < 0))
		goto failed;
	if (job->cwd != NULL && chdir(job->cwd) < 0)
		goto failed;
	f.exec = true;
	for (unsigned i = 0; i < job->nenv; i++)
		if (strncmp(job->env[i], "PATH=", 5) == 0)
			putenv(job->env[i]); /* where execvpe() looks */
	execvpe(job->arg[0], job->arg, job->env);
failed:
	f.error = errno;
	(void)!write(report, &f, sizeof(f));
	_exit(127);
}

int command_start(const struct job *job, struct command *cmd, bool *exec_failed)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, err[2] = { -1, -1 }, report[2] = { -1, -1 };
	struct failure f;
	int r = 0;

	*cmd = (struct command){ .pid = -1, .in = -1, .out = -1, .err = -1 };
	if (job->nargs == 0)
		return -EINVAL;
	if (job->tty)
		r = open_terminal(job, &out[0], &out[1]);
	else if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		r = -errno;
	if (r == 0 && pipe2(report, O_CLOEXEC) < 0)
		r = -errno;
	if (r == 0) {
		cmd->pid = fork();
		if (cmd->pid < 0)
			r = -errno;
	}
	if (r < 0)
		goto fail;
	if (cmd->pid == 0)
		become(job,
		       job->tty ? (int[]){ out[1], out[1], out[1] }
				: (int[]){ in[0], out[1], err[1] },
		       report[1]);
	close(report[1]);
	report[1] = -1;
	if (read(report[0], &f, sizeof(f)) == (ssize_t)sizeof(f)) {
		*exec_failed = f.exec;
		r = -f.error;
		goto fail;
	}
	close(report[0]);
	if (job->tty) {
		close(out[1]);
		cmd->in = cmd->out = out[0];
		return 0;
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	cmd->in = in[1];
	cmd->out = out[0];
	cmd->err = err[0];
	(void)fcntl(cmd->in, F_SETFL, O_NONBLOCK);
	(void)fcntl(cmd->out, F_SETFL, O_NONBLOCK);
	(void)fcntl(cmd->err, F_SETFL, O_NONBLOCK);
	(void)fcntl(cmd->in, F_SETPIPE_SZ, PIPE_BYTES);
	(void)fcntl(cmd->out, F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
fail:
	close_pair(in);
	close_pair(out);
	close_pair(err);
	close_pair(report);
	return r;
}
