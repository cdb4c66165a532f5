// SPDX-License-Identifier: Apache-2.0
/*
 * Disk images: sizes, locks, requests beside a model in memory, overlays and what survives in
 * them. All of it by io_uring and by threads, and where the file system can, with O_DIRECT.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "devices/disk.h"
#include "devices/filelock.h"
#include "tests/unit/device_util.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define SECTORS 4096 /* of the test's images: 2 MiB */
#define BYTES	(SECTORS * 512ULL)
#define SLOTS	8

static char dir[64], path[96], ovl[96];
static struct err err;

static void nothing(void *owner)
{
	(void)owner;
}

/* --- Files --- */

static void make_file(const char *name, uint64_t size)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* Each sector of the image says where it is. */
static uint8_t image_byte(uint64_t at)
{
	return (uint8_t)(at / 512 * 7 + 1);
}

static void make_image(void)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	for (uint64_t at = 0; at < BYTES; at += 512) {
		uint8_t sector[512];

		memset(sector, image_byte(at), 512);
		ck_assert_uint_eq(fwrite(sector, 1, 512, f), 512);
	}
	ck_assert_int_eq(fclose(f), 0);
}

static uint8_t *new_model(void)
{
	uint8_t *model = malloc(BYTES);

	for (uint64_t at = 0; at < BYTES; at += 512)
		memset(model + at, image_byte(at), 512);
	return model;
}

static bool image_is_untouched(void)
{
	uint8_t *want = new_model(), *got = malloc(BYTES + 1);
	FILE *f = fopen(path, "r");
	bool same = fread(got, 1, BYTES + 1, f) == BYTES && memcmp(got, want, BYTES) == 0;

	fclose(f);
	free(want);
	free(got);
	return same;
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	log_set_level(LOG_ERROR);
	snprintf(dir, sizeof(dir), "%.40s/vmm-disk-XXXXXX", tmp != NULL ? tmp : "/var/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/image", dir);
	snprintf(ovl, sizeof(ovl), "%s/overlay", dir);
	make_image();
}

static void teardown(void)
{
	unlink(path);
	unlink(ovl);
	rmdir(dir);
}

/* --- Requests --- */

struct request {
	struct disk_req io;
	struct iovec iov[8];
	bool busy;
	int error;
};

static void done(struct disk_req *io, int error)
{
	struct request *r = container_of(io, struct request, io);

	ck_assert(r->busy);
	r->busy = false;
	r->error = error;
}

static struct disk *try_open(const char *name, bool ro, const char *overlay, unsigned how)
{
	struct disk_config cfg = {
		.path = name, .ro = ro, .overlay = overlay, .direct = how & 2, .threads = how & 1
	};

	err = (struct err)ERR_INIT;
	return disk_open(&cfg, nothing, NULL, &err);
}

static struct disk *open_disk(const char *overlay, unsigned how)
{
	struct disk *disk = try_open(path, false, overlay, how);

	ck_assert_msg(disk != NULL, "%s", err.msg);
	return disk;
}

static void submit(struct disk *disk, struct request *r, enum disk_op op, uint64_t offset,
		   void *data, uint64_t len, bool durable)
{
	r->io.op = op;
	r->io.durable = durable;
	r->io.offset = offset;
	r->io.len = len;
	if (data != NULL) {
		r->iov[0] = (struct iovec){ data, len };
		r->io.niov = 1;
	}
	r->io.iov = r->iov;
	r->io.done = done;
	r->busy = true;
	disk_submit(disk, &r->io);
}

static int io(struct disk *disk, enum disk_op op, uint64_t offset, void *data, uint64_t len)
{
	struct request r = { 0 };

	submit(disk, &r, op, offset, data, len, false);
	disk_drain(disk, false);
	ck_assert(!r.busy);
	ck_assert_uint_eq(disk_active(disk), 0);
	return r.error;
}

/* --- Against a model --- */

static uint64_t seed;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

struct slot {
	struct request req;
	uint8_t *data, *at;
	uint64_t offset, len;
};

