// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: the resources that are set before the VM starts, one by one. What becomes of
 * them is in api/config.c.
 *
 * What Firecracker has and we do not is an error when it would matter to the guest, as are
 * CPU templates; what only says how things are done inside (io_engine) is taken and shown.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/api/impl.h"

/* The id in the body must be that of the path. */
static int check_id(const struct api_call *call, const char *key, struct err *err)
{
	if (strcmp(call->id, api_str(call->body, key)) == 0)
		return 0;
	return err_set(err, EINVAL, "%s is '%.64s' in the body and '%s' in the path", key,
		       api_str(call->body, key), call->id);
}

/* Can the file be opened? Told now, and not only when the VM starts. */
static int check_file(const char *what, const char *path, bool write, struct err *err)
{
	struct stat st;

	if (path == NULL)
		return 0;
	if (access(path, write ? R_OK | W_OK : R_OK) < 0)
		return err_sys(err, errno, "%s %.200s: cannot open", what, path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "%s %.200s: is a directory", what, path);
	return 0;
}

/* What was not given of @value is @def, which is stolen. */
static void fill_in(json_t *value, const char *name, json_t *def)
{
	if (api_get(value, name) == NULL)
		json_object_set_new(value, name, def);
	else
		json_decref(def);
}

/* --- Boot source, machine --- */

int api_put_boot_source(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "kernel_image_path", .type = API_STR, .required = true },
		{ .name = "initrd_path", .type = API_STR },
		{ .name = "boot_args", .type = API_STR },
		{ NULL },
	};

	if (api_check(call->body, fields, err) < 0 ||
	    check_file("kernel", api_str(call->body, "kernel_image_path"), false, err) < 0 ||
	    check_file("initrd", api_str(call->body, "initrd_path"), false, err) < 0)
		return -err->code;
	return api_set_member(api, "boot-source", json_deep_copy(call->body), err);
}

int api_get_machine(struct api *api, struct api_call *call, struct err *err)
{
	(void)err;
	call->reply = json_deep_copy(json_object_get(api->doc, "machine-config"));
	json_object_del(call->reply, "given");
	json_object_del(call->reply, "given_cpus");
	return 0;
}

int api_put_machine(struct api *api, struct api_call *call, struct err *err)
{
	static const char *const huge[] = { "None", "Transparent", "2M", "1G", NULL };
	static const char *const templates[] = { "None", NULL };
	bool patch = strcmp(call->method, "PATCH") == 0;
	struct api_field fields[] = {
		{ .name = "vcpu_count",
		  .type = API_INT,
		  .required = !patch,
		  .min = 1,
		  .max = MACHINE_CPUS_MAX },
		{ .name = "mem_size_mib",
		  .type = API_INT,
		  .required = !patch,
		  .min = 1,
		  .max = 8 << 20 },
		{ .name = "smt", .type = API_BOOL },
		{ .name = "track_dirty_pages", .type = API_BOOL },
		{ .name = "huge_pages", .type = API_WORD, .values = huge },
		{ .name = "cpu_template", .type = API_WORD, .values = templates },
		{ NULL },
	};
	json_t *now = json_object_get(api->doc, "machine-config"), *next;

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	if (patch && json_object_size(call->body) == 0)
		return err_set(err, EINVAL, "the body has no field");
	next = patch ? json_deep_copy(now)
		     : json_pack("{sb sb ss}", "smt", 0, "track_dirty_pages", 0, "huge_pages",
				 "None");
	json_object_del(next, "given");
	json_object_del(next, "given_cpus");
	for (const struct api_field *f = fields; f->name != NULL; f++)
		if (api_get(call->body, f->name) != NULL)
			json_object_set(next, f->name, api_get(call->body, f->name));
	if (api_bool(next, "smt", false) && api_int(next, "vcpu_count", 1) % 2 != 0 &&
	    api_int(next, "vcpu_count", 1) != 1) {
		json_decref(next);
		return err_set(err, EINVAL, "vcpu_count must be 1 or even with smt");
	}
	if (api_int(next, "vcpu_count", 1) == 1)
		json_object_set_new(next, "smt", json_false());
	return api_set_member(api, "machine-config", next, err);
}

