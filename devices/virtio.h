/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio device model: Virtual I/O Device (VIRTIO) 1.2, chapters 2 and 3. See virtio.c.
 *
 * A device (virtio_blk.c, ...) is a const `struct virtio_ops` and a structure that begins with
 * `struct virtio_device`; it knows nothing of PCI or MMIO. A transport (virtio_pci.c,
 * virtio_mmio.c) turns guest accesses into the calls under "For transports" and knows nothing
 * of devices. What both have in common (status, features, queues, kicks) is in virtio.c.
 *
 * Threads and locks. A device belongs to one loop (vdev->loop). Its mutex, vdev->lock, protects
 * all of it: transport registers, queues, the device's own fields. Every function of virtio_ops
 * is called with it held, and only `reset` and `config_write` on other threads than the
 * loop's. Work is taken up by kicks, on the loop, in bounded batches, so a vCPU that reads a
 * register waits for a batch at most. One exception to "nobody waits with a mutex held":
 * `reset` of a device with I/O in flight waits for it, as the driver may use the memory for
 * something else when reset is over.
 */
#ifndef DEVICES_VIRTIO_H
#define DEVICES_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <stdatomic.h>
#include "devices/chardev.h"
#include "devices/virtqueue.h"
#include "vmm/base/err.h"
#include "vmm/base/iothread.h"
#include "vmm/base/loop.h"
#include "vmm/base/opt.h"
#include "vmm/base/state.h"

#define VIRTIO_QUEUES_MAX 64
#define VIRTIO_NAME_MAX	  64
/* No MSI-X vector: VIRTIO_MSI_NO_VECTOR, 4.1.4.3. */
#define VIRTIO_NO_VECTOR 0xffff
/* Notifications by exit after which a queue gets an eventfd; see virtio.c. */
#define VIRTIO_EXITS_MAX 16

struct broker;
struct virtio_device;
struct virtio_processes;
struct virtio_transport;

/* What a device does while the guest runs that others do not: bits of virtio_host.needs. */
enum virtio_needs {
	VIRTIO_NEEDS_CONTAINMENT = 1, /* holds a folder open from which there is a way up */
	VIRTIO_NEEDS_USERS = 2,	      /* acts for users the guest names */
};

/*
 * What the monitor lends to the devices it makes. All outlives them.
 *
 * add_memory: let the first @size bytes of file @fd (the device's own, open as long as @mem lives
 * or at least as long as vCPUs run) appear in the guest's memory, not as RAM, at an address that
 * is a multiple of 1 GiB, which *gpa says. Only in `create`. NULL: not in this machine.
 */
struct virtio_host {
	struct gmem *mem;
	struct loop *loop;		    /* the main one */
	struct iothreads *iothreads;	    /* for iothread_new(); NULL: each starts at once */
	struct virtio_processes *processes; /* NULL: there shall be none */
	const char *vm_name;		    /* NULL: none was given */
	bool new_macs;			    /* a saved MAC address is not to be taken over */
	struct broker *broker;		    /* for what is done by name, also later */
	unsigned *needs;		    /* enum virtio_needs; NULL: nobody wants to know */
	struct chardevs *chardevs;	    /* who hears of console output and keys */
	int (*add_memory)(const struct virtio_host *host, int fd, uint64_t size, bool ro,
			  uint64_t *gpa, struct err *err);
};

static inline void virtio_needs(const struct virtio_host *host, unsigned needs)
{
	if (host->needs != NULL)
		*host->needs |= needs;
}

/* A kind of device. Registered by VIRTIO_DEVICE(); there is no list. */
struct virtio_ops {
	const char *name; /* what messages call it: "disk" */
	uint16_t id;	  /* VIRTIO_ID_* */
	uint32_t pci_class;

