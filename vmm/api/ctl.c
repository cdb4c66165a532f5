// SPDX-License-Identifier: Apache-2.0
/*
 * `vmm ctl SOCKET VERB ...` and `vmm list`: the control API for people. Each verb is one request or
 * a few of them to the API's socket; there is no other way into a VM.
 *
 * SOCKET is a path, or the name of a VM whose socket --api auto has put into the usual folder.
 *
 * #syscalls: none in the monitor
 */
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/base/opt.h"
#include "vmm/api/ctl.h"
#include "vmm/api/ctl_http.h"

#define MIB	     (1ULL << 20)
#define LIST_SECONDS 2
#define SUFFIX	     ".sock"

const char ctl_usage[] =
	"usage: vmm ctl SOCKET VERB [ARGUMENT...]\n"
	"\n"
	"SOCKET is the path that --api was given, or the name of a VM with --api auto.\n"
	"\n"
	"  info                        state, CPUs, memory and devices\n"
	"  pause, resume               stop the guest where it is, and let it go on\n"
	"  stop                        press the power button; end it after --stop-timeout\n"
	"  kill                        end the VM at once\n"
	"  reset                       begin anew, as after a reboot\n"
	"  snapshot STATE [MEMORY]     save the VM (--diff: what changed since the last one)\n"
	"  restore STATE [MEMORY]      in a VM that has not started: go on from a snapshot\n"
	"                              (--paused: do not run it yet)\n"
	"  resize DRIVE                look at the size of a drive again\n"
	"  balloon [SIZE]              set what the balloon takes, or show it\n"
	"  nmi                         a non-maskable interrupt for every CPU\n"
	"  sysrq KEY                   a magic SysRq key to the guest's console\n"
	"  stats [prometheus]          counters since the start\n"
	"  wait                        wait for the end; the status is the VM's\n"
	"  events                      what happens, a line of JSON each\n"
	"  request METHOD PATH [JSON]  any request of the API\n";

/* One invocation. */
struct ctl {
	const char *socket;
	int argc; /* behind the verb */
	char *const *argv;
	int status; /* of a VM that was waited for */
};

/* --- Requests --- */

/* What a failure says: the API's sentence. */
static int refused(const struct ctl_answer *a, struct err *err)
{
	json_t *json = a->body != NULL ? json_loads(a->body, 0, NULL) : NULL;
	const char *why = json_string_value(json_object_get(json, "fault_message"));

	if (why != NULL)
		err_set(err, EINVAL, "%s", why);
	else
		err_set(err, EINVAL, "status %d", a->status);
	json_decref(json);
	return -EINVAL;
}

static int request(const struct ctl *ctl, const char *method, const char *path, const char *body,
		   struct ctl_answer *a, struct err *err)
{
	int fd = ctl_connect(ctl->socket, 0, err), r;

	*a = (struct ctl_answer){ 0 };
	if (fd < 0)
		return fd;
	r = ctl_request(fd, method, path, body, NULL, NULL, a, err);
	close(fd);
	if (r == 0 && a->status >= 400)
		r = refused(a, err);
	if (r < 0)
		free(a->body);
	return r;
}

/* One whose answer is of no interest. @json is stolen. */
static int tell(const struct ctl *ctl, const char *method, const char *path, json_t *json,
		struct err *err)
{
	char *body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
	struct ctl_answer a;
	int r;

	json_decref(json);
	if (body == NULL)
		return err_set(err, EINVAL, "no memory, or an argument that is not UTF-8");
	r = request(ctl, method, path, body, &a, err);
	free(body);
	if (r < 0)
		return r;
	free(a.body);
	return 0;
}

static json_t *ask(const struct ctl *ctl, const char *path, struct err *err)
{
	struct ctl_answer a;
	json_t *json;

	if (request(ctl, "GET", path, NULL, &a, err) < 0)
		return NULL;
	json = json_loads(a.body != NULL ? a.body : "", 0, NULL);
	free(a.body);
	if (json == NULL)
		err_set(err, EPROTO, "%s: the answer is no JSON", path);
	return json;
}

/* Print what is at @path, for people. */
static int show(const struct ctl *ctl, const char *path, struct err *err)
{
	json_t *json = ask(ctl, path, err);
	char *text;

	if (json == NULL)
		return -err->code;
	text = json_dumps(json, JSON_INDENT(2));
	puts(text != NULL ? text : "");
	free(text);
	json_decref(json);
	return 0;
}

