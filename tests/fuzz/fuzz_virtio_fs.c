// SPDX-License-Identifier: Apache-2.0
/*
 * A shared folder and a guest that says anything: FUSE requests made of what earlier replies gave
 * (nodes, handles), names good and bad, and numbers; then bent: bits changed, cut short, lengths
 * that lie, little room, odd pieces; resets amidst them. Checked: a reply is well-formed and has
 * the request's number; it never holds the secret that lies beside the folder; the secret and its
 * folder are as they were; every request comes back, or the device asks for a reset; the host's
 * memory (ASan).
 *
 * Input: 1 byte: which of the shares; then operations, 1 byte each and its operands: see operate().
 *
 * The folder is in a tmpfs of its own of 16 MiB where that is allowed (root); elsewhere in /tmp,
 * with files of at most 1 MiB.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "tests/fuzz/virtio_fuzz.h"

#define RAM	   0x80000ULL
#define RAM_HIGH   0x2000ULL
#define QUEUE_SIZE 16
#define QUEUES	   3 /* hiprio and two for requests */
#define RINGS(q)   ((q)*0x1000ULL)
#define AVAIL(q)   (RINGS(q) + 0x400)
#define USED(q)	   (RINGS(q) + 0x800)
#define IN_AT	   0x4000ULL
#define OUT_AT	   0x10000ULL
#define OUT_MAX	   0x20000u
#define STEPS_MAX  256
#define KNOWN	   12
#define SECRET	   "it is the secret of the host"

struct machine {
	struct virtio_fuzz v;
	struct virtio_device *fs[4];
	char bed[64], share[80], outside[80], secret[100];
	struct stat before; /* the secret */
	uint16_t avail[QUEUES];
	uint64_t unique;
	uint64_t node[KNOWN], fh[KNOWN];
	unsigned nodes, fhs; /* ever learned; the last KNOWN are kept */
};

