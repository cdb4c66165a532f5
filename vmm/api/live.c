// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: devices while the VM runs.
 */
#include <errno.h>
#include <string.h>
#include "devices/virtio_balloon.h"
#include "devices/virtio_live.h"
#include "vmm/api/impl.h"

#define MIB	 (1ULL << 20)
#define PAGE	 4096
#define NS_PER_S 1000000000ULL

/*
 * Element @index of list @list: which use of its option is it, and which device? Those of a kind
 * are made in the order of their options, and the document's lists are in that order, too. Drives
 * with a socket are of another kind.
 */
static size_t use_of(struct api *api, const char *list, size_t index)
{
	const json_t *array = json_object_get(api->doc, list);
	size_t before = 0;

	for (size_t i = 0; i < index; i++)
		before += api_str(json_array_get(array, i), "socket") == NULL;
	return before;
}

static struct virtio_device *device_of(struct api *api, const char *list, uint16_t id, size_t index)
{
	return vm_devices_nth(&api->vm->devices, &api->cfg, id, use_of(api, list, index));
}

/* The element and the device that the path names. */
static json_t *find(struct api *api, const struct api_call *call, const char *list, const char *key,
		    uint16_t id, struct virtio_device **vdev, struct err *err)
{
	size_t index;
	json_t *item = api_find(api, list, key, call->id, &index);

	if (strcmp(api_str(call->body, key), call->id) != 0) {
		err_set(err, EINVAL, "%s is '%.64s' in the body and '%s' in the path", key,
			api_str(call->body, key), call->id);
		return NULL;
	}
	if (item == NULL) {
		err_set(err, ENOENT, "there is no %s '%s'", key, call->id);
		return NULL;
	}
	*vdev = api_str(item, "socket") == NULL ? device_of(api, list, id, index) : NULL;
	if (*vdev == NULL) {
		err_set(err, ENOTSUP, "%s is served by another process, which cannot be told",
			call->id);
		return NULL;
	}
	return item;
}

/* --- Drives, networks, pmem --- */

/* What was changed in the VM is changed in the document, too, if the request has it. */
static void keep(json_t *item, const json_t *body, const char *name)
{
	if (api_get(body, name) != NULL)
		json_object_set(item, name, api_get(body, name));
}

static int limit_drive(struct virtio_device *vdev, const json_t *limiter, struct err *err)
{
	struct api_limits l;

	if (api_limits(limiter, &l, err) < 0)
		return -err->code;
	if (!l.has_bytes && !l.has_ops)
		return 0;
	return virtio_blk_limit(vdev, l.has_bytes ? &l.bytes : NULL, l.has_ops ? &l.ops : NULL,
				err);
}

/* A snapshot is to know of the new file, too. */
static int replace_drive(struct api *api, const char *id, struct virtio_device *vdev,
			 const char *path, struct err *err)
{
	size_t index = 0;

	(void)api_find(api, "drives", "drive_id", id, &index);
	if (virtio_blk_replace(vdev, path, err) < 0)
		return -err->code;
	return opt_set_use(api->cfg.options, &api->cfg, "disk", use_of(api, "drives", index),
			   "path", path, err);
}

int api_patch_drive(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "drive_id", .type = API_STR, .required = true },
		{ .name = "path_on_host", .type = API_STR },
		{ .name = "rate_limiter", .type = API_OBJECT },
		{ NULL },
	};
	const json_t *b = call->body;
	struct virtio_device *vdev;
	json_t *item;

	if (api_check(b, fields, err) < 0)
		return -err->code;
	item = find(api, call, "drives", "drive_id", VIRTIO_ID_BLOCK, &vdev, err);
	if (item == NULL)
		return -err->code;
	if (api_get(b, "path_on_host") == NULL && api_get(b, "rate_limiter") == NULL)
		return err_set(err, EINVAL, "give path_on_host or rate_limiter");
	if (limit_drive(vdev, api_get(b, "rate_limiter"), err) < 0)
		return -err->code;
	if (api_get(b, "path_on_host") != NULL) {
		if (replace_drive(api, call->id, vdev, api_str(b, "path_on_host"), err) < 0)
			return -err->code;
		keep(item, b, "path_on_host");
	}
	keep(item, b, "rate_limiter");
	return 0;
}

