// SPDX-License-Identifier: Apache-2.0
/*
 * An HTTP/1.1 server on a Unix stream socket: RFC 9110 (what messages mean) and RFC 9112 (how they
 * are written). The parser is llhttp, in its strict mode.
 *
 * Theory of operation. A connection is served by conn_run(), again and again until it would have
 * to wait: write what is to be sent; if all of that is gone, parse the input further, up to the
 * end of one request, and answer that. So a client that sends requests without reading the
 * answers (9.3.2 of RFC 9112, pipelining) is not read any further, and a connection never holds
 * more than one request and its answer. What is left after REQUESTS_AT_ONCE of them
 * waits for the next pass of the loop: the socket is writable, so watching for that is enough.
 *
 * Nothing a client does takes memory or time without a bound: connections, target, header, body
 * and the time from the first byte of a request to its last are limited. An idle connection may
 * stay for ever, as long as nobody else wants its place. After an error the connection is
 * closed, but what the client is still sending is read and dropped for a while (9.6): else it would
 * see a broken pipe, and not our sentence.
 *
 * Limits: no TLS, no compression, no ranges, no upgrade (which a server may ignore, RFC 9110, 7.8).
 * A query is cut off. Host is not looked at: there is one host here.
 *
 * #syscalls: accept4 fcntl read sendto shutdown close
 */
#include <errno.h>
#include <fcntl.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/api/http.h"

#define INPUT_SIZE	 4096
#define REQUESTS_AT_ONCE 8
#define ACCEPT_AT_ONCE	 16
#define BACKLOG		 128
#define DRAIN_MAX	 (4 << 20) /* bytes dropped after an error */
#define SECOND		 1000000000ULL
#define REQUEST_NS	 (30 * SECOND) /* from its first byte to its last */
#define WRITE_NS	 (30 * SECOND) /* without taking a byte */
#define DRAIN_NS	 (2 * SECOND)

struct http_conn {
	struct loop_fd lfd;
	struct http_server *server;
	struct http_conn *older, *newer;
	llhttp_t parser;
	uint64_t since; /* what it is waited for began then */

	/* The request that is being read. */
	bool begun, expects, refused;
	size_t target_len, head, body_len, body_size;
	unsigned name_len, value_len;
	char name[16], value[16]; /* of a header field, its beginning */
	char target[HTTP_TARGET_MAX + 1];
	char *body;
	int status; /* why it is refused */
	const char *why;

	bool closing;  /* when all is sent */
	bool draining; /* all is sent; input is dropped */
	bool stream;
	unsigned lost; /* pieces of the stream that were dropped */
	size_t drained;
	size_t in_pos, in_len; /* not parsed yet: in[in_pos..in_pos + in_len) */
	char *out;	       /* not sent yet: out[out_pos..out_len) */
	size_t out_pos, out_len, out_size;
	char in[INPUT_SIZE];
};

static const char *reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 204:
		return "No Content";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 408:
		return "Request Timeout";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 417:
		return "Expectation Failed";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Internal Server Error";
	}
}

/* --- The list of connections --- */

static void unlink_conn(struct http_conn *c)
{
	struct http_server *s = c->server;

	*(c->older != NULL ? &c->older->newer : &s->oldest) = c->newer;
	*(c->newer != NULL ? &c->newer->older : &s->newest) = c->older;
	c->older = c->newer = NULL;
}

static void link_newest(struct http_conn *c)
{
	struct http_server *s = c->server;

	c->older = s->newest;
	c->newer = NULL;
	*(s->newest != NULL ? &s->newest->newer : &s->oldest) = c;
	s->newest = c;
}

static void conn_free(struct http_conn *c)
{
	struct http_server *s = c->server;

	unlink_conn(c);
	s->nconns--;
	s->nstreams -= c->stream;
	loop_del_fd(&c->lfd);
	close(c->lfd.fd);
	free(c->body);
	free(c->out);
	free(c);
}

/* Is nothing going on there? */
static bool is_idle(const struct http_conn *c)
{
	return !c->begun && c->out_len == 0 && c->in_len == 0 && !c->draining && !c->stream;
}

/* --- Output --- */

/* False: no memory; the connection cannot go on. */
static bool put(struct http_conn *c, const void *data, size_t len)
{
	if (c->out_len + len > c->out_size) {
		size_t size = c->out_len + len + 512;
		char *out = realloc(c->out, size);

		if (out == NULL) {
			c->closing = true;
			return false;
		}
		c->out = out;
		c->out_size = size;
	}
	memcpy(c->out + c->out_len, data, len);
	c->out_len += len;
	return true;
}

