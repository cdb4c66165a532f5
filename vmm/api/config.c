// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: from what is configured to a VM's options.
 *
 * api->doc keeps resources as Firecracker writes them, with defaults filled in. api_make_config()
 * makes options of it: a JSON object that opt_from_json() lays over what the command line said, so
 * each value is checked by the same code as one that was typed. A request that does not fit is
 * found out at once: the options are made with it, and it is taken back if they cannot be.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/api/impl.h"

#define MIB	   (1ULL << 20)
#define FC_MEM_MIB 128 /* what Firecracker's VMs have if nobody says anything */

/* --- Helpers --- */

json_t *api_find(const struct api *api, const char *list, const char *key, const char *id,
		 size_t *index)
{
	json_t *array = json_object_get(api->doc, list);

	for (size_t i = 0; i < json_array_size(array); i++) {
		json_t *item = json_array_get(array, i);

		if (strcmp(api_str(item, key), id) == 0) {
			if (index != NULL)
				*index = i;
			return item;
		}
	}
	return NULL;
}

/* Does the document, with what was just changed, make a VM? If not, @old takes its place. */
static int settle(struct api *api, json_t *old, struct err *err)
{
	struct vm_config cfg = { 0 };
	int r;

	if (api->doc == NULL || old == NULL) {
		json_decref(old);
		return err_set(err, ENOMEM, "no memory for the configuration");
	}
	r = api_make_config(api, &cfg, err);
	vm_config_free(&cfg);
	if (r < 0) {
		json_decref(api->doc);
		api->doc = old;
		return r;
	}
	json_decref(old);
	api->configured = true;
	return 0;
}

/* Begin a change: from now on api->doc may be changed; the old one is for settle(). */
static json_t *begin(struct api *api)
{
	json_t *old = api->doc;

	api->doc = json_deep_copy(old);
	return old;
}

int api_set_member(struct api *api, const char *name, json_t *value, struct err *err)
{
	json_t *old = begin(api);

	json_object_set_new(api->doc, name, value);
	return settle(api, old, err);
}

int api_set_element(struct api *api, const char *list, const char *key, json_t *value, bool first,
		    struct err *err)
{
	json_t *old = begin(api), *array = json_object_get(api->doc, list);
	size_t index, given = 0;

	/* What the command line named comes first, in any case. */
	while (json_object_get(json_array_get(array, given), "given") != NULL)
		given++;

	if (api_find(api, list, key, api_str(value, key), &index) != NULL)
		json_array_set_new(array, index, value);
	else if (first)
		json_array_insert_new(array, given, value);
	else
		json_array_append_new(array, value);
	return settle(api, old, err);
}

/* --- Making options --- */

static void add_limits(json_t *option, const json_t *limiter, const char *bytes, const char *burst)
{
	struct err err = ERR_INIT;
	struct api_limits limits;

	/* It was checked when it came. */
	if (api_limits(limiter, &limits, &err) < 0 || limits.bytes.rate == 0)
		return;
	json_object_set_new(option, bytes, json_integer((json_int_t)limits.bytes.rate));
	json_object_set_new(option, burst, json_integer((json_int_t)limits.bytes.burst));
}

/* Which of the guest's disks is drive @at? Those that others serve come after all of ours. */
static size_t drive_index(const struct api *api, size_t at)
{
	const json_t *drives = json_object_get(api->doc, "drives");
	size_t before = 0, ours = 0;
	bool backend = api_str(json_array_get(drives, at), "socket") != NULL;

	for (size_t i = 0; i < json_array_size(drives); i++) {
		bool other = api_str(json_array_get(drives, i), "socket") != NULL;

		ours += !other;
		before += i < at && other == backend;
	}
	return backend ? ours + before : before;
}

