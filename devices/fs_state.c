// SPDX-License-Identifier: Apache-2.0
/*
 * Shared folders: saved and loaded with a machine.
 *
 * Theory of operation. The guest knows files by numbers. What a number means is saved as the file's
 * place below the folder, which the host's kernel tells of an open descriptor (/proc/self/fd, so
 * it is where the file is now, whoever moved it), and is looked for there again when the machine is
 * loaded: in this process or another, on this host or one that has a copy of the folder. Open
 * files are opened again, with the access they were opened for.
 *
 * What is not found there, is of another type, or has no name any more (removed while open) stays
 * known by its number, but is gone: every request for it but to forget and to release it is
 * answered with ESTALE.
 *
 * The saved bytes are hostile. A place is opened like any name the guest sends: below the root,
 * without following symbolic links, and what is found must be a file system that holds files. So
 * a forged state gets at nothing that the guest could not look up.
 *
 * Format, in the device's section: what was negotiated; "generation", above that of any number
 * given out; then struct node_record, each with its path, and struct handle_record, packed one
 * after the other into blobs "nodes0", "nodes1", ... and "handles0", .... The root is not among
 * them.
 *
 * Limits: 128 MiB of records, places of less than PATH_MAX bytes. A mount point that is not shown
 * is known again only as long as it is mounted: when the host has rebooted it is gone.
 *
 * #syscalls share files: readlinkat statx fcntl close
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "devices/fs_impl.h"
#include "vmm/base/log.h"

#define BLOB_MAX  (64u << 10)
#define BLOBS_MAX 2000	     /* of nodes, and of handles */
#define NO_MOUNT  UINT64_MAX /* no file's: what is gone is not found by what it was */

/* How a node is found again. */
enum place {
	PLACE_PATH,  /* below the root */
	PLACE_FILE,  /* the single file that is shared */
	PLACE_SYNTH, /* a mount point that is not shown: by what it is on the host */
	PLACE_GONE,
};

struct node_record {
	uint64_t id, nlookup, ino, dev, mnt;
	uint32_t type;
	uint16_t len; /* of the path that follows */
	uint8_t place, special;
};

struct handle_record {
	uint64_t id, node;
	uint32_t access; /* O_RDONLY, ... */
	uint32_t dir;
};

/* Records on their way to or from blobs called @kind and a number. */
struct pack {
	struct state *st;
	const char *kind;
	unsigned n;
	uint8_t *buf; /* [BLOB_MAX] */
	size_t len, at;
};

static void pack_name(const struct pack *p, char name[16])
{
	snprintf(name, 16, "%s%u", p->kind, p->n);
}

/* --- Saving --- */

static void pack_flush(struct pack *p)
{
	char name[16];

	if (p->len == 0)
		return;
	pack_name(p, name);
	state_blob(p->st, name, p->buf, &p->len, BLOB_MAX);
	p->n++;
	p->len = 0;
	if (p->n == BLOBS_MAX)
		state_fail(p->st, "the guest knows too many files of the shared folder");
}

static void pack_put(struct pack *p, const void *record, size_t size, const char *text, size_t len)
{
	if (BLOB_MAX - p->len < size + len)
		pack_flush(p);
	memcpy(p->buf + p->len, record, size);
	memcpy(p->buf + p->len + size, text, len);
	p->len += size + len;
}

/* Where the host says that @fd is, without the root's own @root. NULL: not below it. */
static const char *path_of(const struct fs *fs, int fd, const char *root, char buf[PATH_MAX])
{
	size_t len = strlen(root);
	char name[16];
	ssize_t n;

	snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(fs->proc, name, buf, PATH_MAX - 1);
	if (n < 0)
		return NULL;
	buf[n] = '\0';
	if (strncmp(buf, root, len) != 0)
		return NULL;
	if (buf[len] == '/')
		len++;
	else if (len > 1) /* another folder whose name begins alike; "/" ends with its slash */
		return NULL;
	return buf + len;
}

/*
 * Is that file still there? A name that was removed reads like one that has a strange end. Nothing
 * is opened: there may be no descriptor left.
 */
static bool is_there(const struct fs *fs, const struct fs_node *node, const char *path)
{
	struct statx stx;

	return statx(fs_nodes_root(&fs->nodes)->fd, path,
		     AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, FS_STATX,
		     &stx) == 0 &&
	       stx.stx_ino == node->key.ino && stx.stx_mnt_id == node->key.mnt;
}

