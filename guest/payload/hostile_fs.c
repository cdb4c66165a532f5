// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks on a shared folder by way of FUSE requests: Virtual I/O Device (VIRTIO) 1.2, 5.11, and
 * linux/fuse.h. See hostile.c.
 */
#include <linux/fuse.h>
#include "hostile.h"

#define ROOT	    1
#define DATA_ROOM   4096
#define O_RDWR	    2
#define O_TRUNC	    01000
#define MODE_REG    0100644
#define MODE_CHR    0020666
#define LAST_OPCODE 56

/* The request, what it is asked with, and the answer, in the victim's memory. */
static uint8_t *message(void)
{
	return victim;
}

static uint8_t *answer(void)
{
	return victim + 65536;
}

struct answer {
	int len;   /* bytes behind the header; -1: an error, or no answer */
	int error; /* of the answer; 1: there was none */
};

static uint32_t put(uint32_t opcode, uint64_t node, const void *arg, uint32_t arg_len,
		    const void *data, uint32_t data_len)
{
	struct fuse_in_header *h = (void *)message();

	*h = (struct fuse_in_header){ .len = sizeof(*h) + arg_len + data_len,
				      .opcode = opcode,
				      .unique = rnd() | 1,
				      .nodeid = node };
	memcpy(h + 1, arg, arg_len);
	memcpy((uint8_t *)(h + 1) + arg_len, data, data_len);
	return h->len;
}

/* Send @len bytes with @room for the answer. */
static struct answer send(struct vq *vq, uint32_t len, uint32_t room)
{
	struct vbuf b[2] = { { message(), len }, { answer(), room } };
	struct fuse_out_header *h = (void *)answer();
	struct answer a = { -1, 1 };
	int used;

	if ((virtio_status(vq->vdev) & STATUS_NEEDS_RESET) != 0)
		return a;
	memset(answer(), 0, sizeof(*h));
	used = vq_do(vq, b, 1, room > 0);
	if (used < (int)sizeof(*h) || used > (int)room)
		return a;
	a.error = h->error;
	if (h->error == 0)
		a.len = used - (int)sizeof(*h);
	return a;
}

static struct answer call(struct vq *vq, uint32_t opcode, uint64_t node, const void *arg,
			  uint32_t arg_len, const void *data, uint32_t data_len)
{
	return send(vq, put(opcode, node, arg, arg_len, data, data_len), 16 + DATA_ROOM);
}

static bool fuse_init(struct vq *vq)
{
	struct fuse_init_in in = { .major = 7, .minor = 41, .max_readahead = 65536,
				   .flags = 0x7fffffff };

	return call(vq, FUSE_INIT, 0, &in, sizeof(in), NULL, 0).len > 0;
}

static uint32_t length(const char *name)
{
	uint32_t n = 0;

	while (name[n] != '\0')
		n++;
	return n + 1;
}

static bool try_create(struct vq *vq)
{
	struct fuse_create_in in = { .flags = O_RDWR, .mode = MODE_REG };

	return call(vq, FUSE_CREATE, ROOT, &in, sizeof(in), "f", 2).len ==
	       sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out);
}

/* The file "f", made if it is not there. False: no answer. */
static bool create(struct vq *vq, uint64_t *node, uint64_t *fh)
{
	const struct fuse_entry_out *e = (void *)(answer() + 16);
	const struct fuse_open_out *open = (const void *)(e + 1);

	if (!try_create(vq)) {
		/* An attack changed modes: only where root serves the folder may all still be opened. */
		struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 0755 };

		call(vq, FUSE_SETATTR, ROOT, &set, sizeof(set), NULL, 0);
		call(vq, FUSE_UNLINK, ROOT, NULL, 0, "f", 2);
		if (!try_create(vq))
			return false;
	}
	*node = e->nodeid;
	*fh = open->fh;
	return true;
}