/* --- The folder --- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type;
	if (ftw->level > 0)
		remove(path);
	return 0;
}

static int unlock_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)ftw;
	if (type == FTW_D || type == FTW_DNR)
		(void)!chmod(path, 0755);
	(void)st;
	return 0;
}

static void put_file(const char *dir, const char *name, const char *text)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void put_special(const char *dir, const char *name, const char *target)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (target == NULL)
		CHECK(mkdir(path, 0755) == 0);
	else if (target[0] == '\0')
		CHECK(mkfifo(path, 0644) == 0);
	else
		CHECK(symlink(target, path) == 0);
}

/* As it is at the beginning of each input. */
static void fresh_share(const struct machine *m)
{
	char path[300];

	CHECK(chmod(m->share, 0755) == 0);
	nftw(m->share, unlock_one, 16, FTW_PHYS);
	nftw(m->share, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	put_special(m->share, "d", NULL);
	put_file(m->share, "f", "some text");
	snprintf(path, sizeof(path), "%s/d", m->share);
	put_file(path, "g", "more");
	put_special(m->share, "l", "../outside/secret");
	put_special(m->share, "e", "../outside");
	put_special(m->share, "p", "");
}

static void check_outside(const struct machine *m)
{
	char text[64] = "";
	struct stat st;
	unsigned n = 0;
	DIR *dir;
	int fd = open(m->secret, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK(read(fd, text, sizeof(text)) == (ssize_t)strlen(SECRET));
	CHECK(strcmp(text, SECRET) == 0);
	close(fd);
	CHECK(st.st_ino == m->before.st_ino && st.st_mode == m->before.st_mode);
	CHECK(st.st_uid == m->before.st_uid && st.st_gid == m->before.st_gid && st.st_nlink == 1);
	CHECK(st.st_ctim.tv_sec == m->before.st_ctim.tv_sec &&
	      st.st_ctim.tv_nsec == m->before.st_ctim.tv_nsec);
	dir = opendir(m->outside);
	CHECK(dir != NULL);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	CHECK(n == 3);
}

/* --- The machine, made once and kept --- */

static struct virtio_device *make(struct machine *m, const char *keys)
{
	struct virtio_device *vdev;
	char text[200];

	snprintf(text, sizeof(text), "%s,tag=x,queues=%d%s", m->share, QUEUES - 1, keys);
	vdev = vf_make(&m->v, VIRTIO_ID_FS, text);
	CHECK(vdev->nqueues == QUEUES);
	return vdev;
}

static void make_bed(struct machine *m)
{
	struct rlimit limit = { 1 << 20, 1 << 20 };

	strcpy(m->bed, "/tmp/fuzz-fs-XXXXXX");
	CHECK(mkdtemp(m->bed) != NULL);
	if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		(void)!mount("bed", m->bed, "tmpfs", 0, "size=16m,mode=755");
	signal(SIGXFSZ, SIG_IGN);
	CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	snprintf(m->share, sizeof(m->share), "%s/share", m->bed);
	snprintf(m->outside, sizeof(m->outside), "%s/outside", m->bed);
	snprintf(m->secret, sizeof(m->secret), "%s/secret", m->outside);
	CHECK(mkdir(m->share, 0755) == 0 && mkdir(m->outside, 0755) == 0);
	put_file(m->outside, "secret", SECRET);
	CHECK(lstat(m->secret, &m->before) == 0);
}

static struct machine *machine(void)
{
	static struct machine m;

	if (m.v.loop != NULL)
		return &m;
	vf_init(&m.v, RAM, RAM_HIGH);
	make_bed(&m);
	fresh_share(&m);
	m.fs[0] = make(&m, "");
	m.fs[1] = make(&m, ",ids=xattr,cache=always");
	m.fs[2] = make(&m, ",ro");
	m.fs[3] = make(&m, ",mounts=off,cache=never,uid=1,gid=2");
	return &m;
}

/* --- The driver --- */

static void start(struct machine *m)
{
	static const struct vf_rings rings = { QUEUE_SIZE, RINGS(0), AVAIL(0), USED(0),
					       RINGS(1) - RINGS(0) };

	vf_start(&m->v, 0, &rings, QUEUES);
	memset(m->avail, 0, sizeof(m->avail));
	m->nodes = m->fhs = 0;
}

static bool broken(struct machine *m)
{
	bool yes;

	pthread_mutex_lock(&m->v.vdev->lock);
	yes = (m->v.vdev->status & VIRTIO_CONFIG_S_NEEDS_RESET) != 0;
	pthread_mutex_unlock(&m->v.vdev->lock);
	return yes;
}

/* Wait until all of queue @q came back. False: the device broke. */
static bool finished(struct machine *m, unsigned q)
{
	const uint16_t *idx = gmem_ptr(&m->v.mem, USED(q) + 2, 2);
	uint64_t end = loop_now_ns() + 10000000000ULL;

	while (__atomic_load_n(idx, __ATOMIC_ACQUIRE) != m->avail[q]) {
		if (broken(m))
			return false;
		CHECK(loop_now_ns() < end);
		CHECK(loop_run_once(m->v.loop, 0) == 0);
		sched_yield();
	}
	return true;
}

static uint32_t used_len(struct machine *m, unsigned q)
{
	struct vring_used_elem elem;

	gmem_read(&m->v.mem, USED(q) + 4 + (uint16_t)(m->avail[q] - 1) % QUEUE_SIZE * 8, &elem,
		  sizeof(elem));
	return elem.len;
}

static void publish(struct machine *m, unsigned q, uint16_t head)
{
	uint16_t *idx = gmem_wptr(&m->v.mem, AVAIL(q) + 2, 2);

	gmem_write(&m->v.mem, AVAIL(q) + 4 + m->avail[q] % QUEUE_SIZE * 2, &head, 2);
	__atomic_store_n(idx, ++m->avail[q], __ATOMIC_RELEASE);
}

/* Send @len bytes at IN_AT in @pieces, with @room. The used length, or -1: broken. */
static int64_t send_message(struct machine *m, unsigned q, uint32_t len, unsigned pieces,
			    uint32_t room)
{
	uint32_t step = len / pieces + 1, at = 0;
	struct vring_desc desc[QUEUE_SIZE];
	unsigned n = 0;

	while (at < len && n < 12) {
		uint32_t part = step < len - at ? step : len - at;

		desc[n++] = (struct vring_desc){ .addr = IN_AT + at, .len = part };
		at += part;
	}
	if (room > 0)
		desc[n++] = (struct vring_desc){ .addr = OUT_AT,
						 .len = room > 7 ? room / 2 : room,
						 .flags = VRING_DESC_F_WRITE };
	if (room > 7)
		desc[n++] = (struct vring_desc){ .addr = OUT_AT + room / 2,
						 .len = room - room / 2,
						 .flags = VRING_DESC_F_WRITE };
	if (n == 0)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		if (i + 1 < n) {
			desc[i].flags |= VRING_DESC_F_NEXT;
			desc[i].next = (uint16_t)(i + 1);
		}
	}
	gmem_write(&m->v.mem, RINGS(q), desc, n * sizeof(desc[0]));
	publish(m, q, 0);
	virtio_kick(m->v.vdev, q);
	return finished(m, q) ? (int64_t)used_len(m, q) : -1;
}

/* --- Requests --- */

static const char *const names[] = { "f",
				     "d",
				     "g",
				     "l",
				     "e",
				     "p",
				     "n",
				     "o",
				     "..",
				     ".",
				     "",
				     "/",
				     "../outside/secret",
				     "d/g",
				     "user.x",
				     "secret",
				     "e/secret",
				     "user.containers.override_stat" };

static const char *pick_name(struct input *in)
{
	return names[take(in, 1) % (sizeof(names) / sizeof(names[0]))];
}

static uint64_t pick_node(struct machine *m, struct input *in)
{
	uint8_t how = (uint8_t)take(in, 1);

	if (how < 80 || m->nodes == 0)
		return how == 79 ? take(in, 8) : FUSE_ROOT_ID;
	return m->node[how % (m->nodes < KNOWN ? m->nodes : KNOWN)];
}

static uint64_t pick_fh(struct machine *m, struct input *in)
{
	uint8_t how = (uint8_t)take(in, 1);

	if (how == 255 || m->fhs == 0)
		return take(in, 8);
	return m->fh[how % (m->fhs < KNOWN ? m->fhs : KNOWN)];
}

/* Small mostly, sometimes at an edge. */
static uint64_t pick_number(struct input *in)
{
	uint64_t v = take(in, 2);

	switch (v >> 13) {
	case 6:
		return 1ULL << (v & 63);
	case 7:
		return ~0ULL - (v & 0xfff);
	default:
		return v & 0x1fff;
	}
}

struct message {
	uint8_t data[8192];
	uint32_t len;
};

static void add(struct message *msg, const void *data, size_t len)
{
	if (len > sizeof(msg->data) - msg->len)
		len = sizeof(msg->data) - msg->len;
	memcpy(msg->data + msg->len, data, len);
	msg->len += (uint32_t)len;
}

static void add_name(struct message *msg, struct input *in)
{
	const char *name = pick_name(in);

	add(msg, name, strlen(name) + 1);
}

#define ADD(type, ...) add(msg, &(struct type){ __VA_ARGS__ }, sizeof(struct type))

static void arguments(struct machine *m, struct input *in, struct message *msg, uint32_t opcode)
{
	static const uint8_t zeroes[255 * 17];
	uint32_t mode = (uint32_t)take(in, 2), size;

	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_REMOVEXATTR:
		add_name(msg, in);
		break;
	case FUSE_FORGET:
		ADD(fuse_forget_in, pick_number(in));
		break;
	case FUSE_BATCH_FORGET:
		size = (uint32_t)take(in, 1) % 8;
		ADD(fuse_batch_forget_in, mode % 9 == 8 ? ~0u : size);
		for (unsigned i = 0; i < size; i++)
			ADD(fuse_forget_one, pick_node(m, in), pick_number(in));
		break;
	case FUSE_GETATTR:
		ADD(fuse_getattr_in, mode & 1, 0, pick_fh(m, in));
		break;
	case FUSE_SETATTR:
		ADD(fuse_setattr_in, .valid = mode, .fh = pick_fh(m, in), .size = pick_number(in),
		    .atime = pick_number(in), .mtime = pick_number(in),
		    .atimensec = (uint32_t)pick_number(in), .mode = (uint32_t)take(in, 2),
		    .uid = (uint32_t)pick_number(in), .gid = (uint32_t)pick_number(in));
		break;
	case FUSE_SYMLINK:
		add_name(msg, in);
		add_name(msg, in);
		break;
	case FUSE_MKNOD:
		ADD(fuse_mknod_in, mode, (uint32_t)pick_number(in), 022, 0);
		add_name(msg, in);
		break;
	case FUSE_MKDIR:
		ADD(fuse_mkdir_in, mode, 022);
		add_name(msg, in);
		break;
	case FUSE_RENAME:
		ADD(fuse_rename_in, pick_node(m, in));
		add_name(msg, in);
		add_name(msg, in);
		break;
	case FUSE_RENAME2:
		ADD(fuse_rename2_in, pick_node(m, in), mode & 7, 0);
		add_name(msg, in);
		add_name(msg, in);
		break;
	case FUSE_LINK:
		ADD(fuse_link_in, pick_node(m, in));
		add_name(msg, in);
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		ADD(fuse_open_in, mode | (uint32_t)take(in, 1) << 16, mode & 1);
		break;
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		ADD(fuse_create_in, mode | (uint32_t)take(in, 1) << 16, (uint32_t)take(in, 2), 022,
		    0);
		add_name(msg, in);
		break;
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		ADD(fuse_read_in, .fh = pick_fh(m, in), .offset = pick_number(in),
		    .size = (uint32_t)pick_number(in), .flags = mode);
		break;
	case FUSE_WRITE:
		size = (uint32_t)take(in, 1) * 17;
		ADD(fuse_write_in, .fh = pick_fh(m, in), .offset = pick_number(in),
		    .size = mode % 16 == 15 ? (uint32_t)pick_number(in) : size,
		    .write_flags = mode >> 8);
		add(msg, zeroes, size);
		break;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		ADD(fuse_release_in, .fh = pick_fh(m, in), .flags = mode);
		break;
	case FUSE_FLUSH:
		ADD(fuse_flush_in, .fh = pick_fh(m, in));
		break;
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
		ADD(fuse_fsync_in, .fh = pick_fh(m, in), .fsync_flags = mode & 1);
		break;
	case FUSE_SETXATTR:
		size = (uint32_t)take(in, 1);
		ADD(fuse_setxattr_in, .size = size, .flags = mode & 3);
		add_name(msg, in);
		add(msg, zeroes, size);
		break;
	case FUSE_GETXATTR:
		ADD(fuse_getxattr_in, (uint32_t)pick_number(in), 0);
		add_name(msg, in);
		break;
	case FUSE_LISTXATTR:
		ADD(fuse_getxattr_in, (uint32_t)pick_number(in), 0);
		break;
	case FUSE_LSEEK:
		ADD(fuse_lseek_in, pick_fh(m, in), pick_number(in), mode % 6, 0);
		break;
	case FUSE_FALLOCATE:
		ADD(fuse_fallocate_in, pick_fh(m, in), pick_number(in), pick_number(in), mode, 0);
		break;
	case FUSE_COPY_FILE_RANGE:
		ADD(fuse_copy_file_range_in, pick_fh(m, in), pick_number(in), pick_node(m, in),
		    pick_fh(m, in), pick_number(in), pick_number(in), mode & 1);
		break;
	case FUSE_INIT:
		ADD(fuse_init_in, 7, mode, 65536, (uint32_t)take(in, 4), (uint32_t)take(in, 2));
		break;
	case FUSE_INTERRUPT:
		ADD(fuse_interrupt_in, pick_number(in));
		break;
	default:
		for (unsigned i = mode % 64; i > 0; i--)
			add(msg, &(uint8_t){ (uint8_t)take(in, 1) }, 1);
	}
}

