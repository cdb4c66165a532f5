// SPDX-License-Identifier: Apache-2.0
/*
 * Persistent memory: Virtual I/O Device (VIRTIO) 1.2, section 5.19. A file or block device of the
 * host that is part of the guest's memory: the guest reads and writes it without us, and
 * without a page cache of its own (DAX).
 *
 * Theory of operation. The file is mapped, shared, into guest memory (host->add_memory); the
 * configuration says where. What the guest writes is in the host's page cache, like a write(2), and
 * is on stable storage after a flush request, which is fdatasync(2) here. No msync(2) is needed:
 * that differs in the range it takes only; a page that was written through a mapping is
 * known to be dirty to whatever file system it is of. Flushes run beside each other and beside
 * the loop (aio.h), and are answered as they end.
 *
 * The memory belongs to all devices: a disk can be read straight into it. Nothing is written by us
 * where the file is read-only, and what the guest writes there is dropped (vcpus.c); virtio has no
 * way to tell it, so it must be mounted read-only.
 *
 * Linux wants the size to be a multiple of 2 MiB, as its smallest unit for such memory is that.
 * Filling the rest with something else than the file would need pages that are lost at the end, so
 * the file has to have that size.
 *
 * Limits: the size is fixed while the VM lives. A file that is cut short by somebody else, or that
 * has holes and no room on its disk, cannot give a page that is touched: then the VM ends, with a
 * sentence. The lock (filelock.c) keeps out only those who look at it. The instructions a guest
 * writes to a read-only file with have to be known to KVM's emulator.
 *
 * #syscalls: close fcntl
 * #syscalls main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/virtio_pmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/aio.h"
#include "devices/filelock.h"
#include "devices/virtio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define QUEUE_SIZE 64
#define BUDGET	   64
#define PCI_CLASS  0x050000 /* memory controller, RAM */
#define PMEM_UNIT  (2ULL << 20)
#define PMEM_MAX   6 /* regions there are, less two of RAM */

/* 5.19.6: the answer to a flush */
#define RESP_OK	 0
#define RESP_EIO 1

struct pmem_options {
	char *path;
	bool ro;
	char *id; /* for the control API */
};

struct pmem_req {
	struct pmem *pmem;
	struct pmem_req *next; /* in the list of free ones */
	struct virtqueue_chain chain;
	struct aio_req aio;
	struct iovec iov[VIRTQUEUE_IOV(QUEUE_SIZE)];
};

struct pmem {
	struct virtio_device vdev;
	struct virtio_pmem_config config;
	int fd;
	bool ro, locked;
	struct aio *aio;
	bool dropping; /* being reset: what ends is not pushed */
	bool answered; /* since the last interrupt */
	struct pmem_req *free;
	struct pmem_req *reqs; /* [QUEUE_SIZE] */
};

static struct pmem *to_pmem(struct virtio_device *vdev)
{
	return container_of(vdev, struct pmem, vdev);
}

/* --- Requests --- */

static void answer(struct pmem_req *req, uint32_t ret)
{
	struct pmem *pmem = req->pmem;

	ret = htole32(ret);
	if (!pmem->dropping) {
		virtqueue_write(&req->chain.writable, &ret, sizeof(ret));
		virtio_push(&pmem->vdev, 0, &req->chain);
		pmem->answered = true;
	}
	req->next = pmem->free;
	pmem->free = req;
}

static void flushed(struct aio_req *aio, int64_t result)
{
	struct pmem_req *req = container_of(aio, struct pmem_req, aio);

	if (result < 0)
		log_limited(LOG_ERROR, "%s: cannot flush: %s", req->pmem->vdev.name,
			    strerrordesc_np((int)-result));
	answer(req, result < 0 ? RESP_EIO : RESP_OK);
}

static void begin(struct pmem_req *req)
{
	struct pmem *pmem = req->pmem;
	struct virtio_pmem_req head;

	if (virtqueue_read(&req->chain.readable, &head, sizeof(head)) < sizeof(head) ||
	    req->chain.writable.left < sizeof(struct virtio_pmem_resp)) {
		virtio_fail(&pmem->vdev,
			    "a request without a type, or without room for its answer");
		req->next = pmem->free;
		pmem->free = req;
		return;
	}
	if (le32toh(head.type) != VIRTIO_PMEM_REQ_TYPE_FLUSH) {
		answer(req, RESP_EIO);
		return;
	}
	if (pmem->ro) {
		answer(req, RESP_OK);
		return;
	}
	req->aio = (struct aio_req){ .op = AIO_SYNC, .done = flushed };
	aio_queue(pmem->aio, &req->aio);
}