const char *fs_use(struct vq *vq)
{
	static uint8_t count;
	struct fuse_write_in write = { .size = 100, .offset = 7 };
	struct fuse_read_in read = { .size = 100, .offset = 7 };
	uint8_t data[100];
	uint64_t node, fh;

	memset(data, ++count, sizeof(data));
	if (!fuse_init(vq))
		return "FUSE_INIT fails";
	if (!create(vq, &node, &fh))
		return "no file can be made";
	write.fh = read.fh = fh;
	if (call(vq, FUSE_WRITE, node, &write, sizeof(write), data, 100).len < 0)
		return "a write fails";
	if (call(vq, FUSE_READ, node, &read, sizeof(read), NULL, 0).len != 100)
		return "a read fails";
	if (memcmp(answer() + 16, data, 100) != 0)
		return "what was written is not read";
	return NULL;
}

/* A device that has heard FUSE_INIT. */
static bool begin(struct vdev *v, struct vq *vq)
{
	return alive(v, ~0ull, 1, vq) && fuse_init(vq);
}

/* When it broke: a new life. */
static bool again(struct vdev *v, struct vq *vq)
{
	return (virtio_status(v) & STATUS_NEEDS_RESET) == 0 || begin(v, vq);
}

/* --- Attacks --- */

static void fs_no_init(struct vdev *v)
{
	struct vq vq;

	if (!alive(v, ~0ull, 1, &vq))
		return;
	for (uint32_t opcode = 0; opcode <= LAST_OPCODE; opcode++) {
		if (opcode != FUSE_INIT)
			call(&vq, opcode, ROOT, victim + 4096, 64, "f", 2);
	}
}

static void fs_lengths(struct vdev *v)
{
	uint8_t args[128];
	struct vq vq;

	if (!begin(v, &vq))
		return;
	for (uint32_t opcode = 0; opcode <= LAST_OPCODE; opcode++) {
		for (uint32_t len = 0; len <= 128; len += 1 + len / 8) {
			memset(args, len % 3 == 0 ? 0 : (int)rnd(), sizeof(args));
			send(&vq, put(opcode, ROOT, args, len, NULL, 0), len % 5 ? 4096 : 0);
			if (!again(v, &vq))
				return;
		}
		fuse_init(&vq);
	}
}

static void fs_header_lies(struct vdev *v)
{
	static const uint32_t lie[] = { 0, 1, 39, 40, 41, 4096, 1 << 20, 0x7fffffff, 0x80000000,
					0xffffffff };
	struct vq vq;

	if (!begin(v, &vq))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(lie); i++) {
		put(FUSE_LOOKUP, ROOT, NULL, 0, "f", 2);
		*(uint32_t *)message() = lie[i];
		send(&vq, 42, 4096);
		if (!again(v, &vq))
			return;
	}
	for (uint32_t len = 1; len < 40; len++) {
		put(FUSE_LOOKUP, ROOT, NULL, 0, "f", 2);
		send(&vq, len, 4096);
		if (!again(v, &vq))
			return;
	}
}

static void fs_little_room(struct vdev *v)
{
	uint64_t node, fh;
	struct vq vq;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (uint32_t room = 0; room < 150; room++) {
		struct fuse_read_in read = { .fh = fh, .size = 4096 };

		send(&vq, put(FUSE_LOOKUP, ROOT, NULL, 0, "f", 2), room);
		send(&vq, put(FUSE_READ, node, &read, sizeof(read), NULL, 0), room);
		send(&vq, put(FUSE_STATFS, ROOT, NULL, 0, NULL, 0), room);
		if (!again(v, &vq))
			return;
	}
}

static void fs_no_room(struct vdev *v)
{
	struct vq vq;

	for (uint32_t opcode = 0; opcode <= LAST_OPCODE; opcode++) {
		if (!begin(v, &vq))
			return;
		send(&vq, put(opcode, ROOT, victim + 4096, 40, "f", 2), 0);
	}
}

