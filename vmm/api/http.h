/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 server on a Unix stream socket, in an event loop: RFC 9110, RFC 9112. See http.c.
 * Everything on the loop's thread.
 */
#ifndef VMM_HTTP_H
#define VMM_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include "devices/unix_listen.h"
#include "vmm/base/err.h"
#include "vmm/base/loop.h"

/* Connections at a time; one more takes the place of the one that has been idle for longest. */
#define HTTP_CONNS_MAX 64
/* Bytes of a request's target, and of its header and trailer fields together. */
#define HTTP_TARGET_MAX 512
#define HTTP_HEAD_MAX	8192
/* Bytes of a stream that a client has not read. */
#define HTTP_STREAM_MAX (256 << 10)

struct http_request {
	const char *method; /* "GET" */
	const char *path;   /* as it came, without a query */
	const char *body;   /* @len bytes; none: "" */
	size_t len;
};

/* What to answer; zeroed before, but for status 204. */
struct http_reply {
	int status;	  /* of those in http.c */
	const char *type; /* of the content; NULL: JSON */
	char *body;	  /* malloc'ed, freed by the server; NULL: none */
	size_t len;
	bool stream; /* @body, a line, is the first; what http_publish() is given follows */
};

struct http_conn;

struct http_server {
	/* Set these. */
	struct loop *loop;
	size_t body_max; /* bytes of a request's body */
	void (*handle)(struct http_server *server, const struct http_request *req,
		       struct http_reply *reply);
	/*
	 * The body of the reply to what is no valid request: status and a sentence. malloc'ed, or
	 * NULL for none.
	 */
	char *(*fault)(int status, const char *why);
	/* private */
	struct loop_fd listener;
	struct unix_listener path;
	struct loop_timer sweep;
	struct http_conn *oldest, *newest; /* by the time of their last request */
	unsigned nconns;
	unsigned nstreams;
};

/*
 * Listen at @path with the public members set and the rest zeroed; or, with a NULL @path, on @fd, a
 * listening socket that is the server's from then on, also after failure. http_end() undoes it,
 * also after failure.
 */
int http_listen(struct http_server *server, const char *path, int fd, struct err *err);
void http_end(struct http_server *server);

/* Send @text, a line of JSON, to every client that asked for the stream. One that does not read
 * loses it, and is told how many were lost. */
void http_publish(struct http_server *server, const char *text, size_t len);
/* No more will come: end the streams, and write what clients take without waiting. */
void http_finish(struct http_server *server);

#endif
