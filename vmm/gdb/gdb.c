// SPDX-License-Identifier: Apache-2.0
/*
 * The debugger's socket: Unix, or TCP on the loopback address.
 *
 * One debugger at a time; another one waits in the backlog until it has gone. Connecting stops the
 * guest; closing the connection without a word is like `detach`: the guest runs on, without
 * breakpoints. What a debugger does not read is kept up to OUT_MAX bytes; one that sends
 * requests without reading replies is disconnected.
 *
 * Whoever can connect owns the guest. A Unix socket has mode 0600; the TCP port is open to every
 * user of this host.
 *
 * #syscalls: accept4 read write close
 * #syscalls: setsockopt fcntl sendto recvfrom
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "devices/unix_listen.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/gdb/gdb.h"
#include "vmm/gdb/vm.h"

#define OUT_MAX (4 * GDB_PACKET_MAX)
#define BACKLOG 4

struct gdb {
	const struct gdb_config *cfg;
	struct loop *loop;
	struct gdb_vm vm;
	struct gdb_session session;
	struct loop_fd listener, client;
	struct unix_listener path; /* it owns listener.fd, if that is a Unix socket */
	size_t out_done, out_len;  /* not sent yet: out[done..len) */
	char out[OUT_MAX];
};

/* --- Where it listens --- */

/* A number is a TCP port, as for GDB's `target remote`. */
static bool get_port(const char *to, uint16_t *port)
{
	char *end;
	unsigned long value;

	if (*to == ':') /* as GDB writes it */
		to++;
	if (*to < '0' || *to > '9')
		return false;
	value = strtoul(to, &end, 10);
	if (*end != '\0' || value > UINT16_MAX)
		return false;
	*port = (uint16_t)value;
	return true;
}

int gdb_check(const struct gdb_config *cfg, struct err *err)
{
	struct sockaddr_un addr;
	uint16_t port;

	if (cfg->to == NULL)
		return 0;
	if (*cfg->to == '\0')
		return err_set(err, EINVAL, "name a TCP port or the path of a Unix socket");
	if (get_port(cfg->to, &port))
		return port > 0 ? 0 : err_set(err, EINVAL, "port 0 is none; take 1 to 65535");
	if (strspn(cfg->to, "0123456789") == strlen(cfg->to))
		return err_set(err, EINVAL, "port %s is above 65535", cfg->to);
	if (strlen(cfg->to) >= sizeof(addr.sun_path))
		return err_set(
			err, ENAMETOOLONG,
			"the path has %zu bytes, that of a socket at most %zu; name a shorter one",
			strlen(cfg->to), sizeof(addr.sun_path) - 1);
	return 0;
}

static int listen_unix(struct gdb *gdb, struct err *err)
{
	if (unix_listen(&gdb->path, "--gdb", gdb->cfg->to, BACKLOG, gdb->vm.host->broker, err) < 0)
		return -err->code;
	gdb->listener.fd = gdb->path.fd;
	return 0;
}

static int listen_tcp(struct gdb *gdb, uint16_t port, struct err *err)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd, on = 1;

	fd = gdb->listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(err, errno, "--gdb %s: no socket", gdb->cfg->to);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
		if (listen(fd, BACKLOG) == 0)
			return 0;
		return err_sys(err, errno, "--gdb %s: cannot listen", gdb->cfg->to);
	}
	if (errno == EADDRINUSE)
		return err_set(err, EADDRINUSE,
			       "--gdb %s: another program listens on this port; take another",
			       gdb->cfg->to);
	return err_sys(err, errno, "--gdb %s: cannot bind", gdb->cfg->to);
}

/* --- The debugger --- */

static void drop_client(struct gdb *gdb)
{
	if (gdb->client.fd < 0)
		return;
	loop_del_fd(&gdb->client);
	close(gdb->client.fd);
	gdb->client.fd = -1;
	gdb->out_done = gdb->out_len = 0;
	loop_mod_fd(&gdb->listener, EPOLLIN);
}

/* It has gone; perhaps without saying so. */
static void lose_client(struct gdb *gdb)
{
	bool said = gdb->session.detached;

	drop_client(gdb);
	if (said)
		return;
	log_warn("the debugger has gone; the guest runs on");
	gdb->vm.target.detach(&gdb->vm.target);
}