static const char *text_of(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	return text != NULL ? text : "";
}

/* --- Verbs --- */

static int set_state(struct ctl *ctl, const char *state, struct err *err)
{
	return tell(ctl, "PATCH", "/vm", json_pack("{ss}", "state", state), err);
}

static int do_pause(struct ctl *ctl, struct err *err)
{
	return set_state(ctl, "Paused", err);
}

static int do_resume(struct ctl *ctl, struct err *err)
{
	return set_state(ctl, "Resumed", err);
}

static int act(struct ctl *ctl, const char *action, struct err *err)
{
	return tell(ctl, "PUT", "/actions", json_pack("{ss}", "action_type", action), err);
}

static int do_stop(struct ctl *ctl, struct err *err)
{
	return act(ctl, "Stop", err);
}

static int do_kill(struct ctl *ctl, struct err *err)
{
	return act(ctl, "Kill", err);
}

static int do_reset(struct ctl *ctl, struct err *err)
{
	return act(ctl, "Reset", err);
}

static int do_nmi(struct ctl *ctl, struct err *err)
{
	return act(ctl, "SendNmi", err);
}

static int do_sysrq(struct ctl *ctl, struct err *err)
{
	return tell(ctl, "PUT", "/actions",
		    json_pack("{ss ss}", "action_type", "SendSysrq", "key", ctl->argv[0]), err);
}

static void print_devices(const json_t *config, const char *list, const char *what, const char *id,
			  const char *path)
{
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(config, list), i, item)
		printf("%-10s%s %s\n", what, text_of(item, id), text_of(item, path));
}

static int do_info(struct ctl *ctl, struct err *err)
{
	json_t *info = ask(ctl, "/", err), *config, *m;

	if (info == NULL)
		return -err->code;
	config = ask(ctl, "/vm/config", err);
	if (config == NULL) {
		json_decref(info);
		return -err->code;
	}
	m = json_object_get(config, "machine-config");
	printf("%-10s%s\n%-10s%s\n%-10s%lld\n%-10s%lld MiB\n", "name", text_of(info, "id"), "state",
	       text_of(info, "state"), "cpus",
	       (long long)json_integer_value(json_object_get(m, "vcpu_count")), "memory",
	       (long long)json_integer_value(json_object_get(m, "mem_size_mib")));
	if (json_object_get(config, "boot-source") != NULL)
		printf("%-10s%s\n", "kernel",
		       text_of(json_object_get(config, "boot-source"), "kernel_image_path"));
	print_devices(config, "drives", "drive", "drive_id", "path_on_host");
	print_devices(config, "network-interfaces", "net", "iface_id", "host_dev_name");
	print_devices(config, "pmem", "pmem", "id", "path_on_host");
	if (json_object_get(config, "vsock") != NULL)
		printf("%-10s%s\n", "vsock", text_of(json_object_get(config, "vsock"), "uds_path"));
	json_decref(info);
	json_decref(config);
	return 0;
}

/*
 * The monitor opens the files, and its folder is perhaps another one: name them by where they
 * are. malloc'ed.
 */
static char *absolute(const char *path, const char *suffix)
{
	char *cwd = path[0] != '/' ? getcwd(NULL, 0) : NULL, *full = NULL;

	if (asprintf(&full, "%s%s%s%s", cwd != NULL ? cwd : "", cwd != NULL ? "/" : "", path,
		     suffix) < 0)
		full = NULL;
	free(cwd);
	return full;
}

/* Arguments STATE and MEMORY, and perhaps the @flag. */
static int take_files(const struct ctl *ctl, const char *flag, char **state, char **memory,
		      bool *flagged, struct err *err)
{
	const char *words[2] = { NULL, NULL };
	size_t n = 0;

	*flagged = false;
	for (int i = 0; i < ctl->argc; i++) {
		if (strcmp(ctl->argv[i], flag) == 0)
			*flagged = true;
		else if (ctl->argv[i][0] == '-')
			return err_set(err, EINVAL, "unknown option %s (valid: %s)", ctl->argv[i],
				       flag);
		else if (n == 2)
			return err_set(err, EINVAL, "unexpected argument '%s'", ctl->argv[i]);
		else
			words[n++] = ctl->argv[i];
	}
	if (n == 0)
		return err_set(err, EINVAL, "name the state file");
	*state = absolute(words[0], "");
	*memory = words[1] != NULL ? absolute(words[1], "") : absolute(words[0], ".mem");
	return *state != NULL && *memory != NULL ? 0 : err_set(err, ENOMEM, "no memory");
}