static void make_boot(const struct api *api, json_t *options)
{
	const json_t *boot = json_object_get(api->doc, "boot-source");
	const char *args = api_str(boot, "boot_args");
	json_t *root = NULL, *item;
	char *text = NULL;
	const char *mode = "rw";
	char dev[32] = "vda";
	size_t i;

	if (boot == NULL)
		return;
	json_object_set(options, "kernel", json_object_get(boot, "kernel_image_path"));
	if (api_get(boot, "initrd_path") != NULL)
		json_object_set(options, "initrd", api_get(boot, "initrd_path"));
	json_array_foreach(json_object_get(api->doc, "drives"), i, item) {
		if (!api_bool(item, "is_root_device", false))
			continue;
		root = item;
		snprintf(dev, sizeof(dev), "vd%c", (char)('a' + drive_index(api, i) % 26));
		if (api_bool(item, "is_read_only", false))
			mode = "ro";
	}
	json_array_foreach(json_object_get(api->doc, "pmem"), i, item) {
		if (!api_bool(item, "root_device", false))
			continue;
		root = item;
		snprintf(dev, sizeof(dev), "pmem%zu", i);
		mode = api_bool(item, "read_only", false) ? "ro" : "rw";
	}
	if (root == NULL)
		text = strdup(args != NULL ? args : "");
	else if (api_str(root, "partuuid") != NULL)
		text = asprintf(&text, "%s%sroot=PARTUUID=%s %s", args != NULL ? args : "",
				args != NULL ? " " : "", api_str(root, "partuuid"), mode) < 0
			       ? NULL
			       : text;
	else
		text = asprintf(&text, "%s%sroot=/dev/%s %s", args != NULL ? args : "",
				args != NULL ? " " : "", dev, mode) < 0
			       ? NULL
			       : text;
	if (text != NULL && text[0] != '\0')
		json_object_set_new(options, "cmdline", json_string(text));
	free(text);
}

static void make_machine(const struct api *api, json_t *options)
{
	const json_t *m = json_object_get(api->doc, "machine-config");
	const char *huge = api_str(m, "huge_pages");
	json_int_t cpus = api_int(m, "vcpu_count", 1);
	json_t *mem = json_object(), *cpu = json_object();

	/* The command line's own words stand until the API says something else. */
	if (json_is_true(json_object_get(m, "given"))) {
		json_decref(mem);
		json_decref(cpu);
		return;
	}
	json_object_set_new(mem, "size",
			    json_integer(api_int(m, "mem_size_mib", FC_MEM_MIB) * (json_int_t)MIB));
	if (huge != NULL && strcmp(huge, "None") != 0)
		json_object_set_new(mem, "hugepages",
				    json_string(strcmp(huge, "2M") == 0 ? "2M" : "thp"));
	if (api_bool(m, "track_dirty_pages", false))
		json_object_set_new(mem, "track", json_true());
	json_object_set_new(cpu, "count", json_integer(cpus));
	if (api_bool(m, "smt", false))
		json_object_set_new(cpu, "threads", json_integer(2));
	json_object_set_new(options, "mem", mem);
	if (json_object_get(m, "given_cpus") == NULL)
		json_object_set(options, "cpus", cpu);
	json_decref(cpu);
}

static void make_drive(const json_t *d, json_t *disks, json_t *backends)
{
	json_t *option = json_object();

	if (api_str(d, "socket") != NULL) {
		json_object_set_new(option, "type", json_string("blk"));
		json_object_set(option, "socket", json_object_get(d, "socket"));
		json_object_set(option, "id", json_object_get(d, "drive_id"));
		json_array_append_new(backends, option);
		return;
	}
	json_object_set(option, "path", json_object_get(d, "path_on_host"));
	json_object_set(option, "id", json_object_get(d, "drive_id"));
	json_object_set_new(option, "ro", json_boolean(api_bool(d, "is_read_only", false)));
	/* "Unsafe" keeps no promise on flush. We do: nobody can tell but by an accident. */
	json_object_set_new(option, "cache", json_string("writeback"));
	json_array_append_new(disks, option);
}

