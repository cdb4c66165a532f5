/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user protocol, front end: QEMU's docs/interop/vhost-user.rst. Messages over a Unix
 * socket; who says what when is in vhost_user.c. See vhost_user_proto.c.
 *
 * The other side is not trusted. After an error of anything here the two are out of step, and the
 * connection is good for nothing but to be closed. Deadlines are absolute, in nanoseconds of
 * CLOCK_MONOTONIC (loop_now_ns()). Sentences say what the back end did wrong, not which one.
 */
#ifndef DEVICES_VHOST_USER_PROTO_H
#define DEVICES_VHOST_USER_PROTO_H

#include <stdbool.h>
#include <stdint.h>
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"

/* Feature bit (not the guest's): there are protocol features. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

#define VU_REGIONS_MAX 8   /* of guest memory, in one message */
#define VU_CONFIG_MAX  256 /* bytes of configuration space */

enum vu_protocol_feature {
	VU_PROTOCOL_MQ = 0,
	VU_PROTOCOL_REPLY_ACK = 3,
	VU_PROTOCOL_NET_MTU = 4,
	VU_PROTOCOL_BACKEND_REQ = 5,
	VU_PROTOCOL_CONFIG = 9,
	VU_PROTOCOL_INFLIGHT_SHMFD = 12,
	VU_PROTOCOL_RESET_DEVICE = 13,
};

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_SET_MEM_TABLE = 5,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_NET_SET_MTU = 20,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_RESET_DEVICE = 34,
};

/* What the back end asks of us. */
enum vu_backend_request {
	VU_BACKEND_CONFIG_CHANGE = 2,
};

struct vu_conn {
	int fd;		   /* -1: none */
	bool acks;	   /* REPLY_ACK was negotiated */
	uint64_t protocol; /* protocol features negotiated, by bit */
};

/* The memory in which a back end notes what it is working on; its own, kept by us. */
struct vu_inflight {
	int fd; /* -1: none */
	uint64_t size, offset;
	uint16_t queues, queue_size;
};

struct vu_ring {
	unsigned index;
	uint16_t size, base;
	uint64_t desc, avail, used; /* guest addresses */
	int kick, call;		    /* eventfds, borrowed */
};

static inline bool vu_has(const struct vu_conn *c, unsigned protocol_feature)
{
	return (c->protocol >> protocol_feature & 1) != 0;
}

void vu_close(struct vu_conn *c);

/* Send a request without waiting for its reply. */
int vu_ask(struct vu_conn *c, unsigned request, uint64_t deadline, struct err *err);
/* Receive the reply of @request, one number. */
int vu_answer(struct vu_conn *c, unsigned request, uint64_t *value, uint64_t deadline,
	      struct err *err);
/* Both. */
int vu_get(struct vu_conn *c, unsigned request, uint64_t *value, uint64_t deadline,
	   struct err *err);
/*
 * Send @len bytes, and @fd (borrowed; -1: none). With REPLY_ACK the back end's word is waited for;
 * one that is not 0 is -EREMOTEIO.
 */
int vu_set(struct vu_conn *c, unsigned request, const void *payload, unsigned len, int fd,
	   uint64_t deadline, struct err *err);
int vu_set_u64(struct vu_conn *c, unsigned request, uint64_t value, uint64_t deadline,
	       struct err *err);

/* All of guest memory that can be written and has a descriptor. */
int vu_set_memory(struct vu_conn *c, const struct gmem *mem, uint64_t deadline, struct err *err);
/* Size, indices, addresses, eventfds: the back end may begin, if the ring needs no enabling. */
int vu_set_ring(struct vu_conn *c, const struct vu_ring *ring, uint64_t deadline, struct err *err);
int vu_enable_ring(struct vu_conn *c, unsigned index, bool on, uint64_t deadline, struct err *err);
/* Stop the ring; *base says how far its available ring was read. */
int vu_stop_ring(struct vu_conn *c, unsigned index, uint16_t *base, uint64_t deadline,
		 struct err *err);

/* The first @len bytes of the configuration space. -EOPNOTSUPP: refused, still in step. */
int vu_get_config(struct vu_conn *c, void *config, unsigned len, uint64_t deadline,
		  struct err *err);
int vu_set_config(struct vu_conn *c, unsigned off, const void *data, unsigned len,
		  uint64_t deadline, struct err *err);

/* @in says for how many queues; the descriptor received is the caller's. */
int vu_get_inflight(struct vu_conn *c, struct vu_inflight *in, uint64_t deadline, struct err *err);
int vu_set_inflight(struct vu_conn *c, const struct vu_inflight *in, uint64_t deadline,
		    struct err *err);

/*
 * Take one request of the back end's own from socket @fd, and refuse it, if it asks for a reply
 * and is not one we know. Returns its number, -EAGAIN when there is none.
 */
int vu_take_request(int fd, uint64_t deadline, struct err *err);

#endif