/* A VM that runs is paused for it, and runs on in any case. */
static int save(struct ctl *ctl, const char *state, const char *memory, bool diff, struct err *err)
{
	json_t *info = ask(ctl, "/", err);
	struct err ignored = ERR_INIT;
	bool ran;
	int r;

	if (info == NULL)
		return -err->code;
	ran = strcmp(text_of(info, "state"), "Running") == 0;
	json_decref(info);
	if (ran && set_state(ctl, "Paused", err) < 0)
		return -err->code;
	r = tell(ctl, "PUT", "/snapshot/create",
		 json_pack("{ss ss ss}", "snapshot_path", state, "mem_file_path", memory,
			   "snapshot_type", diff ? "Diff" : "Full"),
		 err);
	if (ran && set_state(ctl, "Resumed", r == 0 ? err : &ignored) < 0 && r == 0)
		r = -err->code;
	return r;
}

static int do_snapshot(struct ctl *ctl, struct err *err)
{
	char *state = NULL, *memory = NULL;
	bool diff;
	int r = take_files(ctl, "--diff", &state, &memory, &diff, err);

	if (r == 0)
		r = save(ctl, state, memory, diff, err);
	free(state);
	free(memory);
	return r;
}

static int do_restore(struct ctl *ctl, struct err *err)
{
	char *state = NULL, *memory = NULL;
	bool paused;
	int r = take_files(ctl, "--paused", &state, &memory, &paused, err);

	if (r == 0)
		r = tell(ctl, "PUT", "/snapshot/load",
			 json_pack("{ss s{ss ss} sb sb}", "snapshot_path", state, "mem_backend",
				   "backend_type", "File", "backend_path", memory, "resume_vm",
				   !paused, "clock_realtime", 1),
			 err);
	free(state);
	free(memory);
	return r;
}

static int do_resize(struct ctl *ctl, struct err *err)
{
	json_t *config = ask(ctl, "/vm/config", err), *item, *found = NULL;
	char path[128];
	size_t i;
	int r;

	if (config == NULL)
		return -err->code;
	json_array_foreach(json_object_get(config, "drives"), i, item) {
		if (strcmp(text_of(item, "drive_id"), ctl->argv[0]) == 0)
			found = item;
	}
	if (found == NULL) {
		json_decref(config);
		return err_set(err, ENOENT, "there is no drive '%s'", ctl->argv[0]);
	}
	snprintf(path, sizeof(path), "/drives/%.64s", ctl->argv[0]);
	r = tell(ctl, "PATCH", path,
		 json_pack("{ss ss}", "drive_id", ctl->argv[0], "path_on_host",
			   text_of(found, "path_on_host")),
		 err);
	json_decref(config);
	return r;
}

static int do_balloon(struct ctl *ctl, struct err *err)
{
	uint64_t bytes;

	if (ctl->argc > 0) {
		if (opt_parse_size(ctl->argv[0], MIB, &bytes, err) < 0)
			return -err->code;
		if (bytes % MIB != 0)
			return err_set(err, EINVAL, "a balloon is counted in MiB");
		return tell(ctl, "PATCH", "/balloon",
			    json_pack("{sI}", "amount_mib", (json_int_t)(bytes / MIB)), err);
	}
	return show(ctl, "/balloon", err);
}

static int do_stats(struct ctl *ctl, struct err *err)
{
	bool prometheus = ctl->argc > 0 && strcmp(ctl->argv[0], "prometheus") == 0;
	struct ctl_answer a;

	if (ctl->argc > 0 && !prometheus)
		return err_set(err, EINVAL, "unexpected argument '%s' (valid: prometheus)",
			       ctl->argv[0]);
	if (prometheus) {
		if (request(ctl, "GET", "/metrics/prometheus", NULL, &a, err) < 0)
			return -err->code;
		fputs(a.body != NULL ? a.body : "", stdout);
		free(a.body);
		return 0;
	}
	return show(ctl, "/metrics", err);
}

