/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the vhost-user device share: vhost_user.c (life, reconnecting),
 * vhost_user_talk.c (conversations), vhost_user_types.c (what is particular to a type).
 */
#ifndef DEVICES_VHOST_USER_IMPL_H
#define DEVICES_VHOST_USER_IMPL_H

#include <linux/virtio_net.h>
#include "devices/vhost_user.h"
#include "devices/vhost_user_proto.h"

#define VU_QUEUE_SIZE 256
#define VU_PAIRS_MAX  16

/* States; what leads from one to another is at the top of vhost_user.c. */
enum vu_state {
	VU_DOWN,     /* no connection: the timer is armed for the next attempt */
	VU_GREETING, /* connected, first question asked: the timer is armed for its answer */
	VU_IDLE,     /* negotiated, the rings are ours */
	VU_RUNNING,  /* the rings are the back end's */
};

struct vhost_user;

/* A type of device. */
struct vu_type {
	const char *name;
	uint16_t id;
	uint32_t pci_class;
	uint64_t features; /* of its own (not rings') the guest may be offered, if the back end has
			      them */
	unsigned fixed, each; /* virtqueues: fixed + each * queues= */
	unsigned config;    /* bytes of configuration space; VU_CONFIG_ASK: what the back end has */
	bool config_remote; /* it is the back end's */
	bool settles; /* what the back end took it gives back when a ring is stopped, sooner or
			 later */
	/* May the driver write @len bytes of the configuration at @off? NULL: yes. */
	bool (*writable)(const struct vhost_user *vu, unsigned off, unsigned len);
	/* Set up what is ours of the configuration. May be NULL. */
	int (*init)(struct vhost_user *vu, const struct vhost_user_config *cfg, unsigned index,
		    const struct virtio_host *host, struct err *err);
	/* The back end's configuration has arrived in vu->config: change what must be. NULL. */
	void (*configured)(struct vhost_user *vu);
	/* Is there a connection? May be NULL. */
	void (*link)(struct vhost_user *vu, bool up);
};

/* What is under way in a ring, noted by us; see vhost_user_notes.c. */
struct vu_notes {
	bool known;
	uint16_t made, used; /* indices up to which it was looked at */
	uint8_t *under_way;  /* [size], by head: 0 or 1. NULL: no notes */
};

#define VU_CONFIG_ASK (VU_CONFIG_MAX + 1)

struct vhost_user {
	struct virtio_device vdev; /* first */
	struct virtio_ops ops;	   /* vdev's */
	struct vu_type type;
	char *path;
	struct broker *broker; /* connects, unless .way does */
	int rule;
	struct vhost_user_way *way;
	uint64_t hide;
	uint64_t patience; /* ns */

	struct vu_conn conn;
	enum vu_state state;
	bool broken;	    /* nothing more is said on this connection; the loop closes it */
	struct err why;	    /* that */
	struct loop_fd lfd; /* conn.fd */
	struct loop_fd req; /* our end of the socket for the back end's requests; -1: none */
	struct loop_timer timer;
	uint64_t delay; /* ns until the next attempt */
	uint64_t since; /* when the connection was made */
	bool reported;	/* that it is lost, or why the last attempt failed: */
	struct err said;

	uint64_t backend; /* features of the back end in this connection, by bit */
	unsigned queues;  /* as queues= says: of a net device, pairs */
	unsigned served;  /* the first so many virtqueues can be the back end's */
	unsigned pairs;	  /* net: in use */
	uint64_t out;	  /* rings that are with the back end, by bit */
	unsigned life;	  /* of the back end that had them last: way->lives */
	bool torn;	  /* they were with one that is gone: they go on from the used index */
	struct vu_inflight inflight;
	struct vu_notes
		*notes; /* [vdev.nqueues]; NULL: the back end takes its own, or serves in order */
	uint8_t config[VU_CONFIG_MAX];
	struct iovec iov[VIRTQUEUE_IOV(VIRTQUEUE_SIZE_MAX)]; /* net: of the control queue */
};

/* Net: the configuration. */
static inline struct virtio_net_config *vu_net(struct vhost_user *vu)
{
	return (struct virtio_net_config *)vu->config; /* packed: aligned to 1 */
}

static inline struct vhost_user *vu_of(struct virtio_device *vdev)
{
	return (struct vhost_user *)vdev; /* first member */
}

/* --- vhost_user.c --- */

/*
 * This connection is out of step or too slow: no more is said on it, and the loop will
 * close it and look for another. Any thread, lock held.
 */
void vu_broken(struct vhost_user *vu, const struct err *err);
/* A deadline for a conversation that begins now. */
uint64_t vu_deadline(const struct vhost_user *vu);

/* --- vhost_user_talk.c; an error of any of these is the end of the connection --- */

/* Connect, and ask the first question; -> GREETING. */
int vu_greet(struct vhost_user *vu, struct err *err);
/* All that follows; -> IDLE. */
int vu_negotiate(struct vhost_user *vu, struct err *err);
/* The back end's configuration, as many bytes as the device's has. -EOPNOTSUPP: refused. */
int vu_fetch_config(struct vhost_user *vu, void *config, struct err *err);
/* How long it is, of a type we do not know: as long as can be had. */
int vu_probe_config(struct vhost_user *vu, unsigned *size, struct err *err);
/* Features, memory, and all rings that are the back end's; vu->out says which. Loop. */
int vu_give_rings(struct vhost_user *vu, uint64_t deadline, struct err *err);
/*
 * Take back what is out; the queues' indices are then where they were stopped, or (-ENOTCONN: there
 * is nobody to ask) where the used ring is. Any thread.
 */
int vu_take_rings(struct vhost_user *vu, struct err *err);

/* --- vhost_user_notes.c --- */

/* A ring is given to a back end that begins at the used index, with nothing under way. 0 or
 * -ENOMEM. */
int vu_notes_begin(struct vu_notes *notes, const struct virtqueue *vq);
/* See what has happened since. */
void vu_notes_look(struct vu_notes *notes, const struct virtqueue *vq);
/*
 * The back end is gone: put what it had under way where the next one begins. -ENODATA: it is not
 * known.
 */
int vu_notes_apply(struct vu_notes *notes, struct virtqueue *vq);

/* --- vhost_user_types.c --- */

/* The type called @name, or of that number. -EINVAL and those there are. */
int vu_type_find(const char *name, struct vu_type *type, struct err *err);
/* What the driver is offered. */
uint64_t vu_offer(const struct vhost_user *vu);
/* What the back end is told of what the driver accepted. */
uint64_t vu_accepted(const struct vhost_user *vu);
/* Net: the control queue's number, or none: UINT_MAX. */
unsigned vu_ctrl_queue(const struct vhost_user *vu);
void vu_ctrl_kick(struct vhost_user *vu, unsigned q);
/* Is queue @q to be enabled when it starts? */
bool vu_enabled(const struct vhost_user *vu, unsigned q);

#endif