/* One to three segments, of any length, or of whole pages. */
static void cut_segments(struct slot *s, bool aligned)
{
	uint64_t unit = aligned ? 4096 : 1, at = 0;
	unsigned n = 0;

	while (at < s->len && n < 3) {
		uint64_t len = n == 2 ? s->len - at : (1 + rnd((s->len - at) / unit)) * unit;

		s->req.iov[n++] = (struct iovec){ s->at + at, len };
		at += len;
	}
	s->req.io.niov = n;
}

/*
 * Each slot has stripes of its own all over the disk, so that requests in flight never share a
 * sector; but where stripes meet they share pages.
 */
static void slot_start(struct disk *disk, struct slot *s, unsigned n, uint8_t *model)
{
	static const enum disk_op ops[] = { DISK_READ,	DISK_READ, DISK_READ,	    DISK_WRITE,
					    DISK_WRITE, DISK_ZERO, DISK_ZERO_UNMAP, DISK_FLUSH };
	enum disk_op op = ops[rnd(sizeof(ops) / sizeof(ops[0]))];
	uint64_t stripe = 60 * 512, pos = rnd(60) * 512;
	bool aligned = rnd(2) == 0;

	s->offset = (rnd(BYTES / stripe / SLOTS) * SLOTS + n) * stripe + pos;
	s->len = (1 + rnd((stripe - pos) / 512)) * 512;
	s->at = s->data + (aligned ? 0 : rnd(500));
	if (aligned) {
		s->offset = (s->offset + 4095) & ~4095ULL;
		s->len &= ~4095ULL;
		if (s->offset - (s->offset / stripe * stripe) < pos || s->len == 0)
			op = DISK_FLUSH;
		else if (s->offset / stripe % SLOTS != n ||
			 (s->offset + s->len - 1) / stripe % SLOTS != n)
			op = DISK_FLUSH;
	}
	if (op == DISK_FLUSH)
		s->offset = s->len = 0;
	if (op == DISK_WRITE) {
		for (uint64_t i = 0; i < s->len; i += 512)
			memset(s->at + i, (int)rnd(256), 512);
		memcpy(model + s->offset, s->at, s->len);
	}
	if (op == DISK_READ)
		memset(s->at, 0xee, s->len);
	if (op == DISK_ZERO || op == DISK_ZERO_UNMAP)
		memset(model + s->offset, 0, s->len);
	cut_segments(s, aligned);
	submit(disk, &s->req, op, s->offset, NULL, s->len, rnd(4) == 0);
}

static void compare(struct disk *disk, const uint8_t *model)
{
	uint8_t *all = malloc(BYTES);

	ck_assert_int_eq(io(disk, DISK_READ, 0, all, BYTES), 0);
	for (uint64_t i = 0; i < BYTES; i += 512)
		ck_assert_msg(memcmp(all + i, model + i, 512) == 0, "sector %llu differs",
			      (unsigned long long)i / 512);
	free(all);
}

static void random_io(struct disk *disk, uint8_t *model, unsigned count)
{
	struct slot *slots = calloc(SLOTS, sizeof(*slots));

	for (unsigned n = 0; n < SLOTS; n++)
		slots[n].data = aligned_alloc(4096, 40960);
	for (unsigned i = 0; i < count; i++) {
		for (unsigned n = 0; n < SLOTS; n++) {
			struct slot *s = &slots[n];

			if (s->req.busy || rnd(2) == 0)
				continue;
			slot_start(disk, s, n, model);
		}
		if (rnd(3) == 0)
			disk_drain(disk, false);
		else
			disk_run(disk);
		for (unsigned n = 0; n < SLOTS; n++) {
			struct slot *s = &slots[n];

			if (s->req.busy)
				continue;
			ck_assert_msg(s->req.error == 0, "op %d: %s", s->req.io.op,
				      strerror(-s->req.error));
			/* What was read is still the slot's own, so the model has not moved. */
			if (s->len > 0 && s->req.io.op == DISK_READ)
				ck_assert_mem_eq(s->at, model + s->offset, s->len);
			s->len = 0;
		}
	}
	disk_drain(disk, false);
	for (unsigned n = 0; n < SLOTS; n++)
		free(slots[n].data);
	free(slots);
	compare(disk, model);
}

