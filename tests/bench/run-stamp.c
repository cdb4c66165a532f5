// SPDX-License-Identifier: Apache-2.0
/*
 * run-stamp [SOCKET DAEMON [ARG]... ::] COMMAND [ARG]...: when a command prints its lines, and when
 * it ends: "NS LINE" for each, "NS end STATUS" last, in ns since before anything was started.
 * Standard input is empty. DAEMON is started before, with a Unix socket as descriptor 3 that
 * listens at SOCKET, so that nobody waits for it to come up; it shall end by itself, after the last
 * line.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(125);
}

static int listen_at(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(to.sun_path))
		fail(path);
	strcpy(to.sun_path, path);
	unlink(path);
	if (s < 0 || bind(s, (struct sockaddr *)&to, sizeof(to)) < 0 || listen(s, 1) < 0)
		fail(path);
	return s;
}

/* @fd becomes descriptor @as of the command. */
static pid_t start(char **argv, int fd, int as)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid > 0) {
		close(fd);
		close(null);
		return pid;
	}
	/* dup2() to itself would leave it to be closed. */
	if (dup2(null, STDIN_FILENO) < 0 || (fd == as ? fcntl(fd, F_SETFD, 0) : dup2(fd, as)) < 0)
		_exit(126);
	execvp(argv[0], argv);
	_exit(127);
}

int main(int argc, char **argv)
{
	uint64_t begin = now();
	pid_t daemon = -1, pid;
	int command = 1, out[2], status;
	char line[512];
	FILE *lines;

	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "::") != 0)
			continue;
		argv[i] = NULL;
		daemon = start(argv + 2, listen_at(argv[1]), 3);
		command = i + 1;
		break;
	}
	if (command >= argc || pipe2(out, O_CLOEXEC) < 0)
		fail("pipe");
	pid = start(argv + command, out[1], STDOUT_FILENO);
	lines = fdopen(out[0], "r");
	while (lines != NULL && fgets(line, sizeof(line), lines) != NULL)
		printf("%llu %s", (unsigned long long)(now() - begin), line);
	if (waitpid(pid, &status, 0) < 0)
		fail("wait");
	printf("%llu end %d\n", (unsigned long long)(now() - begin),
	       WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	if (daemon > 0) {
		if (status != 0)
			kill(daemon, SIGKILL);
		waitpid(daemon, NULL, 0);
	}
	return 0;
}
