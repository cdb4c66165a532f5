/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to run_matrix*.c: the matrix, its runs, and what a person sees of them.
 */
#ifndef VMM_RUN_MATRIX_IMPL_H
#define VMM_RUN_MATRIX_IMPL_H

#include <limits.h>
#include <signal.h>
#include "vmm/run/matrix.h"
#include "vmm/run/report.h"

#define LINE_SIZE 4096 /* of output; longer ones are cut in pieces */
#define NAME_SIZE 96

/* What a run prints. */
struct output {
	int fd; /* -1: nothing more comes */
	int to;
	size_t len;
	char line[LINE_SIZE];
};

struct job {
	unsigned kernel, command, repeat;
	enum { JOB_WAITS, JOB_RUNS, JOB_ENDED } state;
	pid_t pid;
	int status;
	uint64_t begin_ns;
	double seconds;
	char how[16], sentence[256];
	struct output *out; /* [2] while it runs */
};

struct matrix {
	struct run_config *cfg;
	struct command {
		char *line;	      /* of --commands; NULL: it is that of the command line */
		char text[NAME_SIZE]; /* for a person */
	} * command;
	unsigned ncommands;
	char (*kernel)[NAME_SIZE]; /* names for a person */
	struct job *job;
	unsigned n, next, running, ended, failed;
	char folder[PATH_MAX]; /* for what they report */
	struct run_report *json, *junit;
	sigset_t old_mask;
	int signals; /* signalfd */
	int stopped; /* by this signal; 0: not */
	unsigned stage;
	uint64_t stopped_ns;
	bool child, terminal;
};

/* --- run/matrix_show.c --- */

/* @text with what would steer a terminal replaced, at most @size - 1 bytes of it. */
void matrix_printable(const char *text, char *to, size_t size);
/* The line on the terminal that says how far they are; and without it. */
void matrix_show_progress(struct matrix *m);
void matrix_clear_progress(struct matrix *m);
/* "ok 3/12 6.12.3 make test 4.2 s" */
void matrix_show_result(struct matrix *m, const struct job *job);
/* One line for each kernel and command. */
void matrix_show_table(struct matrix *m);

#endif
