// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: HTTP on a Unix socket, in Firecracker's dialect, so that the clients that exist
 * for it work.
 *
 * Theory of operation. There is one loop, the main one, for the API and the VM. It runs before
 * there is a VM: requests then fill api->doc, and the action InstanceStart (or a snapshot that is
 * loaded) makes the options of it that a command line could have had, and the VM of these, by
 * the one recipe in vm.c. From then on the VM's handlers and the API's take turns; no request
 * waits for anything but the files it names. When the VM ends, so does everything.
 *
 * A configuration file (--config-file) is a list of the same requests: each of its members is
 * handed to the handler that the API would take.
 *
 * Every request has a line in the table below. 204 is the answer to what was done, 200 to what
 * was asked, 400 with {"fault_message": sentence} to everything else.
 *
 * Whoever can connect owns the VM, and what the monitor may open: the socket's mode is 0600.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "vmm/api/impl.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/api/ctl.h"

#define NS_PER_MS 1000000

/* clang-format off */
static const struct api_route routes[] = {
	{ "GET",   "/",                        API_ANY,    API_NO_BODY,  api_get_info },
	{ "GET",   "/version",                 API_ANY,    API_NO_BODY,  api_get_version },
	{ "GET",   "/vm/config",               API_ANY,    API_NO_BODY,  api_get_config },
	{ "PATCH", "/vm",                      API_AFTER,  API_BODY,     api_patch_vm },
	{ "PUT",   "/actions",                 API_ANY,    API_BODY,     api_put_action },
	{ "GET",   "/machine-config",          API_ANY,    API_NO_BODY,  api_get_machine },
	{ "PUT",   "/machine-config",          API_BEFORE, API_BODY,     api_put_machine },
	{ "PATCH", "/machine-config",          API_BEFORE, API_BODY,     api_put_machine },
	{ "PUT",   "/cpu-config",              API_BEFORE, API_BODY,     api_put_cpu },
	{ "PUT",   "/boot-source",             API_BEFORE, API_BODY,     api_put_boot_source },
	{ "PUT",   "/drives/*",                API_BEFORE, API_BODY,     api_put_drive },
	{ "PATCH", "/drives/*",                API_AFTER,  API_BODY,     api_patch_drive },
	{ "PUT",   "/network-interfaces/*",    API_BEFORE, API_BODY,     api_put_net },
	{ "PATCH", "/network-interfaces/*",    API_AFTER,  API_BODY,     api_patch_net },
	{ "PUT",   "/pmem/*",                  API_BEFORE, API_BODY,     api_put_pmem },
	{ "PATCH", "/pmem/*",                  API_AFTER,  API_BODY,     api_patch_pmem },
	{ "PUT",   "/vsock",                   API_BEFORE, API_BODY,     api_put_vsock },
	{ "GET",   "/balloon",                 API_ANY,    API_NO_BODY,  api_get_balloon },
	{ "PUT",   "/balloon",                 API_BEFORE, API_BODY,     api_put_balloon },
	{ "PATCH", "/balloon",                 API_AFTER,  API_BODY,     api_patch_balloon },
	{ "GET",   "/balloon/statistics",      API_AFTER,  API_NO_BODY,  api_get_balloon_stats },
	{ "PATCH", "/balloon/statistics",      API_AFTER,  API_BODY,     api_patch_balloon_stats },
	{ "PATCH", "/balloon/hinting/start",   API_AFTER,  API_MAY_BODY, api_start_hinting },
	{ "GET",   "/balloon/hinting/status",  API_AFTER,  API_NO_BODY,  api_get_hinting },
	{ "PATCH", "/balloon/hinting/stop",    API_AFTER,  API_MAY_BODY, api_stop_hinting },
	{ "PUT",   "/entropy",                 API_BEFORE, API_BODY,     api_put_entropy },
	{ "PUT",   "/serial",                  API_BEFORE, API_BODY,     api_put_serial },
	{ "PUT",   "/logger",                  API_ANY,    API_BODY,     api_put_logger },
	{ "PUT",   "/metrics",                 API_BEFORE, API_BODY,     api_put_metrics },
	{ "GET",   "/mmds",                    API_ANY,    API_NO_BODY,  api_no_mmds },
	{ "PUT",   "/mmds",                    API_ANY,    API_BODY,     api_no_mmds },
	{ "PATCH", "/mmds",                    API_ANY,    API_BODY,     api_no_mmds },
	{ "PUT",   "/mmds/config",             API_BEFORE, API_BODY,     api_no_mmds },
	{ "PUT",   "/snapshot/create",         API_AFTER,  API_BODY,     api_create_snapshot },
	{ "PUT",   "/snapshot/load",           API_BEFORE, API_BODY,     api_load_snapshot },
	{ "GET",   "/hotplug/memory",          API_ANY,    API_NO_BODY,  api_no_hotplug },
	{ "PUT",   "/hotplug/memory",          API_BEFORE, API_BODY,     api_no_hotplug },
	{ "PATCH", "/hotplug/memory",          API_AFTER,  API_BODY,     api_no_hotplug },
	/* Not Firecracker's. */
	{ "GET",   "/options",                 API_ANY,    API_NO_BODY,  api_get_options },
	{ "PUT",   "/options/*",               API_BEFORE, API_BODY,     api_put_option },
	{ "GET",   "/events",                  API_ANY,    API_NO_BODY,  api_get_events },
	{ "GET",   "/metrics",                 API_ANY,    API_NO_BODY,  api_get_stats },
	{ "GET",   "/metrics/prometheus",      API_ANY,    API_NO_BODY,  api_get_prometheus },
};
/* clang-format on */

