// SPDX-License-Identifier: Apache-2.0
/*
 * The memory balloon: Virtual I/O Device (VIRTIO) 1.2, section 5.5.
 *
 * Theory of operation. Three ways lead memory back to the host; each ends in gmem_discard(), which
 * takes the pages away at once and lets zeroes come when the guest touches them again:
 *
 * - inflating: the driver takes pages from its system until it has `num_pages` of them, and tells
 *   their numbers. It may use them again at any time (MUST_TELL_HOST is not offered), so
 *   deflating needs nothing done here. Numbers that follow each other are given back together.
 * - reporting: the driver names free memory now and then by buffers that lie in it, and does
 *   not use it before they come back (5.5.6.7).
 * - hinting: on demand, a round, it names all free memory at once (5.5.6.5). A round begins with
 *   a new command id in the configuration, which the driver sends back before the first page, and
 *   ends with the id STOP from it. Pages that come outside the round we are in are late ones of
 *   another, and stay. The driver keeps the pages until the id is DONE.
 *
 * A driver that fills free pages with a pattern, and looks for that when it uses them, says so
 * with PAGE_POISON and the pattern. Zeroes would be taken for corruption, so free memory then
 * stays where it is, unless the pattern is zero (init_on_free). Inflating is no matter: what
 * was in the balloon is filled again when it is freed.
 *
 * Queues (5.5.2) have no fixed numbers. Those of features that were not negotiated do not exist,
 * and the ones behind them move up: that is what Linux and QEMU do.
 *
 * Statistics go the other way round (5.5.6.3): the driver leaves a buffer with us, filled; giving
 * it back asks for a fresh one. So one buffer is always ours; a driver that sends more gets
 * them back unread.
 *
 * Work in a pass is bounded by what is read and what is given back; a buffer that holds more is
 * put back and gone on with in the next pass. The driver may change it meanwhile, which
 * is its own trouble, as are pages in use, outside of RAM or named twice.
 *
 * Limits: pages of the host's huge page pool are not given back: another process could take them,
 * and the guest would die when it needs one again. With hinting, Linux may take a page back
 * under memory pressure before its hint was read here, and then finds it empty; the protocol has
 * no answer to that, so hinting is for hosts that can live with it. What is mapped from a kernel
 * or initrd file stays.
 *
 * #syscalls: fallocate madvise
 * #syscalls main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/virtio_balloon.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define QUEUE_SIZE   256
#define QUEUES_MAX   5
#define PCI_CLASS    0xff0000 /* none of the classes there are */
#define PAGE	     (1ULL << VIRTIO_BALLOON_PFN_SHIFT)
#define PASS_CHAINS  64
#define PASS_PFNS    16384	   /* numbers read */
#define PASS_CALLS   512	   /* pieces given back */
#define PASS_BYTES   (64ULL << 20) /* of free memory */
#define READ_PFNS    256	   /* at once: what Linux sends in one buffer */
#define STATS_BYTES  (64 * sizeof(struct virtio_balloon_stat)) /* looked at */
#define STATS_MIN_NS 100000000ULL

#define FEATURE(bit) (1ULL << VIRTIO_BALLOON_F_##bit)

enum role { INFLATE, DEFLATE, STATS, HINT, REPORT, NO_ROLE };

struct balloon_options {
	uint64_t size, stats; /* bytes, ns */
	bool oom, reporting, hinting;
};

struct balloon {
	struct virtio_device vdev;
	struct virtio_balloon_config config;
	uint64_t discarded;

	/* What is left of this pass, and how far into its first buffer each queue is. */
	unsigned pfns, calls;
	uint64_t bytes;
	size_t progress[QUEUES_MAX];

	uint64_t stats_ns; /* between two of them; 0: none */
	struct loop_timer timer;
	bool held, asked; /* the driver's buffer is here; by this timer it is due */
	struct virtqueue_chain stats_chain;
	struct virtio_balloon_stats stats;

	struct {
		uint32_t last;	 /* id of the last round */
		uint32_t guest;	 /* what the driver said last */
		bool release;	 /* DONE when it has named all */
		uint64_t before; /* b->discarded when it began */
	} hint;

	struct iovec iov[VIRTQUEUE_IOV(QUEUE_SIZE)];
};

