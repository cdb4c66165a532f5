/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several runs: kernels x commands x repeats. See run/matrix.c.
 */
#ifndef VMM_RUN_MATRIX_H
#define VMM_RUN_MATRIX_H

#include "vmm/run/run.h"

#define RUN_MATRIX_MAX 10000 /* runs */

/* Is more than one run asked for? */
bool run_matrix_wanted(const struct run_config *cfg);

/*
 * Do them all, each in a process of its own. Returns the program's status, with @err filled
 * where they could not be done; or, in each of those processes, -1: then @cfg has become that of
 * its run, and the caller does that (unless @err is filled).
 */
int run_matrix(struct run_config *cfg, struct err *err);

#endif
