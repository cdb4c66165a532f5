/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: one sentence for a person and one code for the program.
 *
 * A `struct err` lives on the stack of whoever wants to know. Functions that can
 * fail take a pointer to it as their last argument, fill it once and return
 * -code; callers add what they know on the way up:
 *
 *	err_sys(err, errno, "cannot open")          -> "cannot open: Permission denied"
 *	err_context(err, "disk %s", path)           -> "disk data.img: cannot open: ..."
 *
 * A sentence names what was asked for, what was found, and the way out where
 * there is one. It has no trailing full stop or newline. Only main.c prints it
 * and exits.
 */
#ifndef VMM_BASE_ERR_H
#define VMM_BASE_ERR_H

#define ERR_MSG_MAX 512

struct err {
	int code;	       /* positive errno value, 0 while nothing has failed */
	char msg[ERR_MSG_MAX]; /* always NUL-terminated, cut when too long */
};

#define ERR_INIT                                                                                   \
	{                                                                                          \
		.code = 0, .msg = ""                                                               \
	}

/* Fill @err with @code (a positive errno value) and the sentence. Returns -@code. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same, followed by ": " and the text of errno value @code. Returns -@code. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "context: " before the sentence already in @err. Returns -err->code. */
int err_context(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