/* False: there is none. */
static bool take(struct pmem *pmem)
{
	struct pmem_req *req = pmem->free;

	/* One for each entry of the queue, of which no more can be out. */
	if (req == NULL || !virtio_pop(&pmem->vdev, 0, &req->chain, req->iov))
		return false;
	pmem->free = req->next;
	begin(req);
	return true;
}

static void interrupt(struct pmem *pmem)
{
	if (pmem->answered)
		virtio_interrupt(&pmem->vdev, 0);
	pmem->answered = false;
}

static void pmem_kick(struct virtio_device *vdev, unsigned q)
{
	struct virtqueue *vq = virtio_vq(vdev, q);
	struct pmem *pmem = to_pmem(vdev);
	unsigned n = 0;

	if (vq == NULL)
		return;
	do {
		virtqueue_disable_kicks(vq);
		while (n < BUDGET && take(pmem))
			n++;
		aio_run(pmem->aio);
		interrupt(pmem);
		if (!virtio_live(vdev))
			return;
		if (n == BUDGET) {
			virtio_again(vdev, q);
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

/* Something ended by itself. Loop, not locked. */
static void pmem_ready(void *owner)
{
	struct pmem *pmem = owner;

	pthread_mutex_lock(&pmem->vdev.lock);
	aio_run(pmem->aio);
	interrupt(pmem);
	pthread_mutex_unlock(&pmem->vdev.lock);
}

/* --- Life --- */

static void pmem_update(struct virtio_device *vdev)
{
	struct err err = ERR_INIT;

	if (aio_watch(to_pmem(vdev)->aio, vdev->loop, &err) < 0)
		log_limited(LOG_ERROR, "%s: %s", vdev->name, err.msg);
}

static void drain(struct pmem *pmem)
{
	while (aio_pending(pmem->aio) > 0)
		aio_wait(pmem->aio);
}

static void pmem_reset(struct virtio_device *vdev)
{
	struct pmem *pmem = to_pmem(vdev);

	pmem->dropping = true;
	drain(pmem);
	pmem->dropping = pmem->answered = false;
}

static void pmem_quiesce(struct virtio_device *vdev)
{
	drain(to_pmem(vdev));
	interrupt(to_pmem(vdev));
}

static void pmem_state(struct virtio_device *vdev, struct state *st)
{
	struct pmem *pmem = to_pmem(vdev);
	uint64_t start = le64toh(pmem->config.start), size = le64toh(pmem->config.size);

	state_u64(st, "start", &start);
	state_u64(st, "size", &size);
	if (state_loading(st) &&
	    (start != le64toh(pmem->config.start) || size != le64toh(pmem->config.size)))
		state_fail(st, "%s: 0x%llx+0x%llx in the saved machine, 0x%llx+0x%llx in this one",
			   vdev->name, (unsigned long long)start, (unsigned long long)size,
			   (unsigned long long)le64toh(pmem->config.start),
			   (unsigned long long)le64toh(pmem->config.size));
}

static void pmem_destroy(struct virtio_device *vdev)
{
	struct pmem *pmem = to_pmem(vdev);

	aio_free(pmem->aio);
	virtio_fini(vdev);
	if (pmem->locked)
		file_unlock(pmem->fd);
	if (pmem->fd >= 0)
		close(pmem->fd);
	free(pmem->reqs);
	free(pmem);
}

/* --- Opening --- */

static int open_error(const struct pmem *pmem, int code, struct err *err)
{
	if ((code == EACCES || code == EPERM || code == EROFS) && !pmem->ro)
		return err_sys(err, code, "cannot open it for writing (ro: only read it)");
	if (code == EBUSY)
		return err_set(err, EBUSY,
			       "the block device is in use: mounted, part of a volume, or another "
			       "virtual machine's");
	return err_sys(err, code, "cannot open");
}

static int open_file(struct pmem *pmem, const char *path, struct stat *st, struct err *err)
{
	int flags = (pmem->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

	if (stat(path, st) < 0)
		return err_sys(err, errno, "cannot open");
	/* Looked at first: opening a device or FIFO can do things. O_EXCL: not if it is mounted. */
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return err_set(err, EINVAL, "is neither a file nor a block device");
	if (S_ISBLK(st->st_mode) && !pmem->ro)
		flags |= O_EXCL;
	pmem->fd = open(path, flags);
	if (pmem->fd < 0)
		return open_error(pmem, errno, err);
	if (file_lock(pmem->fd, !pmem->ro, "", err) < 0)
		return -err->code;
	pmem->locked = true;
	if (fstat(pmem->fd, st) < 0)
		return err_sys(err, errno, "cannot look at it");
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return err_set(err, EINVAL, "is neither a file nor a block device");
	return 0;
}

static int find_size(const struct pmem *pmem, const struct stat *st, uint64_t *size,
		     struct err *err)
{
	*size = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(pmem->fd, BLKGETSIZE64, size) < 0)
		return err_sys(err, errno, "cannot get its size");
	if (*size == 0)
		return err_set(err, EINVAL, "is empty; 'truncate -s 1G FILE' gives it a size");
	if (*size % PMEM_UNIT != 0)
		return err_set(err, EINVAL, "its %llu bytes are not a multiple of 2 MiB%s",
			       (unsigned long long)*size,
			       S_ISBLK(st->st_mode)
				       ? ", which Linux needs"
				       : ", which Linux needs; 'truncate -s %2M FILE' fills it up");
	return 0;
}

static int pmem_init(struct pmem *pmem, const struct pmem_options *o, const struct virtio_ops *ops,
		     const struct virtio_host *host, struct err *err)
{
	const char *base = strrchr(o->path, '/');
	uint64_t size, gpa;
	struct stat st;

	pmem->fd = -1;
	pmem->ro = o->ro;
	snprintf(pmem->vdev.name, sizeof(pmem->vdev.name), "pmem %.48s",
		 base != NULL && base[1] != '\0' ? base + 1 : o->path);
	if (host->add_memory == NULL)
		return err_set(err, ENOTSUP, "this machine takes no files into its memory");
	if (open_file(pmem, o->path, &st, err) < 0 || find_size(pmem, &st, &size, err) < 0 ||
	    host->add_memory(host, pmem->fd, size, o->ro, &gpa, err) < 0)
		return -err->code;
	pmem->config.start = htole64(gpa);
	pmem->config.size = htole64(size);
	pmem->reqs = calloc(QUEUE_SIZE, sizeof(*pmem->reqs));
	if (pmem->reqs == NULL)
		return err_sys(err, ENOMEM, "requests");
	for (unsigned i = QUEUE_SIZE; i-- > 0;) {
		pmem->reqs[i].pmem = pmem;
		pmem->reqs[i].next = pmem->free;
		pmem->free = &pmem->reqs[i];
	}
	pmem->aio = aio_new(&pmem->fd, 1, 0, host->iothreads, pmem_ready, pmem, err);
	if (pmem->aio == NULL)
		return -err->code;
	return virtio_init(&pmem->vdev, ops, host, host->loop, 1, QUEUE_SIZE, &pmem->config,
			   sizeof(pmem->config), err);
}

#define OPTION(field) offsetof(struct pmem_options, field)

static const struct opt_key pmem_keys[] = {
	{ .name = "path",
	  .type = OPT_STR,
	  .offset = OPTION(path),
	  .arg = "PATH",
	  .required = true,
	  .help = "file or block device, of a multiple of 2 MiB" },
	{ .name = "ro",
	  .type = OPT_BOOL,
	  .offset = OPTION(ro),
	  .def = "off",
	  .help = "only read it; several machines may do so. The guest has to mount it with -o ro" },
	{ .name = "id",
	  .type = OPT_STR,
	  .offset = OPTION(id),
	  .arg = "NAME",
	  .unique = true,
	  .help = "what the control API calls it; default: pmem0 and so on" },
	{ 0 }
};

static struct virtio_device *pmem_create(const void *items, unsigned n, unsigned index,
					 const struct virtio_host *host, struct err *err);

static const struct virtio_ops pmem_ops = {
	.name = "pmem",
	.id = VIRTIO_ID_PMEM,
	.pci_class = PCI_CLASS,
	.option = { .name = "pmem",
		    .keys = pmem_keys,
		    .size = sizeof(struct pmem_options),
		    .max = PMEM_MAX,
		    .help = "A file as persistent memory: /dev/pmem0, /dev/pmem1 and so on. Mounted "
			    "with -o dax it needs no page cache in the guest." },
	.create = pmem_create,
	.destroy = pmem_destroy,
	.kick = pmem_kick,
	.update = pmem_update,
	.reset = pmem_reset,
	.quiesce = pmem_quiesce,
	.state = pmem_state,
};
VIRTIO_DEVICE(pmem_ops);

static struct virtio_device *pmem_create(const void *items, unsigned n, unsigned index,
					 const struct virtio_host *host, struct err *err)
{
	const struct pmem_options *o = items;
	struct pmem *pmem = calloc(1, sizeof(*pmem));

	(void)n;
	(void)index;
	if (pmem == NULL) {
		err_set(err, ENOMEM, "no memory for the pmem device");
		return NULL;
	}
	if (pmem_init(pmem, o, &pmem_ops, host, err) < 0) {
		err_context(err, "pmem %s", o->path);
		pmem_destroy(&pmem->vdev);
		return NULL;
	}
	return &pmem->vdev;
}