static int do_request(struct ctl *ctl, struct err *err)
{
	struct ctl_answer a;

	if (ctl->argc < 2)
		return err_set(err, EINVAL, "name a method and a path: GET /vm/config");
	if (strpbrk(ctl->argv[0], " \r\n") != NULL || strpbrk(ctl->argv[1], " \r\n") != NULL)
		return err_set(err, EINVAL, "method and path have no blanks in them");
	if (request(ctl, ctl->argv[0], ctl->argv[1], ctl->argc > 2 ? ctl->argv[2] : NULL, &a, err) <
	    0)
		return -err->code;
	if (a.body != NULL)
		puts(a.body);
	free(a.body);
	return 0;
}

/* --- Streams --- */

static bool print_event(void *arg, const char *text, size_t len)
{
	(void)arg;
	printf("%.*s\n", (int)len, text);
	return fflush(stdout) == 0;
}

/* Is it the last one? Then it has the status. */
static bool wait_event(void *arg, const char *text, size_t len)
{
	struct ctl *ctl = arg;
	json_t *json = json_loadb(text, len, 0, NULL);

	if (strcmp(text_of(json, "event"), "ended") == 0)
		ctl->status = (int)json_integer_value(json_object_get(json, "status"));
	json_decref(json);
	return ctl->status < 0;
}

static int stream(struct ctl *ctl, bool (*line)(void *arg, const char *text, size_t len),
		  struct err *err)
{
	int fd = ctl_connect(ctl->socket, 0, err), r;
	struct ctl_answer a = { 0 };

	if (fd < 0)
		return fd;
	r = ctl_request(fd, "GET", "/events", NULL, line, ctl, &a, err);
	close(fd);
	if (r == 0 && a.status >= 400)
		r = refused(&a, err);
	if (r == 0 || a.body != NULL)
		free(a.body);
	return r;
}

static int do_events(struct ctl *ctl, struct err *err)
{
	return stream(ctl, print_event, err);
}

static int do_wait(struct ctl *ctl, struct err *err)
{
	ctl->status = -1;
	if (stream(ctl, wait_event, err) < 0)
		return -err->code;
	if (ctl->status < 0)
		return err_set(err, EPROTO, "the VM did not say how it ended");
	return 0;
}

/* --- Which VM --- */

char *ctl_folder(struct err *err)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char *folder = NULL;

	if (run != NULL && run[0] == '/') {
		if (asprintf(&folder, "%s/vmm", run) < 0)
			folder = NULL;
	} else if (geteuid() == 0) {
		folder = strdup("/run/vmm");
	} else {
		err_set(err, ENOENT, "XDG_RUNTIME_DIR is not set: name a path for the socket");
		return NULL;
	}
	if (folder == NULL)
		err_set(err, ENOMEM, "no memory");
	return folder;
}

/* A path, or a name in the usual folder. malloc'ed. */
static char *find_socket(const char *word, struct err *err)
{
	struct err ignored = ERR_INIT;
	char *folder, *path = NULL;
	struct stat st;

	if (strchr(word, '/') == NULL && stat(word, &st) < 0) {
		folder = ctl_folder(&ignored);
		if (folder != NULL && asprintf(&path, "%s/%s" SUFFIX, folder, word) < 0)
			path = NULL;
		free(folder);
		if (path != NULL && stat(path, &st) == 0)
			return path;
		free(path);
	}
	path = strdup(word);
	if (path == NULL)
		err_set(err, ENOMEM, "no memory");
	return path;
}