static const char *const stat_names[BALLOON_NSTATS] = {
	[BALLOON_SWAP_IN] = "swap-in",
	[BALLOON_SWAP_OUT] = "swap-out",
	[BALLOON_MAJOR_FAULTS] = "major-faults",
	[BALLOON_MINOR_FAULTS] = "minor-faults",
	[BALLOON_FREE] = "free-memory",
	[BALLOON_TOTAL] = "total-memory",
	[BALLOON_AVAILABLE] = "available-memory",
	[BALLOON_CACHES] = "disk-caches",
	[BALLOON_HUGETLB_ALLOCS] = "hugetlb-allocations",
	[BALLOON_HUGETLB_FAILS] = "hugetlb-failures",
	[BALLOON_OOM_KILLS] = "oom-kills",
	[BALLOON_ALLOC_STALLS] = "alloc-stalls",
	[BALLOON_ASYNC_SCANS] = "async-scans",
	[BALLOON_DIRECT_SCANS] = "direct-scans",
	[BALLOON_ASYNC_RECLAIMS] = "async-reclaims",
	[BALLOON_DIRECT_RECLAIMS] = "direct-reclaims",
};

/* Those that are amounts of memory. */
#define STATS_IN_BYTES                                                                             \
	(1u << BALLOON_SWAP_IN | 1u << BALLOON_SWAP_OUT | 1u << BALLOON_FREE |                     \
	 1u << BALLOON_TOTAL | 1u << BALLOON_AVAILABLE | 1u << BALLOON_CACHES |                    \
	 1u << BALLOON_ASYNC_SCANS | 1u << BALLOON_DIRECT_SCANS | 1u << BALLOON_ASYNC_RECLAIMS |   \
	 1u << BALLOON_DIRECT_RECLAIMS)

static struct balloon *to_balloon(struct virtio_device *vdev)
{
	return container_of(vdev, struct balloon, vdev);
}

/* What queue @q is for, by what was negotiated. */
static enum role role_of(const struct balloon *b, unsigned q)
{
	static const struct {
		enum role role;
		unsigned feature;
	} optional[] = {
		{ STATS, VIRTIO_BALLOON_F_STATS_VQ },
		{ HINT, VIRTIO_BALLOON_F_FREE_PAGE_HINT },
		{ REPORT, VIRTIO_BALLOON_F_REPORTING },
	};
	unsigned next = DEFLATE + 1;

	if (q <= DEFLATE)
		return (enum role)q;
	for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
		if (virtio_has(&b->vdev, optional[i].feature) && next++ == q)
			return optional[i].role;
	return NO_ROLE;
}

/* The queue for @role; -1: there is none. */
static int queue_of(const struct balloon *b, enum role role)
{
	for (unsigned q = 0; q < b->vdev.nqueues; q++)
		if (role_of(b, q) == role)
			return (int)q;
	return -1;
}

/* --- Giving back --- */

static void begin_pass(struct balloon *b)
{
	b->pfns = PASS_PFNS;
	b->calls = PASS_CALLS;
	b->bytes = PASS_BYTES;
}

/* [gpa, gpa + len): what of it is whole pages of RAM. The rest is a lie, and no harm. */
static void give_back(struct balloon *b, uint64_t gpa, uint64_t len)
{
	int r = gmem_discard(b->vdev.mem, gpa, len);

	b->calls--;
	if (r == 0)
		b->discarded += len;
	else if (r != -EFAULT)
		log_limited(LOG_WARN, "%s: cannot give memory back: %s", b->vdev.name,
			    strerrordesc_np(-r));
}

/* Pages @first and @n - 1 after it; numbers are the driver's, so nothing here may wrap. */
static void give_back_pages(struct balloon *b, uint32_t first, uint32_t n)
{
	if (n > 0)
		give_back(b, (uint64_t)first << VIRTIO_BALLOON_PFN_SHIFT, n * PAGE);
}

/*
 * Does the first region with @gpa hold @len bytes from there? Runs of pages may not cross from
 * one region to the next, or gmem_discard() would refuse them as a whole.
 */
static bool in_one_region(const struct balloon *b, uint32_t first, uint32_t n)
{
	return gmem_ptr(b->vdev.mem, (uint64_t)first << VIRTIO_BALLOON_PFN_SHIFT, n * PAGE) != NULL;
}