static void make_net(const json_t *n, json_t *nets)
{
	bool limited =
		api_get(n, "rx_rate_limiter") != NULL || api_get(n, "tx_rate_limiter") != NULL;
	json_t *option = json_object();

	json_object_set(option, "tap", json_object_get(n, "host_dev_name"));
	json_object_set(option, "id", json_object_get(n, "iface_id"));
	if (api_get(n, "guest_mac") != NULL)
		json_object_set(option, "mac", api_get(n, "guest_mac"));
	if (api_get(n, "mtu") != NULL)
		json_object_set(option, "mtu", api_get(n, "mtu"));
	/* The host's kernel keeps to no rate. */
	if (limited)
		json_object_set_new(option, "vhost", json_string("off"));
	json_array_append_new(nets, option);
}

static void make_pmem(const json_t *p, json_t *pmems)
{
	json_t *option = json_object();

	json_object_set(option, "path", json_object_get(p, "path_on_host"));
	json_object_set(option, "id", json_object_get(p, "id"));
	json_object_set_new(option, "ro", json_boolean(api_bool(p, "read_only", false)));
	json_array_append_new(pmems, option);
}

/* Lists: those that came from the command line have no place in the document's options. */
static void make_lists(const struct api *api, json_t *options)
{
	json_t *disks = json_array(), *nets = json_array(), *pmems = json_array();
	json_t *backends = json_array(), *item;
	size_t i;

	json_array_foreach(json_object_get(api->doc, "drives"), i, item)
		if (!json_is_true(json_object_get(item, "given")))
			make_drive(item, disks, backends);
	json_array_foreach(json_object_get(api->doc, "network-interfaces"), i, item)
		if (!json_is_true(json_object_get(item, "given")))
			make_net(item, nets);
	json_array_foreach(json_object_get(api->doc, "pmem"), i, item)
		if (!json_is_true(json_object_get(item, "given")))
			make_pmem(item, pmems);
	json_object_set_new(options, "disk", disks);
	json_object_set_new(options, "net", nets);
	json_object_set_new(options, "pmem", pmems);
	json_object_set_new(options, "vhost-user", backends);
}

static void make_single(const struct api *api, json_t *options)
{
	const json_t *v = json_object_get(api->doc, "vsock");
	const json_t *b = json_object_get(api->doc, "balloon");
	const json_t *e = json_object_get(api->doc, "entropy");
	const char *serial = api_str(json_object_get(api->doc, "serial"), "serial_out_path");

	if (v != NULL && !json_is_true(json_object_get(v, "given")))
		json_object_set_new(options, "vsock",
				    json_pack("[{sO sO}]", "cid", json_object_get(v, "guest_cid"),
					      "path", json_object_get(v, "uds_path")));
	if (b != NULL && !json_is_true(json_object_get(b, "given")))
		json_object_set_new(options, "balloon",
				    json_pack("[{sI sb sb sb sI}]", "size",
					      api_int(b, "amount_mib", 0) * (json_int_t)MIB,
					      "deflate-on-oom",
					      api_bool(b, "deflate_on_oom", false), "reporting",
					      api_bool(b, "free_page_reporting", false), "hinting",
					      api_bool(b, "free_page_hinting", false), "stats",
					      api_int(b, "stats_polling_interval_s", 0)));
	if (e != NULL && !json_is_true(json_object_get(e, "given"))) {
		json_t *option = json_object();

		add_limits(option, api_get(e, "rate_limiter"), "bw", "bw-burst");
		json_object_set_new(options, "rng", json_pack("[o]", option));
	}
	if (serial != NULL)
		json_object_set_new(options, "serial",
				    json_pack("{ss ss}", "to", "file", "path", serial));
}

/* @text as the value of a key on the command line: its commas are none of ours. */
static char *escape(const char *text)
{
	char *out = malloc(2 * strlen(text) + 1), *to = out;

	for (; out != NULL && *text != '\0'; text++) {
		if (*text == ',')
			*to++ = '\\';
		*to++ = *text;
	}
	if (out != NULL)
		*to = '\0';
	return out;
}

