// SPDX-License-Identifier: Apache-2.0
/*
 * The HTTP server, with clients played by this file: what is a request, what is refused and how,
 * what a client can hold up. The handler answers with what it was asked.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/api/http.h"

#define BODY_MAX 1000

static char dir[] = "/tmp/vmm-http-XXXXXX";
static char path[64];
static struct http_server server;
static unsigned asked;
static char reply_text[1 << 20];

static void handle(struct http_server *s, const struct http_request *req, struct http_reply *reply)
{
	char *text;

	(void)s;
	asked++;
	if (strcmp(req->path, "/none") == 0)
		return;
	if (strcmp(req->path, "/stream") == 0) {
		reply->status = 200;
		reply->stream = true;
		return;
	}
	reply->status = 200;
	if (strcmp(req->path, "/big") == 0) {
		reply->len = 600 << 10;
		reply->body = malloc(reply->len);
		memset(reply->body, 'x', reply->len);
		return;
	}
	reply->len = (size_t)asprintf(&text, "%s %s %.*s", req->method, req->path, (int)req->len,
				      req->body);
	reply->body = text;
}

static char *fault(int status, const char *why)
{
	char *text;

	return asprintf(&text, "%d %s", status, why) < 0 ? NULL : text;
}

static void setup(void)
{
	struct err err = ERR_INIT;

	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/api.sock", dir);
	memset(&server, 0, sizeof(server));
	asked = 0;
	server.loop = loop_new(&err);
	server.body_max = BODY_MAX;
	server.handle = handle;
	server.fault = fault;
	ck_assert_msg(http_listen(&server, path, -1, &err) == 0, "%s", err.msg);
}

static void teardown(void)
{
	http_end(&server);
	loop_free(server.loop);
	ck_assert_int_eq(access(path, F_OK), -1);
	rmdir(dir);
}

static void turn(void)
{
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(loop_run_once(server.loop, 0), 0);
}

static int client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void say_n(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			turn();
			continue;
		}
		text += n;
		len -= (size_t)n;
	}
}

static void say(int fd, const char *text)
{
	say_n(fd, text, strlen(text));
}

/* All that comes now. *@ended: so does the connection. */
static const char *hear(int fd, bool *ended)
{
	size_t len = 0;
	bool end = false;
	int dry = 0;

	while (dry < 3 && !end) {
		ssize_t n;

		turn();
		n = recv(fd, reply_text + len, sizeof(reply_text) - 1 - len, 0);
		if (n > 0)
			len += (size_t)n;
		else if (n == 0)
			end = true;
		else
			dry++;
	}
	reply_text[len] = '\0';
	if (ended != NULL)
		*ended = end;
	return reply_text;
}

static bool is_status(const char *text, int status)
{
	char line[32];

	snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
	return strncmp(text, line, strlen(line)) == 0;
}

static const char *content(const char *text)
{
	const char *at = strstr(text, "\r\n\r\n");

	return at != NULL ? at + 4 : "";
}

/* Ask on a connection of its own. */
static const char *ask(const char *text, bool *ended)
{
	int fd = client();

	say(fd, text);
	hear(fd, ended);
	close(fd);
	turn();
	return reply_text;
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
		n++;
	return n;
}

START_TEST(requests)
{
	bool ended;
	const char *text = ask("GET /a?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", &ended);

	ck_assert(is_status(text, 200) && !ended);
	ck_assert_str_eq(content(text), "GET /a ");
	ck_assert_ptr_nonnull(strstr(text, "Content-Length: 7\r\n"));
	ck_assert_ptr_nonnull(strstr(text, "Content-Type: application/json\r\n"));
	text = ask("PUT /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nxyz", &ended);
	ck_assert_str_eq(content(text), "PUT /b xyz");
	text = ask("PATCH /none HTTP/1.1\r\n\r\n", &ended);
	ck_assert(is_status(text, 204) && !ended);
	ck_assert_ptr_null(strstr(text, "Content-Length"));
	ck_assert_str_eq(content(text), "");
	text = ask(
		"PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;e=1\r\nc\r\n0\r\n"
		"X: y\r\n\r\n",
		&ended);
	ck_assert_str_eq(content(text), "PUT /c abc");
	text = ask("HEAD /d HTTP/1.1\r\n\r\n", &ended);
	ck_assert(is_status(text, 200));
	ck_assert_str_eq(content(text), "");
	text = ask("GET /e HTTP/1.1\r\nConnection: close\r\n\r\n", &ended);
	ck_assert(is_status(text, 200) && ended);
	ck_assert_ptr_nonnull(strstr(text, "Connection: close\r\n"));
	text = ask("GET /f HTTP/1.0\r\n\r\n", &ended);
	ck_assert(is_status(text, 200) && ended);
	text = ask("GET /g HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", &ended);
	ck_assert(is_status(text, 200));
}
END_TEST

