// SPDX-License-Identifier: Apache-2.0
/*
 * Conversations with a vhost-user back end: getting to know it, giving it the rings, taking them
 * back. When to have which is vhost_user.c's part, where the whole is described; single messages
 * are in vhost_user_proto.c.
 *
 * #syscalls: socketpair close
 * #syscalls main vcpu: clock_nanosleep
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/vhost_user_impl.h"

#define STOPPING 3 /* times the patience: its requests must end first */
#define SETTLE	 (1000 * 1000000ULL)

#define BIT(n) (1ULL << (n))
#define WANTED                                                                                     \
	(BIT(VU_PROTOCOL_MQ) | BIT(VU_PROTOCOL_REPLY_ACK) | BIT(VU_PROTOCOL_NET_MTU) |             \
	 BIT(VU_PROTOCOL_BACKEND_REQ) | BIT(VU_PROTOCOL_CONFIG) |                                  \
	 BIT(VU_PROTOCOL_INFLIGHT_SHMFD) | BIT(VU_PROTOCOL_RESET_DEVICE))

static bool has_protocol(const struct vhost_user *vu)
{
	return (vu->backend >> VHOST_USER_F_PROTOCOL_FEATURES & 1) != 0;
}

/* --- Negotiating --- */

int vu_fetch_config(struct vhost_user *vu, void *config, struct err *err)
{
	if (!vu_has(&vu->conn, VU_PROTOCOL_CONFIG))
		return err_set(err, ENOTSUP, "it cannot tell its configuration");
	return vu_get_config(&vu->conn, config, vu->vdev.config_size, vu_deadline(vu), err);
}

int vu_probe_config(struct vhost_user *vu, unsigned *size, struct err *err)
{
	uint8_t config[VU_CONFIG_MAX];
	uint64_t deadline = vu_deadline(vu);

	*size = 0;
	if (!vu_has(&vu->conn, VU_PROTOCOL_CONFIG))
		return 0;
	for (unsigned n = VU_CONFIG_MAX; n >= 4; n -= 4) {
		struct err refused = ERR_INIT;
		int r = vu_get_config(&vu->conn, config, n, deadline, &refused);

		if (r == 0)
			*size = n;
		if (r == 0)
			return 0;
		if (r != -EOPNOTSUPP) {
			*err = refused;
			return r;
		}
	}
	return 0;
}

/* A channel for its own requests. Watched when the device is. */
static int give_req(struct vhost_user *vu, uint64_t deadline, struct err *err)
{
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, errno, "socketpair");
	vu->req.fd = pair[0];
	r = vu_set(&vu->conn, VU_SET_BACKEND_REQ_FD, NULL, 0, pair[1], deadline, err);
	close(pair[1]);
	return r;
}

static int check_queues(struct vhost_user *vu, uint64_t deadline, struct err *err)
{
	bool net = vu->type.id == VIRTIO_ID_NET;
	unsigned want = net ? vu->queues : vu->vdev.nqueues;
	uint64_t have = 0;
	int r;

	vu->served = vu->vdev.nqueues;
	if (!vu_has(&vu->conn, VU_PROTOCOL_MQ)) {
		if (vu->queues > 1 && vu->type.each > 0)
			return err_set(err, ENOTSUP,
				       "it has no more than one queue: leave queues= out");
		return 0;
	}
	r = vu_get(&vu->conn, VU_GET_QUEUE_NUM, &have, deadline, err);
	/* A queue less in a device that has a fixed number: vsock's for events, say. */
	if (r == 0 && have < want && vu->type.each == 0)
		vu->served = (unsigned)have;
	else if (r == 0 && have < want)
		return err_set(err, ENOTSUP, "it has %llu queues, not %u: give fewer by queues=",
			       (unsigned long long)have, want);
	return r;
}

int vu_negotiate(struct vhost_user *vu, struct err *err)
{
	uint64_t deadline = vu_deadline(vu), protocol = 0;
	int r = vu_answer(&vu->conn, VU_GET_FEATURES, &vu->backend, deadline, err);

	if (r < 0)
		return r;
	if ((vu->backend & BIT(VIRTIO_F_VERSION_1)) == 0)
		return err_set(err, ENOTSUP,
			       "its features 0x%llx lack virtio 1.0 (VERSION_1): it is too old",
			       (unsigned long long)vu->backend);
	r = vu_set(&vu->conn, VU_SET_OWNER, NULL, 0, -1, deadline, err);
	if (r == 0 && has_protocol(vu)) {
		r = vu_get(&vu->conn, VU_GET_PROTOCOL_FEATURES, &protocol, deadline, err);
		protocol &= WANTED;
		if (r == 0)
			r = vu_set_u64(&vu->conn, VU_SET_PROTOCOL_FEATURES, protocol, deadline,
				       err);
	}
	if (r < 0)
		return r;
	vu->conn.protocol = protocol;
	vu->conn.acks = vu_has(&vu->conn, VU_PROTOCOL_REPLY_ACK);
	if (vu_has(&vu->conn, VU_PROTOCOL_BACKEND_REQ))
		r = give_req(vu, deadline, err);
	if (r == 0)
		r = check_queues(vu, deadline, err);
	if (r == 0)
		vu->state = VU_IDLE;
	return r;
}

int vu_greet(struct vhost_user *vu, struct err *err)
{
	int fd, r;

	if (vu->way != NULL)
		fd = vu->way->connect(vu->way, err);
	else
		fd = broker_connect(vu->broker, vu->rule, 0, -1);
	if (fd < 0 && err->code == 0)
		err_sys(err, -fd, "cannot connect");
	if (fd < 0)
		return fd;
	vu->conn = (struct vu_conn){ .fd = fd };
	vu->since = loop_now_ns();
	r = vu_ask(&vu->conn, VU_GET_FEATURES, vu_deadline(vu), err);
	if (r < 0)
		vu_close(&vu->conn);
	else
		vu->state = VU_GREETING;
	return r;
}

