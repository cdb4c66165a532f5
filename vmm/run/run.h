/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmm run`: one command in a kernel to be tested, with the host's files, as if it ran here.
 * run/run.c has its life, run/config.c the options, run/job.c what the guest is told, run/net.c its
 * network, run/kernel.c the kernel's modules, run/channel.c the line to the agent, run/log.c the
 * kernel's log; run/record.c keeps what reports are made of, run/matrix.c makes one run many.
 */
#ifndef VMM_RUN_H
#define VMM_RUN_H

#include "vmm/config.h"
#include "vmm/run/cpio.h"
#include "vmm/run/channel.h"
#include "vmm/run/glob.h"
#include "vmm/vm.h"

/* The kernel log had what --fail-on names, and the command itself succeeded. */
#define STATUS_COMPLAINED 123
/* The kernel's own tests failed, and the command itself succeeded. */
#define STATUS_TESTS_FAILED 1

/* Tags of our own shares: the root, and folder number N of --rwdir. The user's are not called so.
 */
#define RUN_TAG_ROOT "vmm.root"
#define RUN_TAG_RW   "vmm.rw"

/* Elements of the repeatable options. */
struct run_word {
	char *text;
};

enum run_tty { RUN_TTY_AUTO, RUN_TTY_ON, RUN_TTY_OFF };

struct run_config {
	struct vm_config vm; /* first: the option table reaches both */
	char *root, *cwd, *user, *modules, *log, *fail_on;
	char *json, *junit, *artifacts, *commands;
	struct opt_list rwdirs, overlays, env, kernels; /* of struct run_word */
	uint64_t repeat, jobs;
	bool rw;
	int tty; /* enum run_tty */
	/* Not options. */
	char *const *words;	    /* the command, borrowed; NULL-terminated, none: a shell */
	bool has_tty;		    /* the command gets a terminal */
	bool kernel_found;	    /* the kernel's path is ours */
	struct run_paths paths;	    /* of all kernels (run/matrix.c) */
	char *asked;		    /* --dry-run: the configuration, without what is added to it */
	char *line, *line_words[4]; /* a command that is ours, and its words */
};

/* The options of `vmm run` alone; ends with name == NULL. */
extern const struct opt run_options[];

/*
 * Fill @cfg from the command line, up to and with "--", and what follows it, the command. The
 * devices it takes are added. Free with run_config_free(), also after failure.
 */
int run_config_parse(struct run_config *cfg, int argc, char *const *argv, struct err *err);
void run_config_free(struct run_config *cfg);

/* --- run/job.c --- */

/* Make the initramfs in @cpio: the agent, and the modules this kernel needs for @cfg. */
int run_job_initramfs(const struct run_config *cfg, struct cpio *cpio, struct err *err);
/* What the agent is told, in order: words that each end in NUL (guest/agent/steps.c). */
struct run_steps {
	unsigned n, size;
	struct run_step {
		char *words;
		size_t len;
	} * step;
};

/* All that comes before the command, and the command. Free with run_steps_free(), also after
 * failure. */
int run_steps_make(const struct run_config *cfg, struct run_steps *steps, struct err *err);
void run_steps_free(struct run_steps *steps);
/* Add one: copies of @words, the last of which is NULL. */
int run_steps_add(struct run_steps *steps, const char *const *words, struct err *err);
/* Step number @i for a person: "mount vmm.root /newroot virtiofs". */
void run_steps_explain(const struct run_steps *steps, unsigned i, char *text, size_t size);

/* --- run/net.c --- */

/* Give the user networks in @cfg fixed addresses, where the user has not. */
int run_net_settle(struct run_config *cfg, struct err *err);
/* Add the steps that bring them up and name the servers of names; the root is there already. */
int run_net_steps(const struct run_config *cfg, struct run_steps *steps, struct err *err);

/* --- run/run.c --- */

/* Of run_main(), and no exit status: help was asked for. */
#define RUN_HELP (-1)

/*
 * Does it all; returns the program's exit status. @running is told of the VM that runs, and that
 * (NULL) it no longer does.
 */
int run_main(int argc, char **argv, void (*running)(struct vm *vm));

#endif
