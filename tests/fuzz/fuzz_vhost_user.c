// SPDX-License-Identifier: Apache-2.0
/*
 * vhost-user devices, whose back end says anything: the input is what it sends, and what the
 * driver does meanwhile. Whole conversations as they should be are one byte each, so that what is
 * wrong can be late.
 *
 * The first byte chooses the type of device, then operations until the end, see operate(). What
 * the back end "sends" is in the socket before anybody reads it; a reply that is missing is
 * waited for a millisecond.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/vhost_user.h"
#include "devices/vhost_user_impl.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/base/log.h"

#define RAM	  0x100000
#define RINGS	  0x1000
#define STEPS_MAX 64
#define CONNS_MAX 8
#define MIGHT	  (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VHOST_USER_F_PROTOCOL_FEATURES)

struct machine {
	struct gmem mem;
	struct loop *loop;
	struct virtio_host host;
	struct virtio_transport transport;
	struct virtio_device *vdev;
	struct vhost_user_way way;
	int peer[CONNS_MAX], ours[CONNS_MAX]; /* connections prepared; -1: taken or not there */
	unsigned nconns, taken;
};

static void on_interrupt(struct virtio_transport *t, int q)
{
	CHECK(t->vdev != NULL && q >= -1 && q < (int)t->vdev->nqueues);
}

static int on_fd(struct virtio_transport *t, unsigned q, int fd, bool on)
{
	CHECK(t->vdev != NULL && q < t->vdev->nqueues && (fd >= 0 || !on));
	return 0;
}

static int way_connect(struct vhost_user_way *way, struct err *err)
{
	struct machine *m = (struct machine *)((char *)way - offsetof(struct machine, way));
	int fd;

	if (m->taken == m->nconns)
		return err_set(err, ECONNREFUSED, "no more");
	fd = m->ours[m->taken];
	m->ours[m->taken++] = -1;
	return fd;
}

static void way_free(struct vhost_user_way *way)
{
	(void)way;
}

/* A connection that the device will find when it looks for one. */
static void prepare(struct machine *m)
{
	int pair[2];

	if (m->nconns == CONNS_MAX)
		return;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	m->peer[m->nconns] = pair[0];
	m->ours[m->nconns++] = pair[1];
}

static struct machine *machine(void)
{
	static const struct virtio_transport_ops transport_ops = { .interrupt = on_interrupt,
								   .ioeventfd = on_fd,
								   .irqfd = on_fd };
	static struct machine m;
	struct gmem_config cfg = { .size = RAM };
	struct err err = ERR_INIT;

	if (m.loop != NULL)
		return &m;
	log_set_level(LOG_ERROR);
	log_set_fd(-1);
	CHECK(gmem_init(&m.mem, &cfg, &err) == 0);
	CHECK(gmem_add_region(&m.mem, 0, RAM, &err) == 0);
	m.loop = loop_new(&err);
	CHECK(m.loop != NULL);
	m.host = (struct virtio_host){ .mem = &m.mem, .loop = m.loop };
	m.transport.ops = &transport_ops;
	m.way = (struct vhost_user_way){ .connect = way_connect, .free = way_free, .pidfd = -1 };
	return &m;
}

/* --- What the back end says --- */

