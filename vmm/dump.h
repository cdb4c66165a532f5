/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A core of a guest that died. See dump.c.
 */
#ifndef VMM_DUMP_H
#define VMM_DUMP_H

#include "arch/arch.h"
#include "vmm/base/err.h"

/* Can a core be written at @path, as far as one can tell now? Errors have no context. */
int dump_check(const char *path, struct err *err);
/*
 * Write memory and registers of the @n stopped vCPUs as an ELF core to @path: all of it or
 * nothing. Takes as long as the disk does. *@bytes: what it takes there, at most.
 */
int dump_write(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, const char *path,
	       uint64_t *bytes, struct err *err);

/* For tests: is this the page of Linux's vmcoreinfo text? Its length, or 0. */
size_t dump_vmcoreinfo(const void *page, size_t size);

#endif
