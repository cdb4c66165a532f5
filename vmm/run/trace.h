/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File and line for the addresses in a kernel's stack trace. See run/trace.c.
 */
#ifndef VMM_RUN_TRACE_H
#define VMM_RUN_TRACE_H

#define RUN_TRACE_SECONDS 10 /* it takes at most that long */

/*
 * Add " (file.c:12)" to those of the @n malloc'ed @lines that name a place in the kernel
 * @kernel, a path, of @release. Lines are replaced in place; where nothing is known nothing is
 * changed.
 */
void run_trace_decode(const char *kernel, const char *release, char **lines, unsigned n);

#endif