static bool put_text(struct http_conn *c, const char *text)
{
	return put(c, text, strlen(text));
}

/* Append a chunk to a stream, a line of JSON: RFC 9112, 7.1. */
static void put_chunk(struct http_conn *c, const char *text, size_t len)
{
	char size[32];

	snprintf(size, sizeof(size), "%zx\r\n", len);
	put_text(c, size);
	put(c, text, len);
	put_text(c, "\r\n");
}

static void put_reply(struct http_conn *c, const struct http_reply *reply, bool head)
{
	const char *connection = c->closing		     ? "Connection: close\r\n"
				 : c->parser.http_minor == 0 ? "Connection: keep-alive\r\n"
							     : "";
	char text[320];

	snprintf(text, sizeof(text), "HTTP/1.1 %d %s\r\nServer: vmm/" VMM_VERSION "\r\n%s",
		 reply->status, reason(reply->status), connection);
	put_text(c, text);
	if (reply->stream) {
		put_text(c, "Content-Type: application/x-ndjson\r\n"
			    "Transfer-Encoding: chunked\r\n\r\n");
		if (reply->len > 0)
			put_chunk(c, reply->body, reply->len);
		return;
	}
	/* RFC 9110, 8.6: none with 204. */
	if (reply->status != 204) {
		snprintf(text, sizeof(text), "Content-Type: %s\r\nContent-Length: %zu\r\n",
			 reply->type != NULL ? reply->type : "application/json", reply->len);
		put_text(c, text);
	}
	put_text(c, "\r\n");
	if (!head && reply->len > 0)
		put(c, reply->body, reply->len);
}

static void put_fault(struct http_conn *c, int status, const char *why)
{
	struct http_reply reply = { .status = status };

	reply.body = c->server->fault(status, why);
	reply.len = reply.body != NULL ? strlen(reply.body) : 0;
	c->closing = true;
	put_reply(c, &reply, false);
	free(reply.body);
}