/* A number was read: it makes the run longer, or ends it. */
static void add_page(struct balloon *b, uint32_t *first, uint32_t *n, uint32_t pfn)
{
	if (*n > 0 && pfn - *first == *n && in_one_region(b, *first, *n + 1)) {
		(*n)++;
	} else if (*n > 0 && *first - pfn == 1 && in_one_region(b, pfn, *n + 1)) {
		/* Linux takes them from its lists in either direction. */
		*first = pfn;
		(*n)++;
	} else {
		give_back_pages(b, *first, *n);
		*first = pfn;
		*n = 1;
	}
}

/* 5.5.6.1: numbers of pages. False: not all of them yet. */
static bool inflate(struct balloon *b, unsigned q, struct virtqueue_cursor *c)
{
	uint32_t first = 0, n = 0;

	virtqueue_skip(c, b->progress[q]);
	while (c->left >= sizeof(uint32_t) && b->pfns >= READ_PFNS && b->calls > READ_PFNS) {
		uint32_t pfn[READ_PFNS];
		size_t want = c->left < sizeof(pfn) ? c->left / 4 * 4 : sizeof(pfn);

		virtqueue_read(c, pfn, want);
		for (size_t i = 0; i < want / 4; i++)
			add_page(b, &first, &n, le32toh(pfn[i]));
		b->pfns -= (unsigned)(want / 4);
	}
	give_back_pages(b, first, n);
	if (c->left >= sizeof(uint32_t)) {
		b->progress[q] = c->done;
		return false;
	}
	b->progress[q] = 0;
	return true;
}

/* Free memory: the buffers themselves. False: not all of it yet. */
static bool free_memory(struct balloon *b, unsigned q, const struct virtqueue_cursor *c)
{
	size_t skip = b->progress[q], done = 0;

	/* The cursor does not move: nothing was written as far as the driver is concerned. */
	for (unsigned i = 0; i < c->n; i++) {
		uint8_t *base = c->iov[i].iov_base;
		size_t len = c->iov[i].iov_len;
		uint64_t gpa;

		if (skip >= len) {
			skip -= len;
			done += len;
			continue;
		}
		base += skip;
		len -= skip;
		done += skip;
		skip = 0;
		while (len > 0) {
			size_t piece = len;

			if (b->bytes == 0 || b->calls == 0) {
				b->progress[q] = done;
				return false;
			}
			if (piece > b->bytes)
				piece = b->bytes;
			if (gmem_gpa(b->vdev.mem, base, &gpa))
				give_back(b, gpa, piece);
			base += piece;
			len -= piece;
			done += piece;
			b->bytes -= piece;
		}
	}
	b->progress[q] = 0;
	return true;
}

/* Would the driver mind zeroes in its free memory? */
static bool poisoned(const struct balloon *b)
{
	return virtio_has(&b->vdev, VIRTIO_BALLOON_F_PAGE_POISON) && b->config.poison_val != 0;
}

/* --- Hinting --- */

static uint32_t hint_cmd(const struct balloon *b)
{
	return le32toh(b->config.free_page_hint_cmd_id);
}

static void hint_set_cmd(struct balloon *b, uint32_t cmd)
{
	b->config.free_page_hint_cmd_id = htole32(cmd);
	virtio_config_changed(&b->vdev);
}

/* 5.5.6.5: an id, or pages, or (no driver does that) both. */
static bool hint(struct balloon *b, unsigned q, struct virtqueue_chain *chain)
{
	uint32_t cmd;

	if (chain->readable.left > 0 && b->progress[q] == 0) {
		if (virtqueue_read(&chain->readable, &cmd, sizeof(cmd)) < sizeof(cmd)) {
			virtio_fail(&b->vdev, "queue %u: a command id of less than 4 bytes", q);
			return true;
		}
		cmd = le32toh(cmd);
		/* It has named all there was, unless it stopped because we had told it to. */
		if (cmd == VIRTIO_BALLOON_CMD_ID_STOP && b->hint.guest == hint_cmd(b) &&
		    b->hint.guest != VIRTIO_BALLOON_CMD_ID_STOP) {
			log_limited(LOG_INFO, "%s: the guest has named its free memory, %llu MiB",
				    b->vdev.name,
				    (unsigned long long)(b->discarded - b->hint.before) >> 20);
			if (b->hint.release)
				hint_set_cmd(b, VIRTIO_BALLOON_CMD_ID_DONE);
		}
		b->hint.guest = cmd;
	}
	if (poisoned(b) || b->hint.guest <= VIRTIO_BALLOON_CMD_ID_DONE ||
	    b->hint.guest != hint_cmd(b)) {
		b->progress[q] = 0;
		return true;
	}
	return free_memory(b, q, &chain->writable);
}

