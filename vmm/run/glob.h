/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File names by pattern. See run/glob.c.
 */
#ifndef VMM_RUN_GLOB_H
#define VMM_RUN_GLOB_H

#include "vmm/base/err.h"

#define RUN_GLOB_MAX 256 /* paths in a list */

struct run_paths {
	unsigned n;
	char *path[RUN_GLOB_MAX];
};

/*
 * Add to @paths the files that @pattern names: itself, or, with * ? or [ in it, those that there
 * are, in the order of their versions. 0 or -code: -ENOENT for none, -E2BIG for too many.
 */
int run_glob(const char *pattern, struct run_paths *paths, struct err *err);
/* Add this one. */
int run_glob_add(const char *path, struct run_paths *paths, struct err *err);
void run_paths_fini(struct run_paths *paths);

#endif
