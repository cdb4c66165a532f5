/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File and line for the addresses in a kernel's stack trace. See run/trace.c.
 */
#ifndef VMM_RUN_TRACE_H
#define VMM_RUN_TRACE_H

#include "vmm/base/err.h"

#define RUN_TRACE_SECONDS 10 /* it takes at most that long */

struct broker;

/* Who starts addr2line: @broker by @rule, once that has started. */
struct run_tracer {
	struct broker *broker; /* NULL: there is none */
	int rule;
};

/* To be done by @broker, when it starts. 0 or -code. */
int run_tracer_init(struct run_tracer *tracer, struct broker *broker, struct err *err);
/*
 * Add " (file.c:12)" to those of the @n malloc'ed @lines that name a place in the kernel
 * @kernel, a path, of @release. Lines are replaced in place; where nothing is known nothing is
 * changed.
 */
void run_trace_decode(const char *kernel, const char *release, char **lines, unsigned n,
		      struct run_tracer *tracer);

#endif