static void learn_node(struct machine *m, uint64_t id)
{
	if (id != 0)
		m->node[m->nodes++ % KNOWN] = id;
}

/* What a reply of @len bytes behind the header gives. */
static void learn(struct machine *m, uint32_t opcode, uint32_t len)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} r = { 0 };
	uint64_t at = OUT_AT + sizeof(struct fuse_out_header);

	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_LINK:
		CHECK(len == sizeof(r.entry));
		gmem_read(&m->v.mem, at, &r.entry, sizeof(r.entry));
		CHECK(r.entry.attr.ino != m->before.st_ino);
		learn_node(m, r.entry.nodeid);
		break;
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		CHECK(len == sizeof(r));
		gmem_read(&m->v.mem, at, &r, sizeof(r));
		CHECK(r.entry.attr.ino != m->before.st_ino);
		learn_node(m, r.entry.nodeid);
		m->fh[m->fhs++ % KNOWN] = r.open.fh;
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		CHECK(len == sizeof(r.open));
		gmem_read(&m->v.mem, at, &r.open, sizeof(r.open));
		m->fh[m->fhs++ % KNOWN] = r.open.fh;
		break;
	}
}

static void check_reply(struct machine *m, int64_t used, uint32_t room, const struct message *msg,
			bool bent)
{
	const struct fuse_in_header *asked = (const void *)msg->data;
	struct fuse_out_header h;

	CHECK(used <= room);
	if (used <= 0)
		return;
	CHECK(used >= (int64_t)sizeof(h));
	gmem_read(&m->v.mem, OUT_AT, &h, sizeof(h));
	CHECK(h.len == used && h.error <= 0 && h.error > -1000);
	CHECK(h.error == 0 || h.len == sizeof(h));
	CHECK(h.unique == asked->unique);
	if (h.error == 0 && !bent)
		learn(m, asked->opcode, h.len - (uint32_t)sizeof(h));
	CHECK(memmem(gmem_ptr(&m->v.mem, OUT_AT, h.len), h.len, SECRET, 16) == NULL);
}