/* Can this file system do O_DIRECT? */
static bool can(unsigned how)
{
	int fd;

	if (!(how & 2))
		return true;
	fd = open(path, O_RDONLY | O_DIRECT);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

START_TEST(model_plain)
{
	uint8_t *model = new_model();
	struct disk *disk;

	if (can((unsigned)_i)) {
		seed = 0x9e3779b97f4a7c15 + (unsigned)_i;
		disk = open_disk(NULL, (unsigned)_i);
		compare(disk, model);
		random_io(disk, model, 400);
		disk_close(disk);
		disk = open_disk(NULL, 0);
		compare(disk, model);
		disk_close(disk);
	}
	free(model);
}
END_TEST

START_TEST(model_overlay)
{
	uint8_t *model = new_model();
	struct disk *disk;

	if (can((unsigned)_i)) {
		seed = 0x9e3779b97f4a7c15 + (unsigned)_i;
		for (unsigned round = 0; round < 3; round++) {
			disk = open_disk(ovl, (unsigned)_i);
			compare(disk, model);
			random_io(disk, model, 150);
			disk_close(disk);
		}
		ck_assert(image_is_untouched());
	}
	free(model);
}
END_TEST

START_TEST(model_temporary)
{
	uint8_t *model = new_model();
	struct disk *disk = open_disk("", (unsigned)_i);

	seed = 42;
	random_io(disk, model, 200);
	disk_close(disk);
	ck_assert(image_is_untouched());
	/* Gone, and the image is as it was. */
	disk = open_disk("", (unsigned)_i);
	free(model);
	model = new_model();
	compare(disk, model);
	disk_close(disk);
	free(model);
	/* Nothing but the image is in its folder, in case that is where temporary files go. */
	ck_assert_int_ne(rmdir(dir), 0);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
	ck_assert_int_eq(mkdir(dir, 0700), 0);
}
END_TEST

/* --- Discard and zeroes --- */

START_TEST(room_is_given_back)
{
	static uint8_t buf[65536];
	struct stat before, after;
	struct disk *disk = open_disk(NULL, (unsigned)_i);

	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert_int_eq(io(disk, DISK_DISCARD, 65536, NULL, 262144), 0);
	ck_assert_int_eq(io(disk, DISK_ZERO_UNMAP, 1048576, NULL, 262144), 0);
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_int_eq(before.st_size, after.st_size);
	ck_assert_int_eq(before.st_blocks - after.st_blocks, 524288 / 512);
	ck_assert_int_eq(io(disk, DISK_READ, 1048576, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		ck_assert_uint_eq(buf[i], 0);
	ck_assert_int_eq(io(disk, DISK_READ, 0, buf, sizeof(buf)), 0);
	ck_assert_uint_eq(buf[65535], image_byte(65535));
	/* To zero without unmapping takes the room back (or writes, where that cannot be). */
	ck_assert_int_eq(io(disk, DISK_ZERO, 1048576, NULL, 262144), 0);
	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert_int_ge(before.st_blocks - after.st_blocks, 262144 / 512);
	disk_close(disk);
}
END_TEST

START_TEST(discard_in_overlay)
{
	static uint8_t buf[65536];
	struct disk *disk = open_disk(ovl, 0);

	ck_assert_int_eq(io(disk, DISK_DISCARD, 512, NULL, 1024), 0);
	ck_assert_int_eq(io(disk, DISK_READ, 0, buf, 4096), 0);
	ck_assert_uint_eq(buf[511], image_byte(511));
	ck_assert_uint_eq(buf[512], 0);
	ck_assert_uint_eq(buf[1535], 0);
	ck_assert_uint_eq(buf[1536], image_byte(1536));
	ck_assert_int_eq(io(disk, DISK_FLUSH, 0, NULL, 0), 0);
	disk_close(disk);
	disk = open_disk(ovl, 0);
	ck_assert_int_eq(io(disk, DISK_READ, 0, buf, 4096), 0);
	ck_assert_uint_eq(buf[512], 0);
	ck_assert_uint_eq(buf[1536], image_byte(1536));
	disk_close(disk);
	ck_assert(image_is_untouched());
}
END_TEST

/* --- Errors --- */

START_TEST(cut_short)
{
	static uint8_t buf[8192];
	struct disk *disk = open_disk(NULL, (unsigned)_i);

	ck_assert_int_eq(truncate(path, BYTES - 4096), 0);
	ck_assert_int_eq(io(disk, DISK_READ, BYTES - 4096, buf, 4096), -EIO);
	ck_assert_int_eq(io(disk, DISK_READ, BYTES - 8192, buf, 8192), -EIO);
	ck_assert_int_eq(io(disk, DISK_READ, BYTES - 8192, buf, 4096), 0);
	disk_close(disk);
}
END_TEST

START_TEST(no_room)
{
	struct rlimit old, limit;
	static uint8_t buf[4096];
	struct disk *disk;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){ 1 << 20, old.rlim_max };
	disk = open_disk(NULL, (unsigned)_i);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	/* The first half fits, and is written: a short write, continued, fails. */
	ck_assert_int_eq(io(disk, DISK_WRITE, (1 << 20) - 2048, buf, 4096), -EFBIG);
	ck_assert_int_eq(io(disk, DISK_WRITE, 1 << 20, buf, 4096), -EFBIG);
	ck_assert_int_eq(io(disk, DISK_WRITE, 0, buf, 4096), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	ck_assert_int_eq(io(disk, DISK_READ, (1 << 20) - 2048, buf, 4096), 0);
	ck_assert_uint_eq(buf[0], 0);
	ck_assert_uint_eq(buf[2048], image_byte(1 << 20));
	disk_close(disk);
}
END_TEST

/* What failed is not in the overlay. */
START_TEST(no_room_in_overlay)
{
	struct rlimit old, limit;
	static uint8_t buf[4096];
	struct disk *disk = open_disk(ovl, (unsigned)_i);

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){ 1 << 20, old.rlim_max };
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(io(disk, DISK_WRITE, 1 << 20, buf, 4096), -EFBIG);
	ck_assert_int_eq(io(disk, DISK_FLUSH, 0, NULL, 0), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	ck_assert_int_eq(io(disk, DISK_READ, 1 << 20, buf, 4096), 0);
	ck_assert_uint_eq(buf[0], image_byte(1 << 20));
	disk_close(disk);
}
END_TEST

/* Parts not started are given up, and those started are waited for. */
START_TEST(cancelled)
{
	static struct request reqs[600];
	static uint8_t buf[4096];
	unsigned given_up = 0;
	struct disk *disk = open_disk((_i & 4) ? ovl : NULL, (unsigned)_i & 3);

	for (unsigned i = 0; i < 600; i++)
		submit(disk, &reqs[i], i % 5 == 4 ? DISK_FLUSH : DISK_WRITE,
		       i % 5 == 4 ? 0 : i * 512, i % 5 == 4 ? NULL : buf, i % 5 == 4 ? 0 : 512,
		       i % 7 == 0);
	disk_run(disk);
	disk_drain(disk, true);
	for (unsigned i = 0; i < 600; i++) {
		ck_assert(!reqs[i].busy);
		ck_assert(reqs[i].error == 0 || reqs[i].error == -ECANCELED);
		given_up += reqs[i].error != 0;
	}
	ck_assert_uint_le(given_up, 600);
	/* And it goes on. */
	ck_assert_int_eq(io(disk, DISK_WRITE, 0, buf, 512), 0);
	disk_close(disk);
}
END_TEST

/* --- Sizes --- */

START_TEST(sizes)
{
	static uint8_t buf[1024];
	struct disk *disk;

	make_file(path, 0);
	ck_assert_ptr_null(try_open(path, false, NULL, 0));
	ck_assert_ptr_nonnull(strstr(err.msg, "is empty"));
	make_file(path, 1000);
	ck_assert_ptr_null(try_open(path, false, NULL, 0));
	ck_assert_ptr_nonnull(strstr(err.msg, "its 1000 bytes are not a multiple of 512"));
	/* Only read, the last sector ends in zeroes. */
	make_image();
	ck_assert_int_eq(truncate(path, 1000), 0);
	disk = try_open(path, true, NULL, (unsigned)_i);
	ck_assert_msg(disk != NULL, "%s", err.msg);
	ck_assert_uint_eq(disk_size(disk), 1024);
	memset(buf, 0xee, sizeof(buf));
	ck_assert_int_eq(io(disk, DISK_READ, 0, buf, 1024), 0);
	ck_assert_uint_eq(buf[999], image_byte(999));
	ck_assert_uint_eq(buf[1000], 0);
	ck_assert_uint_eq(buf[1023], 0);
	ck_assert_int_eq(io(disk, DISK_FLUSH, 0, NULL, 0), 0);
	/* It is not the whole last sector: somebody cut the file. */
	ck_assert_int_eq(truncate(path, 600), 0);
	ck_assert_int_eq(io(disk, DISK_READ, 512, buf, 512), -EIO);
	disk_close(disk);
	disk = open_disk("", 0);
	ck_assert_uint_eq(disk_size(disk), 1024);
	disk_close(disk);
}
END_TEST

START_TEST(resized)
{
	static uint8_t buf[512];
	struct disk *disk = open_disk(NULL, 0);

	ck_assert(!disk_rescan(disk, "x"));
	ck_assert_int_eq(truncate(path, 2 * BYTES), 0);
	ck_assert(disk_rescan(disk, "x"));
	ck_assert_uint_eq(disk_size(disk), 2 * BYTES);
	ck_assert_int_eq(io(disk, DISK_READ, 2 * BYTES - 512, buf, 512), 0);
	ck_assert_int_eq(truncate(path, 5120 + 100), 0);
	ck_assert(disk_rescan(disk, "x"));
	ck_assert_uint_eq(disk_size(disk), 5120);
	ck_assert_int_eq(truncate(path, 5120 + 200), 0);
	ck_assert(!disk_rescan(disk, "x"));
	disk_close(disk);
}
END_TEST

/* --- Locks and other refusals --- */

static void refused(const char *name, bool ro, const char *overlay, const char *why)
{
	struct disk *disk = try_open(name, ro, overlay, 0);

	ck_assert_msg(disk == NULL, "%s was opened", name);
	ck_assert_msg(strstr(err.msg, why) != NULL, "'%s' not in '%s'", why, err.msg);
}

START_TEST(locks)
{
	struct disk *a = open_disk(NULL, 0), *b, *c;

	refused(path, false, NULL, "is in use");
	refused(path, true, NULL, "is being written");
	refused(path, false, "", "is being written");
	disk_close(a);
	a = try_open(path, true, NULL, 0);
	b = try_open(path, true, NULL, 0);
	c = try_open(path, false, ovl, 0);
	ck_assert(a != NULL && b != NULL && c != NULL);
	refused(path, false, NULL, "is in use");
	refused(path, false, ovl, "overlay");
	ck_assert_ptr_nonnull(strstr(err.msg, "is in use"));
	disk_close(b);
	disk_close(c);
	refused(path, false, NULL, "is in use");
	disk_close(a);
	a = open_disk(NULL, 0);
	disk_close(a);
}
END_TEST

/* Who was killed with I/O in flight holds its lock for a moment longer: here 50 ms. */
START_TEST(lock_comes_late)
{
	struct timespec moment = { .tv_nsec = 50000000 };
	struct disk *disk;
	int told[2];
	char c;
	pid_t child;

	ck_assert_int_eq(pipe(told), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (file_lock(open(path, O_RDWR), true, "", &err) < 0 ||
		    write(told[1], "x", 1) != 1)
			_exit(1);
		nanosleep(&moment, NULL);
		_exit(0);
	}
	ck_assert_int_eq(read(told[0], &c, 1), 1);
	disk = try_open(path, false, NULL, 0);
	ck_assert_msg(disk != NULL, "%s", err.msg);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	disk_close(disk);
	close(told[0]);
	close(told[1]);
}
END_TEST

START_TEST(refusals)
{
	char fifo[128];

	refused("/nonexistent/image", false, NULL, "No such file");
	refused(dir, true, NULL, "is neither a file nor a block device");
	refused("/dev/null", false, NULL, "is neither a file nor a block device");
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	refused(fifo, true, NULL, "is neither a file nor a block device");
	unlink(fifo);
	refused(path, false, "/nonexistent/overlay", "overlay /nonexistent/overlay: cannot open");
	refused(path, false, path, "is in use");
	ck_assert_int_eq(chmod(path, 0400), 0);
	if (geteuid() != 0)
		refused(path, false, NULL, "cannot open it for writing (ro: only read it)");
}
END_TEST

/* --- Kept overlays --- */

static void poke(const char *name, off_t at, uint8_t byte)
{
	int fd = open(name, O_WRONLY);

	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

START_TEST(overlay_refusals)
{
	static uint8_t buf[512];
	struct timespec times[2];
	struct disk *disk;
	struct stat st;

	disk = open_disk(ovl, 0);
	ck_assert_int_eq(io(disk, DISK_WRITE, 0, buf, 512), 0);
	disk_close(disk);
	poke(ovl, 0, 'X');
	refused(path, false, ovl, "is not an overlay");
	poke(ovl, 0, 'V');
	poke(ovl, 8, 2);
	refused(path, false, ovl, "has format version 2, known is 1");
	poke(ovl, 8, 1);
	poke(ovl, 100, 1);
	refused(path, false, ovl, "the header is damaged");
	poke(ovl, 100, 0);
	ck_assert_int_eq(stat(path, &st), 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	times[1].tv_nsec = (times[1].tv_nsec + 1) % 1000000000;
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
	refused(path, false, ovl, "the image was changed");
	times[1] = st.st_mtim;
	ck_assert_int_eq(truncate(path, BYTES + 512), 0);
	refused(path, false, ovl, "belongs to an image of 2097152 bytes, this one has 2097664");
	ck_assert_int_eq(truncate(path, BYTES), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
	disk = open_disk(ovl, 0);
	disk_close(disk);
	ck_assert_int_eq(stat(ovl, &st), 0);
	ck_assert_int_eq(truncate(ovl, st.st_size - 1), 0);
	refused(path, false, ovl, "is cut short");
	make_file(ovl, 5);
	refused(path, false, ovl, "is not an overlay");
	/* An empty file may become one (mktemp). */
	make_file(ovl, 0);
	disk = open_disk(ovl, 0);
	disk_close(disk);
}
END_TEST

/* Every bit set, also those past the end: all comes from the overlay, nothing from outside it. */
START_TEST(overlay_hostile_bitmap)
{
	static uint8_t ff[4096], buf[4096];
	struct disk *disk = open_disk(ovl, 0);
	int fd;

	disk_close(disk);
	memset(ff, 0xff, sizeof(ff));
	fd = open(ovl, O_WRONLY);
	ck_assert_int_eq(pwrite(fd, ff, sizeof(ff), 4096), sizeof(ff));
	close(fd);
	disk = open_disk(ovl, 0);
	ck_assert_int_eq(io(disk, DISK_READ, BYTES - 4096, buf, 4096), 0);
	ck_assert_uint_eq(buf[4095], 0);
	disk_close(disk);
}
END_TEST

/* In a child that is killed: write, flush, write more. */
static void write_and_die(bool durable, unsigned how)
{
	static uint8_t buf[8192];
	struct disk *disk = open_disk(ovl, how);
	struct request r = { 0 };

	memset(buf, 0xaa, sizeof(buf));
	submit(disk, &r, DISK_WRITE, 512, buf, sizeof(buf), durable);
	disk_drain(disk, false);
	if (!durable)
		io(disk, DISK_FLUSH, 0, NULL, 0);
	io(disk, DISK_WRITE, 1 << 20, buf, sizeof(buf));
	kill(getpid(), SIGKILL);
}

START_TEST(killed)
{
	static uint8_t buf[8192];
	struct disk *disk;
	pid_t pid = fork();
	int status;

	if (pid == 0)
		write_and_die(_i & 2, (unsigned)_i & 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	disk = open_disk(ovl, 0);
	ck_assert_int_eq(io(disk, DISK_READ, 512, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		ck_assert_uint_eq(buf[i], 0xaa);
	/* What was not flushed is the image's: no mark was written before its time. */
	ck_assert_int_eq(io(disk, DISK_READ, 1 << 20, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		ck_assert_uint_eq(buf[i], image_byte((1 << 20) + i));
	disk_close(disk);
}
END_TEST

/* Writes go on while a flush is under way; each flush covers what was done before it. */
START_TEST(flush_under_way)
{
	static struct request w[64], f[64];
	static uint8_t buf[64][512];
	pid_t pid = fork();
	struct disk *disk;
	int status;

	if (pid == 0) {
		disk = open_disk(ovl, (unsigned)_i);
		for (unsigned i = 0; i < 64; i++) {
			memset(buf[i], (int)(i + 1), 512);
			submit(disk, &w[i], DISK_WRITE, i * 32768, buf[i], 512, false);
			while (w[i].busy) {
				disk_run(disk);
				usleep(50);
			}
			submit(disk, &f[i], DISK_FLUSH, 0, NULL, 0, false);
			disk_run(disk);
		}
		disk_drain(disk, false);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	disk = open_disk(ovl, 0);
	for (unsigned i = 0; i < 64; i++) {
		ck_assert_int_eq(io(disk, DISK_READ, i * 32768, buf[0], 512), 0);
		ck_assert_uint_eq(buf[0][100], i + 1);
	}
	disk_close(disk);
}
END_TEST

/* A disk far larger than what is in it, so that the bitmap has many pages. */
START_TEST(large)
{
	static uint8_t buf[4096], back[4096];
	uint64_t size = 3ULL << 40, at;
	struct disk *disk;
	struct stat st;

	make_file(path, size);
	disk = open_disk(ovl, 0);
	ck_assert_uint_eq(disk_size(disk), size);
	for (unsigned i = 0; i < 40; i++) {
		at = (size / 40 * i) & ~511ULL;
		memset(buf, (int)i + 1, sizeof(buf));
		ck_assert_int_eq(io(disk, DISK_WRITE, at, buf, sizeof(buf)), 0);
	}
	ck_assert_int_eq(io(disk, DISK_FLUSH, 0, NULL, 0), 0);
	disk_close(disk);
	ck_assert_int_eq(stat(ovl, &st), 0);
	ck_assert_int_lt(st.st_blocks * 512, 4 << 20);
	disk = open_disk(ovl, 0);
	for (unsigned i = 0; i < 40; i++) {
		at = (size / 40 * i) & ~511ULL;
		memset(buf, (int)i + 1, sizeof(buf));
		ck_assert_int_eq(io(disk, DISK_READ, at, back, sizeof(back)), 0);
		ck_assert_mem_eq(buf, back, sizeof(buf));
		ck_assert_int_eq(io(disk, DISK_READ, at + 4096, back, sizeof(back)), 0);
		ck_assert_uint_eq(back[0], 0);
	}
	disk_close(disk);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("disk");
	TCase *tc = tcase_create("disk");

	tcase_set_timeout(tc, 240);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, model_plain, 0, 4);
	tcase_add_loop_test(tc, model_overlay, 0, 4);
	tcase_add_loop_test(tc, model_temporary, 0, 2);
	tcase_add_loop_test(tc, room_is_given_back, 0, 2);
	tcase_add_test(tc, discard_in_overlay);
	tcase_add_loop_test(tc, cut_short, 0, 2);
	tcase_add_loop_test(tc, no_room, 0, 2);
	tcase_add_loop_test(tc, no_room_in_overlay, 0, 2);
	tcase_add_loop_test(tc, cancelled, 0, 6);
	tcase_add_loop_test(tc, sizes, 0, 2);
	tcase_add_test(tc, resized);
	tcase_add_test(tc, locks);
	tcase_add_test(tc, lock_comes_late);
	tcase_add_test(tc, refusals);
	tcase_add_test(tc, overlay_refusals);
	tcase_add_test(tc, overlay_hostile_bitmap);
	tcase_add_loop_test(tc, killed, 0, 4);
	tcase_add_loop_test(tc, flush_under_way, 0, 2);
	tcase_add_test(tc, large);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