START_TEST(pieces)
{
	static const char text[] =
		"\r\nPUT /b HTTP/1.1\r\nContent-Length: 3\r\nexPECt: 100-conTinue\r\n\r\n";
	bool ended;
	int fd = client();

	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		say_n(fd, text + i, 1);
		turn();
	}
	ck_assert_str_eq(hear(fd, &ended), "HTTP/1.1 100 Continue\r\n\r\n");
	say(fd, "x");
	turn();
	say(fd, "yz");
	ck_assert_str_eq(content(hear(fd, &ended)), "PUT /b xyz");
	/* And once more on the same connection, without waiting to be told. */
	say(fd, "PUT /c HTTP/1.1\r\nContent-Length: 1\r\n\r\n.");
	ck_assert_str_eq(content(hear(fd, &ended)), "PUT /c .");
	ck_assert(!ended);
	close(fd);
}
END_TEST

START_TEST(pipelined)
{
	int fd = client();
	const char *text;
	bool ended;

	for (int i = 0; i < 100; i++)
		say(fd, "GET /p HTTP/1.1\r\n\r\n");
	text = hear(fd, &ended);
	ck_assert_uint_eq(count(text, "HTTP/1.1 200 OK"), 100);
	ck_assert(!ended);
	close(fd);
}
END_TEST

/* One who does not read what he asked for is not served any further; others are. */
START_TEST(flood)
{
	static const char one[] = "GET /big HTTP/1.1\r\n\r\n";
	int fd = client(), sent = 0;
	const char *text;
	unsigned n = 0;
	bool ended;

	while (send(fd, one, sizeof(one) - 1, MSG_NOSIGNAL) == sizeof(one) - 1) {
		sent++;
		if (sent % 100 == 0)
			turn();
		if (sent >= 100000)
			break;
	}
	turn();
	ck_assert_int_lt(sent, 100000);
	ck_assert_uint_le(asked, 2);
	text = ask("GET /other HTTP/1.1\r\n\r\n", &ended);
	ck_assert_str_eq(content(text), "GET /other ");
	/* When he reads he gets it all. */
	asked = 0;
	while (asked < 5 && n++ < 100)
		(void)hear(fd, &ended);
	ck_assert_uint_ge(asked, 5);
	close(fd);
	turn();
}
END_TEST

