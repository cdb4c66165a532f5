// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots: what the two files are, and opening them.
 *
 * The state file has everything but RAM, in the format of state.h: named, versioned fields with
 * a checksum. Its first section, "snapshot", says what it is:
 *
 *	version		of the program that wrote it
 *	arch		x86_64
 *	time		ns since 1970
 *	config		the configuration as JSON, as --dry-run prints it
 *	ram		bytes
 *	memory-id	a random number that is in the memory file, too
 *	memory		the memory file's name: in the same folder, or an absolute path
 *	parent-id	of a diff: the memory-id it is the difference to; 0: none, it is complete
 *	parent		and the state file that goes with that, named like memory
 *	extents		of a diff: pairs of u64, first page of 4 KiB and their number, ascending
 *
 * The others are "cpus", "clocks", "vcpu0" and so on, and "devices": see arch/x86_64/state.c and
 * the state function of each device. Sections and fields may be added by later versions, which
 * know how to read older files; a file of a later version that has something unknown is refused
 * by name.
 *
 * The memory file is RAM: the byte at offset N is byte N of RAM (below the hole under 4 GiB they
 * are the same as physical addresses; above it 1 GiB less), so that it can be mapped. Holes are
 * zeroes, or, in a diff, nothing: the state file's extents say what is in it. Behind RAM is one
 * more page: "VMMRAM", the memory-id and the size of RAM as u64.
 *
 * How they stay whole. A snapshot is replaced by another one under the same names without a
 * moment at which neither is there, whatever crashes when:
 *
 *  1. memory is written to MEMORY-ID (16 hexadecimal digits), state to STATE-ID; both are synced;
 *  2. STATE-ID is renamed to STATE. From here on the new one counts: it names MEMORY, which is
 *     still the old one, and its id does not match; then MEMORY-ID is looked for, which is there;
 *  3. MEMORY-ID is renamed to MEMORY, which removes the old memory file.
 *
 * The folders are synced after each of the two. What a crash left behind under temporary names is
 * removed by the next snapshot of those names. Whoever has the old memory file mapped keeps it.
 *
 * Threat: state files may be forged, to attack who restores them. All sizes are bounded by the
 * size of the file, and names are only opened for reading; but whoever can choose a configuration
 * can name any file of the user's as a disk, as with --config.
 *
 * #syscalls files: openat newfstatat fstat pread64 read lseek close
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/base/path.h"
#include "vmm/snapshot/snapshot.h"

#define STATE_FILE_MAX (1ULL << 30)
#define TEXT_MAX       (16 << 20)

/* --- Names --- */

char *snapshot_path(const char *state, const char *name)
{
	const char *slash = strrchr(state, '/');
	char *path;

	if (*name == '/' || slash == NULL)
		return strdup(name);
	if (asprintf(&path, "%.*s/%s", (int)(slash - state), state, name) < 0)
		return NULL;
	return path;
}

/* The folder of @path, in full; malloc'ed, NULL when it is not there. */
static char *full_folder(const char *path)
{
	char *folder = path_folder(path);
	char *full = folder != NULL ? realpath(folder, NULL) : NULL;

	free(folder);
	return full;
}

char *snapshot_name(const char *state, const char *path)
{
	char *a = full_folder(state), *b = full_folder(path), *name = NULL;
	const char *base = strrchr(path, '/');

	base = base != NULL ? base + 1 : path;
	if (a != NULL && b != NULL && strcmp(a, b) == 0)
		name = strdup(base);
	else if (b == NULL || asprintf(&name, "%s/%s", b[1] != '\0' ? b : "", base) < 0)
		name = NULL;
	free(a);
	free(b);
	return name;
}

/* --- The head --- */

/* A string: bytes without a NUL. */
static void text_state(struct state *st, const char *name, char **text)
{
	size_t len = *text != NULL ? strlen(*text) : 0;

	if (!state_loading(st)) {
		state_blob(st, name, *text, &len, TEXT_MAX);
		return;
	}
	len = state_blob_size(st, name);
	if (len > TEXT_MAX) {
		state_fail(st, "'%s' has %zu bytes", name, len);
		return;
	}
	*text = calloc(1, len + 1);
	if (*text == NULL) {
		state_fail(st, "no memory for %s", name);
		return;
	}
	state_blob(st, name, *text, &len, len);
	if (memchr(*text, '\0', len) != NULL)
		state_fail(st, "'%s' has a NUL in it", name);
}