static void fs_pieces(struct vdev *v)
{
	struct vbuf b[60];
	struct vq vq;

	if (!begin(v, &vq))
		return;
	put(FUSE_LOOKUP, ROOT, NULL, 0, "f", 2);
	for (unsigned i = 0; i < 42; i++)
		b[i] = (struct vbuf){ message() + i, 1 };
	for (unsigned i = 42; i < 60; i++)
		b[i] = (struct vbuf){ answer() + 9 * i, i % 4 == 0 ? 0 : 9 };
	vq_do(&vq, b, 42, 18);
	if (!again(v, &vq))
		return;
	b[7].len = 0;
	vq_do(&vq, b, 42, 1);
	if (!again(v, &vq))
		return;
	vq_do(&vq, b, 60, 0);
}

static void fs_names(struct vdev *v)
{
	static const char *const name[] = { "..", ".", "", "/", "../x", "/tmp/vmm-hostile", "a/b",
					    "../../../../../../tmp/vmm-hostile" };
	static const uint32_t op[] = { FUSE_LOOKUP, FUSE_UNLINK, FUSE_RMDIR, FUSE_SYMLINK };
	struct fuse_mkdir_in mkdir = { .mode = 0755 };
	struct fuse_create_in open = { .flags = O_RDWR | O_TRUNC, .mode = MODE_REG };
	struct vq vq;

	if (!begin(v, &vq))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(op); k++)
			call(&vq, op[k], ROOT, name[i], length(name[i]), "x", 2);
		call(&vq, FUSE_LOOKUP, ROOT, NULL, 0, name[i], length(name[i]));
		call(&vq, FUSE_LOOKUP, ROOT, NULL, 0, name[i], length(name[i]) - 1);
		call(&vq, FUSE_MKDIR, ROOT, &mkdir, sizeof(mkdir), name[i], length(name[i]));
		call(&vq, FUSE_CREATE, ROOT, &open, sizeof(open), name[i], length(name[i]));
	}
	/* As long as a message can be. */
	memset(victim + 4096, 'n', 60000);
	for (uint32_t n = 200; n < 60000; n = n * 3 / 2)
		call(&vq, FUSE_LOOKUP, ROOT, NULL, 0, victim + 4096, n);
}

static void fs_nodes(struct vdev *v)
{
	static const uint64_t id[] = { 0, 2, 3, 0xffffffff, 1ull << 32, 1ull << 63, ~0ull };
	struct vq vq;

	if (!begin(v, &vq))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(id) + 40; i++) {
		uint64_t node = i < ARRAY_SIZE(id) ? id[i] : rnd();

		for (uint32_t opcode = 1; opcode <= LAST_OPCODE; opcode++) {
			if (opcode == FUSE_INIT || opcode == FUSE_DESTROY)
				continue;
			memset(victim + 4096, 0, 64);
			call(&vq, opcode, node, victim + 4096, 16, "f", 2);
			if (!again(v, &vq))
				return;
		}
	}
}

static void fs_handles(struct vdev *v)
{
	uint64_t node, fh;
	struct vq vq;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned i = 0; i < 100; i++) {
		/* Where the handle is, in nearly all. */
		struct fuse_read_in in = { .fh = i % 4 == 0 ? rnd() : fh + i, .size = 64 };

		if (i % 7 == 0)
			in.fh = fh;
		for (uint32_t opcode = 1; opcode <= LAST_OPCODE; opcode++) {
			if (opcode == FUSE_INIT || opcode == FUSE_DESTROY)
				continue;
			call(&vq, opcode, i % 3 ? node : ROOT, &in, sizeof(in), NULL, 0);
			if (!again(v, &vq))
				return;
		}
	}
}

