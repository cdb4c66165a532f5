// SPDX-License-Identifier: Apache-2.0
/*
 * Nodes and handles of a shared folder: see fs_node.h.
 *
 * Theory of operation. Both tables are arrays of a fixed maximum, in memory that the host's
 * kernel provides page by page as it is touched. The number the guest gets is the index in the
 * low half and the slot's generation in the high half; the generation changes when the slot is
 * freed. So a number that is stale or made up is found out by one comparison, and can never
 * mean another file. The root is index 1 with generation 0: FUSE_ROOT_ID.
 *
 * Nodes are found by what they are on the host through a linear hash (Litwin): when it is full
 * one bucket is split, so no operation ever moves more than one chain, and memory grows with
 * the number of nodes. The hash is seeded, as a guest has influence on inode numbers.
 *
 * A node's O_PATH descriptor keeps its inode in existence. So two nodes never have the same
 * key, and a key never means a file that took the place of another.
 *
 * Limits: a generation has 32 bits. A guest that frees and fills a slot that often, which takes
 * hours, can reach a file of its own by an old number.
 *
 * #syscalls share: close
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include "devices/fs_node.h"

#define BUCKETS_MIN 64

static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, size_t bytes)
{
	if (p != NULL)
		munmap(p, bytes);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static uint64_t make_id(uint32_t index, uint32_t generation)
{
	return (uint64_t)generation << 32 | index;
}

/* --- Nodes: the hash --- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccd;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53;
	return x ^ x >> 33;
}

static uint64_t hash_of(const struct fs_nodes *t, const struct fs_key *key)
{
	return mix(mix(key->ino ^ t->seed) + key->dev * 31 + key->mnt * 1021 + key->synth);
}

static uint32_t bucket_of(const struct fs_nodes *t, uint64_t hash)
{
	uint32_t b = (uint32_t)hash & (2 * t->half - 1);

	return b < t->nbuckets ? b : (uint32_t)hash & (t->half - 1);
}

static void hash_reset(struct fs_nodes *t)
{
	memset(t->bucket, 0, t->nbuckets * sizeof(*t->bucket));
	t->nbuckets = t->half = BUCKETS_MIN;
}

static void hash_insert(struct fs_nodes *t, struct fs_node *node)
{
	uint32_t *head = &t->bucket[bucket_of(t, hash_of(t, &node->key))];

	node->next = *head;
	*head = (uint32_t)(node - t->node);
}

static void hash_remove(struct fs_nodes *t, struct fs_node *node)
{
	uint32_t *at = &t->bucket[bucket_of(t, hash_of(t, &node->key))];
	uint32_t index = (uint32_t)(node - t->node);

	while (*at != 0 && *at != index)
		at = &t->node[*at].next;
	if (*at == index)
		*at = node->next;
}

/* Split the bucket whose turn it is. */
static void hash_grow(struct fs_nodes *t)
{
	uint32_t *from = &t->bucket[t->nbuckets - t->half], i = *from;

	*from = 0;
	t->nbuckets++;
	while (i != 0) {
		uint32_t next = t->node[i].next;

		hash_insert(t, &t->node[i]);
		i = next;
	}
	if (t->nbuckets == 2 * t->half)
		t->half = t->nbuckets;
}

/* --- Nodes --- */

int fs_nodes_init(struct fs_nodes *t, uint32_t max)
{
	*t = (struct fs_nodes){ .max = max, .fresh = 2 };
	t->node_bytes = ((size_t)max + 1) * sizeof(*t->node);
	t->bucket_bytes = ((size_t)max + BUCKETS_MIN) * sizeof(*t->bucket);
	t->node = reserve(t->node_bytes);
	t->bucket = reserve(t->bucket_bytes);
	if (t->node == NULL || t->bucket == NULL) {
		fs_nodes_fini(t);
		return -ENOMEM;
	}
	t->node[1].fd = -1;
	t->nbuckets = t->half = BUCKETS_MIN;
	if (getrandom(&t->seed, sizeof(t->seed), GRND_NONBLOCK) < 0)
		t->seed = (uintptr_t)t->node; /* early at boot: better than nothing */
	return 0;
}

void fs_nodes_fini(struct fs_nodes *t)
{
	if (t->node != NULL && t->bucket != NULL) {
		fs_nodes_clear(t);
		close_fd(&t->node[1].fd);
	}
	release(t->node, t->node_bytes);
	release(t->bucket, t->bucket_bytes);
	*t = (struct fs_nodes){ 0 };
}

