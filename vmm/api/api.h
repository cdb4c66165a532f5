/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control API: HTTP on a Unix socket, in Firecracker's dialect. See api/api.c.
 */
#ifndef VMM_API_H
#define VMM_API_H

#include "vmm/vm.h"

/*
 * Do what `vmm --api`, `--config-file` and their like ask for: configure a VM, by @argv (of @argc
 * words, without the program's name), the file and the API, run it to its end and serve the API all
 * the while. @running is called with the VM when it exists, and with NULL before it is gone.
 *
 * Returns the exit status, or -code with @err filled. With --dry-run *@json is the effective
 * configuration, malloc'ed, and nothing is run.
 */
int api_run(int argc, char *const *argv, void (*running)(struct vm *vm), char **json,
	    struct err *err);

#endif
