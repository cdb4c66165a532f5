// SPDX-License-Identifier: Apache-2.0
/*
 * What a back end has under way that takes no notes of it (INFLIGHT_SHMFD): qemu-storage-daemon.
 *
 * Theory of operation. When it dies, the next one goes on from the used index, as if requests were
 * done in the order in which they were made available. Those that were overtaken would be lost
 * then, and those that overtook them be done twice. What is under way cannot be told from the rings
 * alone: they show the last heads made available and used, not which of them belong together. But
 * from a moment when it is known, it can be followed: what was made available since comes to it,
 * what was used leaves it. So the rings are looked at whenever the back end interrupts, which for
 * that leads through us, and when it is gone.
 *
 * Then what is under way is put into the available ring, behind the used index, where the next back
 * end begins. The driver never reads there, and what it makes available meanwhile comes after. (A
 * device is not to write there; nothing can see that it did, but its own successor.)
 *
 * The rings are the guest's memory. Whatever is in them, no more is looked at than a ring, and a
 * head is below the ring's size.
 *
 * Limits: when more happened between two interrupts than the rings hold, it is not known any more,
 * until a moment when nothing is under way. Who loses a back end meanwhile goes on as before.
 *
 * #syscalls: none
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "devices/vhost_user_impl.h"

static uint16_t idx(const uint16_t *from)
{
	return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

static uint16_t mask(const struct virtqueue *vq)
{
	return vq->size - 1;
}

int vu_notes_begin(struct vu_notes *notes, const struct virtqueue *vq)
{
	free(notes->under_way);
	*notes = (struct vu_notes){ .made = idx(&vq->used_ring->idx),
				    .used = idx(&vq->used_ring->idx),
				    .under_way = calloc(vq->size, 1) };
	/* Nothing is: it begins at the used index, and rings that are handed over are settled. */
	notes->known = notes->under_way != NULL;
	return notes->known ? 0 : -ENOMEM;
}

void vu_notes_look(struct vu_notes *notes, const struct virtqueue *vq)
{
	uint16_t used, made;

	if (notes->under_way == NULL || !vq->started)
		return;
	/* In this order: what is used was made available before. */
	used = idx(&vq->used_ring->idx);
	made = idx(&vq->avail_ring->idx);
	if ((uint16_t)(used - notes->used) > vq->size ||
	    (uint16_t)(made - notes->made) > vq->size || (uint16_t)(made - used) > vq->size)
		notes->known = false;
	for (; notes->known && notes->made != made; notes->made++)
		notes->under_way[vq->avail_ring->ring[notes->made & mask(vq)] & mask(vq)]++;
	for (; notes->known && notes->used != used; notes->used++)
		notes->under_way[vq->used_ring->ring[notes->used & mask(vq)].id & mask(vq)]--;
	if (notes->known)
		return;
	notes->made = made;
	notes->used = used;
	if (made == used) {
		memset(notes->under_way, 0, vq->size);
		notes->known = true;
	}
}

int vu_notes_apply(struct vu_notes *notes, struct virtqueue *vq)
{
	struct vring_avail *avail =
		gmem_wptr(vq->mem, vq->driver, sizeof(*avail) + sizeof(uint16_t) * vq->size);
	uint16_t at, n = 0;

	vu_notes_look(notes, vq);
	if (!notes->known || avail == NULL)
		return -ENODATA;
	for (uint32_t head = 0; head < vq->size; head++) {
		if (notes->under_way[head] > 1) /* a driver that lies */
			return -ENODATA;
		n += notes->under_way[head];
	}
	if (n != (uint16_t)(notes->made - notes->used))
		return -ENODATA;
	at = notes->used;
	for (uint32_t head = 0; head < vq->size; head++)
		if (notes->under_way[head] == 1)
			__atomic_store_n(&avail->ring[at++ & mask(vq)], (uint16_t)head,
					 __ATOMIC_RELEASE);
	gmem_mark_dirty(vq->mem, vq->driver, sizeof(*avail) + sizeof(uint16_t) * vq->size);
	return 0;
}
