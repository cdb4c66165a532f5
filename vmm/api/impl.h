/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the control API share: api/api.c (life, requests to handlers), api/fields.c
 * (bodies), api/config.c (from what is configured to options), api/put.c and api/options.c (what is
 * set before the VM starts), api/vm.c (what is done to a VM), api/live.c (devices while it runs).
 */
#ifndef VMM_API_IMPL_H
#define VMM_API_IMPL_H

#include <jansson.h>
#include "vmm/api/api.h"
#include "vmm/base/ratelimit.h"
#include "vmm/api/http.h"
#include "vmm/api/metrics.h"
#include "vmm/vm_impl.h"

#define API_ID_MAX 64

struct api {
	struct http_server http;
	bool listening;
	struct loop *loop;
	struct loop_fd signals; /* until there is a VM, which has its own */
	sigset_t old_mask;
	int argc;
	char *const *argv;
	void (*running)(struct vm *vm);
	struct vm_config base; /* what the command line says */
	/*
	 * What was configured, as Firecracker writes it: `boot-source`, `drives` and so on,
	 * defaults filled in. GET /vm/config shows it, and api_make_config() turns it into options.
	 */
	json_t *doc;
	json_t *own;	      /* likewise, of our own options, by their names */
	bool configured;      /* by the API: too late to load a snapshot */
	struct vm_config cfg; /* what the VM was made of */
	struct vm *vm;	      /* NULL: not started */
	struct vm_watcher watcher;
	struct metrics metrics;
	uint64_t startup_us, startup_cpu_us; /* until requests were taken; 0: not known */
};

/* A request, once it is known whose it is. */
struct api_call {
	char id[API_ID_MAX + 1]; /* the last part of the path, where that is free; else "" */
	const char *method;
	const json_t *body; /* NULL: none was sent */
	/* The answer; none of them: 204. */
	json_t *reply;
	char *text; /* malloc'ed, of @type */
	const char *type;
	bool stream;
};

/* --- api/api.c --- */

/* Begin and end; argc, argv and running are set, the rest is zero. api_fini() also after failure.
 */
int api_init(struct api *api, struct err *err);
void api_fini(struct api *api);

/* May the request be made before the VM has started, and after? */
enum api_when { API_BEFORE = 1, API_AFTER = 2, API_ANY = 3 };

enum api_body { API_NO_BODY, API_MAY_BODY, API_BODY };

struct api_route {
	const char *method, *path; /* "*" as the last part of the path is free */
	enum api_when when;
	enum api_body body;
	/* 0 or -code; a failure is answered with 400 and the sentence. */
	int (*fn)(struct api *api, struct api_call *call, struct err *err);
};

/* Have the request answered as if it came over HTTP. Returns the status, fills @call->reply. */
int api_do(struct api *api, const char *method, const char *path, const json_t *body,
	   struct api_call *call, struct err *err);

/* Make the VM of what is configured, and let it run (or, @paused, stand still). */
int api_start(struct api *api, const json_t *restore, struct err *err);

/* Tell those who listen to /events. @more (stolen, may be NULL): members besides. */
void api_event(struct api *api, const char *name, json_t *more);

/* --- api/fields.c --- */

enum api_type { API_STR, API_BOOL, API_INT, API_WORD, API_OBJECT, API_ARRAY };

struct api_field {
	const char *name; /* NULL: the end */
	enum api_type type;
	bool required;
	json_int_t min, max;	   /* API_INT; max 0: no limit */
	const char *const *values; /* API_WORD: NULL-terminated */
};

/* Is @body an object of these fields, each with what it takes? null is as good as absent. */
int api_check(const json_t *body, const struct api_field *fields, struct err *err);
/* The value of a field that api_check() has passed; NULL or @def when absent. */
json_t *api_get(const json_t *body, const char *name);
const char *api_str(const json_t *body, const char *name);
bool api_bool(const json_t *body, const char *name, bool def);
json_int_t api_int(const json_t *body, const char *name, json_int_t def);

/* A rate limiter: what it says of bandwidth and of operations; both off when @limiter is NULL. */
struct api_limits {
	bool has_bytes, has_ops;
	struct ratelimit_config bytes, ops;
};
int api_limits(const json_t *limiter, struct api_limits *limits, struct err *err);
int api_bucket(const json_t *bucket, const char *what, struct ratelimit_config *limit,
	       struct err *err);

