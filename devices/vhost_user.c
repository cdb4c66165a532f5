// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio devices served by another process: the front end of vhost-user, as QEMU's
 * docs/interop/vhost-user.rst describes it. This file leads its life; what is said then is in
 * vhost_user_talk.c, single messages in vhost_user_proto.c, what differs from device to device in
 * vhost_user_types.c.
 *
 * Theory of operation. The back end maps guest memory and serves the rings itself; we are only
 * there to introduce the two to each other. Notifications and interrupts go past us, by the
 * eventfds of virtio_offload(). A device is always in one of four states:
 *
 *   DOWN      There is no connection. The timer tries to make one: 100 ms after the last was
 *             lost, then less and less often, every 5 s in the end, for ever. -> GREETING.
 *   GREETING  Connected, and the back end's features asked for. Nobody waits: a back end that
 *             accepts and says nothing costs nothing. When the answer comes the rest is
 *             negotiated at once -> IDLE; when it does not come in time, or is wrong -> DOWN. A
 *             process of ours (vhost_user_way) that has never served is ended then, for another.
 *   IDLE      Negotiated. When the driver is ready (or was already) the back end gets features,
 *             memory, the rings and their eventfds -> RUNNING.
 *   RUNNING   Reset and quiesce stop the rings -> IDLE.
 *
 * From any of them, when the connection ends, an answer is wrong or late, or something arrives
 * that nobody asked for, it goes to DOWN, in one place, lost(), on the loop. A conversation in
 * which that is found out may be one of another thread (a reset): that one marks the
 * connection `broken` and shuts the socket down, which the loop then hears of.
 *
 * The guest waits meanwhile: its requests stay in the rings, its notifications in the eventfds.
 * The next back end continues where the last one was, and every ring is kicked, and an interrupt
 * sent for what the last one may have completed without a word. Where it continues:
 *   - With INFLIGHT_SHMFD the back end notes what it works on in memory of its own making whose
 *     descriptor we keep. The next one is given it and does those requests again.
 *   - Without it, it goes on from the used index. That is right for rings that are served in
 *     order. For disks, which are not, we take the notes: see vhost_user_notes.c.
 * Features the guest has accepted must still be there, else the device asks for a reset. It also
 * does when the last back end is known to have taken completed writes along (vhost_user_way's
 * `forgets`): a later flush would succeed, and nobody would know. Of a back end that is not
 * started by us we cannot know that: see the manual on which may be killed.
 *
 * What can hold us up. A conversation is a handful of messages, and the thread that has it (the
 * loop, or a vCPU that resets the device or writes its configuration) waits for the replies: 3 s
 * in all, 10 s for a ring to stop, as its requests must end first. A back end that takes
 * longer is lost. Only when the device is made, before the guest runs, do we wait for a
 * back end to appear, too.
 *
 * What a back end can do. It has guest memory, all of it and for good, as a device has on a
 * machine without an IOMMU; the guest is at its mercy. We are not: it says nothing that is not
 * checked, no descriptor of its is used, no memory of its mapped, and it never learns an address
 * of ours. It may interrupt the guest and change the configuration as often as it likes.
 *
 * Limits. It marks no dirty pages (LOG_ALL is not used): who tracks them has to copy all of
 * memory once the devices are quiesced. What the back end itself knows (the open files of a
 * virtiofsd) is not saved, and not there any more in a new one. Requests in flight are
 * forgotten when a state is saved while the back end is away.
 *
 * #syscalls: recvfrom
 * #syscalls main vcpu: futex shutdown write
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "devices/broker.h"
#include "devices/vhost_user_impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define MS	  1000000ULL
#define PATIENCE  (3000 * MS)
#define GREETING  4	      /* times the patience */
#define APPEAR	  (3000 * MS) /* for a socket, when the device is made */
#define DELAY_MIN (100 * MS)
#define DELAY_MAX (5000 * MS)
#define GOOD	  (1000 * MS) /* a connection that lasted so long was a good one */
#define TAKE	  (100 * MS)  /* for a request of the back end's to be complete */

