// SPDX-License-Identifier: Apache-2.0
/*
 * clones: starts a command many times, and lets all of them live.
 *
 *	clones N COMMAND [ARG]...
 *
 * One after the other: each is started when the one before has printed its first byte. When all N
 * have, their memory is read, and they are killed. Output: lines of NAME, N, median, minimum,
 * maximum, separated by tabs:
 *
 *	start	ms from before the fork until the first byte on its standard output
 *	private	KiB that belong to the process alone (Private_* in smaps_rollup)
 *	anon	KiB of that which are no file's
 *	host	KiB of the host's memory that all of them took, divided by N: with the kernel's
 *
 * Exits with 1 when one of them dies or prints nothing for 60 s.
 */
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_MS 60000

extern char **environ;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void show(const char *name, double *figure, int n)
{
	qsort(figure, (size_t)n, sizeof(*figure), compare);
	printf("%s\t%d\t%.2f\t%.2f\t%.2f\n", name, n, figure[n / 2], figure[0], figure[n - 1]);
}

/* The sum of lines that begin with @prefix in a file of "Name:  NUMBER kB"; -1: not there. */
static double kib(const char *path, const char *prefix)
{
	FILE *file = fopen(path, "re");
	char line[256], *colon;
	double sum = 0;

	if (file == NULL)
		return -1;
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, prefix, strlen(prefix)) == 0 &&
		    (colon = strchr(line, ':')) != NULL)
			sum += strtod(colon + 1, NULL);
	fclose(file);
	return sum;
}

static int start(char **argv, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		err(1, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, fd[1], 1);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(pid, argv[0], &actions, NULL, argv, environ) != 0)
		errx(1, "%s: cannot start", argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	close(fd[1]);
	return fd[0];
}

int main(int argc, char **argv)
{
	struct rlimit files = { 0 };
	double *took, *private, *anon, before, after;
	int n = argc > 2 ? atoi(argv[1]) : 0, failed = 0;
	pid_t *pid;
	int *fd;

	if (n < 1)
		errx(125, "usage: clones N COMMAND [ARG]...");
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	took = calloc((size_t)n, sizeof(*took));
	private = calloc((size_t)n, sizeof(*private));
	anon = calloc((size_t)n, sizeof(*anon));
	pid = calloc((size_t)n, sizeof(*pid));
	fd = calloc((size_t)n, sizeof(*fd));
	if (took == NULL || private == NULL || anon == NULL || pid == NULL || fd == NULL)
		errx(1, "no memory");
	before = kib("/proc/meminfo", "MemAvailable");
	for (int i = 0; i < n; i++) {
		double begin = now_ms();
		struct pollfd wait;
		char byte;

		fd[i] = start(argv + 2, &pid[i]);
		wait = (struct pollfd){ .fd = fd[i], .events = POLLIN };
		if (poll(&wait, 1, SILENCE_MS) <= 0 || read(fd[i], &byte, 1) != 1)
			failed++;
		took[i] = now_ms() - begin;
	}
	after = kib("/proc/meminfo", "MemAvailable");
	for (int i = 0; i < n; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid[i]);
		private[i] = kib(path, "Private_");
		anon[i] = kib(path, "Anonymous");
		if (kill(pid[i], 0) < 0 || private[i] <= 0)
			failed++;
	}
	for (int i = 0; i < n; i++)
		kill(pid[i], SIGKILL);
	for (int i = 0; i < n; i++)
		waitpid(pid[i], NULL, 0);
	show("start", took, n);
	show("private", private, n);
	show("anon", anon, n);
	before = (before - after) / n;
	show("host", &before, 1);
	if (failed > 0)
		errx(1, "%d of %d died, or said nothing", failed, n);
	return 0;
}
