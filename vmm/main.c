// SPDX-License-Identifier: Apache-2.0
/*
 * The command line: which command, its options, its exit status. The only file that
 * prints errors and exits.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/api/api.h"
#include "vmm/base/log.h"
#include "vmm/config.h"
#include "vmm/api/ctl.h"
#include "vmm/jail/jail.h"
#include "vmm/run/run.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/vm.h"

static const char usage[] =
	"usage: vmm [boot] --kernel PATH [OPTIONS]   boot a machine\n"
	"       vmm run [OPTIONS] -- COMMAND...      run a command in a test kernel\n"
	"       vmm snapshot info|merge ...          look at saved machines\n"
	"       vmm ctl SOCKET VERB...               control a machine that runs\n"
	"       vmm list [FOLDER]                    the machines that can be controlled\n"
	"       vmm jail OPTIONS -- [OPTIONS]        run vmm as a user, in an empty root\n"
	"       vmm version                          print the version\n"
	"       vmm help [run|ctl|jail]              explain every option\n";

/* The VM whose terminal a crash must put back. */
static struct vm *volatile current_vm;

static void crashed(int sig)
{
	static const char no_page[] =
		"vmm: a page that is mapped cannot be had: a file in the guest's memory was cut "
		"short or its disk is full, or the host is out of memory\n";

	vm_restore_terminal(current_vm);
	if (sig == SIGBUS)
		(void)!write(STDERR_FILENO, no_page, sizeof(no_page) - 1);
	raise(sig); /* SA_RESETHAND: now with the default action */
}

static void catch_crashes(void)
{
	static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };
	struct sigaction sa = { .sa_handler = crashed, .sa_flags = SA_RESETHAND | SA_NODEFER };

	for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++)
		sigaction(crash_signals[i], &sa, NULL);
}

static int fail(const struct err *err)
{
	log_error("%s", err->msg);
	return STATUS_CANNOT;
}

/* Everything on stdout went out? A full disk must not look like success. */
static int flush_stdout(void)
{
	if (fflush(stdout) == 0)
		return 0;
	log_error("cannot write to standard output: %s", strerrordesc_np(errno));
	return STATUS_CANNOT;
}

/*
 * The usage and every option, or, with @man, the options as a part of the manual page. @more: what
 * `vmm run` has besides, or NULL.
 */
static int print_help(const struct opt *more, bool man)
{
	struct err err = ERR_INIT;
	struct opt *options = vm_options_new(more, &err);

	if (options == NULL)
		return fail(&err);
	if (man) {
		opt_print_man(options, stdout);
	} else {
		fputs(usage, stdout);
		putchar('\n');
		opt_print_help(options, stdout);
	}
	free(options);
	return flush_stdout();
}

static int print_dry_run(const struct vm_config *cfg)
{
	char *json = vm_config_json(cfg);

	if (json == NULL) {
		log_error("no memory to print the configuration");
		return STATUS_CANNOT;
	}
	puts(json);
	free(json);
	return flush_stdout();
}

/* A VM runs, or (NULL) no longer does. */
static void running(struct vm *vm)
{
	current_vm = vm;
	if (vm != NULL)
		catch_crashes();
}

/* With the control API, or Firecracker's configuration file. */
static int boot_controlled(int argc, char **argv)
{
	struct err err = ERR_INIT;
	char *json = NULL;
	int status = api_run(argc, argv, running, &json, &err);

	if (json != NULL) {
		puts(json);
		free(json);
		return flush_stdout();
	}
	return status < 0 ? fail(&err) : status;
}

static int boot(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct vm_config cfg;
	struct vm *vm = NULL;
	int status;

	if (vm_config_parse(&cfg, argc, argv, &err) < 0) {
		status = fail(&err);
		goto out;
	}
	if (cfg.help) {
		status = print_help(NULL, false);
		goto out;
	}
	if (vm_config_controlled(&cfg)) {
		status = boot_controlled(argc, argv);
		goto out;
	}
	if (cfg.verbose)
		log_set_level(LOG_INFO);
	vm = vm_build(&cfg, NULL, NULL, &err);
	if (vm == NULL) {
		status = fail(&err);
	} else if (cfg.dry_run) {
		status = print_dry_run(&cfg);
	} else {
		running(vm);
		status = vm_run(vm);
		running(NULL);
	}
	vm_free(vm);
out:
	vm_config_free(&cfg);
	return status;
}

static int run(int argc, char **argv)
{
	int status = run_main(argc, argv, running);

	return status == RUN_HELP ? print_help(run_options, false) : status;
}

static int print_jail_help(void)
{
	puts("usage: vmm jail --id ID --uid N --gid N [OPTIONS] [-- OPTIONS of the program]\n");
	opt_print_help(jail_options, stdout);
	return flush_stdout();
}

