// SPDX-License-Identifier: Apache-2.0
/*
 * A matrix of runs: each kernel with each command, so many times each, so many at once.
 *
 * Theory of operation. Each run is a process forked from this one, before there is a VM, a thread
 * or an event loop: it goes on where the first run of all would have, with the kernel and the
 * command of its place in the matrix, and returns through main() with the status of its run.
 * Nothing can be left over from one run in another. It reports as JSON to a file of ours, from
 * which come the lines on the terminal, the table, and the report on all of them.
 *
 * What a run prints comes by pipes, a line at a time, with its number before it; or with
 * --artifacts goes to the files of its folder. Standard input is empty.
 *
 * Each process leads a group of its own, so that Ctrl-C is ours alone: the first signal is passed
 * on as SIGTERM, which the guest's command gets; 3 s later another, which ends the guest; after 8
 * s, or at a second signal, SIGKILL. If we are killed, so are they (PR_SET_PDEATHSIG).
 *
 * Limits: not for interactive use; --log and --dump are for one run.
 *
 * #syscalls: none (it is over, or has become one run, before there is a filter)
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/run/kernel.h"
#include "vmm/run/matrix_impl.h"

#define AGAIN_NS (3ull * 1000000000) /* from the first SIGTERM */
#define KILL_NS	 (8ull * 1000000000)

/* --- Output of the runs --- */

/* A whole line, or a piece of one that is too long. */
static void put_line(struct matrix *m, const struct job *job, struct output *out)
{
	char text[LINE_SIZE + 32];
	int n = snprintf(text, 32, "[%u] ", (unsigned)(job - m->job) + 1);

	memcpy(text + n, out->line, out->len);
	n += (int)out->len;
	if (n == 0 || text[n - 1] != '\n')
		text[n++] = '\n';
	matrix_clear_progress(m);
	for (int done = 0; done < n;) {
		ssize_t w = write(out->to, text + done, (size_t)(n - done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			break;
		done += (int)w;
	}
	out->len = 0;
}

static void read_output(struct matrix *m, const struct job *job, struct output *out)
{
	char data[LINE_SIZE];
	ssize_t n = read(out->fd, data, sizeof(data));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (out->len > 0)
			put_line(m, job, out);
		close(out->fd);
		out->fd = -1;
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		out->line[out->len++] = data[i];
		if (data[i] == '\n' || out->len == sizeof(out->line))
			put_line(m, job, out);
	}
}

/* What is in the pipes, and close them: of a run that has ended. */
static void drain(struct matrix *m, struct job *job)
{
	for (unsigned i = 0; job->out != NULL && i < 2; i++)
		while (job->out[i].fd >= 0) {
			struct pollfd p = { .fd = job->out[i].fd, .events = POLLIN };

			if (poll(&p, 1, 0) > 0) {
				read_output(m, job, &job->out[i]);
				continue;
			}
			/* Open, but not by the run: by something it has left behind. */
			if (job->out[i].len > 0)
				put_line(m, job, &job->out[i]);
			close(job->out[i].fd);
			job->out[i].fd = -1;
		}
	free(job->out);
	job->out = NULL;
}

/* --- A run's begin --- */

static void report_path(const struct matrix *m, const struct job *job, char path[PATH_MAX + 16])
{
	snprintf(path, PATH_MAX + 16, "%s/%u.json", m->folder, (unsigned)(job - m->job) + 1);
}

/* The folder of a run: "003-6.12.3-make_test". */
static int artifacts_path(const struct matrix *m, const struct job *job, char path[PATH_MAX],
			  struct err *err)
{
	char name[2 * NAME_SIZE];

	snprintf(name, sizeof(name), "%03u-%.60s-%.60s", (unsigned)(job - m->job) + 1,
		 m->kernel[job->kernel], m->command[job->command].text);
	for (char *p = name; *p != '\0'; p++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-",
			   *p) == NULL)
			*p = '_';
	if (snprintf(path, PATH_MAX, "%s/%s", m->cfg->artifacts, name) >= PATH_MAX)
		return err_set(err, ENAMETOOLONG, "--artifacts: the path is too long");
	if (mkdir(path, 0777) < 0 && errno != EEXIST)
		return err_sys(err, errno, "--artifacts %s: cannot make the folder", path);
	return 0;
}

