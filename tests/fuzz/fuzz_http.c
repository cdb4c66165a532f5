// SPDX-License-Identifier: Apache-2.0
/*
 * The control API's HTTP server and the bodies of its requests, from a client that sends what it
 * likes.
 *
 * The first byte says which: even, the rest are bytes of a connection, sent in pieces whose sizes
 * the bytes themselves decide, and whatever is answered must be an answer; odd, the second byte
 * picks a request and the rest is its body. What would make files or a VM is left out.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/fuzz/fuzz.h"
#include "vmm/api/impl.h"

static struct http_server server;
static struct api api;
static char path[64];
static bool ready;

static void echo(struct http_server *s, const struct http_request *req, struct http_reply *reply)
{
	(void)s;
	CHECK(strlen(req->path) <= HTTP_TARGET_MAX);
	CHECK(strchr(req->path, '?') == NULL && strchr(req->path, ' ') == NULL);
	CHECK(req->len <= server.body_max && req->body[req->len] == '\0');
	reply->status = 200;
	reply->stream = strcmp(req->path, "/s") == 0;
	if (!reply->stream && req->len > 0) {
		reply->body = strndup(req->body, req->len);
		reply->len = strlen(reply->body);
	}
}

static char *fault(int status, const char *why)
{
	char *text;

	CHECK(status >= 400 && *why != '\0');
	return asprintf(&text, "%d %s", status, why) < 0 ? NULL : text;
}

static void running(struct vm *vm)
{
	(void)vm;
}

static void clean(void)
{
	unlink(path);
}

static void begin(void)
{
	static char word[] = "--api=none";
	static char *argv[] = { word };
	struct err err = ERR_INIT;

	snprintf(path, sizeof(path), "/tmp/vmm-fuzz-http-%d.sock", (int)getpid());
	server = (struct http_server){ .body_max = 4096, .handle = echo, .fault = fault };
	server.loop = loop_new(&err);
	CHECK(server.loop != NULL);
	CHECK(http_listen(&server, path, -1, &err) == 0);
	api.argc = 1;
	api.argv = argv;
	api.running = running;
	CHECK(api_init(&api, &err) == 0);
	ready = true;
	atexit(clean);
}

static void turn(void)
{
	for (int i = 0; i < 4; i++)
		CHECK(loop_run_once(server.loop, 0) == 0);
}

static int client(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(addr.sun_path, path);
	CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
	return fd;
}

/* What comes first is a status line. */
static bool hear(int fd, bool *first)
{
	char text[4096];
	ssize_t n = recv(fd, text, sizeof(text), 0);

	if (n > 0 && *first)
		CHECK(n >= 12 && memcmp(text, "HTTP/1.1 ", 9) == 0);
	*first = *first && n <= 0;
	return n > 0;
}

static void connection(const uint8_t *data, size_t size)
{
	int fd = client();
	bool first = true;

	turn();
	while (size > 0) {
		size_t piece = 1 + data[0] % 64;

		if (piece > size)
			piece = size;
		if (send(fd, data, piece, MSG_NOSIGNAL) < 0) {
			CHECK(errno == EPIPE || errno == EAGAIN || errno == ECONNRESET);
			break;
		}
		data += piece;
		size -= piece;
		turn();
		(void)hear(fd, &first);
		http_publish(&server, "{}\n", 3);
	}
	shutdown(fd, SHUT_WR);
	do {
		turn();
	} while (hear(fd, &first));
	close(fd);
	turn();
	CHECK(server.nconns == 0 && server.nstreams == 0);
}

static void request(const uint8_t *data, size_t size)
{
	static const struct {
		const char *method, *path;
	} requests[] = {
		{ "PUT", "/boot-source" },
		{ "PUT", "/machine-config" },
		{ "PATCH", "/machine-config" },
		{ "PUT", "/cpu-config" },
		{ "PUT", "/drives/a" },
		{ "PUT", "/drives/b" },
		{ "PUT", "/network-interfaces/a" },
		{ "PUT", "/pmem/a" },
		{ "PUT", "/vsock" },
		{ "PUT", "/balloon" },
		{ "PUT", "/entropy" },
		{ "PUT", "/serial" },
		{ "PUT", "/options/share" },
		{ "PUT", "/options/console" },
		{ "PUT", "/options/disk" },
		{ "PUT", "/options/timeout" },
		{ "PUT", "/options/gdb" },
		{ "GET", "/vm/config" },
		{ "GET", "/options" },
		{ "PATCH", "/vm" },
		{ "PUT", "/mmds" },
	};
	struct input in = { .data = data, .left = size };
	size_t which = take(&in, 1) % (sizeof(requests) / sizeof(requests[0]));
	struct err err = ERR_INIT;
	struct api_call call;
	json_t *body = json_loadb((const char *)in.data, in.left,
				  JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	int status = api_do(&api, requests[which].method, requests[which].path, body, &call, &err);

	CHECK(status == 200 || status == 204 || status == 400);
	CHECK((status == 400) == (err.msg[0] != '\0'));
	CHECK(api.doc != NULL && api.own != NULL);
	json_decref(call.reply);
	free(call.text);
	json_decref(body);
	/* What is configured stays a configuration; and from time to time all begins anew. */
	if (json_object_size(api.own) + json_object_size(api.doc) > 8) {
		api_fini(&api);
		api = (struct api){ .argc = api.argc, .argv = api.argv, .running = running };
		CHECK(api_init(&api, &err) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!ready)
		begin();
	if (size == 0)
		return 0;
	if (data[0] % 2 == 0)
		connection(data + 1, size - 1);
	else
		request(data + 1, size - 1);
	return 0;
}
