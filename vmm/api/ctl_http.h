/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of http.h: one request on a connection of its own, which may be waited for.
 */
#ifndef VMM_CTL_HTTP_H
#define VMM_CTL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include "vmm/base/err.h"

struct ctl_answer {
	int status;
	char *body; /* malloc'ed, ends with a NUL; free() it */
	size_t len;
};

/*
 * Connect to the socket @path; @seconds is the longest to wait for anything, 0: for ever. A
 * descriptor, or -code: -ECONNREFUSED when nobody listens there.
 */
int ctl_connect(const char *path, unsigned seconds, struct err *err);

/*
 * Send a request on @fd (@body may be NULL) and read its answer. With @line, a body is handed
 * over line by line as it comes (false: enough), and answer->body is NULL. 0 or -code.
 */
int ctl_request(int fd, const char *method, const char *path, const char *body,
		bool (*line)(void *arg, const char *text, size_t len), void *arg,
		struct ctl_answer *answer, struct err *err);

#endif