uint64_t vu_deadline(const struct vhost_user *vu)
{
	return loop_now_ns() + vu->patience;
}

/* --- Losing it --- */

void vu_broken(struct vhost_user *vu, const struct err *err)
{
	if (vu->broken || vu->conn.fd < 0)
		return;
	vu->broken = true;
	vu->why = *err;
	(void)shutdown(vu->conn.fd, SHUT_RDWR);
}

static void close_req(struct vhost_user *vu)
{
	loop_del_fd(&vu->req);
	if (vu->req.fd >= 0)
		close(vu->req.fd);
	vu->req.fd = -1;
}

static void disconnect(struct vhost_user *vu)
{
	loop_del_fd(&vu->lfd);
	vu->lfd.fd = -1;
	close_req(vu);
	vu_close(&vu->conn);
	vu->broken = false;
	vu->state = VU_DOWN;
}

/* To DOWN, from wherever. Loop. */
static void lost(struct vhost_user *vu, const struct err *err)
{
	/* Each attempt that fails as the last one did is no news. */
	if (!vu->reported)
		log_limited(LOG_WARN, "%s: the back end is lost: %s; the guest waits for another",
			    vu->vdev.name, err->msg);
	else if (strcmp(vu->said.msg, err->msg) != 0)
		log_limited(LOG_WARN, "%s: there is no other back end yet: %s", vu->vdev.name,
			    err->msg);
	vu->reported = true;
	vu->said = *err;
	if (vu->state >= VU_IDLE && loop_now_ns() - vu->since >= GOOD)
		vu->delay = DELAY_MIN;
	disconnect(vu);
	if (vu->out != 0)
		vu->torn = true;
	if (vu->type.link != NULL)
		vu->type.link(vu, false);
	loop_arm(vu->vdev.loop, &vu->timer, vu->delay);
	vu->delay = 2 * vu->delay < DELAY_MAX ? 2 * vu->delay : DELAY_MAX;
}

/* --- Starting and stopping --- */

static void called(struct virtio_device *vdev, unsigned q)
{
	struct vhost_user *vu = vu_of(vdev);

	if (vu->notes != NULL)
		vu_notes_look(&vu->notes[q], &vdev->queue[q].vq);
}

/* Who takes notes of what is under way: the back end, or we; nobody where all is done in order. */
static int choose_notes(struct vhost_user *vu)
{
	bool ours =
		vu->type.id == VIRTIO_ID_BLOCK && !vu_has(&vu->conn, VU_PROTOCOL_INFLIGHT_SHMFD);

	if (ours && vu->notes == NULL) {
		vu->notes = calloc(vu->vdev.nqueues, sizeof(*vu->notes));
		if (vu->notes == NULL)
			return -ENOMEM;
	}
	vu->ops.called = ours ? called : NULL;
	return 0;
}

static void free_notes(struct vhost_user *vu)
{
	for (unsigned q = 0; vu->notes != NULL && q < vu->vdev.nqueues; q++)
		free(vu->notes[q].under_way);
	free(vu->notes);
	vu->notes = NULL;
}

/* IDLE -> RUNNING. Loop. */
static void start(struct vhost_user *vu)
{
	struct virtio_device *vdev = &vu->vdev;
	uint64_t missing = vdev->driver_features & ~vu_offer(vu);
	struct err err = ERR_INIT;
	bool again = vu->torn;

	if (missing != 0) {
		virtio_give_up(vdev,
			       "the back end is another one: it lacks features 0x%llx that the "
			       "guest's driver uses",
			       (unsigned long long)missing);
		return;
	}
	if (vu->torn && vu->way != NULL && vu->way->forgets && vu->way->lives != vu->life) {
		virtio_give_up(vdev, "its process ended, and with it is lost what the guest had "
				     "written and not yet flushed");
		return;
	}
	if (vu->way != NULL)
		vu->life = vu->way->lives;
	if (choose_notes(vu) < 0) {
		virtio_give_up(vdev, "no memory");
		return;
	}
	if (vu_give_rings(vu, vu_deadline(vu), &err) < 0) {
		vu_broken(vu, &err);
		return;
	}
	if (vu->ops.called == NULL) /* from here on it takes its own */
		free_notes(vu);
	vu->state = VU_RUNNING;
	vu->torn = false;
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		if ((vu->out >> q & 1) == 0)
			continue;
		/* What was made available, or given back, with nobody to notice. */
		(void)eventfd_write(vdev->queue[q].kick.fd, 1);
		if (again)
			(void)eventfd_write(vdev->queue[q].call.fd, 1);
	}
}