/*
 * A request. Bytes: opcode; node; arguments; how to bend it (0 to 159: not at all); pieces; room.
 */
static void request(struct machine *m, struct input *in, uint32_t opcode)
{
	struct message msg = { .len = sizeof(struct fuse_in_header) };
	struct fuse_in_header h = { .opcode = opcode,
				    .unique = ++m->unique,
				    .nodeid = pick_node(m, in) };
	bool silent = opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
	uint8_t how;
	uint32_t room;
	unsigned q;

	memset(msg.data, 0, sizeof(h));
	arguments(m, in, &msg, opcode);
	h.len = msg.len;
	memcpy(msg.data, &h, sizeof(h));
	how = (uint8_t)take(in, 1);
	if (how >= 160) {
		unsigned n = how % 5;

		for (unsigned i = 0; i < n; i++) {
			uint16_t at = (uint16_t)take(in, 2);

			msg.data[at % msg.len] ^= (uint8_t)take(in, 1);
		}
		if (how % 3 == 0)
			msg.len = msg.len * (uint32_t)take(in, 1) / 256 + 1;
		if (how % 7 == 0) {
			/* All of it is there, but for what the header says. */
			h.len = (uint32_t)pick_number(in);
			memcpy(msg.data, &h.len, 4);
		}
	}
	q = how % 2 + 1;
	if (silent && how % 4 != 0)
		q = 0;
	room = (uint32_t)take(in, 1);
	room = silent && how < 200 ? 0 : room < 200 ? OUT_MAX : room < 230 ? 4096 : room - 224;
	gmem_write(&m->v.mem, IN_AT, msg.data, msg.len);
	gmem_zero(&m->v.mem, OUT_AT, 4096);
	{
		int64_t used = send_message(m, q, msg.len, 1 + how % 11, room);

		if (used < 0)
			start(m);
		else
			check_reply(m, used, room, &msg, how >= 160);
	}
}

