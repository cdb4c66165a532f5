/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest knows of a shared folder: nodes (files, by whatever name) and handles (open
 * files), each named by a number that is never used for anything else. See fs_node.c.
 *
 * Not locked. Nothing is allocated after the tables were made; both have memory reserved for
 * their maximum, which takes no room until it is used.
 */
#ifndef DEVICES_FS_NODE_H
#define DEVICES_FS_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FS_NODES_MAX   (1u << 20)
#define FS_HANDLES_MAX (1u << 18)

/* What a file is on the host, by whatever name it is found. */
struct fs_key {
	uint64_t ino, dev, mnt;
	bool synth; /* the placeholder for a mount point that is not shown */
};

struct fs_node {
	struct fs_key key;
	int fd;	       /* O_PATH: pins the inode, so that its number stays its own; -1 if synth */
	uint32_t type; /* S_IFDIR, ...: as on the host */
	uint64_t nlookup; /* how often the guest was told of it and has not forgotten */
	bool special;	  /* ids=xattr: a device or the like in the guest, a file on the host */
	bool gone;	  /* not found when the machine was loaded: of no use, and @fd is -1 */

	/* cache=auto: what the file was like when it was last opened. */
	bool seen;
	uint32_t seen_nsec;
	int64_t seen_sec;
	uint64_t seen_size;

	/* private */
	uint32_t generation, next;
};

struct fs_nodes {
	struct fs_node *node; /* [max + 1]; 0 is none, 1 the root */
	uint32_t max, fresh, free, used;
	/* A linear hash: grows by one bucket at a time. */
	uint32_t *bucket; /* [nbuckets], room for as many as nodes; first in its chain */
	uint32_t nbuckets, half;
	uint64_t seed;
	size_t node_bytes, bucket_bytes;
};

/* For at most @max nodes; the root is not in it yet. 0 or -errno. */
int fs_nodes_init(struct fs_nodes *t, uint32_t max);
/* Closes what they hold. Harmless after failure, or of zeroes. */
void fs_nodes_fini(struct fs_nodes *t);
/* The root: node id 1, never forgotten. It owns @fd. */
struct fs_node *fs_nodes_set_root(struct fs_nodes *t, const struct fs_key *key, uint32_t type,
				  int fd);
struct fs_node *fs_nodes_root(const struct fs_nodes *t);
/* Forget all but the root. */
void fs_nodes_clear(struct fs_nodes *t);

/* What the guest calls it. Never 0. */
uint64_t fs_node_id(const struct fs_nodes *t, const struct fs_node *node);
/* The node the guest calls @id, or NULL: there is none, or no longer. */
struct fs_node *fs_node_get(const struct fs_nodes *t, uint64_t id);
struct fs_node *fs_node_find(const struct fs_nodes *t, const struct fs_key *key);
/* A new one, with no lookups, owning @fd; NULL when there are too many (@fd is not closed). */
struct fs_node *fs_node_add(struct fs_nodes *t, const struct fs_key *key, uint32_t type, int fd);
/* The guest was told of it (once more). */
void fs_node_ref(struct fs_node *node);
/* The guest forgets @n of its lookups of @id. What is not true of that has no effect. */
void fs_node_forget(struct fs_nodes *t, uint64_t id, uint64_t n);

/* --- Handles --- */

struct fs_handle {
	int fd;	       /* -1: a folder that is synthetic */
	uint64_t node; /* id of what was opened */
	bool dir;
	int64_t pos; /* folders: where the host's descriptor stands */

	/* private */
	unsigned holds; /* I/O in flight, and the guest */
	bool open;	/* the guest has it */
	uint32_t generation, next;
};

struct fs_handles {
	struct fs_handle *handle; /* [max + 1]; 0 is none */
	uint32_t max, fresh, free, used;
	size_t bytes;
};

int fs_handles_init(struct fs_handles *t, uint32_t max);
void fs_handles_fini(struct fs_handles *t);
/* Close all. What is held (I/O in flight) is closed by the last fs_handle_drop(). */
void fs_handles_clear(struct fs_handles *t);

/* A new one, owning @fd; NULL when there are too many (@fd is not closed). */
struct fs_handle *fs_handle_add(struct fs_handles *t, uint64_t node, int fd, bool dir);
uint64_t fs_handle_id(const struct fs_handles *t, const struct fs_handle *h);
/* The open handle the guest calls @id, if it is one of @node and of this kind; else NULL. */
struct fs_handle *fs_handle_get(const struct fs_handles *t, uint64_t id, uint64_t node, bool dir);
/* The guest closes it. */
void fs_handle_close(struct fs_handles *t, struct fs_handle *h);
/* Keep its descriptor open (and its number from being reused) until fs_handle_drop(). */
void fs_handle_hold(struct fs_handle *h);
void fs_handle_drop(struct fs_handles *t, struct fs_handle *h);

/* --- Loading: see fs_state.c. Nothing of it trusts its caller's numbers. --- */

/* Above the generation of any number given out so far. */
uint32_t fs_tables_generation(const struct fs_nodes *nodes, const struct fs_handles *handles);
/* Make them empty but for the root, for what is loaded next. */
void fs_tables_load(struct fs_nodes *nodes, struct fs_handles *handles);
/* The node that the guest calls @id, owning @fd. NULL: there is no such number, or it is taken. */
struct fs_node *fs_node_load(struct fs_nodes *t, uint64_t id, const struct fs_key *key,
			     uint32_t type, int fd, uint64_t nlookup);
struct fs_handle *fs_handle_load(struct fs_handles *t, uint64_t id, uint64_t node, int fd,
				 bool dir);
/* All is loaded: what was left out is free, and its next numbers are of @generation. */
void fs_tables_loaded(struct fs_nodes *nodes, struct fs_handles *handles, uint32_t generation);

#endif
