// SPDX-License-Identifier: Apache-2.0
/*
 * The entropy device: Virtual I/O Device (VIRTIO) 1.2, section 5.4.
 *
 * Theory of operation. Each buffer is filled by getrandom(2), in place, and given back; at
 * most CHUNK bytes of it, as a device may use less than all (5.4.6.2). After PASS_BYTES others
 * get their turn. With a limit (bw=) a token bucket says when there is more, and a timer goes
 * on then; a request is cut to what the bucket holds, so that it comes in pieces and not
 * after a long time.
 *
 * It never waits: on a host whose own pool is not ready yet it asks again later.
 *
 * Limits: no state but the limit's bucket, which starts full again after loading.
 *
 * #syscalls: getrandom
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include "devices/virtio.h"
#include "vmm/base/log.h"
#include "vmm/base/ratelimit.h"
#include "vmm/base/util.h"

#define QUEUE_SIZE 8
#define CHUNK	   65536
#define PASS_BYTES (4 * CHUNK)
#define PASS_MAX   64	       /* buffers */
#define RETRY_NS   10000000ULL /* until the host's pool is asked again */
#define PCI_CLASS  0xff0000    /* none of the classes there are */

struct rng_options {
	uint64_t bw, bw_burst; /* bytes per second, bytes */
};

struct rng {
	struct virtio_device vdev;
	struct ratelimit limit;
	struct loop_timer timer;
	size_t pass; /* bytes given in this pass */
	struct iovec iov[VIRTQUEUE_IOV(QUEUE_SIZE)];
};

static struct rng *rng_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct rng, vdev);
}

/* Fill the first @len bytes. Returns how many were, or 0 when the host has none. */
static size_t fill(struct virtqueue_cursor *c, size_t len)
{
	size_t done = 0;

	while (done < len && c->left > 0) {
		size_t piece = c->iov[0].iov_len;
		ssize_t n;

		if (piece > len - done)
			piece = len - done;
		n = getrandom(c->iov[0].iov_base, piece, GRND_NONBLOCK);
		if (n <= 0)
			break;
		virtqueue_skip(c, (size_t)n);
		done += (size_t)n;
	}
	return done;
}

static bool serve(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct rng *rng = rng_of(vdev);
	size_t want = chain->writable.left, done;
	uint64_t wait;

	(void)q;
	if (want == 0) /* nothing to fill: 5.4.6.1 forbids it, no harm is done */
		return true;
	if (rng->pass >= PASS_BYTES) {
		virtio_again(vdev, q);
		return false;
	}
	if (want > CHUNK)
		want = CHUNK;
	if (rng->limit.rate > 0 && want > rng->limit.burst)
		want = rng->limit.burst;
	wait = ratelimit_take(&rng->limit, want, loop_now_ns());
	if (wait == 0) {
		done = fill(&chain->writable, want);
		ratelimit_return(&rng->limit, want - done);
		rng->pass += done;
		if (done > 0)
			return true;
		wait = RETRY_NS;
	}
	loop_arm(vdev->loop, &rng->timer, wait);
	return false;
}

static void rng_kick(struct virtio_device *vdev, unsigned q)
{
	struct rng *rng = rng_of(vdev);

	rng->pass = 0;
	virtio_serve(vdev, q, rng->iov, PASS_MAX, serve);
}

static void rng_timer(struct loop_timer *timer)
{
	struct rng *rng = container_of(timer, struct rng, timer);

	virtio_again(&rng->vdev, 0);
}

static void rng_destroy(struct virtio_device *vdev)
{
	struct rng *rng = rng_of(vdev);

	loop_disarm(&rng->timer);
	virtio_fini(vdev);
	free(rng);
}

static const struct opt_key rng_keys[] = {
	{ .name = "bw",
	  .type = OPT_SIZE,
	  .offset = offsetof(struct rng_options, bw),
	  .arg = "BYTES",
	  .def = "0",
	  .help = "at most so many bytes per second; 0 is no limit" },
	{ .name = "bw-burst",
	  .type = OPT_SIZE,
	  .offset = offsetof(struct rng_options, bw_burst),
	  .arg = "BYTES",
	  .def = "0",
	  .help = "so many at once after a pause; 0 is what comes in a second" },
	{ 0 }
};

static int rng_check(const void *item, struct err *err)
{
	const struct rng_options *options = item;

	if (options->bw == 0 && options->bw_burst > 0)
		return err_set(err, EINVAL, "bw-burst= is of no use without bw=");
	return 0;
}

static struct virtio_device *rng_create(const void *items, unsigned n, unsigned index,
					const struct virtio_host *host, struct err *err);

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.pci_class = PCI_CLASS,
	.option = { .name = "rng",
		    .keys = rng_keys,
		    .size = sizeof(struct rng_options),
		    .max = 1,
		    .stands_alone = true,
		    .help = "A source of random numbers for the guest's kernel, from the host's." },
	.check = rng_check,
	.create = rng_create,
	.destroy = rng_destroy,
	.kick = rng_kick,
};
VIRTIO_DEVICE(rng_ops);

static struct virtio_device *rng_create(const void *items, unsigned n, unsigned index,
					const struct virtio_host *host, struct err *err)
{
	const struct rng_options *options = items;
	struct rng *rng = calloc(1, sizeof(*rng));

	(void)n;
	(void)index;
	if (rng == NULL) {
		err_set(err, ENOMEM, "no memory for the rng");
		return NULL;
	}
	rng->timer.fn = rng_timer;
	if (virtio_init(&rng->vdev, &rng_ops, host, host->loop, 1, QUEUE_SIZE, NULL, 0, err) < 0) {
		rng_destroy(&rng->vdev);
		return NULL;
	}
	ratelimit_init(&rng->limit, options->bw, options->bw_burst, loop_now_ns());
	return &rng->vdev;
}