/* Write what can be written. False: the client is gone. */
static bool flush(struct http_conn *c)
{
	while (c->out_pos < c->out_len) {
		ssize_t n = send(c->lfd.fd, c->out + c->out_pos, c->out_len - c->out_pos,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		c->out_pos += (size_t)n;
		c->since = loop_now_ns();
	}
	c->out_pos = c->out_len = 0;
	if (c->out_size > INPUT_SIZE) {
		free(c->out);
		c->out = NULL;
		c->out_size = 0;
	}
	return true;
}

/* --- A request, as llhttp reads it --- */

static struct http_conn *conn_of(llhttp_t *parser)
{
	return container_of(parser, struct http_conn, parser);
}

/* Stop parsing: the answer is @status and @why, a constant. */
static int refuse(struct http_conn *c, int status, const char *why)
{
	c->refused = true;
	c->status = status;
	c->why = why;
	return HPE_USER;
}

static int on_begin(llhttp_t *parser)
{
	struct http_conn *c = conn_of(parser);

	c->begun = true;
	c->expects = false;
	c->target_len = c->head = c->body_len = 0;
	c->name_len = c->value_len = 0;
	c->since = loop_now_ns();
	return 0;
}

/* @len more bytes of the head; too many are refused. */
static int count_head(struct http_conn *c, size_t len)
{
	c->head += len;
	if (c->head > HTTP_HEAD_MAX)
		return refuse(c, 431, "the header fields have more than 8192 bytes");
	return 0;
}

static int on_target(llhttp_t *parser, const char *data, size_t len)
{
	struct http_conn *c = conn_of(parser);

	if (len > HTTP_TARGET_MAX - c->target_len)
		return refuse(c, 414, "the path has more than 512 bytes");
	memcpy(c->target + c->target_len, data, len);
	c->target_len += len;
	return 0;
}

/* Keep the beginning of a text that may come in pieces. */
static void keep(char *to, unsigned size, unsigned *len, const char *data, size_t n)
{
	for (size_t i = 0; i < n && *len < size; i++)
		to[(*len)++] = data[i];
}

static int on_field(llhttp_t *parser, const char *data, size_t len)
{
	struct http_conn *c = conn_of(parser);

	if (c->value_len > 0)
		c->name_len = c->value_len = 0;
	keep(c->name, sizeof(c->name), &c->name_len, data, len);
	return count_head(c, len + 2);
}

static int on_value(llhttp_t *parser, const char *data, size_t len)
{
	struct http_conn *c = conn_of(parser);

	keep(c->value, sizeof(c->value), &c->value_len, data, len);
	return count_head(c, len + 2);
}

static bool word_is(const char *word, unsigned len, const char *expected)
{
	return len == strlen(expected) && strncasecmp(word, expected, len) == 0;
}

static int on_value_complete(llhttp_t *parser)
{
	struct http_conn *c = conn_of(parser);
	bool expect = word_is(c->name, c->name_len, "expect");
	bool fulfilled = word_is(c->value, c->value_len, "100-continue");

	c->name_len = c->value_len = 0;
	if (!expect)
		return 0;
	/* RFC 9110, 10.1.1 */
	if (!fulfilled)
		return refuse(c, 417, "Expect: only 100-continue is known here");
	c->expects = true;
	return 0;
}

static int on_extension(llhttp_t *parser, const char *data, size_t len)
{
	(void)data;
	return count_head(conn_of(parser), len + 1);
}

static int on_head(llhttp_t *parser)
{
	struct http_conn *c = conn_of(parser);
	bool chunked = (parser->flags & F_CHUNKED) != 0;

	if (parser->http_major != 1)
		return refuse(c, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
	if (parser->method == HTTP_CONNECT)
		return refuse(c, 400, "there is no CONNECT here");
	parser->upgrade = 0;
	if (!chunked && parser->content_length > c->server->body_max)
		return refuse(c, 413, "the body is larger than --http-api-max-payload-size");
	if (c->expects && (chunked || parser->content_length > 0) && parser->http_minor > 0)
		put_text(c, "HTTP/1.1 100 Continue\r\n\r\n");
	return 0;
}

static int on_body(llhttp_t *parser, const char *data, size_t len)
{
	struct http_conn *c = conn_of(parser);

	if (len > c->server->body_max - c->body_len)
		return refuse(c, 413, "the body is larger than --http-api-max-payload-size");
	if (c->body_len + len + 1 > c->body_size) {
		size_t size = c->body_len + len + 1;
		char *body;

		/* Pieces as small as one byte must not cost a copy of the whole each. */
		size = size < 512 ? 512 : size + size / 2;
		body = realloc(c->body, size);
		if (body == NULL)
			return refuse(c, 503, "no memory for the body");
		c->body = body;
		c->body_size = size;
	}
	memcpy(c->body + c->body_len, data, len);
	c->body_len += len;
	return 0;
}

static int on_complete(llhttp_t *parser)
{
	(void)parser;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_message_begin = on_begin,
	.on_url = on_target,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_header_value_complete = on_value_complete,
	.on_chunk_extension_name = on_extension,
	.on_chunk_extension_value = on_extension,
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

/* A request is complete: have it answered. */
static void answer(struct http_conn *c)
{
	struct http_request req = { .method = llhttp_method_name(c->parser.method),
				    .path = c->target,
				    .body = "",
				    .len = c->body_len };
	struct http_reply reply = { .status = 204 };

	c->target[c->target_len] = '\0';
	c->target[strcspn(c->target, "?")] = '\0';
	if (c->body != NULL) {
		c->body[c->body_len] = '\0';
		req.body = c->body;
	}
	if (!llhttp_should_keep_alive(&c->parser))
		c->closing = true;
	/* Whoever asks last is not the first to go. */
	unlink_conn(c);
	link_newest(c);
	c->server->handle(c->server, &req, &reply);
	if (reply.stream && c->parser.http_minor == 0) {
		put_fault(c, 505, "a stream needs HTTP/1.1");
	} else {
		put_reply(c, &reply, c->parser.method == HTTP_HEAD);
		c->stream = reply.stream;
		c->server->nstreams += reply.stream;
	}
	free(reply.body);
	free(c->body);
	c->body = NULL;
	c->body_size = c->body_len = 0;
	c->begun = false;
	c->since = loop_now_ns();
}

/* Parse input up to the end of a request, at most. */
static void parse(struct http_conn *c)
{
	const char *from = c->in + c->in_pos;
	enum llhttp_errno r = llhttp_execute(&c->parser, from, c->in_len);
	char why[128];
	size_t used;

	if (r == HPE_OK) {
		c->in_len = 0;
		return;
	}
	if (r == HPE_PAUSED) {
		used = (size_t)(llhttp_get_error_pos(&c->parser) - from);
		c->in_pos += used;
		c->in_len -= used;
		llhttp_resume(&c->parser);
		answer(c);
		return;
	}
	c->in_len = 0;
	c->begun = false;
	if (c->refused) {
		put_fault(c, c->status, c->why);
		return;
	}
	snprintf(why, sizeof(why), "this is no HTTP/1.1 request: %s",
		 llhttp_get_error_reason(&c->parser));
	put_fault(c, 400, why);
}

/* --- A connection --- */

/* False: there is nothing (yet), or the connection has ended; then *ended says so. */
static bool fill(struct http_conn *c, bool *ended)
{
	ssize_t n;

	do {
		n = read(c->lfd.fd, c->in, sizeof(c->in));
	} while (n < 0 && errno == EINTR);
	*ended = n == 0 || (n < 0 && errno != EAGAIN);
	if (n <= 0)
		return false;
	c->in_pos = 0;
	c->in_len = (size_t)n;
	return true;
}

/* Read and drop. False: the connection is over. */
static bool drain(struct http_conn *c)
{
	bool ended = false;

	for (int i = 0; i < REQUESTS_AT_ONCE && fill(c, &ended); i++) {
		c->drained += c->in_len;
		c->in_len = 0;
	}
	return !ended && (c->stream || c->drained < DRAIN_MAX);
}

/* Its time is limited: see that somebody looks. */
static void watch_time(struct http_conn *c)
{
	struct http_server *s = c->server;

	if ((c->begun || c->draining || c->out_len > 0) && !s->sweep.armed)
		loop_arm(s->loop, &s->sweep, SECOND);
}

/* Go on as far as possible. May free @c. */
static void conn_run(struct http_conn *c)
{
	bool ended = false;

	for (int i = 0; i < REQUESTS_AT_ONCE; i++) {
		if (!flush(c))
			goto gone;
		if (c->out_len > 0)
			break;
		if (c->closing && !c->draining) {
			shutdown(c->lfd.fd, SHUT_WR);
			c->draining = true;
			c->in_len = 0;
			c->since = loop_now_ns();
		}
		if (c->draining || c->stream) {
			if (!drain(c))
				goto gone;
			break;
		}
		if (c->in_len == 0 && !fill(c, &ended)) {
			if (ended)
				goto gone;
			break;
		}
		parse(c);
	}
	watch_time(c);
	if (c->out_len > 0)
		loop_mod_fd(&c->lfd, EPOLLOUT | (c->stream ? EPOLLIN : 0));
	else
		loop_mod_fd(&c->lfd, c->in_len > 0 ? EPOLLOUT : EPOLLIN);
	return;
gone:
	conn_free(c);
}

static void conn_event(struct loop_fd *lfd, uint32_t events)
{
	struct http_conn *c = container_of(lfd, struct http_conn, lfd);

	/* Both ends are shut: whatever is left to be read, nobody would see an answer. */
	if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0)
		conn_free(c);
	else
		conn_run(c);
}

static bool is_too_late(const struct http_conn *c, uint64_t now)
{
	uint64_t limit = c->draining	  ? DRAIN_NS
			 : c->out_len > 0 ? WRITE_NS
			 : c->begun	  ? REQUEST_NS
					  : 0;

	return limit > 0 && now - c->since >= limit;
}

/* Once a second, while somebody is waited for. */
static void sweep(struct loop_timer *timer)
{
	struct http_server *s = container_of(timer, struct http_server, sweep);
	uint64_t now = loop_now_ns();
	struct http_conn *next;

	loop_mod_fd(&s->listener, EPOLLIN);
	for (struct http_conn *c = s->oldest; c != NULL; c = next) {
		next = c->newer;
		if (!is_too_late(c, now)) {
			watch_time(c);
		} else if (c->begun && c->out_len == 0 && !c->draining) {
			c->begun = false;
			put_fault(c, 408, "the request did not come to its end in 30 s");
			conn_run(c);
		} else {
			conn_free(c);
		}
	}
}

/* --- Connecting --- */

/* Is there a place? Perhaps that of an idle connection. */
static bool make_room(struct http_server *s)
{
	if (s->nconns < HTTP_CONNS_MAX)
		return true;
	for (struct http_conn *c = s->oldest; c != NULL; c = c->newer) {
		if (is_idle(c)) {
			conn_free(c);
			return true;
		}
	}
	return false;
}

static void turn_away(struct http_server *s, int fd)
{
	char *body = s->fault(503, "too many connections");
	char text[512];

	snprintf(text, sizeof(text),
		 "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
		 "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		 body != NULL ? strlen(body) : 0, body != NULL ? body : "");
	(void)!send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	free(body);
	close(fd);
}

static void add_conn(struct http_server *s, int fd)
{
	struct http_conn *c = make_room(s) ? calloc(1, sizeof(*c)) : NULL;
	struct err err = ERR_INIT;

	if (c == NULL) {
		turn_away(s, fd);
		return;
	}
	c->server = s;
	c->lfd = (struct loop_fd){ .fd = fd, .fn = conn_event };
	llhttp_init(&c->parser, HTTP_REQUEST, &settings);
	link_newest(c);
	s->nconns++;
	if (loop_add_fd(s->loop, &c->lfd, EPOLLIN, &err) < 0) {
		log_limited(LOG_WARN, "API: %s", err.msg);
		conn_free(c);
	}
}

static void accept_some(struct loop_fd *lfd, uint32_t events)
{
	struct http_server *s = container_of(lfd, struct http_server, listener);

	(void)events;
	for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
		int fd = accept4(lfd->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			add_conn(s, fd);
			continue;
		}
		if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
			return;
		/* Out of descriptors, for one: it would be reported without end. */
		log_limited(LOG_WARN, "API: cannot accept: %s", strerrordesc_np(errno));
		loop_mod_fd(lfd, 0);
		loop_arm(s->loop, &s->sweep, SECOND);
		return;
	}
}

/* --- The server --- */

static int take_fd(struct http_server *s, int fd, struct err *err)
{
	struct sockaddr_storage addr;
	socklen_t size = sizeof(int);
	int listening = 0;

	s->path.fd = fd;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0)
		return err_sys(err, errno, "API: descriptor %d is no socket", fd);
	size = sizeof(addr);
	if (!listening || getsockname(fd, (struct sockaddr *)&addr, &size) < 0 ||
	    addr.ss_family != AF_UNIX)
		return err_set(err, EINVAL, "API: descriptor %d is no listening Unix socket", fd);
	/* Whoever made it may have wanted to wait for clients; we do not. */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(err, errno, "API: descriptor %d", fd);
	return 0;
}

int http_listen(struct http_server *server, const char *path, int fd, struct err *err)
{
	server->path = (struct unix_listener){ .fd = -1 };
	server->listener = (struct loop_fd){ .fd = -1, .fn = accept_some };
	server->sweep.fn = sweep;
	if (path != NULL ? unix_listen(&server->path, "API", path, BACKLOG, NULL, err) < 0
			 : take_fd(server, fd, err) < 0)
		return -err->code;
	server->listener.fd = server->path.fd;
	return loop_add_fd(server->loop, &server->listener, EPOLLIN, err);
}

void http_end(struct http_server *server)
{
	while (server->oldest != NULL)
		conn_free(server->oldest);
	loop_disarm(&server->sweep);
	loop_del_fd(&server->listener);
	server->listener.fd = -1;
	unix_listen_end(&server->path);
}

void http_publish(struct http_server *server, const char *text, size_t len)
{
	if (server->nstreams == 0)
		return;
	for (struct http_conn *c = server->oldest; c != NULL; c = c->newer) {
		if (!c->stream || c->closing)
			continue;
		if (c->out_len - c->out_pos + len > HTTP_STREAM_MAX) {
			c->lost++;
			continue;
		}
		if (c->lost > 0) {
			char lost[64];

			snprintf(lost, sizeof(lost), "{\"event\": \"lost\", \"count\": %u}\n",
				 c->lost);
			put_chunk(c, lost, strlen(lost));
			c->lost = 0;
		}
		put_chunk(c, text, len);
		/* Sent by the loop: this may be within a callback of this very connection. */
		loop_mod_fd(&c->lfd, EPOLLIN | EPOLLOUT);
	}
}

void http_finish(struct http_server *server)
{
	for (struct http_conn *c = server->oldest; c != NULL; c = c->newer) {
		if (c->stream && !c->closing)
			put_text(c, "0\r\n\r\n");
		(void)flush(c);
	}
}
