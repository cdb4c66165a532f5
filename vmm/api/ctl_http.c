// SPDX-License-Identifier: Apache-2.0
/*
 * An HTTP/1.1 client for one request on a Unix socket: RFC 9112. Blocking.
 *
 * #syscalls: none in the monitor
 */
#include <errno.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "vmm/base/util.h"
#include "vmm/api/ctl_http.h"

#define BODY_MAX (64 << 20)
#define LINE_MAX (1 << 20)

struct reading {
	llhttp_t parser;
	struct ctl_answer *answer;
	bool (*line)(void *arg, const char *text, size_t len);
	void *arg;
	bool complete, enough, no_memory;
};

int ctl_connect(const char *path, unsigned seconds, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = (time_t)seconds };
	int fd, code;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ENAMETOOLONG, "%s: the path of a socket has at most %zu bytes",
			       path, sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	if (seconds > 0) {
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	}
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	code = errno;
	close(fd);
	if (code == ECONNREFUSED)
		return err_set(err, code, "%s: nobody listens there: the VM has ended", path);
	return err_sys(err, code, "%s: cannot connect", path);
}

static struct reading *reading_of(llhttp_t *parser)
{
	return container_of(parser, struct reading, parser);
}

/* Hand over the complete lines of what there is, and keep the rest. */
static void hand_over(struct reading *r)
{
	struct ctl_answer *a = r->answer;
	char *from = a->body, *end;

	while (!r->enough &&
	       (end = memchr(from, '\n', a->len - (size_t)(from - a->body))) != NULL) {
		r->enough = !r->line(r->arg, from, (size_t)(end - from));
		from = end + 1;
	}
	a->len -= (size_t)(from - a->body);
	memmove(a->body, from, a->len);
}

static int on_body(llhttp_t *parser, const char *data, size_t len)
{
	struct reading *r = reading_of(parser);
	struct ctl_answer *a = r->answer;
	size_t max = r->line != NULL ? LINE_MAX : BODY_MAX;
	char *body = a->len + len < max ? realloc(a->body, a->len + len + 1) : NULL;

	if (body == NULL) {
		r->no_memory = true;
		return HPE_USER;
	}
	a->body = body;
	memcpy(body + a->len, data, len);
	a->len += len;
	body[a->len] = '\0';
	if (r->line != NULL && parser->status_code == 200)
		hand_over(r);
	return 0;
}

static int on_complete(llhttp_t *parser)
{
	struct reading *r = reading_of(parser);

	/* RFC 9110, 15.2: 100 (Continue) comes before the answer. */
	if (parser->status_code >= 200) {
		r->complete = true;
		r->answer->status = parser->status_code;
	}
	return r->complete ? HPE_PAUSED : 0;
}

static const llhttp_settings_t settings = { .on_body = on_body,
					    .on_message_complete = on_complete };

static int send_all(int fd, const char *text, size_t len, struct err *err)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		/* It may have answered already, and closed: that says more. */
		if (n < 0 && errno == EPIPE)
			return 0;
		if (n < 0)
			return err_sys(err, errno, "cannot send");
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

static int receive(int fd, struct reading *r, struct err *err)
{
	char data[4096];

	while (!r->complete && !r->enough) {
		ssize_t n = recv(fd, data, sizeof(data), 0);
		enum llhttp_errno e;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return err_set(err, ETIMEDOUT, "no answer");
		if (n < 0)
			return err_sys(err, errno, "cannot receive");
		if (n == 0)
			return err_set(err, ECONNRESET, "the VM has ended without an answer");
		e = llhttp_execute(&r->parser, data, (size_t)n);
		if (r->no_memory)
			return err_set(err, ENOMEM, "no memory for the answer");
		if (e != HPE_OK && e != HPE_PAUSED)
			return err_set(err, EPROTO, "the answer is no HTTP: %s",
				       llhttp_get_error_reason(&r->parser));
	}
	return 0;
}

int ctl_request(int fd, const char *method, const char *path, const char *body,
		bool (*line)(void *arg, const char *text, size_t len), void *arg,
		struct ctl_answer *answer, struct err *err)
{
	struct reading r = { .answer = answer, .line = line, .arg = arg };
	char *text;
	int len, rc;

	*answer = (struct ctl_answer){ 0 };
	if (body != NULL)
		len = asprintf(
			&text,
			"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
			"Content-Length: %zu\r\n\r\n%s",
			method, path, strlen(body), body);
	else
		len = asprintf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method, path);
	if (len < 0)
		return err_set(err, ENOMEM, "no memory for the request");
	llhttp_init(&r.parser, HTTP_RESPONSE, &settings);
	rc = send_all(fd, text, (size_t)len, err);
	free(text);
	if (rc == 0)
		rc = receive(fd, &r, err);
	if (rc < 0) {
		free(answer->body);
		answer->body = NULL;
	}
	return rc;
}