static int limit_net(struct virtio_device *vdev, bool rx, const json_t *limiter, struct err *err)
{
	struct api_limits l;

	if (api_limits(limiter, &l, err) < 0)
		return err_context(err, "%s", rx ? "receiving" : "sending");
	if (!l.has_bytes && !l.has_ops)
		return 0;
	return virtio_net_limit(vdev, rx, l.has_bytes ? &l.bytes : NULL, l.has_ops ? &l.ops : NULL,
				err);
}

int api_patch_net(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "iface_id", .type = API_STR, .required = true },
		{ .name = "rx_rate_limiter", .type = API_OBJECT },
		{ .name = "tx_rate_limiter", .type = API_OBJECT },
		{ NULL },
	};
	const json_t *b = call->body;
	struct virtio_device *vdev;
	json_t *item;

	if (api_check(b, fields, err) < 0)
		return -err->code;
	item = find(api, call, "network-interfaces", "iface_id", VIRTIO_ID_NET, &vdev, err);
	if (item == NULL || limit_net(vdev, true, api_get(b, "rx_rate_limiter"), err) < 0 ||
	    limit_net(vdev, false, api_get(b, "tx_rate_limiter"), err) < 0)
		return -err->code;
	keep(item, b, "rx_rate_limiter");
	keep(item, b, "tx_rate_limiter");
	return 0;
}

int api_patch_pmem(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "id", .type = API_STR, .required = true },
		{ .name = "rate_limiter", .type = API_OBJECT },
		{ NULL },
	};
	struct virtio_device *vdev;

	if (api_check(call->body, fields, err) < 0 ||
	    find(api, call, "pmem", "id", VIRTIO_ID_PMEM, &vdev, err) == NULL)
		return -err->code;
	return err_set(err, ENOTSUP, "a pmem device has no rate limiter here");
}

int api_apply_limits(struct api *api, struct err *err)
{
	struct virtio_device *vdev;
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(api->doc, "drives"), i, item) {
		if (api_get(item, "rate_limiter") == NULL)
			continue;
		vdev = device_of(api, "drives", VIRTIO_ID_BLOCK, i);
		if (vdev == NULL || limit_drive(vdev, api_get(item, "rate_limiter"), err) < 0)
			return -err->code;
	}
	json_array_foreach(json_object_get(api->doc, "network-interfaces"), i, item) {
		vdev = device_of(api, "network-interfaces", VIRTIO_ID_NET, i);
		if (vdev != NULL &&
		    (limit_net(vdev, true, api_get(item, "rx_rate_limiter"), err) < 0 ||
		     limit_net(vdev, false, api_get(item, "tx_rate_limiter"), err) < 0))
			return -err->code;
	}
	return 0;
}

/* --- The balloon --- */

static struct virtio_device *balloon(struct api *api, struct err *err)
{
	struct virtio_device *vdev = NULL;

	if (api->vm != NULL)
		vdev = vm_devices_nth(&api->vm->devices, &api->cfg, VIRTIO_ID_BALLOON, 0);
	if (vdev == NULL)
		err_set(err, ENOENT, "there is no balloon: PUT /balloon before the VM starts");
	return vdev;
}

int api_get_balloon(struct api *api, struct api_call *call, struct err *err)
{
	json_t *doc = json_object_get(api->doc, "balloon");
	struct virtio_balloon_status status;
	struct virtio_device *vdev;

	if (doc == NULL)
		return err_set(err, ENOENT, "there is no balloon");
	call->reply = json_deep_copy(doc);
	json_object_del(call->reply, "given");
	vdev = api->vm != NULL ? balloon(api, err) : NULL;
	if (vdev != NULL) {
		virtio_balloon_status(vdev, &status);
		json_object_set_new(call->reply, "amount_mib",
				    json_integer((json_int_t)(status.target / MIB)));
	}
	return 0;
}

int api_patch_balloon(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "amount_mib", .type = API_INT, .required = true, .max = 8 << 20 },
		{ NULL },
	};
	struct virtio_device *vdev;
	uint64_t mib;

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	vdev = balloon(api, err);
	mib = (uint64_t)api_int(call->body, "amount_mib", 0);
	if (vdev == NULL || virtio_balloon_set_target(vdev, mib * MIB, err) < 0)
		return -err->code;
	json_object_set(json_object_get(api->doc, "balloon"), "amount_mib",
			api_get(call->body, "amount_mib"));
	return 0;
}

