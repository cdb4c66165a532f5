// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: logger and metrics, the configuration as a whole, and our own options, each of
 * which is a resource by its name: what --dry-run prints of it can be put there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "vmm/api/impl.h"
#include "vmm/base/log.h"

/* --- Logger --- */

static int parse_level(const char *text, int *level, struct err *err)
{
	static const struct {
		const char *name;
		int level; /* -1: nothing at all */
	} levels[] = {
		{ "Off", -1 },		{ "Error", LOG_ERROR }, { "Warning", LOG_WARN },
		{ "Warn", LOG_WARN },	{ "Info", LOG_INFO },	{ "Debug", LOG_DEBUG },
		{ "Trace", LOG_DEBUG },
	};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcasecmp(levels[i].name, text) == 0) {
			*level = levels[i].level;
			return 0;
		}
	}
	return err_set(err, EINVAL,
		       "unknown level '%.50s' (valid: Off, Error, Warning, Info, Debug, Trace)",
		       text);
}

int api_set_log(const char *path, const char *level, bool show_level, struct err *err)
{
	int number = LOG_WARN, fd;

	if (level != NULL && parse_level(level, &number, err) < 0)
		return -err->code;
	if (path != NULL) {
		/* Both ways, so that a pipe can be opened before its reader. */
		fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
			  0600);
		if (fd < 0)
			return err_sys(err, errno, "log %.200s: cannot open", path);
		log_set_fd(fd); /* for good: messages come until the very end */
	}
	if (level != NULL && number >= 0)
		log_set_level((enum log_level)number);
	else if (level != NULL)
		log_set_fd(-1);
	log_set_show_level(show_level);
	return 0;
}

int api_put_logger(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "log_path", .type = API_STR },
		{ .name = "level", .type = API_STR },
		{ .name = "show_level", .type = API_BOOL },
		{ .name = "show_log_origin", .type = API_BOOL },
		{ .name = "module", .type = API_STR },
		{ NULL },
	};
	const json_t *b = call->body;

	if (api_check(b, fields, err) < 0)
		return -err->code;
	if (api_bool(b, "show_log_origin", false) || api_get(b, "module") != NULL)
		return err_set(err, ENOTSUP,
			       "messages do not say where in the program they come from: leave out "
			       "show_log_origin and module");
	if (api_set_log(api_str(b, "log_path"), api_str(b, "level"),
			api_bool(b, "show_level", false), err) < 0)
		return -err->code;
	json_object_set(api->doc, "logger", (json_t *)b);
	return 0;
}

int api_put_metrics(struct api *api, struct api_call *call, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "metrics_path", .type = API_STR, .required = true }, { NULL }
	};

	if (api_check(call->body, fields, err) < 0)
		return -err->code;
	if (api->metrics.fd >= 0)
		return err_set(err, EEXIST, "metrics are written already");
	if (metrics_open(&api->metrics, api_str(call->body, "metrics_path"), err) < 0)
		return -err->code;
	json_object_set(api->doc, "metrics", (json_t *)call->body);
	return 0;
}

/* --- The configuration as a whole --- */

/* Our marks are not for others. */
static void strip(json_t *json)
{
	json_t *item;
	const char *key;
	size_t i;

	if (json_is_object(json)) {
		json_object_del(json, "given");
		json_object_del(json, "given_cpus");
	}
	json_object_foreach(json, key, item)
		strip(item);
	json_array_foreach(json, i, item)
		strip(item);
}

int api_get_config(struct api *api, struct api_call *call, struct err *err)
{
	(void)err;
	call->reply = json_deep_copy(api->doc);
	strip(call->reply);
	return 0;
}

int api_get_options(struct api *api, struct api_call *call, struct err *err)
{
	struct vm_config cfg = { 0 };
	int r = 0;

	if (api->vm != NULL) {
		call->reply = opt_to_json(api->cfg.options, &api->cfg);
	} else {
		r = api_make_config(api, &cfg, err);
		if (r == 0)
			call->reply = opt_to_json(cfg.options, &cfg);
		vm_config_free(&cfg);
	}
	if (r == 0 && call->reply == NULL)
		return err_set(err, ENOMEM, "no memory for the configuration");
	return r;
}

/* Whose resources are elsewhere, or which were of use when the program started. */
static int check_option(const char *name, struct err *err)
{
	static const struct {
		const char *option, *path;
	} elsewhere[] = {
		{ "kernel", "/boot-source" },
		{ "initrd", "/boot-source" },
		{ "cmdline", "/boot-source" },
		{ "mem", "/machine-config" },
		{ "cpus", "/machine-config" },
		{ "restore", "/snapshot/load" },
		{ "snapshot", "/snapshot/create" },
		{ "log-path", "/logger" },
		{ "level", "/logger" },
		{ "show-level", "/logger" },
		{ "metrics-path", "/metrics" },
	};
	static const char *const fixed[] = { "api", "http-api-max-payload-size", "no-seccomp",
					     "sandbox", "sandbox-dir" };

	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
		if (strcmp(elsewhere[i].option, name) == 0)
			return err_set(err, EINVAL, "%s: its resource is %s", name,
				       elsewhere[i].path);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (strcmp(fixed[i], name) == 0)
			return err_set(err, EINVAL, "%s: only on the command line", name);
	return 0;
}

int api_put_option(struct api *api, struct api_call *call, struct err *err)
{
	struct vm_config cfg = { 0 };
	json_t *old = api->own;
	int r;

	if (check_option(call->id, err) < 0)
		return -err->code;
	api->own = json_deep_copy(old);
	json_object_set(api->own, call->id, (json_t *)call->body);
	r = api_make_config(api, &cfg, err);
	vm_config_free(&cfg);
	if (r < 0) {
		json_decref(api->own);
		api->own = old;
		return r;
	}
	json_decref(old);
	api->configured = true;
	return 0;
}