/* --- The rings --- */

static uint16_t used_idx(const struct virtqueue *vq)
{
	return __atomic_load_n(&vq->used_ring->idx, __ATOMIC_ACQUIRE);
}

/* Ring @q is with the back end and shall come back: where it is now. */
static void set_indices(struct virtqueue *vq, uint16_t next_avail)
{
	vq->next_used = used_idx(vq);
	vq->next_avail = next_avail;
	/* More cannot be: one of the two lies, and the guest will see which. */
	if ((uint16_t)(vq->next_avail - vq->next_used) > vq->size)
		vq->next_avail = vq->next_used;
	vq->published = vq->interrupted = vq->next_used;
}

static int start_ring(struct vhost_user *vu, unsigned q, uint64_t deadline, struct err *err)
{
	struct virtqueue *vq = &vu->vdev.queue[q].vq;
	struct vu_ring ring = { .index = q,
				.size = vq->size,
				.base = vu->torn ? used_idx(vq) : vq->next_avail,
				.desc = vq->desc,
				.avail = vq->driver,
				.used = vq->device };
	int r = 0;

	if (vu->notes != NULL && (!vu->torn || vu_notes_apply(&vu->notes[q], vq) < 0))
		r = vu_notes_begin(&vu->notes[q], vq);
	if (r == 0)
		r = virtio_offload(&vu->vdev, q, true, &ring.kick, &ring.call);
	if (r < 0)
		return err_sys(err, -r, "eventfds of queue %u", q);
	vu->out |= BIT(q);
	return vu_set_ring(&vu->conn, &ring, deadline, err);
}

/* The rings that are the back end's: those the driver enabled, but for a control queue. */
static uint64_t its_rings(const struct vhost_user *vu)
{
	uint64_t rings = 0;

	for (unsigned q = 0; q < vu->vdev.nqueues; q++) {
		if (vu->vdev.queue[q].vq.started && q < vu->served && q < vu_ctrl_queue(vu))
			rings |= BIT(q);
	}
	return rings;
}

static int give_inflight(struct vhost_user *vu, uint64_t deadline, struct err *err)
{
	if (!vu_has(&vu->conn, VU_PROTOCOL_INFLIGHT_SHMFD))
		return 0;
	if (vu->inflight.fd < 0) {
		int r;

		vu->inflight.queues = (uint16_t)vu->vdev.nqueues;
		vu->inflight.queue_size = vu->vdev.queue[0].vq.max_size;
		r = vu_get_inflight(&vu->conn, &vu->inflight, deadline, err);
		if (r < 0)
			return r;
	}
	return vu_set_inflight(&vu->conn, &vu->inflight, deadline, err);
}

int vu_give_rings(struct vhost_user *vu, uint64_t deadline, struct err *err)
{
	uint64_t rings = its_rings(vu), features = vu_accepted(vu), ignored;
	int r;

	if (has_protocol(vu))
		features |= BIT(VHOST_USER_F_PROTOCOL_FEATURES);
	r = vu_set_u64(&vu->conn, VU_SET_FEATURES, features, deadline, err);
	if (r == 0)
		r = vu_set_memory(&vu->conn, vu->vdev.mem, deadline, err);
	if (r == 0)
		r = give_inflight(vu, deadline, err);
	if (r == 0 && virtio_has(&vu->vdev, VIRTIO_NET_F_MTU) && vu->type.id == VIRTIO_ID_NET &&
	    vu_has(&vu->conn, VU_PROTOCOL_NET_MTU))
		r = vu_set_u64(&vu->conn, VU_NET_SET_MTU, vu_net(vu)->mtu, deadline, err);
	for (unsigned q = 0; r == 0 && q < vu->vdev.nqueues; q++) {
		if ((rings >> q & 1) != 0)
			r = start_ring(vu, q, deadline, err);
	}
	for (unsigned q = 0; r == 0 && has_protocol(vu) && q < vu->vdev.nqueues; q++) {
		if ((rings >> q & 1) != 0 && vu_enabled(vu, q))
			r = vu_enable_ring(&vu->conn, q, true, deadline, err);
	}
	/* Without its word for each, an answer to the last says that all were heard. */
	if (r == 0 && !vu->conn.acks)
		r = vu_get(&vu->conn, VU_GET_FEATURES, &ignored, deadline, err);
	return r;
}

/* Wait for what a stopped ring still owes us, as reset and quiesce promise; to @end at most. */
static void settle(const struct virtqueue *vq, uint16_t base, uint64_t end)
{
	while (used_idx(vq) != base && loop_now_ns() < end)
		usleep(1000);
}

int vu_take_rings(struct vhost_user *vu, struct err *err)
{
	struct virtio_device *vdev = &vu->vdev;
	uint64_t deadline = loop_now_ns() + STOPPING * vu->patience;
	uint64_t out = vu->out, end = loop_now_ns() + SETTLE;
	int r = vu->state == VU_RUNNING && !vu->broken ? 0 : -ENOTCONN;

	vu->out = 0;
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		struct virtqueue *vq = &vdev->queue[q].vq;
		uint16_t base;

		if ((out >> q & 1) == 0)
			continue;
		base = used_idx(vq);
		if (r == 0)
			r = vu_stop_ring(&vu->conn, q, &base, deadline, err);
		if (r == 0 && vu->type.settles)
			settle(vq, base, end);
		set_indices(vq, base);
	}
	return r;
}
