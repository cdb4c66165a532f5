/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a kernel brings along: its release, its configuration, its modules. See run/kernel.c.
 */
#ifndef VMM_RUN_KERNEL_H
#define VMM_RUN_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include "vmm/base/err.h"
#include "vmm/run/cpio.h"

#define RUN_RELEASE_MAX 128

struct run_kernel {
	char release[RUN_RELEASE_MAX]; /* "" when it cannot be told */
	char *config;		       /* its text, NUL-terminated; NULL: not found */
	char *dir;		       /* where its modules are; NULL: nowhere */
	char *builtin;		       /* modules.builtin there, or NULL */
	char *list;		       /* paths of all modules there, a line each, or NULL */
};

/* What is wanted of a kernel: in it, or as a module. */
struct run_want {
	const char *module; /* without ".ko", '_' for '-' */
	const char *option; /* "VIRTIO_FS" */
	const char *what;   /* what it is for: "shared folders" */
};

/*
 * Look at the kernel image @path; modules are in @modules if given, or else looked for where its
 * build or its distribution leaves them. Sentences name what is missing.
 */
int run_kernel_init(struct run_kernel *k, const char *path, const char *modules, struct err *err);
void run_kernel_fini(struct run_kernel *k);

/*
 * Add to @cpio the modules it takes to have everything in @wants (ends with module == NULL), in
 * the order in which to load them, as AGENT_MODULES/NNN-NAME.ko. What is built in needs none. When
 * something is neither, and that is certain, an error that names the option.
 */
int run_kernel_add_modules(const struct run_kernel *k, const struct run_want *wants,
			   struct cpio *cpio, struct err *err);

#endif
