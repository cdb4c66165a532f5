// SPDX-License-Identifier: Apache-2.0
/*
 * The block device: what is changed while it runs. See virtio_live.h.
 *
 * #syscalls: futex
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "devices/virtio_blk_impl.h"
#include "devices/virtio_live.h"

static int check_live(const struct virtio_device *vdev, struct err *err)
{
	if (vdev->ops == &blk_ops)
		return 0;
	return err_set(err, ENOTSUP, "%s: another process serves it, which cannot be told",
		       vdev->name);
}

/* Another file for the same disk: what the driver knows of it, but for the size, stays true. */
static int check_twin(const struct blk *blk, const struct disk *disk, struct err *err)
{
	const struct disk_limits *now = disk_limits(blk->disk), *then = disk_limits(disk);

	if (now->logical == then->logical)
		return 0;
	return err_set(err, EINVAL, "has blocks of %u bytes, and the disk in use %u", then->logical,
		       now->logical);
}

static int replace(struct blk *blk, const char *path, struct err *err)
{
	struct disk_config cfg = {
		.path = path, .ro = blk->ro, .direct = blk->direct, .iothreads = blk->iothreads
	};
	char *copy = strdup(path);
	struct disk *disk;

	if (copy == NULL)
		return err_sys(err, ENOMEM, "cannot open");
	disk = blk->retired == NULL ? disk_open(&cfg, blk_ready, blk, err) : NULL;
	if (disk == NULL || check_twin(blk, disk, err) < 0) {
		if (blk->retired != NULL)
			err_set(err, EBUSY, "the change before this one is still under way");
		disk_close(disk);
		free(copy);
		return -err->code;
	}
	disk_drain(blk->disk, false);
	blk_interrupt(blk);
	blk->retired = blk->disk;
	blk->disk = disk;
	free(blk->path);
	blk->path = copy;
	blk_set_capacity(blk);
	virtio_config_changed(&blk->vdev);
	/* On the loop's thread: the old one is closed, the new one watched. */
	blk->vdev.changed = true;
	for (unsigned q = 0; q < blk->vdev.nqueues; q++)
		virtio_again(&blk->vdev, q);
	return 0;
}

int virtio_blk_replace(struct virtio_device *vdev, const char *path, struct err *err)
{
	struct blk *blk = to_blk(vdev);
	int r = 0;

	if (check_live(vdev, err) < 0)
		return -err->code;
	if (strcmp(blk->path, path) == 0) {
		virtio_rescan(vdev);
		return 0;
	}
	if (blk->overlaid)
		return err_set(err, ENOTSUP, "%s: it has an overlay, which belongs to its image",
			       vdev->name);
	pthread_mutex_lock(&vdev->lock);
	r = replace(blk, path, err);
	pthread_mutex_unlock(&vdev->lock);
	return r < 0 ? err_context(err, "disk %s", path) : 0;
}

int virtio_blk_limit(struct virtio_device *vdev, const struct ratelimit_config *bytes,
		     const struct ratelimit_config *requests, struct err *err)
{
	struct blk *blk = to_blk(vdev);
	uint64_t now = loop_now_ns();

	if (check_live(vdev, err) < 0)
		return -err->code;
	pthread_mutex_lock(&vdev->lock);
	if (bytes != NULL)
		ratelimit_set(&blk->bw, bytes, now);
	if (requests != NULL)
		ratelimit_set(&blk->iops, requests, now);
	/* What waits by the old limit is asked again. */
	blk->throttled = false;
	for (unsigned q = 0; q < vdev->nqueues; q++)
		virtio_again(vdev, q);
	pthread_mutex_unlock(&vdev->lock);
	return 0;
}