static void fs_sizes(struct vdev *v)
{
	static const uint32_t size[] = { 0, 1, 4097, 1 << 20, (1 << 20) + 1, 0x7fffffff, 0x80000000,
					 0xfffff000, 0xffffffff };
	uint64_t node, fh;
	struct vq vq;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(size); i++) {
		struct fuse_read_in read = { .fh = fh, .size = size[i] };
		struct fuse_write_in write = { .fh = fh, .size = size[i] };
		struct fuse_getxattr_in xattr = { .size = size[i] };
		struct fuse_setxattr_in set = { .size = size[i] };
		struct fuse_batch_forget_in forget = { .count = size[i] };

		call(&vq, FUSE_READ, node, &read, sizeof(read), NULL, 0);
		call(&vq, FUSE_WRITE, node, &write, sizeof(write), "data", 4);
		call(&vq, FUSE_LISTXATTR, node, &xattr, sizeof(xattr), NULL, 0);
		call(&vq, FUSE_GETXATTR, node, &xattr, sizeof(xattr), "user.x", 7);
		call(&vq, FUSE_SETXATTR, node, &set, sizeof(set), "user.x\0data", 11);
		call(&vq, FUSE_BATCH_FORGET, 0, &forget, sizeof(forget), victim + 4096, 64);
		call(&vq, FUSE_READDIR, ROOT, &read, sizeof(read), NULL, 0);
		if (!again(v, &vq))
			return;
	}
}

static void fs_offsets(struct vdev *v)
{
	static const uint64_t off[] = { 1ull << 40, 1ull << 62, (1ull << 63) - 1, 1ull << 63,
					~0ull - 4095, ~0ull };
	uint64_t node, fh;
	struct vq vq;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(off); i++) {
		struct fuse_read_in read = { .fh = fh, .size = 4096, .offset = off[i] };
		struct fuse_write_in write = { .fh = fh, .size = 4, .offset = off[i] };
		struct fuse_fallocate_in fall = { .fh = fh, .offset = off[i], .length = off[i] };
		struct fuse_lseek_in seek = { .fh = fh, .offset = off[i], .whence = 3 };
		struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = off[i] };
		struct fuse_copy_file_range_in copy = { fh, off[i], node, fh, off[i], off[i], 0 };

		call(&vq, FUSE_READ, node, &read, sizeof(read), NULL, 0);
		call(&vq, FUSE_WRITE, node, &write, sizeof(write), "data", 4);
		if (off[i] > 1ull << 60)
			call(&vq, FUSE_FALLOCATE, node, &fall, sizeof(fall), NULL, 0);
		call(&vq, FUSE_LSEEK, node, &seek, sizeof(seek), NULL, 0);
		call(&vq, FUSE_COPY_FILE_RANGE, node, &copy, sizeof(copy), NULL, 0);
		call(&vq, FUSE_SETATTR, node, &set, sizeof(set), NULL, 0);
		if (!again(v, &vq))
			return;
	}
	call(&vq, FUSE_SETATTR, node, &(struct fuse_setattr_in){ .valid = FATTR_SIZE },
	     sizeof(struct fuse_setattr_in), NULL, 0);
}

static void fs_devices(struct vdev *v)
{
	static const uint32_t mode[] = { MODE_CHR, 0060666, 0040755, 0120777, 0170000, 0, 0xffffffff };
	struct vq vq;

	if (!begin(v, &vq))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(mode); i++) {
		struct fuse_mknod_in in = { .mode = mode[i], .rdev = 0x103 };

		call(&vq, FUSE_MKNOD, ROOT, &in, sizeof(in), "null", 5);
		call(&vq, FUSE_UNLINK, ROOT, NULL, 0, "null", 5);
	}
}