static void init(struct machine *m)
{
	static const uint8_t plain[] = { 0, 41, 0, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0, 0 };
	struct input in = { .data = plain, .left = sizeof(plain) };

	request(m, &in, FUSE_INIT);
}

/* A reset in the midst of a request, or without one. */
static void reset(struct machine *m, struct input *in)
{
	struct vring_desc desc[2] = {
		{ .addr = IN_AT, .len = 80, .flags = VRING_DESC_F_NEXT, .next = 1 },
		{ .addr = OUT_AT, .len = OUT_MAX, .flags = VRING_DESC_F_WRITE },
	};

	if (take(in, 1) % 2 == 0) {
		gmem_write(&m->v.mem, RINGS(1), desc, sizeof(desc));
		publish(m, 1, 0);
		virtio_kick(m->v.vdev, 1);
	}
	start(m);
	if (take(in, 1) % 8 != 0)
		init(m);
}

static void operate(struct machine *m, struct input *in)
{
	uint8_t op = (uint8_t)take(in, 1);

	if (op < 53)
		request(m, in, op);
	else if (op < 230)
		request(m, in, 1 + op % 52);
	else if (op < 240)
		request(m, in, (uint32_t)take(in, 4));
	else if (op < 250)
		reset(m, in);
	else
		check_outside(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	struct machine *m = machine();

	fresh_share(m);
	vf_attach(&m->v, m->fs[take(&in, 1) % 4]);
	start(m);
	init(m);
	for (unsigned i = 0; i < STEPS_MAX && in.left > 0; i++)
		operate(m, &in);
	vf_detach(&m->v);
	CHECK(loop_run_once(m->v.loop, 0) == 0);
	check_outside(m);
	return 0;
}