/* The saved place of @node; *path is what goes with it. */
static enum place place_of(const struct fs *fs, const struct fs_node *node, const char *root,
			   char buf[PATH_MAX], const char **path)
{
	*path = "";
	if (node->gone)
		return PLACE_GONE;
	if (node->key.synth)
		return PLACE_SYNTH;
	if (fs->file >= 0)
		return PLACE_FILE;
	*path = path_of(fs, node->fd, root, buf);
	if (*path != NULL && is_there(fs, node, *path))
		return PLACE_PATH;
	*path = "";
	return PLACE_GONE;
}

static unsigned save_nodes(struct fs *fs, struct pack *p, char buf[PATH_MAX])
{
	const struct fs_nodes *t = &fs->nodes;
	char root[PATH_MAX] = "";
	unsigned gone = 0;

	if (fs->file < 0 && path_of(fs, t->node[1].fd, "", buf) != NULL)
		strcpy(root, buf);
	for (uint32_t i = 2; i < t->fresh; i++) {
		const struct fs_node *node = &t->node[i];
		struct node_record rec = { .id = fs_node_id(t, node),
					   .nlookup = node->nlookup,
					   .ino = node->key.ino,
					   .dev = node->key.dev,
					   .mnt = node->key.mnt,
					   .type = node->type,
					   .special = node->special };
		const char *path;

		if (node->nlookup == 0)
			continue;
		rec.place = (uint8_t)place_of(fs, node, root, buf, &path);
		rec.len = (uint16_t)strlen(path);
		gone += rec.place == PLACE_GONE && !node->gone;
		pack_put(p, &rec, sizeof(rec), path, rec.len);
	}
	pack_flush(p);
	return gone;
}

static void save_handles(struct fs *fs, struct pack *p)
{
	const struct fs_handles *t = &fs->handles;

	for (uint32_t i = 1; i < t->fresh; i++) {
		const struct fs_handle *h = &t->handle[i];
		struct handle_record rec = { .id = fs_handle_id(t, h),
					     .node = h->node,
					     .dir = h->dir };

		if (!h->open)
			continue;
		if (h->fd >= 0)
			rec.access = (uint32_t)fcntl(h->fd, F_GETFL) & O_ACCMODE;
		pack_put(p, &rec, sizeof(rec), "", 0);
	}
	pack_flush(p);
}

/* --- Loading --- */

/* The next @size bytes, or NULL: there are no more, or (said) no whole one. */
static const void *pack_get(struct pack *p, size_t size)
{
	const uint8_t *at;
	char name[16];

	if (p->at == p->len) {
		pack_name(p, name);
		if (!state_has(p->st, name))
			return NULL;
		state_blob(p->st, name, p->buf, &p->len, BLOB_MAX);
		p->at = 0;
		p->n++;
	}
	if (p->len - p->at < size) {
		state_fail(p->st, "%s: a record is cut short", p->kind);
		p->at = p->len = 0;
		return NULL;
	}
	at = p->buf + p->at;
	p->at += size;
	return at;
}

/* Find the file of @rec at @path. *key says what it is; its descriptor or -errno: it is gone. */
static int find(struct fs *fs, const struct node_record *rec, const char *path, struct fs_key *key)
{
	struct statx stx;
	int fd = -ENOENT;

	if (rec->place == PLACE_FILE && fs->file >= 0)
		fd = fs_open_same(fs, fs->file);
	else if (rec->place == PLACE_PATH && fs->file < 0)
		fd = fs_open_entry(fs, fs_nodes_root(&fs->nodes), path);
	if (fd < 0)
		return fd;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, FS_STATX, &stx) == 0) {
		*key = fs_key_of(&stx);
		if ((stx.stx_mode & S_IFMT) == rec->type && fs_node_find(&fs->nodes, key) == NULL &&
		    fs_check_kind(fd) == 0)
			return fd;
	}
	close(fd);
	return -ESTALE;
}