int ctl_main(int argc, char *const *argv, struct err *err)
{
	static const struct {
		const char *name;
		int min, max; /* arguments */
		int (*fn)(struct ctl *ctl, struct err *err);
	} verbs[] = {
		{ "info", 0, 0, do_info },	   { "pause", 0, 0, do_pause },
		{ "resume", 0, 0, do_resume },	   { "stop", 0, 0, do_stop },
		{ "kill", 0, 0, do_kill },	   { "reset", 0, 0, do_reset },
		{ "snapshot", 1, 3, do_snapshot }, { "restore", 1, 3, do_restore },
		{ "resize", 1, 1, do_resize },	   { "balloon", 0, 1, do_balloon },
		{ "nmi", 0, 0, do_nmi },	   { "sysrq", 1, 1, do_sysrq },
		{ "stats", 0, 1, do_stats },	   { "wait", 0, 0, do_wait },
		{ "events", 0, 0, do_events },	   { "request", 2, 3, do_request },
	};
	const size_t nverbs = sizeof(verbs) / sizeof(verbs[0]);
	const char *words[sizeof(verbs) / sizeof(verbs[0]) + 1] = { NULL };
	struct ctl ctl = { .argc = argc - 2, .argv = argv + 2 };
	const char *near;
	char *path;
	size_t v;
	int r;

	if (argc < 2)
		return err_set(err, EINVAL, "ctl: name a socket and a verb; vmm help ctl has them");
	for (v = 0; v < nverbs; v++)
		words[v] = verbs[v].name;
	for (v = 0; v < nverbs && strcmp(words[v], argv[1]) != 0;)
		v++;
	near = opt_nearest(argv[1], words);
	if (v == nverbs)
		return err_set(err, EINVAL, "ctl: unknown verb '%.50s'%s%s%s", argv[1],
			       near != NULL ? " (did you mean '" : "; vmm help ctl has them",
			       near != NULL ? near : "", near != NULL ? "'?)" : "");
	if (ctl.argc < verbs[v].min || ctl.argc > verbs[v].max)
		return err_set(err, EINVAL, "ctl %s: takes %d to %d arguments", verbs[v].name,
			       verbs[v].min, verbs[v].max);
	path = find_socket(argv[0], err);
	if (path == NULL)
		return -err->code;
	ctl.socket = path;
	r = verbs[v].fn(&ctl, err);
	free(path);
	return r < 0 ? err_context(err, "ctl %s", verbs[v].name) : ctl.status;
}

/* --- vmm list --- */

/* A line about the VM behind @path; nothing, if there is none. False: nobody listens. */
static bool list_one(const char *name, const char *path)
{
	struct err err = ERR_INIT;
	struct ctl_answer a = { 0 }, m = { 0 };
	int fd = ctl_connect(path, LIST_SECONDS, &err);
	json_t *info, *machine;

	if (fd < 0)
		return false;
	if (ctl_request(fd, "GET", "/", NULL, NULL, NULL, &a, &err) < 0 ||
	    ctl_request(fd, "GET", "/machine-config", NULL, NULL, NULL, &m, &err) < 0) {
		printf("%-20s %-12s %4s %8s  %s\n", name, "no answer", "-", "-", path);
	} else {
		info = json_loads(a.body != NULL ? a.body : "", 0, NULL);
		machine = json_loads(m.body != NULL ? m.body : "", 0, NULL);
		printf("%-20s %-12s %4lld %6lldM  %s\n", name, text_of(info, "state"),
		       (long long)json_integer_value(json_object_get(machine, "vcpu_count")),
		       (long long)json_integer_value(json_object_get(machine, "mem_size_mib")),
		       path);
		json_decref(info);
		json_decref(machine);
	}
	free(a.body);
	free(m.body);
	close(fd);
	return true;
}

static int is_socket_name(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > strlen(SUFFIX) && strcmp(entry->d_name + len - strlen(SUFFIX), SUFFIX) == 0;
}

int ctl_list(int argc, char *const *argv, struct err *err)
{
	char *folder = argc > 0 ? strdup(argv[0]) : ctl_folder(err);
	struct dirent **entries = NULL;
	int n;

	if (argc > 1) {
		free(folder);
		return err_set(err, EINVAL, "list: unexpected argument '%s'", argv[1]);
	}
	if (folder == NULL)
		return argc > 0 ? err_set(err, ENOMEM, "no memory") : err_context(err, "list");
	n = scandir(folder, &entries, is_socket_name, alphasort);
	if (n < 0 && (errno != ENOENT || argc > 0)) {
		err_sys(err, errno, "list: %s", folder);
		free(folder);
		return -err->code;
	}
	printf("%-20s %-12s %4s %8s  %s\n", "NAME", "STATE", "CPUS", "MEMORY", "SOCKET");
	for (int i = 0; i < n; i++) {
		char *path = NULL;

		if (asprintf(&path, "%s/%s", folder, entries[i]->d_name) >= 0) {
			entries[i]->d_name[strlen(entries[i]->d_name) - strlen(SUFFIX)] = '\0';
			(void)list_one(entries[i]->d_name, path);
			free(path);
		}
		free(entries[i]);
	}
	free(entries);
	free(folder);
	return 0;
}