START_TEST(refused)
{
	char *text = malloc(64 << 10);
	bool ended;
	static const struct {
		int status;
		const char *text;
	} cases[] = {
		{ 400, "hello\r\n\r\n" },
		{ 400, "\x16\x03\x01\x02" },
		{ 400, "GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1 \r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n" },
		{ 400, "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab" },
		{ 400, "PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nab" },
		{ 400,
		  "PUT / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
		  "\r\n" },
		{ 400, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n" },
		{ 400, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" },
		{ 400,
		  "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n" },
		{ 413, "PUT / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" },
		{ 413, "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n" },
		{ 413, "PUT / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n" },
		{ 417, "PUT / HTTP/1.1\r\nExpect: miracles\r\n\r\n" },
		{ 400, "CONNECT x:1 HTTP/1.1\r\n\r\n" },
		{ 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\nA\r\n\r\n" },
		{ 400, "GET / HTTP/1.1\r\n A: folded\r\n\r\n" },
		{ 400, "GET /\x01 HTTP/1.1\r\n\r\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ask(cases[i].text, &ended);
		ck_assert_msg(ended, "case %zu is not closed: %s", i, reply_text);
		ck_assert_msg(is_status(reply_text, cases[i].status), "case %zu: %s", i,
			      reply_text);
		ck_assert_ptr_nonnull(strstr(reply_text, "Connection: close\r\n"));
	}
	ck_assert_uint_eq(asked, 0);
	/* Chunks that are too much together; of one byte each. */
	strcpy(text, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < BODY_MAX + 1; i++)
		strcat(text, "1\r\nx\r\n");
	ck_assert(is_status(ask(text, &ended), 413));
	/* Targets and heads. */
	memset(text, 'a', 64 << 10);
	memcpy(text, "GET /", 5);
	strcpy(text + 600, " HTTP/1.1\r\n\r\n");
	ck_assert(is_status(ask(text, &ended), 414));
	memset(text, 'a', 64 << 10);
	memcpy(text, "GET / HTTP/1.1\r\nX: ", 19);
	strcpy(text + 9000, "\r\n\r\n");
	ck_assert(is_status(ask(text, &ended), 431));
	free(text);
}
END_TEST

/* A body that is too long is refused, and the client gets to know it though it keeps sending. */
START_TEST(sends_on)
{
	int fd = client();
	char *junk = calloc(1, 1 << 20);
	bool ended;

	say(fd, "PUT / HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n");
	say_n(fd, junk, 1 << 20);
	ck_assert(is_status(hear(fd, &ended), 413));
	free(junk);
	close(fd);
}
END_TEST

START_TEST(half_closed)
{
	int fd = client();
	bool ended;

	say(fd, "GET /h HTTP/1.1\r\n\r\n");
	shutdown(fd, SHUT_WR);
	ck_assert_str_eq(content(hear(fd, &ended)), "GET /h ");
	ck_assert(ended);
	close(fd);
	/* In the middle: nothing to say. */
	fd = client();
	say(fd, "GET /h HT");
	shutdown(fd, SHUT_WR);
	ck_assert_str_eq(hear(fd, &ended), "");
	ck_assert(ended);
	close(fd);
	ck_assert_uint_eq(server.nconns, 0);
}
END_TEST

/* Idle ones make room; those that are in the middle of something do not. */
START_TEST(crowd)
{
	int fds[1000];
	bool ended;

	for (int i = 0; i < 1000; i++) {
		fds[i] = client();
		turn();
	}
	ck_assert_uint_eq(server.nconns, HTTP_CONNS_MAX);
	ck_assert_str_eq(content(ask("GET /last HTTP/1.1\r\n\r\n", &ended)), "GET /last ");
	for (int i = 0; i < 1000; i++)
		close(fds[i]);
	turn();
	ck_assert_uint_eq(server.nconns, 0);
	for (int i = 0; i < HTTP_CONNS_MAX; i++) {
		fds[i] = client();
		say(fds[i], "GET /slow");
		turn();
	}
	ck_assert(is_status(ask("GET /last HTTP/1.1\r\n\r\n", &ended), 503));
	ck_assert(ended);
	say(fds[0], " HTTP/1.1\r\n\r\n");
	ck_assert_str_eq(content(hear(fds[0], &ended)), "GET /slow ");
	for (int i = 0; i < HTTP_CONNS_MAX; i++)
		close(fds[i]);
}
END_TEST

START_TEST(streams)
{
	int fd = client(), slow = client();
	char *text = calloc(1, 64 << 10);
	bool ended;

	say(fd, "GET /stream HTTP/1.1\r\n\r\n");
	say(slow, "GET /stream HTTP/1.1\r\n\r\n");
	hear(fd, &ended);
	ck_assert_ptr_nonnull(strstr(reply_text, "Transfer-Encoding: chunked\r\n"));
	http_publish(&server, "one\n", 4);
	http_publish(&server, "twelve bytes", 12);
	ck_assert_str_eq(hear(fd, &ended), "4\r\none\n\r\nc\r\ntwelve bytes\r\n");
	/* One that does not read holds nobody up, and no memory either. */
	for (int i = 0; i < 100; i++) {
		http_publish(&server, text, 64 << 10);
		(void)hear(fd, &ended);
	}
	ck_assert(!ended);
	close(slow);
	turn();
	ck_assert_uint_eq(server.nstreams, 1);
	http_finish(&server);
	ck_assert_str_eq(hear(fd, &ended), "0\r\n\r\n");
	ck_assert(is_status(ask("GET /stream HTTP/1.0\r\n\r\n", &ended), 505));
	free(text);
	close(fd);
}
END_TEST

START_TEST(inherited)
{
	struct http_server other = server;
	struct err err = ERR_INIT;
	int fd[2];

	ck_assert_int_eq(pipe(fd), 0);
	ck_assert_int_lt(http_listen(&other, NULL, fd[0], &err), 0);
	http_end(&other);
	close(fd[1]);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	ck_assert_int_lt(http_listen(&other, NULL, fd[0], &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "no listening Unix socket"));
	http_end(&other);
	close(fd[1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http");
	TCase *tc = tcase_create("http");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, requests);
	tcase_add_test(tc, pieces);
	tcase_add_test(tc, pipelined);
	tcase_add_test(tc, flood);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, sends_on);
	tcase_add_test(tc, half_closed);
	tcase_add_test(tc, crowd);
	tcase_add_test(tc, streams);
	tcase_add_test(tc, inherited);
	suite_add_tcase(s, tc);
	return test_run(s);
}