/* --restore with what @restore says. malloc'ed. */
static char *restore_word(const json_t *restore)
{
	char *state = escape(api_str(restore, "state")),
	     *memory = escape(api_str(restore, "memory"));
	char *word = NULL;

	if (state != NULL && memory != NULL &&
	    asprintf(&word, "--restore=state=%s,memory=%s,clock=%s,paused=%s,track=%s", state,
		     memory, api_str(restore, "clock"),
		     api_bool(restore, "paused", false) ? "on" : "off",
		     api_bool(restore, "track", false) ? "on" : "off") < 0)
		word = NULL;
	free(state);
	free(memory);
	return word;
}

/* Change key @key of the uses of option @option that @names (an object: id to value) names. */
static int override(struct vm_config *cfg, const char *option, const char *key, json_t *names,
		    struct err *err)
{
	json_t *all = opt_to_json(cfg->options, cfg), *item, *value;
	json_t *uses = json_object_get(all, option);
	const char *name;
	int r = 0;
	size_t i;

	json_object_foreach(names, name, value) {
		bool found = false;

		json_array_foreach(uses, i, item) {
			char id[API_ID_MAX];

			snprintf(id, sizeof(id), "%s%zu", option, i);
			if (strcmp(api_str(item, "id") != NULL ? api_str(item, "id") : id, name) !=
			    0)
				continue;
			json_object_set(item, key, value);
			found = true;
		}
		if (!found)
			r = err_set(err, ENOENT, "the guest in the snapshot has no %s '%.64s'",
				    option, name);
	}
	if (r == 0) {
		json_t *only = json_pack("{sO}", option, uses);

		opt_clear(cfg->options, cfg, option);
		r = opt_from_json(cfg->options, cfg, only, err);
		json_decref(only);
	}
	json_decref(all);
	return r;
}

int api_restore_config(struct api *api, struct vm_config *cfg, const json_t *restore,
		       struct err *err)
{
	char **argv = calloc((size_t)api->argc + 2, sizeof(*argv));
	char *word = restore_word(restore);
	int used = 0, r;

	if (argv == NULL || word == NULL) {
		free(argv);
		free(word);
		return err_set(err, ENOMEM, "no memory for the configuration");
	}
	memcpy(argv, api->argv, (size_t)api->argc * sizeof(*argv));
	argv[api->argc] = word;
	r = vm_config_read(cfg, sizeof(*cfg), NULL, api->argc + 1, argv, &used, err);
	if (r == 0 && api_get(restore, "nets") != NULL)
		r = override(cfg, "net", "tap", api_get(restore, "nets"), err);
	if (r == 0 && api_get(restore, "vsock") != NULL)
		r = override(cfg, "vsock", "path", api_get(restore, "vsock"), err);
	if (r == 0)
		r = vm_config_check(cfg, err);
	free(argv);
	free(word);
	return r;
}

int api_make_config(struct api *api, struct vm_config *cfg, struct err *err)
{
	json_t *options = json_object();
	int used = 0, r;

	make_boot(api, options);
	make_machine(api, options);
	make_lists(api, options);
	make_single(api, options);
	r = vm_config_read(cfg, sizeof(*cfg), NULL, api->argc, api->argv, &used, err);
	if (r == 0)
		r = opt_from_json(cfg->options, cfg, options, err);
	if (r == 0)
		r = opt_from_json(cfg->options, cfg, api->own, err);
	/* As Firecracker, whose guests leave by a reboot. */
	if (r == 0 && !opt_given(cfg->options, cfg, "reboot") && api->base.machine.kernel == NULL)
		cfg->reboot = false;
	if (r == 0)
		r = vm_config_check(cfg, err);
	json_decref(options);
	return r;
}

/* --- The document at the start --- */