/* RUNNING -> IDLE. Any thread. */
static void stop(struct vhost_user *vu)
{
	struct err err = ERR_INIT;
	int r = vu_take_rings(vu, &err);

	if (r == 0)
		vu->state = VU_IDLE;
	else if (r != -ENOTCONN)
		vu_broken(vu, &err);
}

static void forget_inflight(struct vhost_user *vu)
{
	if (vu->inflight.fd >= 0)
		close(vu->inflight.fd);
	vu->inflight.fd = -1;
}

/* --- The loop --- */

/* This is the back end's configuration now: tell the driver, if it is another. */
static void take_config(struct vhost_user *vu, uint8_t config[VU_CONFIG_MAX])
{
	uint8_t old[VU_CONFIG_MAX];

	memcpy(old, vu->config, sizeof(old));
	memcpy(vu->config, config, vu->vdev.config_size);
	if (vu->type.configured != NULL)
		vu->type.configured(vu);
	if (memcmp(old, vu->config, sizeof(old)) != 0)
		virtio_config_changed(&vu->vdev);
}

/* Negotiated once more. */
static void renegotiated(struct vhost_user *vu)
{
	struct virtio_device *vdev = &vu->vdev;
	uint8_t config[VU_CONFIG_MAX] = { 0 };
	struct err err = ERR_INIT;

	if (vdev->status == 0)
		vdev->features = vu_offer(vu);
	if (vu->type.config_remote && vdev->config_size > 0) {
		if (vu_fetch_config(vu, config, &err) < 0) {
			lost(vu, &err);
			return;
		}
		take_config(vu, config);
	}
	if (vu->req.fd >= 0 && loop_add_fd(vdev->loop, &vu->req, EPOLLIN, &err) < 0) {
		lost(vu, &err);
		return;
	}
	if (vu->reported)
		log_limited(LOG_WARN, "%s: the back end is back", vdev->name);
	vu->reported = false;
	if (vu->type.link != NULL)
		vu->type.link(vu, true);
	if (virtio_live(vdev))
		start(vu);
}