static int replace(char **text, const char *with)
{
	char *copy = with != NULL ? strdup(with) : NULL;

	if (with != NULL && copy == NULL)
		return -ENOMEM;
	free(*text);
	*text = copy;
	return 0;
}

/* A line is for the guest's shell. */
static int set_words(struct run_config *cfg, const struct command *command)
{
	if (command->line == NULL)
		return 0;
	cfg->line = strdup(command->line);
	if (cfg->line == NULL)
		return -ENOMEM;
	cfg->line_words[0] = (char *)"sh";
	cfg->line_words[1] = (char *)"-c";
	cfg->line_words[2] = cfg->line;
	cfg->words = cfg->line_words;
	return 0;
}

/* In the new process: what is the matrix's goes, the configuration becomes that of the run. */
static int become(struct matrix *m, struct job *job, int out, int err_fd, const char *artifacts)
{
	struct run_config *cfg = m->cfg;
	const char *kernel = cfg->paths.path[job->kernel];
	char path[PATH_MAX + 16];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 ||
	    dup2(out >= 0 ? out : null, STDOUT_FILENO) < 0 || dup2(err_fd, STDERR_FILENO) < 0)
		return -errno;
	close(null);
	for (unsigned i = 0; i < m->n; i++)
		for (unsigned k = 0; m->job[i].out != NULL && k < 2; k++)
			if (m->job[i].out[k].fd >= 0)
				close(m->job[i].out[k].fd);
	close(m->signals);
	m->signals = -1;
	report_path(m, job, path);
	if (set_words(cfg, &m->command[job->command]) < 0)
		return -ENOMEM;
	cfg->has_tty = false;
	cfg->repeat = 1;
	if (replace(&cfg->vm.machine.kernel, kernel) < 0 || replace(&cfg->json, path) < 0 ||
	    replace(&cfg->junit, NULL) < 0 || replace(&cfg->artifacts, artifacts) < 0)
		return -ENOMEM;
	return 0;
}

/* Where its output goes: out[] and err[] are pipes, or only err[1] is a file. */
static int make_streams(struct matrix *m, const char *artifacts, int out[2], int err_fds[2],
			struct err *err)
{
	char path[PATH_MAX + 16];

	if (artifacts == NULL) {
		if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err_fds, O_CLOEXEC) < 0)
			return err_sys(err, errno, "pipe");
		fcntl(out[0], F_SETFL, O_NONBLOCK);
		fcntl(err_fds[0], F_SETFL, O_NONBLOCK);
		return 0;
	}
	snprintf(path, sizeof(path), "%s/messages", artifacts);
	err_fds[1] = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	(void)m;
	return err_fds[1] < 0 ? err_sys(err, errno, "--artifacts: cannot open %s", path) : 0;
}

