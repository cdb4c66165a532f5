/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the hostile payload share. See hostile.c.
 */
#ifndef GUEST_HOSTILE_H
#define GUEST_HOSTILE_H

#include "virtio.h"

#define ANY 0

struct attack {
	const char *name; /* NULL: the end of a table */
	/* Attack @v, whose state is unknown. What it allocates is given back afterwards. */
	void (*run)(struct vdev *v);
	unsigned id; /* only this type of device, or ANY */
	bool pci;    /* only on PCI */
};

/* Rings and descriptors; registers; PCI; what devices do with requests, in four parts */
extern const struct attack ring_attacks[], register_attacks[], pci_attacks[], device_attacks[],
	vsock_attacks[], memory_attacks[], fs_attacks[];

/* --- hostile.c --- */

#define VICTIM_SIZE (1u << 20)
#define QUEUE_SIZE  64

/* Guest memory that devices may overwrite, and the address behind the last byte of RAM. */
extern uint8_t *victim;
extern uint64_t ram_end;
/* There is a second CPU, which runs other_cpu(). */
extern bool have_other;

uint64_t rnd(void);
static inline uint32_t rnd_below(uint32_t n)
{
	return (uint32_t)(rnd() % n);
}
/* An address that is no good: outside RAM, at its end, of a device, close to 2^64. */
uint64_t bad_address(void);
#define BAD_ADDRESSES 16
uint64_t nth_bad_address(unsigned n);

/* Does the device still serve queue @q? Stops waiting when it needs a reset, or after 1 ms. */
void settle(struct vq *vq);
/* A device alive with queue @q, for whoever breaks it then. False: it has no such queue. */
bool alive(struct vdev *v, uint64_t features, unsigned q, struct vq *vq);
/* Make descriptor @head available and notify. */
void offer(struct vq *vq, uint16_t head);
/* Fill a descriptor. */
static inline void put_desc(struct vdesc *d, uint64_t addr, uint32_t len, uint16_t flags,
			    uint16_t next)
{
	*d = (struct vdesc){ addr, len, flags, next };
}
/* Start a request that is right, of whatever kind the queue serves, with descriptors 0 .. 2. */
void offer_good(struct vq *vq);
/* Put back BARs, command register and MSI-X as they were at the beginning. */
void pci_restore(struct vdev *v);
/* How often attacks repeat what depends on chance, by the word rounds= (300). */
unsigned rounds(void);

/*
 * hostile_fs.c: FUSE_INIT, then write and read a file, by the request queue @vq that is alive. NULL,
 * or what went wrong.
 */
const char *fs_use(struct vq *vq);

/* hostile_ring.c: never returns */
void other_cpu(void);

#endif