#define NROUTES (sizeof(routes) / sizeof(routes[0]))

/* --- From a request to its handler --- */

/* May @id be in a path? As Firecracker has it: letters, digits and '_'; and '-', for our own. */
static int take_id(const char *text, char id[API_ID_MAX + 1], struct err *err)
{
	static const char valid[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	size_t len = strlen(text);

	if (len == 0)
		return err_set(err, EINVAL, "the path ends without an id");
	if (len > API_ID_MAX)
		return err_set(err, EINVAL, "an id has at most %d characters", API_ID_MAX);
	if (strspn(text, valid) != len)
		return err_set(err, EINVAL,
			       "an id is made of letters, digits, '_' and '-', not '%.*s'",
			       API_ID_MAX, text);
	memcpy(id, text, len + 1);
	return 0;
}

/* Is @path what the route is for? *@id: its free part. */
static bool matches(const struct api_route *route, const char *path, const char **id)
{
	size_t len = strcspn(route->path, "*");

	*id = NULL;
	if (route->path[len] == '\0')
		return strcmp(route->path, path) == 0;
	*id = path + len;
	return strncmp(route->path, path, len) == 0 && strchr(*id, '/') == NULL;
}

static const struct api_route *find_route(const char *method, const char *path, const char **id,
					  struct err *err)
{
	char methods[64] = "";

	for (size_t i = 0; i < NROUTES; i++) {
		if (!matches(&routes[i], path, id))
			continue;
		if (strcmp(routes[i].method, method) == 0)
			return &routes[i];
		snprintf(methods + strlen(methods), sizeof(methods) - strlen(methods), "%s%s",
			 methods[0] != '\0' ? ", " : "", routes[i].method);
	}
	if (methods[0] != '\0')
		err_set(err, EINVAL, "%.16s is not for %.100s (valid: %s)", method, path, methods);
	else
		err_set(err, ENOENT, "there is no resource %.100s", path);
	return NULL;
}

static int call_route(struct api *api, const struct api_route *route, const char *path,
		      struct api_call *call, struct err *err)
{
	enum api_when now = api->vm != NULL ? API_AFTER : API_BEFORE;

	if (route->body == API_NO_BODY && call->body != NULL)
		return err_set(err, EINVAL, "%s %s takes no body", call->method, path);
	if (route->body == API_BODY && call->body == NULL)
		return err_set(err, EINVAL, "%s %s needs a body", call->method, path);
	if ((route->when & now) == 0)
		return err_set(err, EINVAL, "%s %s is not possible %s the VM has started",
			       call->method, path, now == API_AFTER ? "once" : "before");
	if (route->fn(api, call, err) < 0)
		return -err->code;
	return 0;
}

int api_do(struct api *api, const char *method, const char *path, const json_t *body,
	   struct api_call *call, struct err *err)
{
	const struct api_route *route;
	const char *id;

	*call = (struct api_call){ .method = method, .body = body };
	route = find_route(method, path, &id, err);
	if (route == NULL || (id != NULL && take_id(id, call->id, err) < 0) ||
	    call_route(api, route, path, call, err) < 0) {
		log_info("API: %s %.100s: %s", method, path, err->msg);
		return 400;
	}
	log_info("API: %s %.100s", method, path);
	return call->reply != NULL || call->text != NULL || call->stream ? 200 : 204;
}

/* --- HTTP --- */

static char *fault_body(int status, const char *why)
{
	json_t *json = json_pack("{ss}", "fault_message", why);
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

	(void)status;
	json_decref(json);
	return text;
}

static void reply_fault(struct http_reply *reply, int status, const char *why)
{
	reply->status = status;
	reply->body = fault_body(status, why);
	reply->len = reply->body != NULL ? strlen(reply->body) : 0;
}

static void reply_call(struct http_reply *reply, int status, struct api_call *call)
{
	reply->status = status;
	reply->stream = call->stream;
	reply->type = call->type;
	reply->body = call->text;
	if (call->reply != NULL)
		reply->body = json_dumps(call->reply, JSON_COMPACT);
	reply->len = reply->body != NULL ? strlen(reply->body) : 0;
	json_decref(call->reply);
}

static void handle(struct http_server *server, const struct http_request *req,
		   struct http_reply *reply)
{
	struct api *api = container_of(server, struct api, http);
	struct err err = ERR_INIT;
	struct api_call call;
	json_error_t where;
	json_t *body = NULL;
	int status;

	if (req->len > 0) {
		body = json_loadb(req->body, req->len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
				  &where);
		if (body == NULL) {
			err_set(&err, EINVAL, "the body is no JSON: line %d: %s", where.line,
				where.text);
			reply_fault(reply, 400, err.msg);
			return;
		}
	}
	status = api_do(api, req->method, req->path, body, &call, &err);
	if (status >= 400)
		reply_fault(reply, status, err.msg);
	else
		reply_call(reply, status, &call);
	json_decref(body);
}

/* --- Events --- */

void api_event(struct api *api, const char *name, json_t *more)
{
	json_t *json = json_object();
	struct timespec now;
	char *text;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_set_new(json, "event", json_string(name));
	json_object_set_new(json, "timestamp_ms",
			    json_integer((json_int_t)now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS));
	if (more != NULL)
		json_object_update(json, more);
	text = json_dumps(json, JSON_COMPACT);
	if (text != NULL) {
		size_t len = strlen(text);

		text[len] = '\n'; /* in place of its end: the length says where that is */
		http_publish(&api->http, text, len + 1);
	}
	free(text);
	json_decref(json);
	json_decref(more);
}

static void vm_happened(struct vm_watcher *watcher, enum vm_event event)
{
	static const char *const names[VM_EVENTS] = {
		[VM_STARTED] = "started",   [VM_PAUSED] = "paused",
		[VM_RESUMED] = "resumed",   [VM_RESET] = "reset",
		[VM_STOPPING] = "stopping", [VM_POWEROFF] = "poweroff",
		[VM_PANICKED] = "panicked", [VM_CRASH_KERNEL] = "crash-kernel",
		[VM_DIED] = "died",	    [VM_HANGS] = "hangs",
		[VM_TIMEOUT] = "timeout",   [VM_SNAPSHOT] = "snapshot",
	};

	api_event(container_of(watcher, struct api, watcher), names[event], NULL);
}

/* --- Starting --- */

/* Before there is a VM, the signals that end it end us. */
static void handle_signal(struct loop_fd *lfd, uint32_t events)
{
	struct api *api = container_of(lfd, struct api, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(lfd->fd, &info, sizeof(info)) == sizeof(info))
		loop_quit(api->loop, 128 + (int)info.ssi_signo);
}

static int watch_signals(struct api *api, struct err *err)
{
	static const int optional[] = { SIGINT, SIGHUP };
	struct sigaction old;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++)
		if (sigaction(optional[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, optional[i]);
	pthread_sigmask(SIG_BLOCK, &set, &api->old_mask);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE is an error of whoever writes */
	api->signals.fn = handle_signal;
	api->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (api->signals.fd < 0)
		return err_sys(err, errno, "signalfd");
	return loop_add_fd(api->loop, &api->signals, EPOLLIN, err);
}

static int build(struct api *api, const json_t *restore, struct err *err)
{
	if (restore != NULL ? api_restore_config(api, &api->cfg, restore, err) < 0
			    : api_make_config(api, &api->cfg, err) < 0)
		return -err->code;
	if (api->cfg.machine.kernel == NULL && api->cfg.restore.state == NULL)
		return err_set(err, EINVAL, "there is no kernel yet: PUT /boot-source names one");
	loop_mod_fd(&api->signals, 0);
	api->vm = vm_build(&api->cfg, NULL, api->loop, err);
	if (api->vm == NULL)
		return -err->code;
	api->running(api->vm);
	vm_watch(api->vm, &api->watcher);
	if (api->cfg.restore.state != NULL && api_config_init(api, &api->cfg, err) < 0)
		return -err->code;
	if (api_apply_limits(api, err) < 0)
		return -err->code;
	return vm_start(api->vm, err);
}

int api_start(struct api *api, const json_t *restore, struct err *err)
{
	if (build(api, restore, err) == 0)
		return 0;
	if (api->vm != NULL) {
		api->running(NULL);
		vm_free(api->vm);
		api->vm = NULL;
	}
	vm_config_free(&api->cfg);
	loop_mod_fd(&api->signals, EPOLLIN);
	return -err->code;
}

/* --- The configuration file --- */

/* Where each member goes; a list: an element at a time, to what it calls itself. */
static const struct {
	const char *member, *path;
	const char *id; /* of the elements, if it is a list */
} members[] = {
	{ "logger", "/logger", NULL },
	{ "metrics", "/metrics", NULL },
	{ "machine-config", "/machine-config", NULL },
	{ "cpu-config", "/cpu-config", NULL },
	{ "boot-source", "/boot-source", NULL },
	{ "drives", "/drives/", "drive_id" },
	{ "pmem", "/pmem/", "id" },
	{ "network-interfaces", "/network-interfaces/", "iface_id" },
	{ "mmds-config", "/mmds/config", NULL },
	{ "vsock", "/vsock", NULL },
	{ "balloon", "/balloon", NULL },
	{ "entropy", "/entropy", NULL },
	{ "serial", "/serial", NULL },
	{ "memory-hotplug", "/hotplug/memory", NULL },
	{ "options", "/options/", NULL },
};

#define NMEMBERS (sizeof(members) / sizeof(members[0]))

static int put_one(struct api *api, const char *path, const char *id, const json_t *body,
		   struct err *err)
{
	char full[API_ID_MAX + 64];
	struct api_call call;

	if (strlen(id) > API_ID_MAX)
		return err_set(err, EINVAL, "an id has at most %d characters", API_ID_MAX);
	snprintf(full, sizeof(full), "%s%s", path, id);
	if (api_do(api, "PUT", full, body, &call, err) >= 400)
		return -err->code;
	json_decref(call.reply);
	return 0;
}

static int put_list(struct api *api, size_t m, const json_t *list, struct err *err)
{
	if (!json_is_array(list))
		return err_set(err, EINVAL, "%s must be an array", members[m].member);
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		const char *id = json_string_value(json_object_get(item, members[m].id));

		if (id == NULL)
			return err_set(err, EINVAL, "%s[%zu]: field '%s' is missing, or no string",
				       members[m].member, i, members[m].id);
		if (put_one(api, members[m].path, id, item, err) < 0)
			return err_context(err, "%s[%zu]", members[m].member, i);
	}
	return 0;
}

/* Our own options, by their names. */
static int put_options(struct api *api, const json_t *object, struct err *err)
{
	json_t *options = (json_t *)object; /* read only; the iterators want it so */

	if (!json_is_object(object))
		return err_set(err, EINVAL, "options must be an object");
	for (void *it = json_object_iter(options); it != NULL;
	     it = json_object_iter_next(options, it))
		if (put_one(api, "/options/", json_object_iter_key(it), json_object_iter_value(it),
			    err) < 0)
			return err_context(err, "options");
	return 0;
}

static int put_member(struct api *api, size_t m, const json_t *value, struct err *err)
{
	if (json_is_null(value))
		return 0;
	if (members[m].id != NULL)
		return put_list(api, m, value, err);
	if (strcmp(members[m].member, "options") == 0)
		return put_options(api, value, err);
	if (put_one(api, members[m].path, "", value, err) < 0)
		return err_context(err, "%s", members[m].member);
	return 0;
}

/* In the order of the table, as some need others, not in that of the file. */
static int apply_file(struct api *api, const json_t *json, struct err *err)
{
	json_t *object = (json_t *)json; /* read only; the iterators want it so */
	size_t m;

	if (!json_is_object(json))
		return err_set(err, EINVAL, "must be an object");
	for (void *it = json_object_iter(object); it != NULL;
	     it = json_object_iter_next(object, it)) {
		const char *words[NMEMBERS + 1] = { NULL };
		const char *name = json_object_iter_key(it), *near;

		for (m = 0; m < NMEMBERS; m++)
			words[m] = members[m].member;
		for (m = 0; m < NMEMBERS && strcmp(words[m], name) != 0; m++)
			;
		near = opt_nearest(name, words);
		if (m == NMEMBERS)
			return err_set(err, EINVAL, "unknown member '%.100s'%s%s%s", name,
				       near != NULL ? " (did you mean '" : "",
				       near != NULL ? near : "", near != NULL ? "'?)" : "");
	}
	for (m = 0; m < NMEMBERS; m++) {
		const json_t *value = json_object_get(json, members[m].member);

		if (value != NULL && put_member(api, m, value, err) < 0)
			return -err->code;
	}
	return 0;
}

static int load_file(struct api *api, const char *path, struct err *err)
{
	json_error_t where;
	json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
	int r;

	if (json == NULL && where.line < 0)
		return err_set(err, EINVAL, "--config-file %s: %s", path, where.text);
	if (json == NULL)
		return err_set(err, EINVAL, "--config-file %s: line %d: %s", path, where.line,
			       where.text);
	r = apply_file(api, json, err);
	json_decref(json);
	if (r == 0 && json_object_get(api->doc, "boot-source") == NULL &&
	    api->base.restore.state == NULL)
		r = err_set(err, EINVAL, "there is no boot-source");
	return r < 0 ? err_context(err, "--config-file %s", path) : 0;
}

/* --- Life --- */

static json_t *collect(struct metrics *metrics)
{
	struct api *api = container_of(metrics, struct api, metrics);

	json_t *totals = api->vm != NULL ? metrics_of_vm(api->vm) : json_object();

	if (api->startup_us != 0)
		json_object_set_new(
			totals, "api_server",
			json_pack("{sIsI}", "process_startup_time_us", (json_int_t)api->startup_us,
				  "process_startup_time_cpu_us", (json_int_t)api->startup_cpu_us));
	return totals;
}

/* By the clocks of whoever started this process, if it said. */
static void started(struct api *api)
{
	const struct vm_config *base = &api->base;
	struct timespec cpu;

	if (base->start_us == 0)
		return;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	api->startup_us = loop_now_ns() / 1000 - base->start_us;
	api->startup_cpu_us = (uint64_t)cpu.tv_sec * 1000000 + (uint64_t)cpu.tv_nsec / 1000 -
			      base->start_cpu_us + base->parent_cpu_us;
}

int api_init(struct api *api, struct err *err)
{
	int used = 0;

	api->signals.fd = -1;
	api->metrics.fd = -1;
	api->metrics.collect = collect;
	api->watcher.event = vm_happened;
	if (vm_config_read(&api->base, sizeof(api->base), NULL, api->argc, api->argv, &used, err) <
		    0 ||
	    vm_config_check(&api->base, err) < 0)
		return -err->code;
	api->loop = api->metrics.loop = loop_new(err);
	if (api->loop == NULL || watch_signals(api, err) < 0)
		return -err->code;
	if (api->base.verbose)
		log_set_level(LOG_INFO);
	if (api_set_log(api->base.log_path, api->base.level, api->base.show_level, err) < 0 ||
	    api_config_init(api, &api->base, err) < 0)
		return -err->code;
	if (api->base.metrics_path != NULL &&
	    metrics_open(&api->metrics, api->base.metrics_path, err) < 0)
		return -err->code;
	return 0;
}

/*
 * The socket of --api auto: by the VM's name, or the process, where `vmm list` looks for it.
 * malloc'ed.
 */
static char *usual_path(struct api *api, struct err *err)
{
	char *folder = ctl_folder(err), *path = NULL, number[32];
	const char *name = api->base.name;

	if (folder == NULL)
		return NULL;
	if (name != NULL && strchr(name, '/') != NULL) {
		err_set(err, EINVAL, "a name with '/' in it is no file's: name a path");
		free(folder);
		return NULL;
	}
	snprintf(number, sizeof(number), "vm-%d", (int)getpid());
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		err_sys(err, errno, "cannot make %s", folder);
	else if (asprintf(&path, "%s/%s.sock", folder, name != NULL ? name : number) < 0)
		path = NULL;
	free(folder);
	return path;
}

static int serve(struct api *api, struct err *err)
{
	const char *path = api->base.api.path;
	char *usual = NULL;
	int r;

	api->http.loop = api->loop;
	api->http.body_max = api->base.api_body_max;
	api->http.handle = handle;
	api->http.fault = fault_body;
	if (path != NULL && strcmp(path, "auto") == 0) {
		path = usual = usual_path(api, err);
		if (usual == NULL)
			return err_context(err, "--api auto");
	}
	api->listening = true;
	r = http_listen(&api->http, path, (int)api->base.api.fd, err);
	free(usual);
	return r;
}

/* The effective configuration, for --dry-run. */
static int print(struct api *api, char **json, struct err *err)
{
	if (api_make_config(api, &api->cfg, err) < 0)
		return -err->code;
	*json = vm_config_json(&api->cfg);
	return *json != NULL ? 0 : err_set(err, ENOMEM, "no memory for the configuration");
}

static int run(struct api *api, char **json, struct err *err)
{
	const struct vm_config *base = &api->base;
	bool starts;
	int status;

	if (api_init(api, err) < 0)
		return -err->code;
	if (base->config_file != NULL && load_file(api, base->config_file, err) < 0)
		return -err->code;
	if (base->dry_run)
		return print(api, json, err);
	if ((base->api.path != NULL || base->api.fd != 0) && serve(api, err) < 0)
		return -err->code;
	started(api);
	starts = base->machine.kernel != NULL || base->restore.state != NULL ||
		 base->config_file != NULL;
	if (starts && api_start(api, NULL, err) < 0)
		return -err->code;
	status = loop_run(api->loop);
	if (api->vm != NULL)
		status = vm_finish(api->vm, status);
	if (api->metrics.fd >= 0)
		(void)metrics_flush(&api->metrics, err);
	api_event(api, "ended", json_pack("{si}", "status", status));
	http_finish(&api->http);
	return status;
}

void api_fini(struct api *api)
{
	metrics_close(&api->metrics);
	if (api->listening)
		http_end(&api->http);
	if (api->vm != NULL) {
		api->running(NULL);
		vm_free(api->vm);
	}
	vm_config_free(&api->cfg);
	vm_config_free(&api->base);
	json_decref(api->doc);
	json_decref(api->own);
	loop_del_fd(&api->signals);
	if (api->signals.fd >= 0) {
		close(api->signals.fd);
		pthread_sigmask(SIG_SETMASK, &api->old_mask, NULL);
	}
	loop_free(api->loop);
}

int api_run(int argc, char *const *argv, void (*running)(struct vm *vm), char **json,
	    struct err *err)
{
	struct api *api = calloc(1, sizeof(*api));
	int status;

	if (api == NULL)
		return err_set(err, ENOMEM, "no memory for the API");
	api->argc = argc;
	api->argv = argv;
	api->running = running;
	status = run(api, json, err);
	api_fini(api);
	free(api);
	return status;
}
