/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left to this process while a guest runs, so that a guest that takes it over gets nothing.
 * See sandbox.c for the stages.
 */
#ifndef VMM_SANDBOX_SANDBOX_H
#define VMM_SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/sandbox/filter.h"

/* The option --sandbox. */
enum sandbox_mode {
	SANDBOX_OFF,
	SANDBOX_LOG,	/* system calls that are not allowed are made, and logged by the host */
	SANDBOX_ON,	/* what this host cannot do is left out, with a warning */
	SANDBOX_STRICT, /* nothing is left out: an error otherwise */
};

struct sandbox {
	int mode;
	bool no_filter;
	unsigned roles;		    /* FILTER_ROLE()s of the main thread */
	const char *const *folders; /* what of the host is still there, [nfolders], borrowed */
	size_t nfolders;
	const char *reason; /* for files, a word for a person; NULL: no files are opened */
	int keep;	    /* an inherited descriptor that is used, -1: none */
	uint64_t ram;	    /* bytes that may be copied; 0: they never are */
	bool users;	    /* a thread that serves a folder acts for the users the guest names */
	bool quiet;	    /* what is left out is said by somebody else */
	bool leads_out;	    /* a device holds folders from which all of the host can be reached */
	bool began,
		parted; /* sandbox_begin() was called; namespaces of mounts and users are made */
	bool entered, root; /* sandbox_enter() was called; by root */
};

/*
 * Before anything is opened, and the thread is the only one: for who is not root, the namespaces in
 * which folders that are opened from here on can be cut off from the rest of the host.
 */
int sandbox_begin(struct sandbox *sb, struct err *err);
/*
 * The thread is the only one, and everything is opened. Descriptors that were inherited are closed;
 * namespaces, an empty root, limits. 0 or -code.
 */
int sandbox_enter(struct sandbox *sb, struct err *err);
/*
 * After sandbox_enter(), on each thread, the main one last, when it starts no other any more: gives
 * up privileges, and all system calls but those of @role (with FILTER_main: of sb->roles). 0 or
 * -code.
 */
int sandbox_confine(const struct sandbox *sb, enum filter_role role, struct err *err);

/* --- The root (root.c) --- */

/*
 * Make an empty file system that cannot be written the root of this mount namespace, with nothing
 * in it but @folders, where they were. The working folder stays if it is in one of them, and is the
 * root otherwise. 0 or -code with a sentence that does not say what for.
 */
int sandbox_root(const char *const *folders, size_t n, struct err *err);

#endif