	/*
	 * Its option; .offset is filled in elsewhere. Each use of it makes one device, or,
	 * when @single, all uses together make one.
	 */
	struct opt option;
	bool single;
	/* Check what can be checked of an option's use without opening anything. May be NULL. */
	int (*check)(const void *item, struct err *err);
	/*
	 * Make a device of @n uses of the option at @items (1 unless @single). @index counts the
	 * devices of this kind. Opens all it needs, so that nothing has to be opened later.
	 * On the main thread, before any vCPU runs; so is `destroy`, after they ended and the
	 * transport is gone.
	 */
	struct virtio_device *(*create)(const void *items, unsigned n, unsigned index,
					const struct virtio_host *host, struct err *err);
	void (*destroy)(struct virtio_device *vdev);

	/* The driver says there is work in queue @q. Loop. */
	void (*kick)(struct virtio_device *vdev, unsigned q);
	/*
	 * The device came alive or was reset (or both, in this order or the other) since last
	 * called: virtio_live() says which it is now. Loop. May be NULL.
	 */
	void (*update)(struct virtio_device *vdev);
	/*
	 * Touch guest memory no more: finish or cancel what is in flight, and forget it. Any
	 * thread. Nothing can be popped or pushed any more; the queues are reset after it.
	 * Also called of a device that was never live. May be NULL.
	 */
	void (*reset)(struct virtio_device *vdev);
	/*
	 * Whoever serves queue @q (virtio_offload()) interrupts: before the driver hears of it. On
	 * the loop, lock held. NULL: interrupts need not lead through us.
	 */
	void (*called)(struct virtio_device *vdev, unsigned q);
	/* @len bytes at @off of the configuration space, inside it, were written. May be NULL. */
	void (*config_write)(struct virtio_device *vdev, unsigned off, const void *data,
			     unsigned len);
	/*
	 * Finish what is in flight: pushing and interrupting still work, popping does not.
	 * Nothing is kicked again until `resume`, after which all queues are. Loop. May be NULL.
	 */
	void (*quiesce)(struct virtio_device *vdev);
	void (*resume)(struct virtio_device *vdev);
	/* Something on the host may have changed: look again (size of a disk). Loop. May be NULL.
	 */
	void (*rescan)(struct virtio_device *vdev);
	/*
	 * The device's own fields, within a section of its own; vCPUs stopped, quiesced. What is
	 * loaded comes from a file that may lie. The queues, loaded before, are not started
	 * yet: `update` and a kick of each follow `resume`. May be NULL.
	 */
	void (*state)(struct virtio_device *vdev, struct state *st);
};

struct virtio_transport_ops {
	/* Interrupt the driver: for queue @q, or (-1) a change of configuration. Lock held. */
	void (*interrupt)(struct virtio_transport *t, int q);
	/*
	 * From now on a notification of queue @q signals eventfd @fd and does not exit to us, or
	 * no longer. Lock held. 0 or -errno.
	 */
	int (*ioeventfd)(struct virtio_transport *t, unsigned q, int fd, bool on);
	/*
	 * From now on eventfd @fd, signalled by the host's kernel, interrupts for queue @q, or
	 * no longer. Lock held. 0 or -errno; -EOPNOTSUPP: not with this transport.
	 */
	int (*irqfd)(struct virtio_transport *t, unsigned q, int fd, bool on);
};

/*
 * A transport sets vdev->transport (lock held) before vCPUs run. Before it goes away it calls
 * virtio_reset() and then clears it.
 */
struct virtio_transport {
	const struct virtio_transport_ops *ops;
	struct virtio_device *vdev;
};

/* A queue, and how its notifications come. */
struct virtio_queue {
	struct virtqueue vq; /* first: a device may go from one to the other */
	uint16_t vector; /* for the transport, which saves it, too; VIRTIO_NO_VECTOR after reset */
	struct virtio_device *vdev;
	_Atomic unsigned exits; /* notifications that cost an exit; many earn an eventfd */
	struct loop_fd kick;	/* .fd: eventfd for notifications, -1 until one is needed */
	struct loop_fd call;	/* .fd: offloaded: signalled to interrupt; -1 until needed */
	bool ioeventfd;		/* the transport signals kick.fd */
	bool no_ioeventfd;	/* it was tried and failed */
	bool irqfd;		/* call.fd interrupts without us */
	bool offloaded;		/* the host's kernel (vhost) serves it */
};