static void extents_state(struct snapshot_head *head, struct state *st)
{
	size_t size = sizeof(head->extents[0]), len = head->nextents * size;
	uint64_t pages = head->ram >> GMEM_PAGE_SHIFT, next = 0;

	if (!state_loading(st)) {
		state_blob(st, "extents", head->extents, &len, len);
		return;
	}
	len = state_blob_size(st, "extents");
	head->extents = calloc(1, len + 1);
	if (head->extents == NULL) {
		state_fail(st, "no memory for %zu bytes of extents", len);
		return;
	}
	state_blob(st, "extents", head->extents, &len, len);
	if (len % size != 0) {
		state_fail(st, "extents of %zu bytes", len);
		return;
	}
	head->nextents = len / size;
	for (size_t i = 0; i < head->nextents; i++) {
		const struct snapshot_extent *e = &head->extents[i];

		if (e->first < next || e->first > pages || e->n > pages - e->first) {
			state_fail(st, "extent %zu is out of order, or not in RAM", i);
			return;
		}
		next = e->first + e->n;
	}
}

void snapshot_head_state(struct snapshot_head *head, struct state *st)
{
	state_begin(st, "snapshot", 1);
	text_state(st, "version", &head->version);
	text_state(st, "arch", &head->arch);
	state_u64(st, "time", &head->time);
	text_state(st, "config", &head->config);
	state_u64(st, "ram", &head->ram);
	state_u64(st, "memory-id", &head->id);
	text_state(st, "memory", &head->memory);
	state_u64(st, "parent-id", &head->parent);
	text_state(st, "parent", &head->below);
	if (state_loading(st) &&
	    (head->ram == 0 || head->ram % GMEM_PAGE_SIZE != 0 || head->ram > 1ULL << 46))
		state_fail(st, "%llu bytes of RAM", (unsigned long long)head->ram);
	else
		extents_state(head, st);
	if (state_loading(st) && state_ok(st) &&
	    (head->id == 0 || *head->memory == '\0' ||
	     (head->parent != 0) != (*head->below != '\0')))
		state_fail(st, "its files are not named");
	state_end(st);
}

void snapshot_head_free(struct snapshot_head *head)
{
	free(head->version);
	free(head->arch);
	free(head->config);
	free(head->memory);
	free(head->below);
	free(head->extents);
	*head = (struct snapshot_head){ 0 };
}

/* --- Opening --- */

static int read_file(const char *path, void **data, size_t *len, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat stat;
	size_t done = 0;
	int r = 0;

	if (fd < 0)
		return err_sys(err, errno, "cannot open");
	if (fstat(fd, &stat) < 0)
		r = err_sys(err, errno, "cannot look at it");
	else if (!S_ISREG(stat.st_mode))
		r = err_set(err, EINVAL, "not a regular file");
	else if ((uint64_t)stat.st_size > STATE_FILE_MAX)
		r = err_set(err, EFBIG, "not a saved state: it is too large");
	*len = r == 0 ? (size_t)stat.st_size : 0;
	*data = malloc(*len + 1);
	if (r == 0 && *data == NULL)
		r = err_sys(err, ENOMEM, "cannot read");
	while (r == 0 && done < *len) {
		ssize_t n = read(fd, (char *)*data + done, *len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = err_sys(err, errno, "cannot read");
		if (n <= 0)
			break; /* it was cut short: the checksum tells */
		done += (size_t)n;
	}
	*len = done;
	close(fd);
	return r;
}

struct snapshot *snapshot_open_state(const char *path, struct err *err)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	const void *none;
	size_t len;
	int r;

	if (s == NULL) {
		err_sys(err, ENOMEM, "snapshot %s", path);
		return NULL;
	}
	s->fd = -1;
	s->path = strdup(path);
	r = s->path == NULL ? err_sys(err, ENOMEM, "no room for its name")
			    : read_file(path, &s->data, &len, err);
	if (r == 0)
		s->st = state_new_load(s->data, len, err);
	if (s->st == NULL) {
		err_context(err, "snapshot %s", path);
		snapshot_close(s);
		return NULL;
	}
	snapshot_head_state(&s->head, s->st);
	if (state_ok(s->st))
		return s;
	state_finish(s->st, &none, &len, err);
	err_context(err, "snapshot %s", path);
	snapshot_close(s);
	return NULL;
}

void snapshot_close(struct snapshot *s)
{
	if (s == NULL)
		return;
	snapshot_close(s->below);
	if (s->fd >= 0)
		close(s->fd);
	state_free(s->st);
	snapshot_head_free(&s->head);
	free(s->data);
	free(s->path);
	free(s);
}