static void close_all(int fds[4])
{
	for (unsigned i = 0; i < 4; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Begin the next run. In the new process m->child is set. */
static int start(struct matrix *m, struct err *err)
{
	struct job *job = &m->job[m->next];
	int fds[4] = { -1, -1, -1, -1 };
	char path[PATH_MAX], *artifacts = NULL;

	if (m->cfg->artifacts != NULL) {
		if (artifacts_path(m, job, path, err) < 0)
			return -err->code;
		artifacts = path;
	}
	job->out = calloc(2, sizeof(*job->out));
	if (job->out == NULL)
		return err_sys(err, ENOMEM, "a run");
	job->out[0].fd = job->out[1].fd = -1;
	if (make_streams(m, artifacts, fds, fds + 2, err) < 0)
		goto fail;
	job->begin_ns = loop_now_ns();
	job->pid = fork();
	if (job->pid == 0) {
		pthread_sigmask(SIG_SETMASK, &m->old_mask, NULL);
		m->child = true;
		if (become(m, job, fds[1], fds[3], artifacts) < 0)
			err_sys(err, errno, "a run");
		close_all(fds);
		return -err->code;
	}
	if (job->pid < 0) {
		err_sys(err, errno, "cannot start a process");
		goto fail;
	}
	setpgid(job->pid, job->pid);
	job->out[0] = (struct output){ .fd = fds[0], .to = STDOUT_FILENO };
	job->out[1] = (struct output){ .fd = fds[2], .to = STDERR_FILENO };
	fds[0] = fds[2] = -1;
	close_all(fds);
	job->state = JOB_RUNS;
	m->next++;
	m->running++;
	return 0;
fail:
	close_all(fds);
	free(job->out);
	job->out = NULL;
	return -err->code;
}

/* --- A run's end --- */

/* What it says of itself; a new reference, or NULL: nothing. */
static json_t *load(const struct matrix *m, const struct job *job)
{
	char path[PATH_MAX + 16];
	json_t *file, *run;

	report_path(m, job, path);
	file = json_load_file(path, JSON_ALLOW_NUL, NULL);
	run = json_incref(json_array_get(json_object_get(file, "runs"), 0));
	json_decref(file);
	return run;
}

static void ended(struct matrix *m, struct job *job, int wait_status)
{
	const char *how, *sentence;
	json_t *run;

	job->seconds = (double)(loop_now_ns() - job->begin_ns) / 1e9;
	job->status =
		WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
	job->state = JOB_ENDED;
	drain(m, job);
	run = load(m, job);
	how = json_string_value(json_object_get(run, "how"));
	sentence = json_string_value(json_object_get(run, "sentence"));
	snprintf(job->how, sizeof(job->how), "%s", how != NULL ? how : "cannot");
	matrix_printable(sentence != NULL ? sentence : "", job->sentence, sizeof(job->sentence));
	json_decref(run);
	m->running--;
	m->ended++;
	m->failed += job->status != 0;
	matrix_show_result(m, job);
}

static void reap(struct matrix *m)
{
	for (unsigned i = 0; i < m->next; i++) {
		int status;

		if (m->job[i].state == JOB_RUNS && waitpid(m->job[i].pid, &status, WNOHANG) > 0)
			ended(m, &m->job[i], status);
	}
}

static void kill_all(struct matrix *m, int sig)
{
	for (unsigned i = 0; i < m->next; i++)
		if (m->job[i].state == JOB_RUNS)
			kill(sig == SIGKILL ? -m->job[i].pid : m->job[i].pid, sig);
}

/* Signals of ours, and the time that passes after one. */
static void stop(struct matrix *m, int sig)
{
	uint64_t now = loop_now_ns();

	if (sig != 0 && m->stopped == 0) {
		m->stopped = sig;
		m->stopped_ns = now;
		m->stage = 1;
		kill_all(m, SIGTERM);
	} else if (m->stopped != 0 && m->stage < 3 &&
		   (sig != 0 || now - m->stopped_ns >= KILL_NS)) {
		m->stage = 3;
		kill_all(m, SIGKILL);
	} else if (m->stage == 1 && now - m->stopped_ns >= AGAIN_NS) {
		m->stage = 2;
		kill_all(m, SIGTERM);
	}
}

static void read_signals(struct matrix *m)
{
	struct signalfd_siginfo info;

	while (read(m->signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGCHLD)
			reap(m);
		else
			stop(m, (int)info.ssi_signo);
}

/* --- All of them --- */

/* Wait until something happens. */
static int step(struct matrix *m, struct pollfd *fds, struct err *err)
{
	nfds_t n = 0;

	fds[n++] = (struct pollfd){ .fd = m->signals, .events = POLLIN };
	for (unsigned i = 0; i < m->next; i++)
		for (unsigned k = 0; m->job[i].out != NULL && k < 2; k++)
			fds[n++] = (struct pollfd){ .fd = m->job[i].out[k].fd, .events = POLLIN };
	if (poll(fds, n, m->stopped != 0 ? 500 : -1) < 0 && errno != EINTR)
		return err_sys(err, errno, "poll");
	n = 1;
	for (unsigned i = 0; i < m->next; i++)
		for (unsigned k = 0; m->job[i].out != NULL && k < 2; k++, n++)
			if (fds[n].revents != 0 && m->job[i].out[k].fd >= 0)
				read_output(m, &m->job[i], &m->job[i].out[k]);
	if (fds[0].revents != 0)
		read_signals(m);
	stop(m, 0);
	return 0;
}

static int run_all(struct matrix *m, struct err *err)
{
	struct pollfd *fds = calloc(1 + 2 * (size_t)m->n, sizeof(*fds));
	int r = 0;

	if (fds == NULL)
		return err_sys(err, ENOMEM, "the runs");
	while (m->running > 0 || (m->next < m->n && m->stopped == 0 && r == 0)) {
		while (r == 0 && m->stopped == 0 && m->next < m->n && m->running < m->cfg->jobs) {
			r = start(m, err);
			if (m->child)
				goto out;
		}
		if (r < 0)
			kill_all(m, SIGTERM);
		matrix_show_progress(m);
		if (m->running > 0 && step(m, fds, err) < 0) {
			r = -err->code;
			kill_all(m, SIGKILL);
		}
	}
	matrix_clear_progress(m);
out:
	free(fds);
	return r;
}

/* A run that said nothing of itself. */
static json_t *stand_in(const struct matrix *m, const struct job *job)
{
	char text[64];
	char *line = m->command[job->command].line;
	char *const words[] = { (char *)"sh", (char *)"-c", line, NULL };
	struct run_result result = {
		.kernel = m->cfg->paths.path[job->kernel],
		.words = line != NULL ? words : m->cfg->words,
		.status = job->status,
		.sentence = text,
		.ms = { -1, -1, -1, -1, -1 },
		.total_ms = job->seconds * 1000,
	};

	snprintf(text, sizeof(text), "the monitor ended with status %d and made no report",
		 job->status);
	return run_report_json(&result);
}

/* The report on all of them, in the order of the matrix. */
static int write_report(struct matrix *m, struct run_report *report, int status, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < m->n; i++) {
		struct job *job = &m->job[i];
		json_t *run;

		if (job->state != JOB_ENDED)
			continue;
		run = load(m, job);
		if (run == NULL)
			run = stand_in(m, job);
		if (run == NULL)
			return err_sys(err, ENOMEM, "the report");
		json_object_set_new(run, "number", json_integer(i + 1));
		json_object_set_new(run, "repeat", json_integer(job->repeat + 1));
		r = run_report_add(report, run, err);
		json_decref(run);
	}
	if (r == 0)
		return run_report_close(report, status, err);
	run_report_drop(report);
	return r;
}

static int all_status(const struct matrix *m)
{
	if (m->stopped != 0)
		return 128 + m->stopped;
	for (unsigned i = 0; i < m->n; i++)
		if (m->job[i].status != 0)
			return m->job[i].status;
	return 0;
}

/* --- Making it --- */

/* Those of the file, a line each, for the guest's shell. */
static int read_commands(struct matrix *m, const char *path, struct err *err)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int r = 0;

	if (file == NULL)
		return err_sys(err, errno, "--commands %s: cannot open", path);
	while (r == 0 && (len = getline(&line, &size, file)) >= 0) {
		char *text = line + strspn(line, " \t");
		struct command *more, *c;

		text[strcspn(text, "\r\n")] = '\0';
		if (*text == '\0' || *text == '#')
			continue;
		more = m->ncommands < RUN_MATRIX_MAX
			       ? realloc(m->command, (m->ncommands + 1) * sizeof(*more))
			       : NULL;
		if (more == NULL) {
			r = err_set(err, E2BIG, "--commands %s: more than %u commands", path,
				    RUN_MATRIX_MAX);
			break;
		}
		m->command = more;
		c = &m->command[m->ncommands++];
		*c = (struct command){ .line = strdup(text) };
		matrix_printable(text, c->text, sizeof(c->text));
		if (c->line == NULL)
			r = err_sys(err, ENOMEM, "--commands");
	}
	if (r == 0 && ferror(file))
		r = err_sys(err, errno, "--commands %s", path);
	else if (r == 0 && m->ncommands == 0)
		r = err_set(err, EINVAL, "--commands %s: there is no command in it", path);
	free(line);
	fclose(file);
	return r;
}

static int the_command(struct matrix *m, struct err *err)
{
	char *const *words = m->cfg->words;
	char text[1024] = "";
	size_t len = 0;

	m->command = calloc(1, sizeof(*m->command));
	if (m->command == NULL)
		return err_sys(err, ENOMEM, "the command");
	m->ncommands = 1;
	for (; *words != NULL && len < sizeof(text) - 1; words++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len > 0 ? " " : "",
					*words);
	matrix_printable(text, m->command->text, sizeof(m->command->text));
	return 0;
}

/* Their releases, or paths where these are not all different. */
static int name_kernels(struct matrix *m, struct err *err)
{
	unsigned n = m->cfg->paths.n;
	bool same = false;

	m->kernel = calloc(n, sizeof(*m->kernel));
	if (m->kernel == NULL)
		return err_sys(err, ENOMEM, "kernels");
	for (unsigned i = 0; i < n; i++) {
		char release[RUN_RELEASE_MAX] = "";

		if (arch_kernel_release(m->cfg->paths.path[i], release, sizeof(release), err) < 0)
			return -err->code;
		same = same || *release == '\0';
		matrix_printable(release, m->kernel[i], NAME_SIZE);
		for (unsigned k = 0; k < i; k++)
			same = same || strcmp(m->kernel[i], m->kernel[k]) == 0;
	}
	for (unsigned i = 0; same && i < n; i++) {
		const char *path = m->cfg->paths.path[i];
		size_t len = strlen(path), skip = len >= NAME_SIZE ? len - NAME_SIZE + 1 : 0;

		matrix_printable(path + skip, m->kernel[i], NAME_SIZE);
	}
	return 0;
}

static int make_jobs(struct matrix *m, struct err *err)
{
	uint64_t n = (uint64_t)m->cfg->paths.n * m->ncommands * m->cfg->repeat;

	if (n > RUN_MATRIX_MAX)
		return err_set(err, E2BIG, "%llu runs are more than %u", (unsigned long long)n,
			       RUN_MATRIX_MAX);
	m->job = calloc(n, sizeof(*m->job));
	if (m->job == NULL)
		return err_sys(err, ENOMEM, "the runs");
	for (unsigned k = 0; k < m->cfg->paths.n; k++)
		for (unsigned c = 0; c < m->ncommands; c++)
			for (unsigned r = 0; r < m->cfg->repeat; r++)
				m->job[m->n++] =
					(struct job){ .kernel = k, .command = c, .repeat = r };
	return 0;
}

static int open_files(struct matrix *m, struct err *err)
{
	const struct run_config *cfg = m->cfg;
	const char *tmp = getenv("TMPDIR");

	if (cfg->json != NULL && (m->json = run_report_open(cfg->json, RUN_JSON, err)) == NULL)
		return -err->code;
	if (cfg->junit != NULL && (m->junit = run_report_open(cfg->junit, RUN_JUNIT, err)) == NULL)
		return -err->code;
	if (cfg->artifacts != NULL && mkdir(cfg->artifacts, 0777) < 0 && errno != EEXIST)
		return err_sys(err, errno, "--artifacts %s: cannot make the folder",
			       cfg->artifacts);
	snprintf(m->folder, sizeof(m->folder), "%s/vmm-run.XXXXXX",
		 tmp != NULL && *tmp != '\0' ? tmp : "/tmp");
	if (mkdtemp(m->folder) == NULL) {
		*m->folder = '\0';
		return err_sys(err, errno, "cannot make a folder in %s",
			       tmp != NULL ? tmp : "/tmp");
	}
	return 0;
}

static int watch_signals(struct matrix *m, struct err *err)
{
	static const int stops[] = { SIGTERM, SIGINT, SIGHUP };
	struct sigaction old;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		if (sigaction(stops[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, stops[i]);
	signal(SIGPIPE, SIG_IGN);
	pthread_sigmask(SIG_BLOCK, &set, &m->old_mask);
	m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signals < 0 ? err_sys(err, errno, "signalfd") : 0;
}

static void matrix_fini(struct matrix *m)
{
	char path[PATH_MAX + 16];

	for (unsigned i = 0; i < m->n; i++) {
		free(m->job[i].out);
		report_path(m, &m->job[i], path);
		if (!m->child && *m->folder != '\0')
			unlink(path);
	}
	if (!m->child && *m->folder != '\0')
		rmdir(m->folder);
	if (m->signals >= 0)
		close(m->signals);
	/* In a run's process the files are not its own. */
	(m->child ? run_report_forget : run_report_drop)(m->json);
	(m->child ? run_report_forget : run_report_drop)(m->junit);
	for (unsigned i = 0; i < m->ncommands; i++)
		free(m->command[i].line);
	free(m->command);
	free(m->job);
	free(m->kernel);
	free(m);
}

bool run_matrix_wanted(const struct run_config *cfg)
{
	return !cfg->vm.dry_run && (cfg->repeat > 1 || cfg->paths.n > 1 || cfg->commands != NULL);
}

static int check(const struct run_config *cfg, struct err *err)
{
	if (cfg->commands != NULL && *cfg->words != NULL)
		return err_set(err, EINVAL,
			       "--commands: there is a command behind --, too; give one of them");
	if (cfg->commands == NULL && *cfg->words == NULL)
		return err_set(err, EINVAL,
			       "several runs need a command, behind -- or by --commands");
	if (cfg->tty == RUN_TTY_ON)
		return err_set(err, EINVAL, "--tty on: several runs have no terminal");
	if (cfg->log != NULL)
		return err_set(
			err, EINVAL,
			"--log: the runs would write over each other's; --artifacts DIR keeps "
			"them all");
	if (cfg->vm.dump != NULL)
		return err_set(
			err, EINVAL,
			"--dump: the runs would write over each other's; --artifacts DIR keeps "
			"them all");
	return 0;
}

int run_matrix(struct run_config *cfg, struct err *err)
{
	struct matrix *m = calloc(1, sizeof(*m));
	int status = STATUS_CANNOT;

	if (m == NULL) {
		err_sys(err, ENOMEM, "the runs");
		return STATUS_CANNOT;
	}
	m->cfg = cfg;
	m->signals = -1;
	m->terminal = isatty(STDERR_FILENO) == 1;
	if (check(cfg, err) < 0 ||
	    (cfg->commands != NULL ? read_commands(m, cfg->commands, err) : the_command(m, err)) <
		    0 ||
	    name_kernels(m, err) < 0 || make_jobs(m, err) < 0 || open_files(m, err) < 0 ||
	    watch_signals(m, err) < 0)
		goto out;
	if (run_all(m, err) == 0 && !m->child) {
		matrix_show_table(m);
		status = all_status(m);
	}
	pthread_sigmask(SIG_SETMASK, &m->old_mask, NULL);
	if (m->child) {
		status = -1;
		goto out;
	}
	if (m->json != NULL && write_report(m, m->json, status, err) < 0)
		status = STATUS_CANNOT;
	m->json = NULL;
	if (m->junit != NULL && write_report(m, m->junit, status, err) < 0)
		status = STATUS_CANNOT;
	m->junit = NULL;
out:
	matrix_fini(m);
	return status;
}