static void load_node(struct fs *fs, struct pack *p, const struct node_record *rec,
		      const char *path, unsigned *gone)
{
	struct fs_key key = { rec->ino, rec->dev, rec->mnt, .synth = true };
	struct fs_node *node;
	bool synth = rec->place == PLACE_SYNTH && rec->type == S_IFDIR &&
		     fs_node_find(&fs->nodes, &key) == NULL;
	int fd = synth ? -1 : find(fs, rec, path, &key);

	if (fd < 0 && !synth)
		key = (struct fs_key){ .ino = rec->id, .mnt = NO_MOUNT, .synth = true };
	node = fs_node_load(&fs->nodes, rec->id, &key, rec->type, fd, rec->nlookup);
	if (node == NULL) {
		if (fd >= 0)
			close(fd);
		state_fail(p->st, "node %llx cannot be", (unsigned long long)rec->id);
		return;
	}
	node->special = rec->special != 0;
	node->gone = fd < 0 && !synth;
	*gone += node->gone && rec->place == PLACE_PATH;
}

static unsigned load_nodes(struct fs *fs, struct pack *p)
{
	const struct node_record *at;
	struct node_record rec;
	char path[PATH_MAX];
	unsigned gone = 0;

	while ((at = pack_get(p, sizeof(rec))) != NULL) {
		const void *text;

		memcpy(&rec, at, sizeof(rec));
		text = rec.len > 0 ? pack_get(p, rec.len) : "";
		if (rec.len >= sizeof(path) || text == NULL) {
			state_fail(p->st, "%s: a path is too long", p->kind);
			return gone;
		}
		memcpy(path, text, rec.len);
		path[rec.len] = '\0';
		load_node(fs, p, &rec, path, &gone);
	}
	return gone;
}

/* -1: its file is gone, or may no longer be opened. */
static int open_again(struct fs *fs, struct fs_node *node, const struct handle_record *rec)
{
	bool regular = node->type == S_IFREG && !fs->ro && rec->access <= O_RDWR;
	int fd;

	if (node->fd < 0)
		return -1;
	if (rec->dir == 0)
		fd = fs_open_file(fs, node, regular ? (int)rec->access : O_RDONLY);
	else
		fd = fs_open_dir(fs, node);
	if (fd >= 0)
		return fd;
	/* A folder without a descriptor would be read as an empty one. */
	node->gone = node->gone || rec->dir != 0;
	return -1;
}

static void load_handles(struct fs *fs, struct pack *p)
{
	const struct handle_record *at;
	struct handle_record rec;

	while ((at = pack_get(p, sizeof(rec))) != NULL) {
		struct fs_node *node;
		int fd;

		memcpy(&rec, at, sizeof(rec));
		node = fs_node_get(&fs->nodes, rec.node);
		fd = node != NULL ? open_again(fs, node, &rec) : -1;
		if (node != NULL &&
		    fs_handle_load(&fs->handles, rec.id, rec.node, fd, rec.dir != 0) != NULL)
			continue;
		if (fd >= 0)
			close(fd);
		state_fail(p->st, "open file %llx cannot be", (unsigned long long)rec.id);
		return;
	}
}

/* --- Both --- */

static void lost(const struct fs *fs, unsigned gone, const char *why)
{
	if (gone > 0)
		log_warn("%s: %u files the guest knows %s: it will be told that they are stale",
			 fs->name, gone, why);
}

/* What the guest knows apart from files. *generation: of the numbers it has not been given yet. */
static void session_state(struct fs *fs, struct state *st, uint32_t *generation)
{
	state_bool(st, "started", &fs->started);
	state_u64(st, "flags", &fs->flags);
	state_u32(st, "generation", generation);
	if (state_loading(st) && (fs->flags & ~fs_offer(fs)) != 0)
		state_fail(st,
			   "%s: it was shared with another ids=, cache=, ro or mounts=", fs->name);
}

void fs_state(struct fs *fs, struct state *st)
{
	struct pack nodes = { .st = st, .kind = "nodes", .buf = fs->buf };
	struct pack handles = { .st = st, .kind = "handles", .buf = fs->buf };
	uint32_t generation = fs_tables_generation(&fs->nodes, &fs->handles);
	char path[PATH_MAX];

	_Static_assert(sizeof(fs->buf) >= BLOB_MAX, "records are packed there");
	session_state(fs, st, &generation);
	if (state_loading(st)) {
		fs_tables_load(&fs->nodes, &fs->handles);
		lost(fs, load_nodes(fs, &nodes), "are not where they were");
		load_handles(fs, &handles);
		fs_tables_loaded(&fs->nodes, &fs->handles, generation);
	} else {
		lost(fs, save_nodes(fs, &nodes, path),
		     "have no name in the folder any more; should the guest be restored");
		save_handles(fs, &handles);
	}
}
