// SPDX-License-Identifier: Apache-2.0
/*
 * What a person sees of a matrix of runs, on standard error: a line for each run that has ended,
 * one that is written again and again where there is a terminal, and a table at the end.
 *
 * #syscalls spawn: write
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "vmm/run/matrix_impl.h"

void matrix_printable(const char *text, char *to, size_t size)
{
	size_t i;

	for (i = 0; text[i] != '\0' && i < size - 1; i++)
		to[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
	while (text[i] != '\0' && i > 0 && ((unsigned char)text[i] & 0xc0) == 0x80)
		i--; /* not within a character */
	to[i] = '\0';
}

void matrix_show_progress(struct matrix *m)
{
	char text[160];

	if (!m->terminal)
		return;
	snprintf(text, sizeof(text), "\r\033[K%u of %u done, %u failed, %u running", m->ended, m->n,
		 m->failed, m->running);
	(void)!write(STDERR_FILENO, text, strlen(text));
}

void matrix_clear_progress(struct matrix *m)
{
	if (m->terminal)
		(void)!write(STDERR_FILENO, "\r\033[K", 4);
}

__attribute__((format(printf, 2, 3))) static void say(struct matrix *m, const char *format, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text) - 1, format, ap);
	va_end(ap);
	if (n < 0)
		return;
	n = n < (int)sizeof(text) - 2 ? n : (int)sizeof(text) - 2;
	text[n++] = '\n';
	matrix_clear_progress(m);
	(void)!write(STDERR_FILENO, text, (size_t)n);
}

static const char *command_text(const struct matrix *m, const struct job *job)
{
	return m->command[job->command].text;
}

void matrix_show_result(struct matrix *m, const struct job *job)
{
	unsigned number = (unsigned)(job - m->job) + 1;

	if (job->status == 0)
		say(m, "ok %u/%u %s %s %.1f s", number, m->n, m->kernel[job->kernel],
		    command_text(m, job), job->seconds);
	else
		say(m, "not ok %u/%u %s %s %.1f s: status %d, %s%s%s", number, m->n,
		    m->kernel[job->kernel], command_text(m, job), job->seconds, job->status,
		    job->how, *job->sentence != '\0' ? ": " : "", job->sentence);
}

void matrix_show_table(struct matrix *m)
{
	unsigned repeats = m->n / (m->ncommands * m->cfg->paths.n);
	int kernel_width = 6, command_width = 7;

	for (unsigned i = 0; i < m->cfg->paths.n; i++)
		if ((int)strlen(m->kernel[i]) > kernel_width)
			kernel_width = (int)strlen(m->kernel[i]);
	for (unsigned i = 0; i < m->ncommands; i++)
		if ((int)strlen(m->command[i].text) > command_width)
			command_width = (int)strlen(m->command[i].text);
	say(m, "%-*s  %-*s  %9s  %8s  %s", kernel_width, "kernel", command_width, "command", "ok",
	    "seconds", "statuses of the others");
	for (const struct job *row = m->job; row < m->job + m->n; row += repeats) {
		char statuses[128] = "";
		size_t len = 0;
		double seconds = 0;
		unsigned good = 0, ended = 0;

		for (unsigned i = 0; i < repeats; i++) {
			if (row[i].state != JOB_ENDED)
				continue;
			ended++;
			seconds += row[i].seconds;
			good += row[i].status == 0;
			if (row[i].status != 0 && len < sizeof(statuses) - 8)
				len += (size_t)snprintf(statuses + len, sizeof(statuses) - len,
							"%s%d", len > 0 ? " " : "", row[i].status);
		}
		say(m, "%-*s  %-*s  %4u/%-4u  %8.1f  %s", kernel_width, m->kernel[row->kernel],
		    command_width, command_text(m, row), good, repeats,
		    ended > 0 ? seconds / ended : 0, statuses);
	}
}