struct fs_node *fs_nodes_set_root(struct fs_nodes *t, const struct fs_key *key, uint32_t type,
				  int fd)
{
	struct fs_node *root = &t->node[1];

	*root = (struct fs_node){ .key = *key, .type = type, .fd = fd, .nlookup = 1 };
	t->used++;
	hash_insert(t, root);
	return root;
}

struct fs_node *fs_nodes_root(const struct fs_nodes *t)
{
	return &t->node[1];
}

uint64_t fs_node_id(const struct fs_nodes *t, const struct fs_node *node)
{
	return make_id((uint32_t)(node - t->node), node->generation);
}

struct fs_node *fs_node_get(const struct fs_nodes *t, uint64_t id)
{
	uint32_t index = (uint32_t)id;
	struct fs_node *node;

	if (index == 0 || index >= t->fresh)
		return NULL;
	node = &t->node[index];
	return node->nlookup > 0 && node->generation == id >> 32 ? node : NULL;
}

static bool same(const struct fs_key *a, const struct fs_key *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->mnt == b->mnt && a->synth == b->synth;
}

struct fs_node *fs_node_find(const struct fs_nodes *t, const struct fs_key *key)
{
	uint32_t i = t->bucket[bucket_of(t, hash_of(t, key))];

	while (i != 0 && !same(&t->node[i].key, key))
		i = t->node[i].next;
	return i != 0 ? &t->node[i] : NULL;
}

/* Fill slot @node, which is free. */
static void fill_node(struct fs_nodes *t, struct fs_node *node, uint32_t generation,
		      const struct fs_key *key, uint32_t type, int fd)
{
	*node = (struct fs_node){ .key = *key, .type = type, .fd = fd, .generation = generation };
	if (++t->used > t->nbuckets && t->nbuckets < t->max)
		hash_grow(t);
	hash_insert(t, node);
}

struct fs_node *fs_node_add(struct fs_nodes *t, const struct fs_key *key, uint32_t type, int fd)
{
	struct fs_node *node;
	uint32_t generation;

	if (t->free != 0) {
		node = &t->node[t->free];
		t->free = node->next;
		generation = node->generation;
	} else if (t->fresh <= t->max) {
		node = &t->node[t->fresh++];
		generation = 1;
	} else {
		return NULL;
	}
	fill_node(t, node, generation, key, type, fd);
	return node;
}

void fs_node_ref(struct fs_node *node)
{
	if (node->nlookup < UINT64_MAX)
		node->nlookup++;
}

/* Give up the slot; the node is out of the hash. */
static void free_node(struct fs_nodes *t, struct fs_node *node)
{
	close_fd(&node->fd);
	node->nlookup = 0;
	node->generation++;
	node->next = t->free;
	t->free = (uint32_t)(node - t->node);
	t->used--;
}

void fs_node_forget(struct fs_nodes *t, uint64_t id, uint64_t n)
{
	struct fs_node *node = fs_node_get(t, id);

	if (node == NULL || node == &t->node[1])
		return;
	node->nlookup = n < node->nlookup ? node->nlookup - n : 0;
	if (node->nlookup > 0)
		return;
	hash_remove(t, node);
	free_node(t, node);
}

void fs_nodes_clear(struct fs_nodes *t)
{
	bool root = t->node[1].nlookup > 0;

	hash_reset(t);
	for (uint32_t i = 2; i < t->fresh; i++)
		if (t->node[i].nlookup > 0)
			free_node(t, &t->node[i]);
	if (root)
		hash_insert(t, &t->node[1]);
}

/* --- Handles --- */

int fs_handles_init(struct fs_handles *t, uint32_t max)
{
	*t = (struct fs_handles){ .max = max, .fresh = 1 };
	t->bytes = ((size_t)max + 1) * sizeof(*t->handle);
	t->handle = reserve(t->bytes);
	return t->handle != NULL ? 0 : -ENOMEM;
}

void fs_handles_fini(struct fs_handles *t)
{
	if (t->handle != NULL)
		fs_handles_clear(t);
	release(t->handle, t->bytes);
	*t = (struct fs_handles){ 0 };
}

static void fill_handle(struct fs_handles *t, struct fs_handle *h, uint32_t generation,
			uint64_t node, int fd, bool dir)
{
	*h = (struct fs_handle){ .fd = fd,
				 .node = node,
				 .dir = dir,
				 .holds = 1,
				 .open = true,
				 .generation = generation };
	t->used++;
}