static void conn_ready(struct loop_fd *lfd, uint32_t events)
{
	struct vhost_user *vu = container_of(lfd, struct vhost_user, lfd);
	struct err err = ERR_INIT;
	char byte;
	ssize_t n;

	(void)events;
	pthread_mutex_lock(&vu->vdev.lock);
	if (vu->broken) {
		lost(vu, &vu->why);
	} else if (vu->state == VU_GREETING) {
		loop_disarm(&vu->timer);
		if (vu_negotiate(vu, &err) < 0)
			lost(vu, &err);
		else
			renegotiated(vu);
	} else {
		/* Perhaps it was the reply to somebody who waited for it: then nothing is there. */
		n = recv(lfd->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
		if (n > 0)
			err_set(&err, EPROTO, "it said something nobody asked for");
		else if (n == 0 || errno == ECONNRESET)
			err_set(&err, EPIPE, "it closed the connection");
		else if (errno != EAGAIN && errno != EINTR)
			err_sys(&err, errno, "its socket");
		if (err.code != 0)
			lost(vu, &err);
	}
	pthread_mutex_unlock(&vu->vdev.lock);
}

/* DOWN: the next attempt. GREETING: no answer has come. */
static void timer_fired(struct loop_timer *timer)
{
	struct vhost_user *vu = container_of(timer, struct vhost_user, timer);
	struct err err = ERR_INIT;

	pthread_mutex_lock(&vu->vdev.lock);
	if (vu->state == VU_GREETING) {
		err_set(&err, ETIMEDOUT, "it does not answer");
		if (vu->way != NULL && vu->way->silent != NULL)
			vu->way->silent(vu->way, vu->life != vu->way->lives, &err);
		lost(vu, &err);
	} else if (vu->state == VU_DOWN) {
		if (vu_greet(vu, &err) == 0) {
			vu->lfd.fd = vu->conn.fd;
			(void)loop_add_fd(vu->vdev.loop, &vu->lfd, EPOLLIN, &err);
		}
		if (err.code != 0)
			lost(vu, &err);
		else
			loop_arm(vu->vdev.loop, timer, GREETING * vu->patience);
	}
	pthread_mutex_unlock(&vu->vdev.lock);
}

/* The back end's configuration is another now. */
static void fetch_config(struct vhost_user *vu)
{
	uint8_t config[VU_CONFIG_MAX] = { 0 };
	struct err err = ERR_INIT;
	int r;

	if (!vu->type.config_remote || vu->vdev.config_size == 0 || vu->state < VU_IDLE ||
	    vu->broken)
		return;
	r = vu_fetch_config(vu, config, &err);
	if (r == 0)
		take_config(vu, config);
	else if (r != -EOPNOTSUPP)
		vu_broken(vu, &err);
}

static void req_ready(struct loop_fd *lfd, uint32_t events)
{
	struct vhost_user *vu = container_of(lfd, struct vhost_user, req);
	struct err err = ERR_INIT;
	int r;

	(void)events;
	pthread_mutex_lock(&vu->vdev.lock);
	r = vu_take_request(lfd->fd, loop_now_ns() + TAKE, &err);
	if (r == VU_BACKEND_CONFIG_CHANGE)
		fetch_config(vu);
	else if (r == -EPIPE || (r < 0 && r != -EAGAIN && vu->broken))
		close_req(vu); /* it has no more to say; the other socket tells if it is gone */
	else if (r < 0 && r != -EAGAIN)
		vu_broken(vu, &err);
	pthread_mutex_unlock(&vu->vdev.lock);
}

/* --- What the device is asked --- */

static void vu_update(struct virtio_device *vdev)
{
	struct vhost_user *vu = vu_of(vdev);

	if (virtio_live(vdev) && vu->state == VU_IDLE && !vu->broken)
		start(vu);
}

/* Only of queues that are not the back end's, or when there is none: then nothing is to do. */
static void vu_kick(struct virtio_device *vdev, unsigned q)
{
	struct vhost_user *vu = vu_of(vdev);

	if (q == vu_ctrl_queue(vu))
		vu_ctrl_kick(vu, q);
}

static void vu_reset(struct virtio_device *vdev)
{
	struct vhost_user *vu = vu_of(vdev);
	struct err err = ERR_INIT;

	if (vu->state == VU_RUNNING) {
		stop(vu);
		if (vu->state == VU_IDLE && vu_has(&vu->conn, VU_PROTOCOL_RESET_DEVICE) &&
		    vu_set(&vu->conn, VU_RESET_DEVICE, NULL, 0, -1, vu_deadline(vu), &err) < 0)
			vu_broken(vu, &err);
	}
	vu->out = 0;
	vu->torn = false;
	vu->pairs = 1;
	forget_inflight(vu);
	if (vu->state >= VU_IDLE)
		vdev->features = vu_offer(vu);
}

static void vu_quiesce(struct virtio_device *vdev)
{
	struct vhost_user *vu = vu_of(vdev);
	uint64_t out = vu->out;
	int kick, call;

	/* Also of one that is away: where it was is known by the used index. */
	stop(vu);
	for (unsigned q = 0; q < vdev->nqueues; q++) {
		if ((out >> q & 1) != 0)
			(void)virtio_offload(vdev, q, false, &kick, &call);
	}
}

static void vu_config_write(struct virtio_device *vdev, unsigned off, const void *data,
			    unsigned len)
{
	struct vhost_user *vu = vu_of(vdev);
	struct err err = ERR_INIT;
	int r;

	if (!vu->type.config_remote || vu->state < VU_IDLE || vu->broken ||
	    (vu->type.writable != NULL && !vu->type.writable(vu, off, len)))
		return;
	r = vu_set_config(&vu->conn, off, data, len, vu_deadline(vu), &err);
	/* What has become of it is the back end's to say. */
	if (r == 0 || r == -EREMOTEIO)
		fetch_config(vu);
	else
		vu_broken(vu, &err);
}

static void vu_state(struct virtio_device *vdev, struct state *st)
{
	struct vhost_user *vu = vu_of(vdev);
	uint16_t pairs = (uint16_t)vu->pairs;

	state_u16(st, "pairs", &pairs);
	if (vu->type.id == VIRTIO_ID_NET)
		state_bytes(st, "mac", vu_net(vu)->mac, sizeof(vu_net(vu)->mac));
	if (!state_loading(st))
		return;
	if (pairs == 0 || pairs > vu->queues)
		state_fail(st, "%s: %u queue pairs of %u", vdev->name, pairs, vu->queues);
	else
		vu->pairs = pairs;
	if (vu->type.id == VIRTIO_ID_NET && (vu_net(vu)->mac[0] & 1) != 0)
		state_fail(st, "%s: a saved MAC address is a group address", vdev->name);
}

static void vu_destroy(struct virtio_device *vdev)
{
	struct vhost_user *vu = vu_of(vdev);

	loop_disarm(&vu->timer);
	disconnect(vu);
	forget_inflight(vu);
	if (vu->way != NULL)
		vu->way->free(vu->way);
	free_notes(vu);
	virtio_fini(vdev);
	free(vu->path);
	free(vu);
}

static const struct virtio_ops template = {
	.destroy = vu_destroy,
	.kick = vu_kick,
	.update = vu_update,
	.reset = vu_reset,
	.config_write = vu_config_write,
	.quiesce = vu_quiesce,
	.state = vu_state,
};

/* --- Making it --- */

/* Wait @ns, or until the back end's process has ended: then -ECHILD. */
static int wait_a_moment(struct vhost_user *vu, int fd, uint64_t ns, struct err *err)
{
	struct pollfd pfd[2] = { { .fd = fd, .events = POLLIN },
				 { .fd = vu->way != NULL ? vu->way->pidfd : -1,
				   .events = POLLIN } };

	(void)poll(pfd, 2, (int)(ns / MS));
	if (pfd[0].revents != 0)
		return 0;
	return pfd[1].revents != 0 ? vu->way->ended(vu->way, err) : 0;
}

/* DOWN -> GREETING -> IDLE, with somebody waiting for it. */
static int first_connection(struct vhost_user *vu, struct err *err)
{
	uint64_t end = loop_now_ns() + APPEAR;
	int r;

	while ((r = vu_greet(vu, err)) < 0) {
		if ((r != -ENOENT && r != -ECONNREFUSED && r != -EAGAIN) || vu->way != NULL)
			return r;
		if (loop_now_ns() >= end)
			return err_context(err, "is the back end running? Start it first");
		*err = (struct err)ERR_INIT;
		(void)wait_a_moment(vu, -1, 20 * MS, err);
	}
	end = loop_now_ns() + GREETING * vu->patience;
	for (;;) {
		struct pollfd pfd = { .fd = vu->conn.fd, .events = POLLIN };

		r = wait_a_moment(vu, vu->conn.fd, 100 * MS, err);
		if (r < 0)
			return r;
		if (poll(&pfd, 1, 0) > 0)
			return vu_negotiate(vu, err);
		if (loop_now_ns() >= end)
			return err_set(err, ETIMEDOUT, "the back end does not answer");
	}
}

/* What was negotiated decides how large the configuration is. */
static int first_config(struct vhost_user *vu, struct err *err)
{
	unsigned size = vu->type.config;
	int r = 0;

	if (size == VU_CONFIG_ASK)
		r = vu_probe_config(vu, &size, err);
	if (r < 0)
		return r;
	vu->vdev.config_size = size;
	if (!vu->type.config_remote || size == 0)
		return 0;
	r = vu_fetch_config(vu, vu->config, err);
	if (r == 0 && vu->type.configured != NULL)
		vu->type.configured(vu);
	return r;
}

static int init(struct vhost_user *vu, const struct vhost_user_config *cfg, unsigned index,
		const struct virtio_host *host, struct err *err)
{
	unsigned n = cfg->queues > 0 ? cfg->queues : 1, nqueues;
	struct broker_rule rule = { .kind = BROKER_CONNECT };
	int r = vu_type_find(cfg->type, &vu->type, err);

	if (r < 0)
		return r;
	/* Of an unknown type queues= counts all there are. */
	nqueues = vu->type.fixed + vu->type.each * n;
	vu->queues = n;
	if (vu->type.id == VIRTIO_ID_NET && n > 1)
		nqueues++; /* the control queue */
	vu->ops = template;
	vu->ops.name = vu->type.name;
	vu->ops.id = vu->type.id;
	vu->ops.pci_class = vu->type.pci_class;
	vu->path = strdup(cfg->path != NULL ? cfg->path : "");
	if (vu->path == NULL)
		return err_sys(err, ENOMEM, "vhost-user");
	rule.path = vu->path;
	if (cfg->way == NULL) {
		vu->broker = host->broker;
		vu->rule = broker_allow(host->broker, &rule, err);
		if (vu->rule < 0)
			return vu->rule;
	}
	vu->vdev.untimed = ~0ULL; /* the few chains that we see say nothing of the device */
	r = gmem_share(host->mem, err);
	if (r == 0)
		r = virtio_init(&vu->vdev, &vu->ops, host, host->loop, nqueues,
				(uint16_t)(cfg->queue_size > 0 ? cfg->queue_size : VU_QUEUE_SIZE),
				vu->config, 0, err);
	if (r == 0 && vu->type.init != NULL)
		r = vu->type.init(vu, cfg, index, host, err);
	if (r == 0)
		r = first_connection(vu, err);
	if (r == 0)
		r = first_config(vu, err);
	if (r < 0)
		return r;
	vu->vdev.features = vu_offer(vu);
	vu->lfd.fd = vu->conn.fd;
	r = loop_add_fd(host->loop, &vu->lfd, EPOLLIN, err);
	if (r == 0 && vu->req.fd >= 0)
		r = loop_add_fd(host->loop, &vu->req, EPOLLIN, err);
	if (r == 0 && vu->way != NULL && vu->way->watch != NULL)
		r = vu->way->watch(vu->way, host->loop, err);
	if (r == 0 && vu->type.link != NULL)
		vu->type.link(vu, true);
	return r;
}

struct virtio_device *vhost_user_create(const struct vhost_user_config *cfg, unsigned index,
					const struct virtio_host *host, struct err *err)
{
	struct vhost_user *vu = calloc(1, sizeof(*vu));

	if (vu == NULL) {
		err_sys(err, ENOMEM, "vhost-user");
		if (cfg->way != NULL)
			cfg->way->free(cfg->way);
		return NULL;
	}
	snprintf(vu->vdev.name, sizeof(vu->vdev.name), "%s", cfg->name);
	vu->way = cfg->way;
	vu->hide = cfg->hide;
	vu->patience = cfg->patience_ms > 0 ? cfg->patience_ms * MS : PATIENCE;
	vu->conn.fd = vu->inflight.fd = -1;
	vu->lfd = (struct loop_fd){ .fd = -1, .fn = conn_ready };
	vu->req = (struct loop_fd){ .fd = -1, .fn = req_ready };
	vu->timer.fn = timer_fired;
	vu->delay = DELAY_MIN;
	vu->pairs = 1;
	if (init(vu, cfg, index, host, err) == 0)
		return &vu->vdev;
	err_context(err, "%s", cfg->name);
	vu_destroy(&vu->vdev);
	return NULL;
}