/* --- api/config.c --- */

/* The document: what options say, in Firecracker's words. */
int api_config_init(struct api *api, const struct vm_config *cfg, struct err *err);
/* The options for all that is configured, checked. vm_config_free() @cfg, also after failure. */
int api_make_config(struct api *api, struct vm_config *cfg, struct err *err);
/*
 * The same for a snapshot: @restore has `state`, `memory`, `clock`, `paused`, `track` as --restore,
 * and `nets` and `vsock`, objects of ids and their new taps and path.
 */
int api_restore_config(struct api *api, struct vm_config *cfg, const json_t *restore,
		       struct err *err);
/* Which of the list @list ("drives") has @id as its @key? NULL: none; *index counts them. */
json_t *api_find(const struct api *api, const char *list, const char *key, const char *id,
		 size_t *index);

/* Set the document's member @name; @value is stolen. What makes no VM is taken back, and an error.
 */
int api_set_member(struct api *api, const char *name, json_t *value, struct err *err);
/* The same with the element of list @list that has the @key of @value; else it is added, or is
 * @first. */
int api_set_element(struct api *api, const char *list, const char *key, json_t *value, bool first,
		    struct err *err);

/* --- api/put.c --- */

int api_put_boot_source(struct api *api, struct api_call *call, struct err *err);
int api_get_machine(struct api *api, struct api_call *call, struct err *err);
int api_put_machine(struct api *api, struct api_call *call, struct err *err);
int api_put_cpu(struct api *api, struct api_call *call, struct err *err);
int api_put_drive(struct api *api, struct api_call *call, struct err *err);
int api_put_net(struct api *api, struct api_call *call, struct err *err);
int api_put_pmem(struct api *api, struct api_call *call, struct err *err);
int api_put_vsock(struct api *api, struct api_call *call, struct err *err);
int api_put_balloon(struct api *api, struct api_call *call, struct err *err);
int api_put_entropy(struct api *api, struct api_call *call, struct err *err);
int api_put_serial(struct api *api, struct api_call *call, struct err *err);

/* --- api/options.c --- */

int api_put_logger(struct api *api, struct api_call *call, struct err *err);
int api_put_metrics(struct api *api, struct api_call *call, struct err *err);
int api_get_config(struct api *api, struct api_call *call, struct err *err);
int api_get_options(struct api *api, struct api_call *call, struct err *err);
int api_put_option(struct api *api, struct api_call *call, struct err *err);
/* Log where and what --log-path, --level and the like, or a logger's object, say. */
int api_set_log(const char *path, const char *level, bool show_level, struct err *err);

/* --- api/vm.c --- */

int api_get_info(struct api *api, struct api_call *call, struct err *err);
int api_get_version(struct api *api, struct api_call *call, struct err *err);
int api_patch_vm(struct api *api, struct api_call *call, struct err *err);
int api_put_action(struct api *api, struct api_call *call, struct err *err);
int api_create_snapshot(struct api *api, struct api_call *call, struct err *err);
int api_load_snapshot(struct api *api, struct api_call *call, struct err *err);
int api_get_events(struct api *api, struct api_call *call, struct err *err);
int api_get_stats(struct api *api, struct api_call *call, struct err *err);
int api_get_prometheus(struct api *api, struct api_call *call, struct err *err);
int api_no_mmds(struct api *api, struct api_call *call, struct err *err);
int api_no_hotplug(struct api *api, struct api_call *call, struct err *err);

/* --- api/live.c --- */

int api_patch_drive(struct api *api, struct api_call *call, struct err *err);
int api_patch_net(struct api *api, struct api_call *call, struct err *err);
int api_patch_pmem(struct api *api, struct api_call *call, struct err *err);
int api_get_balloon(struct api *api, struct api_call *call, struct err *err);
int api_patch_balloon(struct api *api, struct api_call *call, struct err *err);
int api_get_balloon_stats(struct api *api, struct api_call *call, struct err *err);
int api_patch_balloon_stats(struct api *api, struct api_call *call, struct err *err);
int api_start_hinting(struct api *api, struct api_call *call, struct err *err);
int api_get_hinting(struct api *api, struct api_call *call, struct err *err);
int api_stop_hinting(struct api *api, struct api_call *call, struct err *err);
/* The VM is made, and does not run yet: rate limits, which are no options. */
int api_apply_limits(struct api *api, struct err *err);

#endif
