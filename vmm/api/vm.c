// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: what is asked of a VM, and done to it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/api/impl.h"

#define STATUS_KILLED (128 + 9)

static const char *state_of(const struct api *api)
{
	return api->vm == NULL ? "Not started" : vm_paused(api->vm) ? "Paused" : "Running";
}

int api_get_info(struct api *api, struct api_call *call, struct err *err)
{
	const char *id = api->base.name != NULL ? api->base.name : "anonymous-instance";

	(void)err;
	call->reply = json_pack("{ss ss ss ss}", "id", id, "state", state_of(api), "vmm_version",
				VMM_VERSION, "app_name", "vmm");
	return 0;
}

int api_get_version(struct api *api, struct api_call *call, struct err *err)
{
	(void)api;
	(void)err;
	/* The field's name is part of the dialect. */
	call->reply = json_pack("{ss}", "firecracker_version", VMM_VERSION);
	return 0;
}

int api_patch_vm(struct api *api, struct api_call *call, struct err *err)
{
	static const char *const states[] = { "Paused", "Resumed", NULL };
	static const struct api_field fields[] = {
		{ .name = "state", .type = API_WORD, .required = true, .values = states },
		{ NULL },
	};

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	if (strcmp(api_str(call->body, "state"), "Paused") == 0)
		return vm_pause(api->vm, err);
	return vm_resume(api->vm, err);
}

/* --- Actions --- */

static int start(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	return api_start(api, NULL, err);
}

static int flush(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	if (api->metrics.fd < 0)
		return err_set(err, EINVAL,
			       "metrics are not written anywhere: PUT /metrics before "
			       "the VM starts");
	return metrics_flush(&api->metrics, err);
}

static int power_button(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	(void)err;
	vm_power_button(api->vm);
	return 0;
}

static int stop(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	(void)err;
	vm_stop(api->vm);
	return 0;
}

static int kill_vm(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	(void)err;
	if (api->vm != NULL)
		vm_end(api->vm, STATUS_KILLED);
	else
		loop_quit(api->loop, STATUS_KILLED);
	return 0;
}

static int reset(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	(void)err;
	vm_reset(api->vm);
	return 0;
}

static int nmi(struct api *api, const json_t *body, struct err *err)
{
	(void)body;
	(void)err;
	vm_nmi(api->vm);
	return 0;
}

static int sysrq(struct api *api, const json_t *body, struct err *err)
{
	const char *key = api_str(body, "key");

	if (key == NULL || strlen(key) != 1)
		return err_set(err, EINVAL, "key must be one character, as \"t\"");
	if (!vm_sysrq(api->vm, *key))
		return err_set(err, EINVAL,
			       "there is no console to send a SysRq key to, or it has "
			       "no room");
	return 0;
}

int api_put_action(struct api *api, struct api_call *call, struct err *err)
{
	static const struct {
		const char *name;
		enum api_when when;
		int (*fn)(struct api *api, const json_t *body, struct err *err);
	} actions[] = {
		{ "InstanceStart", API_BEFORE, start },
		{ "FlushMetrics", API_AFTER, flush },
		{ "SendCtrlAltDel", API_AFTER, power_button },
		{ "Stop", API_AFTER, stop },
		{ "Kill", API_ANY, kill_vm },
		{ "Reset", API_AFTER, reset },
		{ "SendNmi", API_AFTER, nmi },
		{ "SendSysrq", API_AFTER, sysrq },
	};
	const char *names[sizeof(actions) / sizeof(actions[0]) + 1];
	const struct api_field fields[] = {
		{ .name = "action_type", .type = API_WORD, .required = true, .values = names },
		{ .name = "key", .type = API_STR },
		{ NULL },
	};
	const char *name;
	size_t n = 0;

	for (n = 0; n < sizeof(actions) / sizeof(actions[0]); n++)
		names[n] = actions[n].name;
	names[n] = NULL;
	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	name = api_str(call->body, "action_type");
	if (api_get(call->body, "key") != NULL && strcmp(name, "SendSysrq") != 0)
		return err_set(err, EINVAL, "key is for SendSysrq");
	for (n = 0; strcmp(actions[n].name, name) != 0;)
		n++;
	if ((actions[n].when & (api->vm != NULL ? API_AFTER : API_BEFORE)) == 0)
		return err_set(err, EINVAL, "%s is not possible %s the VM has started", name,
			       api->vm != NULL ? "once" : "before");
	return actions[n].fn(api, call->body, err);
}

/* --- Snapshots --- */

int api_create_snapshot(struct api *api, struct api_call *call, struct err *err)
{
	static const char *const types[] = { "Full", "Diff", NULL };
	static const struct api_field fields[] = {
		{ .name = "snapshot_path", .type = API_STR, .required = true },
		{ .name = "mem_file_path", .type = API_STR, .required = true },
		{ .name = "snapshot_type", .type = API_WORD, .values = types },
		{ NULL },
	};
	const json_t *b = call->body;
	struct snapshot_config cfg;

	if (api_check(b, fields, err) < 0)
		return -err->code;
	if (!vm_paused(api->vm))
		return err_set(err, EINVAL, "the VM runs: PATCH /vm with the state Paused first");
	cfg = (struct snapshot_config){
		.state = (char *)api_str(b, "snapshot_path"),
		.memory = (char *)api_str(b, "mem_file_path"),
		.diff = api_str(b, "snapshot_type") != NULL &&
			strcmp(api_str(b, "snapshot_type"), "Diff") == 0,
	};
	if (vm_snapshot(api->vm, &cfg, err) < 0)
		return -err->code;
	vm_tell(api->vm, VM_SNAPSHOT);
	return 0;
}