/* Open @path if it is the memory file that belongs to @s. */
static int try_memory(struct snapshot *s, const char *path, struct err *err)
{
	s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (s->fd < 0)
		return err_sys(err, errno, "memory %s: cannot open", path);
	if (snapshot_check_memory(s->fd, s->head.id, s->head.ram, err) == 0)
		return 0;
	close(s->fd);
	s->fd = -1;
	return err_context(err, "memory %s", path);
}

/* Under its name, or under the one that it has until the last step of replacing. */
static int open_memory(struct snapshot *s, const char *memory, struct err *err)
{
	char *path = memory != NULL ? strdup(memory) : snapshot_path(s->path, s->head.memory);
	struct err ignored = ERR_INIT;
	char *early = NULL;
	int r;

	if (path == NULL ||
	    asprintf(&early, "%s-%016llx", path, (unsigned long long)s->head.id) < 0) {
		free(path);
		return err_sys(err, ENOMEM, "memory");
	}
	r = try_memory(s, path, err);
	if (r < 0 && try_memory(s, early, &ignored) == 0)
		r = 0;
	free(early);
	free(path);
	return r;
}

/* The one that diff @s is the difference to. */
static int open_below(struct snapshot *s, struct err *err)
{
	char *path = snapshot_path(s->path, s->head.below);

	s->below = path != NULL ? snapshot_open_state(path, err) : NULL;
	free(path);
	if (s->below == NULL)
		return err_context(err, "below it");
	if (s->below->head.id != s->head.parent || s->below->head.ram != s->head.ram)
		return err_set(err, ESTALE,
			       "it is a difference to snapshot %s, which is another one by now",
			       s->below->path);
	return open_memory(s->below, NULL, err);
}

struct snapshot *snapshot_open(const char *path, const char *memory, struct err *err)
{
	struct snapshot *s = snapshot_open_state(path, err), *layer = s;
	unsigned n = 1;
	int r;

	if (s == NULL)
		return NULL;
	r = open_memory(s, memory, err);
	for (; r == 0 && layer->head.parent != 0; layer = layer->below, n++)
		r = n < SNAPSHOT_LAYERS_MAX
			    ? open_below(layer, err)
			    : err_set(err, ELOOP, "more than %d snapshots on top of each other",
				      SNAPSHOT_LAYERS_MAX);
	if (r == 0)
		return s;
	err_context(err, "snapshot %s", path);
	snapshot_close(s);
	return NULL;
}

/* --- RAM --- */

static int read_layer(struct gmem *mem, const struct snapshot *s, struct err *err)
{
	for (size_t i = 0; i < s->head.nextents; i++) {
		const struct snapshot_extent *e = &s->head.extents[i];

		if (gmem_read_ram(mem, s->fd, e->first << GMEM_PAGE_SHIFT, e->n << GMEM_PAGE_SHIFT,
				  err) < 0)
			return -err->code;
	}
	return 0;
}

/* From the bottom up. */
static int read_layers(struct gmem *mem, const struct snapshot *s, struct err *err)
{
	if (s->head.parent == 0)
		return 0;
	if (read_layers(mem, s->below, err) < 0)
		return -err->code;
	return read_layer(mem, s, err);
}

static const struct snapshot *lowest(const struct snapshot *s)
{
	while (s->head.parent != 0)
		s = s->below;
	return s;
}

int snapshot_map(const struct snapshot *s, const struct gmem_config *cfg, struct gmem *mem,
		 struct err *err)
{
	if (gmem_init_file(mem, cfg, lowest(s)->fd, err) < 0 || read_layers(mem, s, err) < 0)
		return err_context(err, "snapshot %s", s->path);
	return 0;
}

int snapshot_read(const struct snapshot *s, const struct gmem_config *cfg, struct gmem *mem,
		  struct err *err)
{
	if (gmem_init(mem, cfg, err) < 0 || gmem_read_sparse(mem, lowest(s)->fd, err) < 0 ||
	    read_layers(mem, s, err) < 0)
		return err_context(err, "snapshot %s", s->path);
	return 0;
}

/* --- Configuration --- */

json_t *snapshot_config_json(const struct snapshot *s, struct err *err)
{
	json_error_t where;
	json_t *json = json_loads(s->head.config, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);

	if (json == NULL)
		err_set(err, EINVAL, "snapshot %s: its configuration: line %d: %s", s->path,
			where.line, where.text);
	else if (!json_is_object(json))
		err_set(err, EINVAL, "snapshot %s: its configuration is no object", s->path);
	if (!json_is_object(json)) {
		json_decref(json);
		return NULL;
	}
	return json;
}