int api_get_balloon_stats(struct api *api, struct api_call *call, struct err *err)
{
	static const char *const names[BALLOON_NSTATS] = {
		[BALLOON_SWAP_IN] = "swap_in",
		[BALLOON_SWAP_OUT] = "swap_out",
		[BALLOON_MAJOR_FAULTS] = "major_faults",
		[BALLOON_MINOR_FAULTS] = "minor_faults",
		[BALLOON_FREE] = "free_memory",
		[BALLOON_TOTAL] = "total_memory",
		[BALLOON_AVAILABLE] = "available_memory",
		[BALLOON_CACHES] = "disk_caches",
		[BALLOON_HUGETLB_ALLOCS] = "hugetlb_allocations",
		[BALLOON_HUGETLB_FAILS] = "hugetlb_failures",
		[BALLOON_OOM_KILLS] = "oom_kill",
		[BALLOON_ALLOC_STALLS] = "alloc_stall",
		[BALLOON_ASYNC_SCANS] = "async_scan",
		[BALLOON_DIRECT_SCANS] = "direct_scan",
		[BALLOON_ASYNC_RECLAIMS] = "async_reclaim",
		[BALLOON_DIRECT_RECLAIMS] = "direct_reclaim",
	};
	struct virtio_device *vdev = balloon(api, err);
	struct virtio_balloon_status s;
	struct virtio_balloon_stats stats;

	if (vdev == NULL)
		return -err->code;
	if (!virtio_balloon_stats(vdev, &stats))
		return err_set(err, EINVAL,
			       "the balloon has no statistics: stats_polling_interval_s was 0 when "
			       "the VM started");
	virtio_balloon_status(vdev, &s);
	call->reply =
		json_pack("{sI sI sI sI}", "target_pages", (json_int_t)(s.target / PAGE),
			  "actual_pages", (json_int_t)(s.actual / PAGE), "target_mib",
			  (json_int_t)(s.target / MIB), "actual_mib", (json_int_t)(s.actual / MIB));
	for (unsigned i = 0; i < BALLOON_NSTATS; i++)
		if ((stats.known >> i & 1) != 0 && stats.value[i] <= INT64_MAX)
			json_object_set_new(call->reply, names[i],
					    json_integer((json_int_t)stats.value[i]));
	return 0;
}

int api_patch_balloon_stats(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "stats_polling_interval_s",
		  .type = API_INT,
		  .required = true,
		  .max = 65535 },
		{ NULL },
	};
	struct virtio_device *vdev;
	json_int_t seconds;

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	vdev = balloon(api, err);
	seconds = api_int(call->body, "stats_polling_interval_s", 0);
	if (vdev == NULL ||
	    virtio_balloon_set_interval(vdev, (uint64_t)seconds * NS_PER_S, err) < 0)
		return -err->code;
	json_object_set(json_object_get(api->doc, "balloon"), "stats_polling_interval_s",
			api_get(call->body, "stats_polling_interval_s"));
	return 0;
}

int api_start_hinting(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "acknowledge_on_stop", .type = API_BOOL }, { NULL }
	};
	struct virtio_device *vdev;
	bool release = true;

	if (call->body != NULL) {
		if (api_check(call->body, fields, err) < 0)
			return -err->code;
		release = api_bool(call->body, "acknowledge_on_stop", true);
	}
	vdev = balloon(api, err);
	return vdev == NULL ? -err->code : virtio_balloon_hint_start(vdev, release, err);
}

int api_get_hinting(struct api *api, struct api_call *call, struct err *err)
{
	struct virtio_device *vdev = balloon(api, err);
	struct virtio_balloon_status s;

	if (vdev == NULL)
		return -err->code;
	if (!api_bool(json_object_get(api->doc, "balloon"), "free_page_hinting", false))
		return err_set(err, EINVAL,
			       "the balloon has no hinting: free_page_hinting was off "
			       "when the VM started");
	virtio_balloon_status(vdev, &s);
	call->reply = json_pack("{sI sI}", "host_cmd", (json_int_t)s.host_cmd, "guest_cmd",
				(json_int_t)s.guest_cmd);
	return 0;
}

int api_stop_hinting(struct api *api, struct api_call *call, struct err *err)
{
	struct virtio_device *vdev = balloon(api, err);

	(void)call;
	return vdev == NULL ? -err->code : virtio_balloon_hint_stop(vdev, err);
}