/* What --restore is told. */
static int restore_option(const json_t *b, json_t *option, struct err *err)
{
	static const char *const types[] = { "File", "Uffd", NULL };
	static const struct api_field backend_fields[] = {
		{ .name = "backend_type", .type = API_WORD, .required = true, .values = types },
		{ .name = "backend_path", .type = API_STR, .required = true },
		{ NULL },
	};
	const json_t *backend = api_get(b, "mem_backend");
	const char *memory = api_str(b, "mem_file_path");

	if ((backend != NULL) == (memory != NULL))
		return err_set(err, EINVAL, "give either mem_backend or mem_file_path");
	if (backend != NULL) {
		if (api_check(backend, backend_fields, err) < 0)
			return err_context(err, "mem_backend");
		if (strcmp(api_str(backend, "backend_type"), "Uffd") == 0)
			return err_set(err, ENOTSUP, "mem_backend: memory comes from a File only");
		memory = api_str(backend, "backend_path");
	}
	json_object_set(option, "state", json_object_get(b, "snapshot_path"));
	json_object_set_new(option, "memory", json_string(memory));
	json_object_set_new(option, "paused", json_boolean(!api_bool(b, "resume_vm", false)));
	json_object_set_new(option, "track",
			    json_boolean(api_bool(b, "track_dirty_pages", false) ||
					 api_bool(b, "enable_diff_snapshots", false)));
	json_object_set_new(option, "clock",
			    json_string(api_bool(b, "clock_realtime", false) ? "real" : "saved"));
	return 0;
}

static int restore_overrides(const json_t *b, json_t *option, struct err *err)
{
	static const struct api_field net_fields[] = {
		{ .name = "iface_id", .type = API_STR, .required = true },
		{ .name = "host_dev_name", .type = API_STR, .required = true },
		{ NULL },
	};
	static const struct api_field vsock_fields[] = {
		{ .name = "uds_path", .type = API_STR, .required = true },
		{ NULL },
	};
	const json_t *vsock = api_get(b, "vsock_override");
	json_t *nets = json_object(), *item;
	size_t i;

	json_object_set_new(option, "nets", nets);
	json_array_foreach(api_get(b, "network_overrides"), i, item) {
		if (api_check(item, net_fields, err) < 0)
			return err_context(err, "network_overrides[%zu]", i);
		json_object_set(nets, api_str(item, "iface_id"), api_get(item, "host_dev_name"));
	}
	if (json_object_size(nets) == 0)
		json_object_del(option, "nets");
	if (vsock == NULL)
		return 0;
	if (api_check(vsock, vsock_fields, err) < 0)
		return err_context(err, "vsock_override");
	json_object_set_new(option, "vsock",
			    json_pack("{sO}", "vsock0", api_get(vsock, "uds_path")));
	return 0;
}

int api_load_snapshot(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "snapshot_path", .type = API_STR, .required = true },
		{ .name = "mem_file_path", .type = API_STR },
		{ .name = "mem_backend", .type = API_OBJECT },
		{ .name = "resume_vm", .type = API_BOOL },
		{ .name = "track_dirty_pages", .type = API_BOOL },
		{ .name = "enable_diff_snapshots", .type = API_BOOL },
		{ .name = "network_overrides", .type = API_ARRAY },
		{ .name = "vsock_override", .type = API_OBJECT },
		{ .name = "clock_realtime", .type = API_BOOL },
		{ NULL },
	};
	const json_t *b = call->body;
	json_t *option;
	int r;

	if (api_check(b, fields, err) < 0)
		return -err->code;
	if (api->configured)
		return err_set(err, EINVAL,
			       "a snapshot says what the VM is made of: it cannot be loaded after "
			       "something was configured");
	option = json_object();
	r = restore_option(b, option, err);
	if (r == 0)
		r = restore_overrides(b, option, err);
	if (r == 0)
		r = api_start(api, option, err);
	json_decref(option);
	return r;
}

/* --- Events and metrics --- */

int api_get_events(struct api *api, struct api_call *call, struct err *err)
{
	call->stream = true;
	if (asprintf(&call->text, "{\"event\":\"connected\",\"state\":\"%s\"}\n", state_of(api)) <
	    0) {
		call->text = NULL;
		return err_set(err, ENOMEM, "no memory for the events");
	}
	return 0;
}

int api_get_stats(struct api *api, struct api_call *call, struct err *err)
{
	call->reply = api->metrics.collect(&api->metrics);
	return call->reply != NULL ? 0 : err_set(err, ENOMEM, "no memory for the metrics");
}

int api_get_prometheus(struct api *api, struct api_call *call, struct err *err)
{
	json_t *totals = api->metrics.collect(&api->metrics);

	call->text = totals != NULL ? metrics_prometheus(totals) : NULL;
	call->type = "text/plain; version=0.0.4";
	json_decref(totals);
	return call->text != NULL ? 0 : err_set(err, ENOMEM, "no memory for the metrics");
}

/* --- What is not there --- */

int api_no_mmds(struct api *api, struct api_call *call, struct err *err)
{
	(void)api;
	(void)call;
	return err_set(
		err, ENOTSUP,
		"there is no metadata service: hand data to the guest by a share, a vsock or "
		"a drive");
}

int api_no_hotplug(struct api *api, struct api_call *call, struct err *err)
{
	(void)api;
	(void)call;
	return err_set(err, ENOTSUP,
		       "memory cannot be added to a running VM: give it what it may need, and a "
		       "balloon to take the rest back");
}