#define VIRTIO_BUCKETS 32
/* What a device with pairs of queues, which begin with that for receiving, has in `untimed`. */
#define VIRTIO_RX_QUEUES 0x5555555555555555ULL

/* What was counted since the device was made; under its lock. They only go up. */
struct virtio_counters {
	uint64_t kicks, interrupts, chains;
	uint64_t out_bytes, in_bytes; /* from the driver, to it */
	/* Of requests, where the device has such. */
	uint64_t reads, writes, flushes, failures, throttled;
	/* From pop to push. [i]: 2^i us up to 2^(i+1); [0]: less, too */
	uint64_t latency[VIRTIO_BUCKETS];
};

struct virtio_device {
	const struct virtio_ops *ops;
	char name[VIRTIO_NAME_MAX]; /* "disk root.img" */
	struct loop *loop;
	struct gmem *mem;
	struct virtio_transport *transport; /* NULL until it has one */
	pthread_mutex_t lock;

	uint64_t features; /* offered, by bit; VERSION_1, INDIRECT_DESC, EVENT_IDX set by init */
	uint64_t driver_features; /* what the driver accepted */
	uint8_t status;
	uint8_t generation; /* of the configuration */
	bool quiesced;
	unsigned nqueues;
	struct virtio_queue *queue; /* [nqueues] */
	void *config;		    /* the configuration space, little-endian; the device's own */
	unsigned config_size;

	_Atomic uint64_t kicked;	  /* queues with work, by bit */
	atomic_bool rescanned;		  /* `rescan` is due */
	bool changed;			  /* `update` is due */
	struct virtio_counters *counters; /* these, or those of its process (virtio_process.c): */
	struct virtio_counters own_counters;
	uint64_t untimed; /* queues whose buffers wait for what may come, by bit: no latencies */
	uint64_t now;	  /* when the batch under way was begun; 0: not known yet */
	unsigned at_once; /* chains popped and pushed in it */
	struct loop_work work;
};

/* Put a device kind into the program: at file level, with the name of its virtio_ops. */
#define VIRTIO_DEVICE(ops)                                                                         \
	static const struct virtio_ops *const ops##_entry                                          \
		__attribute__((used, retain, section("virtio_devices"))) = &(ops)

/* All kinds there are: for (i = 0; i < virtio_nkinds(); i++) virtio_kind(i)->... */
unsigned virtio_nkinds(void);
const struct virtio_ops *virtio_kind(unsigned i);

/* --- For devices --- */

/*
 * Make @vdev a device served by @loop, with @nqueues queues of at most @queue_size (a power
 * of two) and configuration space @config (borrowed). vdev is zeroed by the caller, whose
 * part it is to complete vdev->features (|=) and name. virtio_fini() undoes it, also after
 * failure, on the thread of the loop or when that has ended; the transport is gone by then.
 */
int virtio_init(struct virtio_device *vdev, const struct virtio_ops *ops,
		const struct virtio_host *host, struct loop *loop, unsigned nqueues,
		uint16_t queue_size, void *config, unsigned config_size, struct err *err);
void virtio_fini(struct virtio_device *vdev);

/* DRIVER_OK, and neither broken nor quiesced: buffers may be taken. */
bool virtio_live(const struct virtio_device *vdev);
/* Was feature bit @bit negotiated? */
static inline bool virtio_has(const struct virtio_device *vdev, unsigned bit)
{
	return (vdev->driver_features >> bit & 1) != 0;
}
/* The virtqueue, if it is enabled and the device live; else NULL. */
struct virtqueue *virtio_vq(struct virtio_device *vdev, unsigned q);

/*
 * virtqueue_pop() for devices: true when a chain was taken. A broken queue ends in
 * virtio_fail(); a queue not enabled has none.
 */
bool virtio_pop(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain,
		struct iovec *iov);
/*
 * Give it back with what was written (chain->writable.done), visible at once. Does nothing
 * when the device broke meanwhile: the driver gets its buffers back by reset.
 */
