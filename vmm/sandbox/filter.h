/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters of system calls (seccomp, Documentation/userspace-api/seccomp_filter.rst). See filter.c.
 */
#ifndef VMM_SANDBOX_FILTER_H
#define VMM_SANDBOX_FILTER_H

#include <stdbool.h>
#include "vmm/base/err.h"

/*
 * Who calls. The first five are kinds of threads; the others are what the main thread does besides
 * where a configuration needs it.
 */
enum filter_role {
	FILTER_main,  /* the main loop: control, and most devices */
	FILTER_io,    /* an I/O thread: one disk, one network device */
	FILTER_vcpu,  /* runs the guest, and what is done on its exits */
	FILTER_share, /* serves a folder of the host */
	FILTER_work,  /* makes calls on open files that may wait, where there is no io_uring */
	FILTER_files, /* opens files by name */
	FILTER_ROLES,
};

#define FILTER_ROLE(role) (1u << FILTER_##role)

/*
 * From here on the calling thread, and what it starts, makes the system calls of @roles (a mask
 * of FILTER_ROLE()) only: for any other the process is killed, or, with @log_only, the host's
 * kernel writes it down. It can never have new privileges (no_new_privs). 0 or -code.
 */
int filter_enter(unsigned roles, bool log_only, struct err *err);

#endif