struct fs_handle *fs_handle_add(struct fs_handles *t, uint64_t node, int fd, bool dir)
{
	struct fs_handle *h;
	uint32_t generation;

	if (t->free != 0) {
		h = &t->handle[t->free];
		t->free = h->next;
		generation = h->generation;
	} else if (t->fresh <= t->max) {
		h = &t->handle[t->fresh++];
		generation = 1;
	} else {
		return NULL;
	}
	fill_handle(t, h, generation, node, fd, dir);
	return h;
}

uint64_t fs_handle_id(const struct fs_handles *t, const struct fs_handle *h)
{
	return make_id((uint32_t)(h - t->handle), h->generation);
}

struct fs_handle *fs_handle_get(const struct fs_handles *t, uint64_t id, uint64_t node, bool dir)
{
	uint32_t index = (uint32_t)id;
	struct fs_handle *h;

	if (index == 0 || index >= t->fresh)
		return NULL;
	h = &t->handle[index];
	if (!h->open || h->generation != id >> 32 || h->node != node || h->dir != dir)
		return NULL;
	return h;
}

void fs_handle_hold(struct fs_handle *h)
{
	h->holds++;
}

void fs_handle_drop(struct fs_handles *t, struct fs_handle *h)
{
	if (--h->holds > 0)
		return;
	close_fd(&h->fd);
	h->generation++;
	h->next = t->free;
	t->free = (uint32_t)(h - t->handle);
	t->used--;
}

void fs_handle_close(struct fs_handles *t, struct fs_handle *h)
{
	if (!h->open)
		return;
	h->open = false;
	fs_handle_drop(t, h);
}

void fs_handles_clear(struct fs_handles *t)
{
	for (uint32_t i = 1; i < t->fresh; i++)
		fs_handle_close(t, &t->handle[i]);
}

/* --- Loading --- */

uint32_t fs_tables_generation(const struct fs_nodes *nodes, const struct fs_handles *handles)
{
	uint32_t top = 0;

	for (uint32_t i = 2; i < nodes->fresh; i++)
		top = nodes->node[i].generation > top ? nodes->node[i].generation : top;
	for (uint32_t i = 1; i < handles->fresh; i++)
		top = handles->handle[i].generation > top ? handles->handle[i].generation : top;
	return top + 1;
}

void fs_tables_load(struct fs_nodes *nodes, struct fs_handles *handles)
{
	fs_handles_clear(handles);
	fs_nodes_clear(nodes);
	nodes->fresh = 2;
	handles->fresh = 1;
	nodes->free = handles->free = 0;
}

struct fs_node *fs_node_load(struct fs_nodes *t, uint64_t id, const struct fs_key *key,
			     uint32_t type, int fd, uint64_t nlookup)
{
	uint32_t index = (uint32_t)id;
	struct fs_node *node;

	if (index < 2 || index > t->max || nlookup == 0 || t->node[index].nlookup > 0)
		return NULL;
	node = &t->node[index];
	if (index >= t->fresh)
		t->fresh = index + 1;
	fill_node(t, node, (uint32_t)(id >> 32), key, type, fd);
	node->nlookup = nlookup;
	return node;
}

struct fs_handle *fs_handle_load(struct fs_handles *t, uint64_t id, uint64_t node, int fd, bool dir)
{
	uint32_t index = (uint32_t)id;
	struct fs_handle *h;

	if (index < 1 || index > t->max || t->handle[index].open)
		return NULL;
	h = &t->handle[index];
	if (index >= t->fresh)
		t->fresh = index + 1;
	fill_handle(t, h, (uint32_t)(id >> 32), node, fd, dir);
	return h;
}

void fs_tables_loaded(struct fs_nodes *nodes, struct fs_handles *handles, uint32_t generation)
{
	for (uint32_t i = nodes->fresh - 1; i >= 2; i--) {
		if (nodes->node[i].nlookup > 0)
			continue;
		nodes->node[i].generation = generation;
		nodes->node[i].fd = -1;
		nodes->node[i].next = nodes->free;
		nodes->free = i;
	}
	for (uint32_t i = handles->fresh - 1; i >= 1; i--) {
		if (handles->handle[i].open)
			continue;
		handles->handle[i].generation = generation;
		handles->handle[i].fd = -1;
		handles->handle[i].next = handles->free;
		handles->free = i;
	}
}
