// SPDX-License-Identifier: Apache-2.0
/*
 * `vmm snapshot`: what is in a snapshot, and one snapshot out of a chain of diffs.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "vmm/base/calendar.h"
#include "vmm/base/log.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/vm.h"

static const char usage[] =
	"usage: vmm snapshot info STATE             what is in a snapshot, as JSON\n"
	"       vmm snapshot merge STATE NEW [MEM]  a complete one, NEW, out of a diff and all below it\n";

static json_t *hex(uint64_t id)
{
	char text[20];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
	return json_string(text);
}

/* In UTC. */
static json_t *when(uint64_t ns)
{
	int64_t seconds = (int64_t)(ns / 1000000000);
	struct calendar_date d = calendar_date(calendar_year_start(1970) + seconds / 86400);
	int second = (int)(seconds % 86400);
	char text[48];

	snprintf(text, sizeof(text), "%lld-%02d-%02dT%02d:%02d:%02dZ", (long long)d.year,
		 d.month + 1, d.mday + 1, second / 3600, second / 60 % 60, second % 60);
	return json_string(text);
}

/* The memory file, if it is there; what is wrong with it is said, but no error. */
static void tell_memory(const char *state, json_t *json)
{
	struct err err = ERR_INIT;
	struct snapshot *s = snapshot_open(state, NULL, &err);
	struct stat stat;

	json_object_set_new(json, "complete", json_boolean(s != NULL));
	if (s == NULL)
		json_object_set_new(json, "trouble", json_string(err.msg));
	else if (fstat(s->fd, &stat) == 0)
		json_object_set_new(json, "on-disk",
				    json_integer((json_int_t)stat.st_blocks * 512));
	snapshot_close(s);
}

static int info(const char *path, struct err *err)
{
	struct snapshot *s = snapshot_open_state(path, err);
	json_t *json, *config;
	uint64_t pages = 0;
	int r = 0;

	if (s == NULL)
		return -err->code;
	config = snapshot_config_json(s, err);
	if (config == NULL) {
		snapshot_close(s);
		return -err->code;
	}
	for (size_t i = 0; i < s->head.nextents; i++)
		pages += s->head.extents[i].n;
	json = json_object();
	json_object_set_new(json, "version", json_string(s->head.version));
	json_object_set_new(json, "arch", json_string(s->head.arch));
	json_object_set_new(json, "time", when(s->head.time));
	json_object_set_new(json, "ram", json_integer((json_int_t)s->head.ram));
	json_object_set_new(json, "memory", json_string(s->head.memory));
	json_object_set_new(json, "memory-id", hex(s->head.id));
	if (s->head.parent != 0) {
		json_object_set_new(json, "parent", json_string(s->head.below));
		json_object_set_new(json, "parent-id", hex(s->head.parent));
		json_object_set_new(json, "changed",
				    json_integer((json_int_t)(pages << GMEM_PAGE_SHIFT)));
	}
	tell_memory(path, json);
	json_object_set_new(json, "config", config);
	if (json_dumpf(json, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF ||
	    fflush(stdout) != 0)
		r = err_sys(err, errno, "cannot write to standard output");
	json_decref(json);
	snapshot_close(s);
	return r;
}

/* RAM of @s and all below it, written to @fd. */
static int write_merged(struct gmem *mem, const struct snapshot *s, int fd, struct err *err)
{
	uint64_t *bits = calloc(gmem_words(mem), sizeof(*bits));
	int r = bits != NULL ? gmem_data(mem, bits, err) : err_sys(err, ENOMEM, "pages");

	if (r == 0 && snapshot_write_pages(fd, mem, bits, err) < 0)
		r = err_context(err, "memory of %s", s->path);
	free(bits);
	return r;
}

/* Everything of @s but its head, behind the new @head. */
static int merged_state(struct snapshot *s, struct snapshot_head *head, struct state *st,
			const void **data, size_t *len, struct err *err)
{
	snapshot_head_state(head, st);
	state_copy(st, s->st);
	return state_finish(st, data, len, err);
}

static int write_files(struct snapshot *s, struct gmem *mem, const char *to, const char *memory,
		       struct err *err)
{
	struct snapshot_head head = s->head;
	struct snapshot_files files = { .fd = -1 };
	struct state *st = state_new_save();
	const void *data;
	size_t len;
	int r;

	head.memory = snapshot_name(to, memory);
	head.below = NULL;
	head.parent = 0;
	head.extents = NULL;
	head.nextents = 0;
	r = st == NULL || head.memory == NULL
		    ? err_set(err, ENOENT, "%s: its folder is not there", to)
		    : snapshot_new_id(&head.id, err);
	if (r == 0)
		r = merged_state(s, &head, st, &data, &len, err);
	if (r == 0)
		r = snapshot_files_begin(&files, to, memory, head.id, head.ram, err);
	if (r == 0)
		r = write_merged(mem, s, files.fd, err);
	if (r == 0)
		r = snapshot_files_commit(&files, data, len, head.id, head.ram, err);
	snapshot_files_drop(&files);
	free(head.memory);
	state_free(st);
	return r;
}

static int merge(const char *from, const char *to, const char *memory, struct err *err)
{
	struct snapshot *s = snapshot_open(from, NULL, err);
	struct gmem mem = { .fd = -1 };
	char *made = NULL;
	int r;

	if (s == NULL)
		return -err->code;
	signal(SIGIO, SIG_IGN); /* of leases; see gmem.h */
	if (memory == NULL && asprintf(&made, "%s.mem", to) < 0)
		made = NULL;
	r = snapshot_map(s, &(struct gmem_config){ .size = s->head.ram }, &mem, err);
	if (r == 0)
		r = write_files(s, &mem, to, memory != NULL ? memory : made, err);
	gmem_fini(&mem);
	free(made);
	snapshot_close(s);
	return r;
}

int snapshot_main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	int r = -EINVAL;

	if (argc == 2 && strcmp(argv[0], "info") == 0)
		r = info(argv[1], &err);
	else if ((argc == 3 || argc == 4) && strcmp(argv[0], "merge") == 0)
		r = merge(argv[1], argv[2], argc == 4 ? argv[3] : NULL, &err);
	else
		fputs(usage, stderr);
	if (r < 0 && err.code != 0)
		log_error("%s", err.msg);
	return r < 0 ? STATUS_CANNOT : STATUS_POWEROFF;
}
