/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vmm ctl` and `vmm list`: the control API for people. See api/ctl.c.
 */
#ifndef VMM_CTL_H
#define VMM_CTL_H

#include "vmm/base/err.h"

/* The verbs, for help. */
extern const char ctl_usage[];

/*
 * Carry out `vmm ctl @argv` (SOCKET VERB ...). Returns the exit status, or -code with @err filled.
 */
int ctl_main(int argc, char *const *argv, struct err *err);
/* The same of `vmm list`. */
int ctl_list(int argc, char *const *argv, struct err *err);

/*
 * The folder where --api auto puts its sockets and `vmm list` looks for them: $XDG_RUNTIME_DIR/vmm,
 * or /run/vmm for root. malloc'ed; NULL with @err filled when there is none.
 */
char *ctl_folder(struct err *err);

#endif
