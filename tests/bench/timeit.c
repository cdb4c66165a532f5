// SPDX-License-Identifier: Apache-2.0
/*
 * timeit: runs commands in turn, N rounds, and prints what each took.
 *
 *	timeit N LABEL STATUS COMMAND [ARG]... [:: LABEL STATUS COMMAND [ARG]...]...
 *
 * One round runs every command once, so that what else the machine does hits all of them
 * alike; a round that is not counted goes first. A command gets /dev/null as standard input
 * and error and a pipe, which is emptied here, as standard output. A command that does not
 * exit with STATUS is not run again and reported as "LABEL failed WHY".
 *
 * Output: a line per command, fields separated by tabs: LABEL, number of rounds, then
 * median, minimum and maximum of each of
 *	wall	ms from before the fork until the exit was waited for
 *	first	ms until the first byte on standard output, 0 when there was none
 *	cpu	ms of user and system time, as charged to the process itself
 *	rss	KiB, the largest resident set
 *	bytes	printed
 *
 * Limits: 32 commands, 10000 rounds; a command that prints nothing for 60 s is killed.
 */
#include <errno.h>
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

#define JOBS_MAX   32
#define ROUNDS_MAX 10000
#define SILENCE_MS 60000

enum { WALL, FIRST, CPU, RSS, BYTES, FIGURES };

struct job {
	const char *label;
	int status;
	char **argv;
	char failed[64]; /* why */
	double *figure[FIGURES];
};

extern char **environ;

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double timeval_ms(struct timeval t)
{
	return (double)t.tv_sec * 1e3 + (double)t.tv_usec / 1e3;
}

static void die(const char *what)
{
	fprintf(stderr, "timeit: %s: %s\n", what, strerror(errno));
	exit(125);
}

/* The child's end of the pipe becomes its standard output; nothing else is inherited. */
static pid_t spawn(struct job *job, int out, int null)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, null, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, null, STDERR_FILENO);
	r = posix_spawnp(&pid, job->argv[0], &actions, NULL, job->argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r == 0)
		return pid;
	snprintf(job->failed, sizeof(job->failed), "cannot start: %s", strerror(r));
	return -1;
}

/* Run @job once; its figures go to @i, unless that is negative. */
static void run(struct job *job, int i, int null)
{
	static char buf[1 << 16];
	double start, first = 0, bytes = 0, wall;
	struct rusage usage;
	int out[2], status;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		die("pipe");
	start = now_ms();
	pid = spawn(job, out[1], null);
	close(out[1]);
	while (pid >= 0) {
		struct pollfd p = { .fd = out[0], .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, SILENCE_MS) == 0) {
			kill(pid, SIGKILL);
			break;
		}
		n = read(out[0], buf, sizeof(buf));
		if (n <= 0)
			break;
		if (bytes == 0)
			first = now_ms() - start;
		bytes += (double)n;
	}
	close(out[0]);
	if (pid < 0)
		return;
	if (wait4(pid, &status, 0, &usage) < 0)
		die("wait4");
	wall = now_ms() - start;
	if (WIFSIGNALED(status))
		snprintf(job->failed, sizeof(job->failed), "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != job->status)
		snprintf(job->failed, sizeof(job->failed), "status %d, not %d", WEXITSTATUS(status),
			 job->status);
	if (i < 0)
		return;
	job->figure[WALL][i] = wall;
	job->figure[FIRST][i] = first;
	job->figure[CPU][i] = timeval_ms(usage.ru_utime) + timeval_ms(usage.ru_stime);
	job->figure[RSS][i] = (double)usage.ru_maxrss;
	job->figure[BYTES][i] = bytes;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(struct job *job, int rounds)
{
	if (job->failed[0] != '\0') {
		printf("%s\tfailed\t%s\n", job->label, job->failed);
		return;
	}
	printf("%s\t%d", job->label, rounds);
	for (int f = 0; f < FIGURES; f++) {
		double *v = job->figure[f];

		qsort(v, (size_t)rounds, sizeof(*v), compare);
		printf("\t%.3f\t%.3f\t%.3f", (v[(rounds - 1) / 2] + v[rounds / 2]) / 2, v[0],
		       v[rounds - 1]);
	}
	putchar('\n');
}

/* Split the command line into jobs; returns their number, 0 when it makes no sense. */
static int parse(struct job *jobs, int argc, char **argv)
{
	int n = 0;

	for (int i = 0; i < argc; i++) {
		if (n == JOBS_MAX || argc - i < 3)
			return 0;
		jobs[n].label = argv[i];
		jobs[n].status = atoi(argv[i + 1]);
		jobs[n].argv = &argv[i + 2];
		for (i += 2; i < argc && strcmp(argv[i], "::") != 0; i++)
			continue;
		if (jobs[n].argv == &argv[i])
			return 0;
		argv[i] = NULL; /* ends the job's argv */
		n++;
	}
	return n;
}

int main(int argc, char **argv)
{
	static struct job jobs[JOBS_MAX];
	int rounds = argc > 1 ? atoi(argv[1]) : 0;
	int n = parse(jobs, argc - 2, argv + 2);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (n == 0 || rounds < 1 || rounds > ROUNDS_MAX) {
		fputs("usage: timeit N LABEL STATUS COMMAND [ARG]... [:: ...]\n", stderr);
		return 125;
	}
	if (null < 0)
		die("/dev/null");
	for (int j = 0; j < n; j++)
		for (int f = 0; f < FIGURES; f++) {
			jobs[j].figure[f] = calloc((size_t)rounds, sizeof(double));
			if (jobs[j].figure[f] == NULL)
				die("calloc");
		}
	for (int i = -1; i < rounds; i++)
		for (int j = 0; j < n; j++)
			if (jobs[j].failed[0] == '\0')
				run(&jobs[j], i, null);
	for (int j = 0; j < n; j++)
		report(&jobs[j], rounds);
	return 0;
}