static void fs_flags(struct vdev *v)
{
	struct vq vq;
	uint64_t node, fh;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned bit = 0; bit < 33; bit++) {
		struct fuse_open_in open = { .flags = bit < 32 ? 1u << bit : ~0u };
		struct fuse_setattr_in set = { .valid = open.flags };
		struct fuse_rename2_in rename = { .newdir = ROOT, .flags = open.flags };
		struct fuse_create_in create_in = { .flags = open.flags, .mode = MODE_REG };

		call(&vq, FUSE_OPEN, node, &open, sizeof(open), NULL, 0);
		call(&vq, FUSE_OPENDIR, ROOT, &open, sizeof(open), NULL, 0);
		call(&vq, FUSE_CREATE, ROOT, &create_in, sizeof(create_in), "f", 2);
		call(&vq, FUSE_SETATTR, node, &set, sizeof(set), NULL, 0);
		call(&vq, FUSE_RENAME2, ROOT, &rename, sizeof(rename), "f\0g", 4);
		call(&vq, FUSE_RENAME2, ROOT, &rename, sizeof(rename), "g\0f", 4);
		if (!again(v, &vq))
			return;
	}
}

static void fs_forget(struct vdev *v)
{
	struct fuse_forget_in forget = { ~0ull };
	struct vq vq, hiprio;
	uint64_t node, fh;

	if (!alive(v, ~0ull, 1, &vq))
		return;
	/* Set up both: alive() does one. */
	if (!virtio_begin(v, ~0ull) || !virtio_queue(v, 0, QUEUE_SIZE, &hiprio) ||
	    !virtio_queue(v, 1, QUEUE_SIZE, &vq))
		return;
	virtio_go(v);
	if (!fuse_init(&vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned i = 0; i < rounds(); i++) {
		call(&vq, FUSE_LOOKUP, ROOT, NULL, 0, "f", 2);
		send(&hiprio, put(FUSE_FORGET, i % 3 ? node : i % 2 ? ROOT : rnd(), &forget,
				  sizeof(forget), NULL, 0),
		     0);
		/* A request of another kind where only these belong. */
		send(&hiprio, put(FUSE_GETATTR, ROOT, victim + 4096, 16, NULL, 0), 256);
		send(&hiprio, put(FUSE_INTERRUPT, 0, &(uint64_t){ rnd() }, 8, NULL, 0), 16);
	}
}

static void fs_inits(struct vdev *v)
{
	struct vq vq;
	uint64_t node, fh;

	if (!begin(v, &vq))
		return;
	for (unsigned i = 0; i < rounds(); i++) {
		struct fuse_init_in in = { .major = i % 4 == 3 ? (uint32_t)rnd() : 7,
					   .minor = (uint32_t)(i % 2 ? rnd() : 31),
					   .max_readahead = (uint32_t)rnd(),
					   .flags = (uint32_t)rnd(),
					   .flags2 = (uint32_t)rnd() };

		call(&vq, FUSE_INIT, rnd(), &in, i % 5 ? sizeof(in) : 16, NULL, 0);
		create(&vq, &node, &fh);
		if (i % 3 == 0)
			call(&vq, FUSE_DESTROY, 0, NULL, 0, NULL, 0);
		if (!again(v, &vq))
			return;
	}
}

/* Handles without end, until there are none. */
static void fs_open_flood(struct vdev *v)
{
	struct fuse_open_in in = { .flags = 0 };
	uint64_t node, fh;
	struct vq vq;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned i = 0; i < 4 * rounds(); i++) {
		if (call(&vq, FUSE_OPEN, node, &in, sizeof(in), NULL, 0).error != 0)
			break;
		call(&vq, FUSE_OPENDIR, ROOT, &in, sizeof(in), NULL, 0);
	}
}

/* As many reads and writes as fit, answered over the same memory; then a reset amidst them. */
static void fs_in_flight(struct vdev *v)
{
	uint64_t node, fh;
	struct vq vq;

	for (unsigned i = 0; i < rounds(); i++) {
		uintptr_t mark = ram_mark();

		if (!begin(v, &vq) || !create(&vq, &node, &fh))
			return;
		for (unsigned k = 0; k < 20; k++) {
			struct fuse_read_in read = { .fh = fh, .size = 60000, .offset = 4096 * k };
			struct fuse_write_in write = { .fh = fh, .size = 16, .offset = 4096 * k };
			struct vbuf b[2] = { { message(), 0 }, { answer(), 65536 } };

			b[0].len = k % 2 ? put(FUSE_READ, node, &read, sizeof(read), NULL, 0) :
					   put(FUSE_WRITE, node, &write, sizeof(write),
					       victim + 4096, 16);
			if (vq.nfree < 2)
				break;
			vq_add(&vq, b, 1, 1);
		}
		vq_kick(&vq);
		if (i % 3 == 0)
			settle(&vq);
		virtio_set_status(v, 0);
		ram_release(mark);
	}
}