static json_t *given_list(const struct vm_config *cfg, const char *option, const char *key,
			  const char *path_key, const char *path_name)
{
	json_t *list = json_array(), *all = opt_to_json(cfg->options, cfg);
	json_t *item, *uses = json_object_get(all, option);
	size_t i;

	json_array_foreach(uses, i, item) {
		json_t *element = json_object();
		char id[API_ID_MAX];

		snprintf(id, sizeof(id), "%s%zu", option, i);
		if (json_object_get(item, "id") != NULL)
			json_object_set(element, key, json_object_get(item, "id"));
		else
			json_object_set_new(element, key, json_string(id));
		if (json_object_get(item, path_key) != NULL)
			json_object_set(element, path_name, json_object_get(item, path_key));
		if (strcmp(option, "net") != 0 && json_object_get(item, "ro") != NULL)
			json_object_set(element,
					strcmp(option, "disk") == 0 ? "is_read_only" : "read_only",
					json_object_get(item, "ro"));
		if (strcmp(option, "disk") == 0)
			json_object_set_new(element, "is_root_device", json_false());
		json_object_set_new(element, "given", json_true());
		json_array_append_new(list, element);
	}
	json_decref(all);
	return list;
}

/* A balloon, a vsock and an rng of the command line. */
static void given_single(struct api *api, const struct vm_config *cfg)
{
	json_t *all = opt_to_json(cfg->options, cfg);
	json_t *v = json_array_get(json_object_get(all, "vsock"), 0);

	if (v != NULL && json_object_get(v, "path") != NULL)
		json_object_set_new(api->doc, "vsock",
				    json_pack("{sO sO sb}", "guest_cid", json_object_get(v, "cid"),
					      "uds_path", json_object_get(v, "path"), "given", 1));
	if (json_array_size(json_object_get(all, "balloon")) > 0)
		json_object_set_new(
			api->doc, "balloon",
			json_pack(
				"{si sO sO sO sb}", "amount_mib", 0, "deflate_on_oom",
				json_object_get(json_array_get(json_object_get(all, "balloon"), 0),
						"deflate-on-oom"),
				"free_page_reporting",
				json_object_get(json_array_get(json_object_get(all, "balloon"), 0),
						"reporting"),
				"free_page_hinting",
				json_object_get(json_array_get(json_object_get(all, "balloon"), 0),
						"hinting"),
				"given", 1));
	if (json_array_size(json_object_get(all, "rng")) > 0)
		json_object_set_new(api->doc, "entropy", json_pack("{sb}", "given", 1));
	json_decref(all);
}

int api_config_init(struct api *api, const struct vm_config *cfg, struct err *err)
{
	static const char *const huge[] = { "None", "Transparent", "2M", "1G" };
	const struct machine_config *m = &cfg->machine;
	bool mem = opt_given(cfg->options, cfg, "mem"), cpus = opt_given(cfg->options, cfg, "cpus");
	bool fc = m->kernel == NULL && !mem;

	json_decref(api->own);
	json_decref(api->doc);
	api->own = json_object();
	api->doc = json_pack(
		"{s{sI sI sb sb ss} so so so}", "machine-config", "vcpu_count",
		(json_int_t)m->cpus.count, "mem_size_mib",
		(json_int_t)(fc ? FC_MEM_MIB : m->mem.size / MIB), "smt", m->cpus.threads > 1,
		"track_dirty_pages", m->mem.track, "huge_pages", huge[m->mem.huge], "drives",
		given_list(cfg, "disk", "drive_id", "path", "path_on_host"), "network-interfaces",
		given_list(cfg, "net", "iface_id", "tap", "host_dev_name"), "pmem",
		given_list(cfg, "pmem", "id", "path", "path_on_host"));
	if (api->own == NULL || api->doc == NULL)
		return err_set(err, ENOMEM, "no memory for the configuration");
	if (!fc)
		json_object_set_new(json_object_get(api->doc, "machine-config"), "given",
				    json_true());
	if (cpus)
		json_object_set_new(json_object_get(api->doc, "machine-config"), "given_cpus",
				    json_true());
	if (m->kernel != NULL) {
		json_t *boot = json_pack("{ss}", "kernel_image_path", m->kernel);

		if (m->initrd != NULL)
			json_object_set_new(boot, "initrd_path", json_string(m->initrd));
		if (m->cmdline != NULL)
			json_object_set_new(boot, "boot_args", json_string(m->cmdline));
		json_object_set_new(api->doc, "boot-source", boot);
	}
	given_single(api, cfg);
	return 0;
}
