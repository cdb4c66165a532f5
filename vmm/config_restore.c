// SPDX-License-Identifier: Apache-2.0
/*
 * The configuration of a restored VM: what it takes from the snapshot, and what may be different.
 */
#include <errno.h>
#include <string.h>
#include "vmm/config.h"
#include "vmm/devices.h"
#include "vmm/snapshot/snapshot.h"

json_t *vm_config_restore(struct vm_config *cfg, struct err *err)
{
	json_t *json, *value;
	const char *name;
	void *next;

	snapshot_close(cfg->snapshot);
	cfg->snapshot = snapshot_open(cfg->restore.state, cfg->restore.memory, err);
	if (cfg->snapshot == NULL)
		return NULL;
	json = snapshot_config_json(cfg->snapshot, err);
	if (json == NULL)
		return NULL;
	json_object_foreach_safe(json, next, name, value)
		if (vm_option_is_monitors(name))
			json_object_del(json, name);
	return json;
}

/* How often option @name was given in the snapshot: an array of uses, or none. */
static size_t uses_in(const json_t *json, const char *name)
{
	const json_t *value = json_object_get(json, name);

	return json_is_array(value) ? json_array_size(value) : value != NULL;
}

static int compare(const struct vm_config *cfg, const json_t *json, struct err *err)
{
	const char *serial =
		json_string_value(json_object_get(json_object_get(json, "serial"), "to"));
	bool had_serial = serial == NULL || strcmp(serial, "off") != 0;

	if (had_serial != cfg->machine.serial)
		return err_set(err, EINVAL,
			       "--serial: the guest in the snapshot has %s serial port",
			       had_serial ? "a" : "no");
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		const char *name = virtio_kind(i)->option.name;
		size_t had = uses_in(json, name), has = cfg->devices[i].n;

		if (had != has)
			return err_set(
				err, EINVAL,
				"--%s: the guest in the snapshot has %zu, and %zu %s given; name "
				"all of them, in the same order",
				name, had, has, has == 1 ? "is" : "are");
	}
	return 0;
}

int vm_config_fits(const struct vm_config *cfg, struct err *err)
{
	json_t *json;
	int r;

	if (cfg->snapshot == NULL)
		return 0;
	json = snapshot_config_json(cfg->snapshot, err);
	r = json != NULL ? compare(cfg, json, err) : -err->code;
	json_decref(json);
	return r;
}