/* Right headers, everything else by chance. */
static void fs_random(struct vdev *v)
{
	uint64_t node, fh;
	struct vq vq;

	if (!begin(v, &vq) || !create(&vq, &node, &fh))
		return;
	for (unsigned i = 0; i < 40 * rounds(); i++) {
		uint32_t opcode = 1 + rnd_below(LAST_OPCODE), len = rnd_below(200);

		for (uint32_t k = 0; k < len; k += 8)
			*(uint64_t *)(victim + 4096 + k) = i % 3 == 0 ? rnd() :
							   i % 3 == 1 ? rnd_below(64) :
							   k == 0     ? fh :
									'f';
		/* Space on the host is not ours to fill. */
		if (opcode == FUSE_FALLOCATE || opcode == FUSE_WRITE)
			continue;
		send(&vq, put(opcode, i % 2 ? node : ROOT, victim + 4096, len, NULL, 0),
		     i % 9 == 0 ? rnd_below(300) : 16 + DATA_ROOM);
		if (opcode == FUSE_DESTROY || opcode == FUSE_INIT)
			fuse_init(&vq);
		if (i % 50 == 0 && !create(&vq, &node, &fh) && !begin(v, &vq))
			return;
		if (!again(v, &vq))
			return;
	}
}

/* An answer written over the request, and over the rings' neighbour: what is read twice changes. */
static void fs_overlap(struct vdev *v)
{
	struct vq vq;

	if (!begin(v, &vq))
		return;
	for (uint32_t opcode = 1; opcode <= LAST_OPCODE; opcode++) {
		struct vbuf b[2] = { { message(), 0 }, { message(), 4096 } };

		b[0].len = put(opcode, ROOT, victim + 4096, 64, "f", 2);
		vq_do(&vq, b, 1, 1);
		if (!again(v, &vq))
			return;
		fuse_init(&vq);
	}
}

const struct attack fs_attacks[] = {
	{ "fs-no-init", fs_no_init, VIRTIO_FS, false },
	{ "fs-lengths", fs_lengths, VIRTIO_FS, false },
	{ "fs-header-lies", fs_header_lies, VIRTIO_FS, false },
	{ "fs-little-room", fs_little_room, VIRTIO_FS, false },
	{ "fs-no-room", fs_no_room, VIRTIO_FS, false },
	{ "fs-pieces", fs_pieces, VIRTIO_FS, false },
	{ "fs-names", fs_names, VIRTIO_FS, false },
	{ "fs-nodes", fs_nodes, VIRTIO_FS, false },
	{ "fs-handles", fs_handles, VIRTIO_FS, false },
	{ "fs-sizes", fs_sizes, VIRTIO_FS, false },
	{ "fs-offsets", fs_offsets, VIRTIO_FS, false },
	{ "fs-devices", fs_devices, VIRTIO_FS, false },
	{ "fs-flags", fs_flags, VIRTIO_FS, false },
	{ "fs-forget", fs_forget, VIRTIO_FS, false },
	{ "fs-inits", fs_inits, VIRTIO_FS, false },
	{ "fs-open-flood", fs_open_flood, VIRTIO_FS, false },
	{ "fs-in-flight", fs_in_flight, VIRTIO_FS, false },
	{ "fs-random", fs_random, VIRTIO_FS, false },
	{ "fs-overlap", fs_overlap, VIRTIO_FS, false },
	{ 0 },
};