/* False: it cannot be written to any more. */
static bool flush_out(struct gdb *gdb)
{
	while (gdb->out_done < gdb->out_len) {
		ssize_t n = write(gdb->client.fd, gdb->out + gdb->out_done,
				  gdb->out_len - gdb->out_done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		gdb->out_done += (size_t)n;
	}
	gdb->out_done = gdb->out_len = 0;
	return true;
}

/* Kept until the packet is done with: see client_ready(). */
static void send_out(struct gdb_session *session, const void *data, size_t len)
{
	struct gdb *gdb = container_of(session, struct gdb, session);

	if (gdb->out_done > 0) {
		gdb->out_len -= gdb->out_done;
		memmove(gdb->out, gdb->out + gdb->out_done, gdb->out_len);
		gdb->out_done = 0;
	}
	if (len > OUT_MAX - gdb->out_len) {
		/* It asks and does not listen. */
		if (gdb->client.fd >= 0)
			shutdown(gdb->client.fd, SHUT_RDWR);
		return;
	}
	memcpy(gdb->out + gdb->out_len, data, len);
	gdb->out_len += len;
	if (gdb->client.fd >= 0 && flush_out(gdb) && gdb->out_len > 0)
		loop_mod_fd(&gdb->client, EPOLLIN | EPOLLOUT);
}

static void client_ready(struct loop_fd *lfd, uint32_t events)
{
	struct gdb *gdb = container_of(lfd, struct gdb, client);
	char data[4096];
	ssize_t n;

	if ((events & EPOLLOUT) != 0) {
		if (!flush_out(gdb)) {
			lose_client(gdb);
			return;
		}
		if (gdb->out_len == 0)
			loop_mod_fd(lfd, EPOLLIN);
	}
	if ((events & ~(uint32_t)EPOLLOUT) == 0)
		return;
	n = read(lfd->fd, data, sizeof(data));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		lose_client(gdb);
	else /* after a detach it may have one more acknowledgement to send: it closes, not we */
		(void)gdb_session_input(&gdb->session, data, (size_t)n);
}

static void client_waits(struct loop_fd *lfd, uint32_t events)
{
	struct gdb *gdb = container_of(lfd, struct gdb, listener);
	struct gdb_stop stop = { 0 };
	struct err err = ERR_INIT;
	int fd, on = 1;

	(void)events;
	fd = accept4(lfd->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	if (fd < 0) {
		/* It would be ready, and fail, for ever. */
		log_warn("--gdb %s: takes no debugger any more: %s", gdb->cfg->to,
			 strerrordesc_np(errno));
		loop_mod_fd(lfd, 0);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails on a Unix socket */
	gdb->client.fd = fd;
	if (loop_add_fd(gdb->loop, &gdb->client, EPOLLIN, &err) < 0) {
		log_warn("--gdb %s: debugger lost: %s", gdb->cfg->to, err.msg);
		close(fd);
		gdb->client.fd = -1;
		return;
	}
	loop_mod_fd(lfd, 0);
	gdb_vm_hold(&gdb->vm);
	gdb_session_init(&gdb->session, &gdb->vm.target, &stop, send_out);
}

static void stopped(struct gdb_vm *vm, const struct gdb_stop *stop)
{
	struct gdb *gdb = container_of(vm, struct gdb, vm);

	gdb_session_stopped(&gdb->session, stop);
}

/* --- For vm.c --- */

static bool has_client(const struct gdb *gdb)
{
	return gdb->client.fd >= 0 && !gdb->session.detached;
}

bool gdb_holds(const struct gdb *gdb)
{
	return gdb != NULL && gdb->vm.holds;
}

bool gdb_attached(const struct gdb *gdb)
{
	return gdb != NULL && (gdb->vm.holds || has_client(gdb));
}

/*
 * The CPU that died; or, of a guest that stands still, one that is busy in its kernel: after a
 * panic only the one that panicked is, all others are off.
 */
static unsigned who_is_meant(struct gdb *gdb)
{
	struct vcpus *cpus = gdb->vm.cpus;
	unsigned now = gdb->session.cpu;

	for (unsigned i = 0; i < cpus->n; i++)
		if (cpus->vcpu[i].end != VCPU_END_NONE)
			return i;
	if (arch_vcpu_activity(&cpus->vcpu[now].kvm) == VCPU_KERNEL)
		return now;
	for (unsigned i = 0; i < cpus->n; i++)
		if (arch_vcpu_activity(&cpus->vcpu[i].kvm) == VCPU_KERNEL)
			return i;
	return now;
}

bool gdb_catch(struct gdb *gdb, int signal)
{
	struct gdb_stop stop = { .signal = signal };

	if (gdb == NULL || !has_client(gdb) || gdb->vm.holds)
		return false;
	gdb_vm_hold(&gdb->vm);
	stop.cpu = who_is_meant(gdb);
	gdb_session_stopped(&gdb->session, &stop);
	return true;
}

void gdb_guest_reset(struct gdb *gdb)
{
	if (gdb != NULL)
		gdb_vm_reset(&gdb->vm);
}

void gdb_lift(struct gdb *gdb)
{
	if (gdb != NULL)
		gdb_vm_lift(&gdb->vm);
}

void gdb_ended(struct gdb *gdb, int status)
{
	if (gdb == NULL || !has_client(gdb))
		return;
	gdb_session_ended(&gdb->session, status);
}

struct gdb *gdb_new(const struct gdb_config *cfg, struct vcpus *cpus, struct gdb_host *host,
		    struct loop *loop, struct err *err)
{
	struct gdb *gdb = calloc(1, sizeof(*gdb));
	uint16_t port = 0;

	if (gdb == NULL) {
		err_set(err, ENOMEM, "no memory for the debugger");
		return NULL;
	}
	gdb->cfg = cfg;
	gdb->loop = loop;
	gdb->path.fd = -1;
	gdb->listener = (struct loop_fd){ .fd = -1, .fn = client_waits };
	gdb->client = (struct loop_fd){ .fd = -1, .fn = client_ready };
	if (gdb_vm_init(&gdb->vm, cpus, host, stopped, err) < 0 ||
	    (get_port(cfg->to, &port) ? listen_tcp(gdb, port, err) : listen_unix(gdb, err)) < 0)
		goto fail;
	if (loop_add_fd(loop, &gdb->listener, EPOLLIN, err) < 0)
		goto fail;
	gdb->vm.holds = cfg->wait;
	return gdb;
fail:
	gdb_free(gdb);
	return NULL;
}

void gdb_free(struct gdb *gdb)
{
	if (gdb == NULL)
		return;
	loop_del_fd(&gdb->client);
	loop_del_fd(&gdb->listener);
	if (gdb->client.fd >= 0)
		close(gdb->client.fd);
	if (gdb->path.fd >= 0)
		unix_listen_end(&gdb->path);
	else if (gdb->listener.fd >= 0)
		close(gdb->listener.fd);
	gdb_vm_fini(&gdb->vm);
	free(gdb);
}