void virtio_push(struct virtio_device *vdev, unsigned q, const struct virtqueue_chain *chain);
/* Interrupt the driver if it wants that for what was published since. Once, to end a batch. */
void virtio_interrupt(struct virtio_device *vdev, unsigned q);
/* End a batch without one, where chains were popped on other occasions than a kick. */
void virtio_end_batch(struct virtio_device *vdev);

/*
 * The usual `kick` of a device that handles a chain at once: with kicks disabled, pop and
 * @handle chains, then interrupt; at most @budget chains, then the rest is posted. @handle
 * returns false to stop before this chain (it is put back; virtio_again() goes on). @iov has
 * room for VIRTQUEUE_IOV(the queue's maximum size).
 */
void virtio_serve(struct virtio_device *vdev, unsigned q, struct iovec *iov, unsigned budget,
		  bool (*handle)(struct virtio_device *vdev, unsigned q,
				 struct virtqueue_chain *chain));

/* There is work in queue @q: kick it as if the driver had. Any thread, lock held or not. */
void virtio_again(struct virtio_device *vdev, unsigned q);

/* The configuration space was changed by the device: tell the driver. */
void virtio_config_changed(struct virtio_device *vdev);

/*
 * The driver broke the rules: NEEDS_RESET, queues stop until it resets us, one rate-limited
 * line in the log. 2.1.2
 */
void virtio_fail(struct virtio_device *vdev, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The same where it is not the driver's fault: the device cannot go on as it was promised. */
void virtio_give_up(struct virtio_device *vdev, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* NEEDS_RESET, and nothing said: somebody else has. */
void virtio_broken(struct virtio_device *vdev);

/* Those of all queues are there from now on, as long as the device. 0 or -errno. */
int virtio_make_eventfds(struct virtio_device *vdev);

/*
 * Hand queue @q to the host's kernel: *kick is signalled when the driver notifies, signalling
 * *call interrupts it (both ours, borrowed). Ends with reset, or when called again with @on
 * false (@kick and @call may then be NULL). The queue is kicked either way: what the driver
 * said before is not lost. Loop, lock held. 0 or -code.
 */
int virtio_offload(struct virtio_device *vdev, unsigned q, bool on, int *kick, int *call);

/* --- For transports; all with the lock held, on any thread, but for virtio_kick --- */

/* Bits 31:0 (@word 0) or 63:32 of the offered and of the accepted features. */
uint32_t virtio_offered(const struct virtio_device *vdev, uint32_t word);
void virtio_accept(struct virtio_device *vdev, uint32_t word, uint32_t bits);
/* Write to the status register: 2.1, 3.1. 0 resets. Read it from vdev->status. */
void virtio_set_status(struct virtio_device *vdev, uint8_t status);
void virtio_reset(struct virtio_device *vdev);
/* May queue parameters be written now? Not once it is enabled. NULL also when there is no @q. */
struct virtqueue *virtio_queue_setup(struct virtio_device *vdev, uint32_t q);
/* queue_enable was written with 1. */
void virtio_queue_enable(struct virtio_device *vdev, uint32_t q);
/* Reads past the end are zero, writes past it dropped. */
void virtio_config_read(struct virtio_device *vdev, uint64_t off, void *data, unsigned len);
void virtio_config_write(struct virtio_device *vdev, uint64_t off, const void *data, unsigned len);
/* The driver notified queue @q by an exit. Any thread, lock held or not, any @q. */
void virtio_kick(struct virtio_device *vdev, uint32_t q);

/* --- For the machine; each takes the lock --- */

/* Loop's thread. Quiesce before saving; a loaded device is quiesced too. */
void virtio_quiesce(struct virtio_device *vdev);
void virtio_resume(struct virtio_device *vdev);
/* Any thread: it is done on the loop. */
void virtio_rescan(struct virtio_device *vdev);
/*
 * Save or load (section "virtio"): status, features, queues, and the device's own. Loading
 * resets first and leaves the device quiesced. 0 or -code.
 */
int virtio_state(struct virtio_device *vdev, struct state *st);

#endif