int api_put_cpu(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "kvm_capabilities", .type = API_ARRAY },
		{ .name = "cpuid_modifiers", .type = API_ARRAY },
		{ .name = "msr_modifiers", .type = API_ARRAY },
		{ .name = "reg_modifiers", .type = API_ARRAY },
		{ .name = "vcpu_features", .type = API_ARRAY },
		{ NULL },
	};

	(void)api;
	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	for (const struct api_field *f = fields; f->name != NULL; f++)
		if (json_array_size(api_get(call->body, f->name)) > 0)
			return err_set(err, ENOTSUP,
				       "%s: the CPU is the host's, and cannot be changed", f->name);
	return 0;
}

/* --- Devices --- */

static int check_drive(const json_t *body, struct err *err)
{
	const char *path = api_str(body, "path_on_host"), *socket = api_str(body, "socket");
	struct api_limits limits;

	if ((path != NULL) == (socket != NULL))
		return err_set(err, EINVAL, "a drive has either path_on_host or socket");
	if (socket != NULL &&
	    (api_get(body, "is_read_only") != NULL || api_get(body, "rate_limiter") != NULL ||
	     api_get(body, "io_engine") != NULL))
		return err_set(
			err, EINVAL,
			"is_read_only, rate_limiter and io_engine do not go with socket: its "
			"owner decides");
	if (check_file("drive", path, !api_bool(body, "is_read_only", false), err) < 0)
		return -err->code;
	return api_limits(api_get(body, "rate_limiter"), &limits, err);
}

static int other_root(const struct api *api, const char *list, const char *key, const char *flag,
		      const char *id, struct err *err)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(api->doc, list), i, item)
		if (api_bool(item, flag, false) &&
		    (id == NULL || strcmp(api_str(item, key), id) != 0))
			return err_set(err, EEXIST, "%s is the root device already",
				       api_str(item, key));
	return 0;
}

int api_put_drive(struct api *api, struct api_call *call, struct err *err)
{
	static const char *const caches[] = { "Unsafe", "Writeback", NULL };
	static const char *const engines[] = { "Sync", "Async", NULL };
	static const struct api_field fields[] = {
		{ .name = "drive_id", .type = API_STR, .required = true },
		{ .name = "is_root_device", .type = API_BOOL, .required = true },
		{ .name = "partuuid", .type = API_STR },
		{ .name = "cache_type", .type = API_WORD, .values = caches },
		{ .name = "is_read_only", .type = API_BOOL },
		{ .name = "path_on_host", .type = API_STR },
		{ .name = "rate_limiter", .type = API_OBJECT },
		{ .name = "io_engine", .type = API_WORD, .values = engines },
		{ .name = "socket", .type = API_STR },
		{ NULL },
	};
	const json_t *b = call->body;
	bool root;
	json_t *value;

	if (api_check(b, fields, err) < 0 || check_id(call, "drive_id", err) < 0 ||
	    check_drive(b, err) < 0)
		return -err->code;
	root = api_bool(b, "is_root_device", false);
	if (root && (other_root(api, "drives", "drive_id", "is_root_device", call->id, err) < 0 ||
		     other_root(api, "pmem", "id", "root_device", NULL, err) < 0))
		return -err->code;
	value = json_deep_copy(b);
	fill_in(value, "cache_type", json_string("Unsafe"));
	if (api_str(b, "socket") == NULL) {
		fill_in(value, "is_read_only", json_false());
		fill_in(value, "io_engine", json_string("Sync"));
	}
	return api_set_element(api, "drives", "drive_id", value, root, err);
}