static int help(int argc, char **argv)
{
	static const char *const topics[] = { "boot", "run", "ctl", "jail", NULL };
	const char *topic = argc > 0 ? argv[0] : "boot", *near;

	if (argc <= 1 && strcmp(topic, "boot") == 0)
		return print_help(NULL, false);
	if (argc <= 1 && strcmp(topic, "run") == 0)
		return print_help(run_options, false);
	if (argc <= 1 && strcmp(topic, "ctl") == 0) {
		fputs(ctl_usage, stdout);
		return flush_stdout();
	}
	if (argc <= 1 && strcmp(topic, "jail") == 0)
		return print_jail_help();
	/* What the Makefile puts into the manual pages. */
	if (argc == 1 && strcmp(topic, "man-options") == 0)
		return print_help(NULL, true);
	if (argc == 1 && strcmp(topic, "man-run-options") == 0) {
		opt_print_man(run_options, stdout);
		return flush_stdout();
	}
	if (argc == 1 && strcmp(topic, "man-jail-options") == 0) {
		opt_print_man(jail_options, stdout);
		return flush_stdout();
	}
	near = opt_nearest(topic, topics);
	log_error("help: there is no topic '%s' (valid: boot, run, ctl, jail%s%s%s)", topic,
		  near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
		  near != NULL ? "'?" : "");
	return STATUS_CANNOT;
}

/*
 * A standard stream may come closed. The next file opened would take its place, so that
 * the guest's output went to it: fill the gaps with what fails as a closed stream does.
 */
static void fill_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return;
}

static int ctl(int argc, char **argv)
{
	struct err err = ERR_INIT;
	int status;

	if (argc == 1 && strcmp(argv[0], "--help") == 0) {
		fputs(ctl_usage, stdout);
		return flush_stdout();
	}
	status = ctl_main(argc, argv, &err);
	if (status < 0)
		return fail(&err);
	return flush_stdout() == 0 ? status : STATUS_CANNOT;
}

static int list(int argc, char **argv)
{
	struct err err = ERR_INIT;

	return ctl_list(argc, argv, &err) < 0 ? fail(&err) : flush_stdout();
}

static int jail(int argc, char **argv)
{
	struct err err = ERR_INIT;
	int status = jail_main(argc, argv, &err);

	if (status == JAIL_HELP)
		return print_jail_help();
	return status < 0 ? fail(&err) : status;
}

static int version(int argc, char **argv)
{
	if (argc > 0) {
		log_error("version: unexpected argument '%s'", argv[0]);
		return STATUS_CANNOT;
	}
	puts("vmm " VMM_VERSION);
	return flush_stdout();
}

/*
 * Memory that calloc() takes from the heap's top is cleared, hence touched, though it came
 * as zeroes from the kernel. With larger blocks in mappings of their own and nothing kept
 * in reserve, tables that are mostly empty cost a VM nothing: half of the anonymous memory.
 * One arena, because a vCPU thread that allocates would make one of its own.
 */
static void tune_malloc(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 32 << 10);
	mallopt(M_TOP_PAD, 0);
	malloc_trim(0);
}

int main(int argc, char **argv)
{
	static const char *const commands[] = { "boot", "run",	"snapshot", "ctl", "list",
						"jail", "help", "version",  NULL };
	const char *near;

	fill_standard_streams();
	tune_malloc();
	if (argc > 0 && strcmp(basename(argv[0]), "jailer") == 0)
		return jail(argc - 1, argv + 1);
	if (argc < 2) {
		fputs(usage, stderr);
		return STATUS_CANNOT;
	}
	if (argv[1][0] == '-' && strcmp(argv[1], "--version") != 0)
		return boot(argc - 1, argv + 1);
	if (strcmp(argv[1], "boot") == 0)
		return boot(argc - 2, argv + 2);
	if (strcmp(argv[1], "run") == 0)
		return run(argc - 2, argv + 2);
	if (strcmp(argv[1], "snapshot") == 0)
		return snapshot_main(argc - 2, argv + 2);
	if (strcmp(argv[1], "ctl") == 0)
		return ctl(argc - 2, argv + 2);
	if (strcmp(argv[1], "list") == 0)
		return list(argc - 2, argv + 2);
	if (strcmp(argv[1], "jail") == 0)
		return jail(argc - 2, argv + 2);
	if (strcmp(argv[1], "help") == 0)
		return help(argc - 2, argv + 2);
	if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)
		return version(argc - 2, argv + 2);
	near = opt_nearest(argv[1], commands);
	log_error(
		"unknown command '%s' (valid: boot, run, snapshot, ctl, list, jail, help, version%s%s%s)",
		argv[1], near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
		near != NULL ? "'?" : "");
	return STATUS_CANNOT;
}