/* In the newest connection, with @nfds descriptors. */
static void say(struct machine *m, const void *data, size_t len, unsigned nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(4 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[4];

	if (m->nconns == 0)
		return;
	nfds %= 5;
	for (unsigned i = 0; i < nfds; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	if (nfds > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, nfds * sizeof(int));
	}
	(void)sendmsg(m->peer[m->nconns - 1], &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (unsigned i = 0; i < nfds; i++)
		close(fds[i]);
}

static void reply(struct machine *m, uint32_t request, const void *payload, uint32_t len,
		  unsigned nfds)
{
	uint8_t bytes[12 + 300];
	uint32_t head[3] = { request, 1 | 4, len };

	memcpy(bytes, head, 12);
	memcpy(bytes + 12, payload, len);
	say(m, bytes, 12 + len, nfds);
}

static void number(struct machine *m, uint32_t request, uint64_t value)
{
	reply(m, request, &value, sizeof(value), 0);
}

static void config(struct machine *m, uint8_t fill, uint32_t len)
{
	struct {
		uint32_t offset, size, flags;
		uint8_t data[256];
	} c = { .size = len };

	memset(c.data, fill, sizeof(c.data));
	reply(m, VU_GET_CONFIG, &c, 12 + len, 0);
}

/* All that is asked of it until it is known. */
static void introduce(struct machine *m, uint64_t features, uint64_t protocol, uint8_t fill)
{
	number(m, VU_GET_FEATURES, features | MIGHT);
	number(m, VU_GET_PROTOCOL_FEATURES, protocol);
	if ((protocol >> VU_PROTOCOL_BACKEND_REQ & 1) != 0 &&
	    (protocol >> VU_PROTOCOL_REPLY_ACK & 1) != 0)
		number(m, VU_SET_BACKEND_REQ_FD, 0);
	if ((protocol & 1) != 0)
		number(m, VU_GET_QUEUE_NUM, 8);
	config(m, fill, 60);
}

/* All acknowledgements of a start with @n rings. */
static void accept_rings(struct machine *m, unsigned n)
{
	static const unsigned ring[] = { VU_SET_VRING_NUM, VU_SET_VRING_BASE, VU_SET_VRING_ADDR,
					 VU_SET_VRING_CALL, VU_SET_VRING_KICK };
	uint64_t inflight[3] = { 4096, 0, 0 };

	number(m, VU_SET_FEATURES, 0);
	number(m, VU_SET_MEM_TABLE, 0);
	reply(m, VU_GET_INFLIGHT_FD, inflight, 24, 1);
	number(m, VU_SET_INFLIGHT_FD, 0);
	for (unsigned q = 0; q < n; q++) {
		for (unsigned i = 0; i < 5; i++)
			number(m, ring[i], 0);
	}
	for (unsigned q = 0; q < n; q++)
		number(m, VU_SET_VRING_ENABLE, 0);
}

static void give_back(struct machine *m, unsigned n, uint16_t base)
{
	for (uint32_t q = 0; q < n; q++)
		reply(m, VU_GET_VRING_BASE, (uint32_t[]){ q, base }, 8, 0);
}

/* --- What the driver does --- */

static void start(struct machine *m, uint64_t features)
{
	struct virtio_device *vdev = m->vdev;

	pthread_mutex_lock(&vdev->lock);
	virtio_set_status(vdev, 0);
	virtio_set_status(vdev, 3);
	features &= vdev->features;
	features |= 1ULL << VIRTIO_F_VERSION_1;
	virtio_accept(vdev, 0, (uint32_t)features);
	virtio_accept(vdev, 1, (uint32_t)(features >> 32));
	virtio_set_status(vdev, vdev->status | VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtqueue *vq = virtio_queue_setup(vdev, q);

		CHECK(vq != NULL);
		vq->size = 8;
		vq->desc = RINGS + q * 0x1000;
		vq->driver = vq->desc + 0x400;
		vq->device = vq->desc + 0x800;
		gmem_zero(&m->mem, vq->desc, 0x1000);
		virtio_queue_enable(vdev, q);
	}
	virtio_set_status(vdev, vdev->status | VIRTIO_CONFIG_S_DRIVER_OK);
	pthread_mutex_unlock(&vdev->lock);
}

static void run(struct machine *m)
{
	struct vhost_user *vu = (struct vhost_user *)m->vdev;

	for (unsigned i = 0; i < 3; i++) {
		vu->delay = 1; /* so that it looks for another at once */
		CHECK(loop_run_once(m->loop, 0) == 0);
	}
	CHECK(vu->state == VU_DOWN || vu->conn.fd >= 0);
	CHECK(vu->state != VU_DOWN || vu->conn.fd < 0);
	CHECK(vu->state != VU_RUNNING || vu->vdev.status != 0 || vu->broken);
}

static void operate(struct machine *m, struct input *in)
{
	uint8_t op = (uint8_t)take(in, 1), bytes[64];
	struct virtio_device *vdev = m->vdev;
	unsigned n;

	switch (op % 16) {
	case 0: /* any bytes */
		n = (unsigned)take(in, 1) % sizeof(bytes);
		for (unsigned i = 0; i < n; i++)
			bytes[i] = (uint8_t)take(in, 1);
		if (n > 0)
			say(m, bytes, n, op / 16 % 3);
		break;
	case 1: { /* any head */
		uint32_t head[3] = { (uint32_t)take(in, 1), (uint32_t)take(in, 1),
				     (uint32_t)take(in, 2) };

		say(m, head, sizeof(head), op / 16 % 3);
		break;
	}
	case 2:
		number(m, (uint32_t)take(in, 1), take(in, op / 16 % 9));
		break;
	case 3:
		config(m, op, (uint32_t)take(in, 1));
		break;
	case 4:
		introduce(m, take(in, 8), take(in, 4), op);
		break;
	case 5:
		accept_rings(m, op / 16 % 8);
		break;
	case 6:
		give_back(m, op / 16 % 8, (uint16_t)take(in, 2));
		break;
	case 7:
		prepare(m);
		break;
	case 8:
		if (m->nconns > 0)
			shutdown(m->peer[m->nconns - 1], SHUT_RDWR);
		break;
	case 9:
		start(m, take(in, 8));
		break;
	case 10:
		pthread_mutex_lock(&vdev->lock);
		virtio_set_status(vdev, 0);
		pthread_mutex_unlock(&vdev->lock);
		break;
	case 11:
		bytes[0] = (uint8_t)take(in, 1);
		pthread_mutex_lock(&vdev->lock);
		virtio_config_write(vdev, op / 16 % 2 ? 32 : take(in, 1), bytes, 1);
		pthread_mutex_unlock(&vdev->lock);
		break;
	case 12:
		virtio_quiesce(vdev);
		run(m);
		virtio_resume(vdev);
		break;
	case 13: /* rings */
		n = (unsigned)take(in, 2);
		gmem_write(&m->mem, RINGS + n % 0x8000, (uint8_t[]){ op / 16, 0 }, 2);
		virtio_kick(vdev, op / 16 % 4);
		break;
	default:
		run(m);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = { "blk", "net", "fs", "rng", "42", "scsi", "vsock" };
	struct input in = { .data = data, .left = size };
	struct machine *m = machine();
	unsigned type = (unsigned)take(&in, 1);
	struct vhost_user_config cfg = { .type = types[type % 7],
					 .name = "fuzz",
					 .way = &m->way,
					 .queues = type / 7 % 3,
					 .tag = "t",
					 .mtu = type / 21 % 2 * 1400,
					 .patience_ms = 1 };
	struct err err = ERR_INIT;

	if (type % 7 == 3 || type % 7 == 6)
		cfg.queues = 0;
	m->nconns = m->taken = 0;
	prepare(m);
	/* What it says before there is a device: up to an operation that is none of its. */
	introduce(m, take(&in, 8), take(&in, 4), 1);
	for (unsigned n = (unsigned)take(&in, 1) % 8; n > 0; n--) {
		uint64_t bytes = take(&in, 8);

		say(m, &bytes, 8, 0);
	}
	m->vdev = vhost_user_create(&cfg, 0, &m->host, &err);
	if (m->vdev == NULL) {
		CHECK(err.code != 0 && err.msg[0] != '\0');
	} else {
		m->transport.vdev = m->vdev;
		m->vdev->transport = &m->transport;
		for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
			operate(m, &in);
		pthread_mutex_lock(&m->vdev->lock);
		virtio_reset(m->vdev);
		m->vdev->transport = NULL;
		pthread_mutex_unlock(&m->vdev->lock);
		m->vdev->ops->destroy(m->vdev);
	}
	for (unsigned i = 0; i < m->nconns; i++) {
		close(m->peer[i]);
		if (m->ours[i] >= 0)
			close(m->ours[i]);
	}
	CHECK(loop_run_once(m->loop, 0) == 0);
	return 0;
}