static void hint_begin(struct balloon *b, bool release)
{
	b->hint.last++;
	if (b->hint.last <= VIRTIO_BALLOON_CMD_ID_DONE)
		b->hint.last = VIRTIO_BALLOON_CMD_ID_DONE + 1;
	b->hint.release = release;
	b->hint.before = b->discarded;
	hint_set_cmd(b, b->hint.last);
}

int virtio_balloon_hint_start(struct virtio_device *vdev, bool release, struct err *err)
{
	struct balloon *b = to_balloon(vdev);
	int r = 0;

	pthread_mutex_lock(&vdev->lock);
	if (!virtio_live(vdev) || !virtio_has(vdev, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		r = err_set(err, ENOTSUP, "balloon: no hinting: %s",
			    (vdev->features & FEATURE(FREE_PAGE_HINT)) == 0
				    ? "it was not asked for (--balloon hinting)"
				    : "the guest has no driver for it (yet)");
	else
		hint_begin(b, release);
	pthread_mutex_unlock(&vdev->lock);
	return r;
}

int virtio_balloon_hint_stop(struct virtio_device *vdev, struct err *err)
{
	struct balloon *b = to_balloon(vdev);
	int r = 0;

	pthread_mutex_lock(&vdev->lock);
	if (!virtio_live(vdev) || hint_cmd(b) == VIRTIO_BALLOON_CMD_ID_STOP)
		r = err_set(err, EINVAL, "balloon: there is no round of hinting to be stopped");
	else if (hint_cmd(b) != VIRTIO_BALLOON_CMD_ID_DONE)
		hint_set_cmd(b, VIRTIO_BALLOON_CMD_ID_DONE);
	pthread_mutex_unlock(&vdev->lock);
	return r;
}

/* --- Statistics --- */

static void log_stats(const struct balloon *b)
{
	char text[LOG_LINE_MAX * 3 / 4];
	int n = 0;

	for (unsigned i = 0; i < BALLOON_NSTATS && n < (int)sizeof(text); i++) {
		bool bytes = (STATS_IN_BYTES >> i & 1) != 0;

		if ((b->stats.known >> i & 1) != 0)
			n += snprintf(text + n, sizeof(text) - (size_t)n, ", %s %llu%s",
				      stat_names[i],
				      (unsigned long long)b->stats.value[i] >> (bytes ? 10 : 0),
				      bytes ? " KiB" : "");
	}
	log_info("%s: target %llu KiB, actual %llu KiB%s", b->vdev.name,
		 (unsigned long long)le32toh(b->config.num_pages) * (PAGE >> 10),
		 (unsigned long long)le32toh(b->config.actual) * (PAGE >> 10), n > 0 ? text : "");
}

static void read_stats(struct balloon *b)
{
	struct virtqueue_cursor *c = &b->stats_chain.readable;
	struct virtio_balloon_stat stat;

	b->stats = (struct virtio_balloon_stats){ .time_ns = loop_now_ns() };
	while (c->done < STATS_BYTES && virtqueue_read(c, &stat, sizeof(stat)) == sizeof(stat)) {
		unsigned tag = le16toh(stat.tag);

		if (tag >= BALLOON_NSTATS)
			continue;
		b->stats.known |= 1u << tag;
		b->stats.value[tag] = le64toh(stat.val);
	}
	/* By the timer, so that the guest does not decide how much is logged. */
	if (b->asked && log_enabled(LOG_INFO))
		log_stats(b);
	b->asked = false;
}

static void stats_kick(struct balloon *b, unsigned q)
{
	struct virtqueue *vq = virtio_vq(&b->vdev, q);
	unsigned n = 0;

	if (vq == NULL)
		return;
	do {
		struct virtqueue_chain chain;

		virtqueue_disable_kicks(vq);
		while (n < PASS_CHAINS && virtio_pop(&b->vdev, q, &chain, b->iov)) {
			n++;
			if (b->held) {
				virtio_push(&b->vdev, q, &chain);
				continue;
			}
			b->held = true;
			b->stats_chain = chain;
			b->stats_chain.at = 0; /* it is kept until we want to know more */
			read_stats(b);
		}
		virtio_interrupt(&b->vdev, q);
		if (!virtio_live(&b->vdev))
			return;
		if (n == PASS_CHAINS) {
			virtio_again(&b->vdev, q);
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

/* Give the buffer back, and so ask for a fresh one. */
static void stats_ask(struct balloon *b)
{
	int q = queue_of(b, STATS);

	if (!b->held || q < 0)
		return;
	b->held = false;
	virtio_push(&b->vdev, (unsigned)q, &b->stats_chain);
	virtio_interrupt(&b->vdev, (unsigned)q);
}

static void stats_timer(struct loop_timer *timer)
{
	struct balloon *b = container_of(timer, struct balloon, timer);

	pthread_mutex_lock(&b->vdev.lock);
	if (virtio_live(&b->vdev)) {
		b->asked = true;
		stats_ask(b);
	}
	loop_arm(b->vdev.loop, timer, b->stats_ns);
	pthread_mutex_unlock(&b->vdev.lock);
}

int virtio_balloon_set_interval(struct virtio_device *vdev, uint64_t ns, struct err *err)
{
	struct balloon *b = to_balloon(vdev);

	if (b->stats_ns == 0 || ns == 0)
		return err_set(err, EINVAL,
			       "balloon: statistics cannot be turned on or off while the VM runs");
	pthread_mutex_lock(&vdev->lock);
	b->stats_ns = ns < STATS_MIN_NS ? STATS_MIN_NS : ns;
	if (virtio_live(vdev)) {
		b->asked = true;
		stats_ask(b);
	}
	loop_arm(vdev->loop, &b->timer, b->stats_ns);
	pthread_mutex_unlock(&vdev->lock);
	return 0;
}

const char *virtio_balloon_stat_name(unsigned stat)
{
	return stat_names[stat];
}

bool virtio_balloon_stats(struct virtio_device *vdev, struct virtio_balloon_stats *stats)
{
	struct balloon *b = to_balloon(vdev);

	pthread_mutex_lock(&vdev->lock);
	*stats = b->stats;
	pthread_mutex_unlock(&vdev->lock);
	return b->stats_ns > 0;
}

/* --- The size --- */

int virtio_balloon_set_target(struct virtio_device *vdev, uint64_t bytes, struct err *err)
{
	struct balloon *b = to_balloon(vdev);
	uint64_t pages = bytes / PAGE;

	if (bytes > vdev->mem->size || pages > UINT32_MAX)
		return err_set(err, EINVAL,
			       "balloon: a size of %llu MiB is more than the guest's memory, %llu "
			       "MiB",
			       (unsigned long long)bytes >> 20,
			       (unsigned long long)vdev->mem->size >> 20);
	pthread_mutex_lock(&vdev->lock);
	if (le32toh(b->config.num_pages) != pages) {
		b->config.num_pages = htole32((uint32_t)pages);
		virtio_config_changed(vdev);
	}
	pthread_mutex_unlock(&vdev->lock);
	return 0;
}

void virtio_balloon_status(struct virtio_device *vdev, struct virtio_balloon_status *status)
{
	struct balloon *b = to_balloon(vdev);

	pthread_mutex_lock(&vdev->lock);
	*status = (struct virtio_balloon_status){
		.target = le32toh(b->config.num_pages) * PAGE,
		.actual = le32toh(b->config.actual) * PAGE,
		.discarded = b->discarded,
		.hinting = hint_cmd(b) > VIRTIO_BALLOON_CMD_ID_DONE,
		.host_cmd = hint_cmd(b),
		.guest_cmd = b->hint.guest,
	};
	pthread_mutex_unlock(&vdev->lock);
}

/* --- The device --- */

static bool serve(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct balloon *b = to_balloon(vdev);
	bool done = true;

	switch (role_of(b, q)) {
	case INFLATE:
		done = inflate(b, q, &chain->readable);
		break;
	case HINT:
		done = hint(b, q, chain);
		break;
	case REPORT:
		done = poisoned(b) || free_memory(b, q, &chain->writable);
		break;
	default:
		break; /* deflating: nothing to be done */
	}
	if (!done)
		virtio_again(vdev, q);
	return done;
}

static void balloon_kick(struct virtio_device *vdev, unsigned q)
{
	struct balloon *b = to_balloon(vdev);

	begin_pass(b);
	switch (role_of(b, q)) {
	case STATS:
		stats_kick(b, q);
		break;
	case NO_ROLE:
		virtio_fail(vdev, "queue %u is of a feature that was not negotiated", q);
		break;
	default:
		virtio_serve(vdev, q, b->iov, PASS_CHAINS, serve);
	}
}

static void balloon_update(struct virtio_device *vdev)
{
	struct balloon *b = to_balloon(vdev);

	if (virtio_live(vdev) && virtio_has(vdev, VIRTIO_BALLOON_F_STATS_VQ))
		loop_arm(vdev->loop, &b->timer, b->stats_ns);
	else
		loop_disarm(&b->timer);
}

static void balloon_reset(struct virtio_device *vdev)
{
	struct balloon *b = to_balloon(vdev);

	b->held = b->asked = false;
	memset(b->progress, 0, sizeof(b->progress));
	b->hint.guest = VIRTIO_BALLOON_CMD_ID_STOP;
	b->config.actual = 0;
	b->config.poison_val = 0;
	b->config.free_page_hint_cmd_id = htole32(VIRTIO_BALLOON_CMD_ID_STOP);
}

static void balloon_config_write(struct virtio_device *vdev, unsigned off, const void *data,
				 unsigned len)
{
	static const unsigned writable[] = { offsetof(struct virtio_balloon_config, actual),
					     offsetof(struct virtio_balloon_config, poison_val) };
	struct balloon *b = to_balloon(vdev);

	/* 5.5.4: the rest is the device's. */
	for (unsigned i = 0; i < len; i++)
		for (unsigned k = 0; k < 2; k++)
			if (off + i >= writable[k] && off + i < writable[k] + 4)
				((uint8_t *)&b->config)[off + i] = ((const uint8_t *)data)[i];
}

/* The buffer goes back, so that nothing is out; a fresh one comes after resuming. */
static void balloon_quiesce(struct virtio_device *vdev)
{
	stats_ask(to_balloon(vdev));
}

/* SIGUSR1: what is free now shall go back. */
static void balloon_rescan(struct virtio_device *vdev)
{
	struct balloon *b = to_balloon(vdev);

	if (!virtio_live(vdev) || !virtio_has(vdev, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return;
	log_info("%s: asking the guest for its free memory", vdev->name);
	hint_begin(b, true);
}

static void balloon_state(struct virtio_device *vdev, struct state *st)
{
	struct balloon *b = to_balloon(vdev);
	uint32_t target = b->config.num_pages, cmd = b->config.free_page_hint_cmd_id;

	state_u32(st, "target", &target);
	state_u32(st, "actual", &b->config.actual);
	state_u32(st, "poison", &b->config.poison_val);
	state_u32(st, "hint_cmd", &cmd);
	state_u32(st, "hint_last", &b->hint.last);
	state_u32(st, "hint_guest", &b->hint.guest);
	state_bool(st, "hint_release", &b->hint.release);
	if (!state_loading(st))
		return;
	if (le32toh(target) * PAGE > vdev->mem->size)
		state_fail(st, "%s: its size of %llu bytes is more than the guest's memory",
			   vdev->name, (unsigned long long)le32toh(target) * PAGE);
	b->config.num_pages = target;
	b->config.free_page_hint_cmd_id = cmd;
}

static void balloon_destroy(struct virtio_device *vdev)
{
	struct balloon *b = to_balloon(vdev);

	loop_disarm(&b->timer);
	virtio_fini(vdev);
	free(b);
}

static int balloon_check(const void *item, struct err *err)
{
	const struct balloon_options *o = item;

	if (o->stats > 0 && o->stats < STATS_MIN_NS)
		return err_set(err, EINVAL, "stats: more often than each 100ms is too often");
	return 0;
}

#define OPTION(field) offsetof(struct balloon_options, field)

static const struct opt_key balloon_keys[] = {
	{ .name = "size",
	  .type = OPT_SIZE,
	  .offset = OPTION(size),
	  .arg = "SIZE",
	  .def = "0",
	  .unit = 1 << 20,
	  .help = "what the balloon takes from the guest; a bare number counts MiB" },
	{ .name = "deflate-on-oom",
	  .type = OPT_BOOL,
	  .offset = OPTION(oom),
	  .def = "off",
	  .help = "the guest may have it back when it runs out of memory" },
	{ .name = "reporting",
	  .type = OPT_BOOL,
	  .offset = OPTION(reporting),
	  .def = "off",
	  .help = "the guest reports free memory from time to time, which goes back to the host" },
	{ .name = "hinting",
	  .type = OPT_BOOL,
	  .offset = OPTION(hinting),
	  .def = "off",
	  .help = "SIGUSR1 asks the guest for all memory that is free, which goes back to the "
		  "host; under memory pressure a guest can lose data by it" },
	{ .name = "stats",
	  .type = OPT_TIME,
	  .offset = OPTION(stats),
	  .arg = "TIME",
	  .def = "0",
	  .help = "ask the guest for its memory statistics that often, and show them with "
		  "--verbose; 0 is never" },
	{ 0 }
};

static struct virtio_device *balloon_create(const void *items, unsigned n, unsigned index,
					    const struct virtio_host *host, struct err *err);

static const struct virtio_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.pci_class = PCI_CLASS,
	.option = { .name = "balloon",
		    .keys = balloon_keys,
		    .size = sizeof(struct balloon_options),
		    .max = 1,
		    .stands_alone = true,
		    .help = "A balloon, by which the guest gives memory back to the host. Not with "
			    "huge pages from the host's pool." },
	.check = balloon_check,
	.create = balloon_create,
	.destroy = balloon_destroy,
	.kick = balloon_kick,
	.update = balloon_update,
	.reset = balloon_reset,
	.config_write = balloon_config_write,
	.quiesce = balloon_quiesce,
	.rescan = balloon_rescan,
	.state = balloon_state,
};
VIRTIO_DEVICE(balloon_ops);

static int balloon_init(struct balloon *b, const struct balloon_options *o,
			const struct virtio_host *host, struct err *err)
{
	unsigned nqueues = 2u + (o->stats > 0) + o->hinting + o->reporting;
	int r;

	if (host->mem->page_size != GMEM_PAGE_SIZE)
		return err_set(
			err, ENOTSUP,
			"balloon: huge pages from the host's pool (--mem hugepages=%s) cannot "
			"be given back; take hugepages=thp, or leave --balloon out",
			host->mem->page_size == 1 << 30 ? "1G" : "2M");
	b->timer.fn = stats_timer;
	b->stats_ns = o->stats;
	r = virtio_init(&b->vdev, &balloon_ops, host, host->loop, nqueues, QUEUE_SIZE, &b->config,
			sizeof(b->config), err);
	if (r < 0)
		return r;
	if (o->stats > 0)
		b->vdev.features |= FEATURE(STATS_VQ);
	if (o->oom)
		b->vdev.features |= FEATURE(DEFLATE_ON_OOM);
	if (o->hinting)
		b->vdev.features |= FEATURE(FREE_PAGE_HINT);
	if (o->reporting)
		b->vdev.features |= FEATURE(REPORTING);
	if (o->reporting || o->hinting)
		b->vdev.features |= FEATURE(PAGE_POISON);
	return virtio_balloon_set_target(&b->vdev, o->size, err);
}

static struct virtio_device *balloon_create(const void *items, unsigned n, unsigned index,
					    const struct virtio_host *host, struct err *err)
{
	struct balloon *b = calloc(1, sizeof(*b));

	(void)n;
	(void)index;
	if (b == NULL) {
		err_set(err, ENOMEM, "no memory for the balloon");
		return NULL;
	}
	if (balloon_init(b, items, host, err) < 0) {
		balloon_destroy(&b->vdev);
		return NULL;
	}
	return &b->vdev;
}