int api_put_net(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "iface_id", .type = API_STR, .required = true },
		{ .name = "host_dev_name", .type = API_STR, .required = true },
		{ .name = "guest_mac", .type = API_STR },
		{ .name = "mtu", .type = API_INT, .min = 68, .max = 65535 },
		{ .name = "rx_rate_limiter", .type = API_OBJECT },
		{ .name = "tx_rate_limiter", .type = API_OBJECT },
		{ NULL },
	};
	struct api_limits limits;
	json_t *item;
	size_t i;

	if (api_check(call->body, fields, err) < 0 || check_id(call, "iface_id", err) < 0 ||
	    api_limits(api_get(call->body, "rx_rate_limiter"), &limits, err) < 0 ||
	    api_limits(api_get(call->body, "tx_rate_limiter"), &limits, err) < 0)
		return -err->code;
	json_array_foreach(json_object_get(api->doc, "network-interfaces"), i, item) {
		const char *dev = api_str(item, "host_dev_name");

		if (strcmp(api_str(item, "iface_id"), call->id) != 0 && dev != NULL &&
		    strcmp(dev, api_str(call->body, "host_dev_name")) == 0)
			return err_set(err, EEXIST, "%s has the tap %s already",
				       api_str(item, "iface_id"), dev);
	}
	return api_set_element(api, "network-interfaces", "iface_id", json_deep_copy(call->body),
			       false, err);
}

int api_put_pmem(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "id", .type = API_STR, .required = true },
		{ .name = "path_on_host", .type = API_STR, .required = true },
		{ .name = "root_device", .type = API_BOOL },
		{ .name = "read_only", .type = API_BOOL },
		{ .name = "rate_limiter", .type = API_OBJECT },
		{ NULL },
	};
	const json_t *b = call->body;
	json_t *value;

	if (api_check(b, fields, err) < 0 || check_id(call, "id", err) < 0 ||
	    check_file("pmem", api_str(b, "path_on_host"), !api_bool(b, "read_only", false), err) <
		    0)
		return -err->code;
	if (api_get(b, "rate_limiter") != NULL)
		return err_set(err, ENOTSUP, "a pmem device has no rate limiter here");
	if (api_bool(b, "root_device", false) &&
	    (other_root(api, "pmem", "id", "root_device", call->id, err) < 0 ||
	     other_root(api, "drives", "drive_id", "is_root_device", NULL, err) < 0))
		return -err->code;
	value = json_deep_copy(b);
	fill_in(value, "root_device", json_false());
	fill_in(value, "read_only", json_false());
	return api_set_element(api, "pmem", "id", value, false, err);
}

int api_put_vsock(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "guest_cid",
		  .type = API_INT,
		  .required = true,
		  .min = 3,
		  .max = 0xfffffffe },
		{ .name = "uds_path", .type = API_STR, .required = true },
		{ .name = "vsock_id", .type = API_STR },
		{ NULL },
	};

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	return api_set_member(api, "vsock", json_deep_copy(call->body), err);
}

int api_put_balloon(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "amount_mib", .type = API_INT, .required = true, .max = 8 << 20 },
		{ .name = "deflate_on_oom", .type = API_BOOL, .required = true },
		{ .name = "stats_polling_interval_s", .type = API_INT, .max = 65535 },
		{ .name = "free_page_hinting", .type = API_BOOL },
		{ .name = "free_page_reporting", .type = API_BOOL },
		{ NULL },
	};
	const json_t *b = call->body;
	json_t *value;

	if (api_check(b, fields, err) < 0)
		return -err->code;
	value = json_deep_copy(b);
	fill_in(value, "stats_polling_interval_s", json_integer(0));
	fill_in(value, "free_page_hinting", json_false());
	fill_in(value, "free_page_reporting", json_false());
	return api_set_member(api, "balloon", value, err);
}

int api_put_entropy(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = { { .name = "rate_limiter", .type = API_OBJECT },
						   { NULL } };
	struct api_limits limits;

	if (api_check(call->body, fields, err) < 0 ||
	    api_limits(api_get(call->body, "rate_limiter"), &limits, err) < 0)
		return -err->code;
	if (limits.ops.rate != 0 || limits.bytes.once != 0)
		return err_set(err, ENOTSUP,
			       "rate_limiter: of the entropy device, only the bandwidth can be "
			       "limited, without one_time_burst");
	return api_set_member(api, "entropy", json_deep_copy(call->body), err);
}

int api_put_serial(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = { { .name = "serial_out_path", .type = API_STR },
						   { .name = "rate_limiter", .type = API_OBJECT },
						   { NULL } };

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	if (api_get(call->body, "rate_limiter") != NULL)
		return err_set(err, ENOTSUP, "the serial port has no rate limiter here");
	return api_set_member(api, "serial", json_deep_copy(call->body), err);
}
