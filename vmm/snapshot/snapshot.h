/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots on disk: a state file and a memory file. See snapshot/snapshot.c for both formats and
 * for how they stay whole; vm.h for making one, vm_restore.c for what becomes of it.
 */
#ifndef VMM_SNAPSHOT_H
#define VMM_SNAPSHOT_H

#include <jansson.h>
#include <stdio.h>
#include "vmm/base/err.h"
#include "vmm/base/gmem.h"
#include "vmm/base/state.h"

/* Generations of diffs, one on top of the other. */
#define SNAPSHOT_LAYERS_MAX 64

/* @n pages of RAM from page @first on. */
struct snapshot_extent {
	uint64_t first, n;
};

/* What the state file says of itself, its first section. */
struct snapshot_head {
	char *version;	 /* of the program that made it */
	char *arch;	 /* uname -m */
	char *config;	 /* JSON */
	uint64_t time;	 /* ns since 1970 */
	uint64_t ram;	 /* bytes */
	uint64_t id;	 /* of its memory file, never 0 */
	char *memory;	 /* that file; relative to the state file's folder, or absolute */
	uint64_t parent; /* a diff: the id of the memory file below; else 0 */
	char *below;	 /* and the state file that belongs to it, like @memory */
	size_t nextents;
	struct snapshot_extent *extents; /* a diff: what is in its memory file */
};

/* One that is open: the state file's bytes, and the memory file of it and of those below it. */
struct snapshot {
	char *path;
	void *data;
	struct state *st; /* behind the head */
	struct snapshot_head head;
	int fd;			/* of the memory file, checked; -1: not opened */
	struct snapshot *below; /* NULL: there is none */
};

/*
 * Open the snapshot whose state file is @path; @memory, if not NULL, is where its memory file is
 * now. Everything that can be checked without a VM is. NULL with @err filled.
 */
struct snapshot *snapshot_open(const char *path, const char *memory, struct err *err);
/* Only the state file and its head; .fd is -1 and .below NULL. */
struct snapshot *snapshot_open_state(const char *path, struct err *err);
void snapshot_close(struct snapshot *snapshot);

/* RAM as in @snapshot: its lowest memory file mapped, what lies above it read. gmem_fini() it. */
int snapshot_map(const struct snapshot *snapshot, const struct gmem_config *cfg, struct gmem *mem,
		 struct err *err);
/* The same, all of it read into RAM proper. */
int snapshot_read(const struct snapshot *snapshot, const struct gmem_config *cfg, struct gmem *mem,
		  struct err *err);

/* The configuration in it: a new object, what opt_from_json() takes. NULL with @err filled. */
json_t *snapshot_config_json(const struct snapshot *snapshot, struct err *err);

/* The first section, in both directions. */
void snapshot_head_state(struct snapshot_head *head, struct state *st);
void snapshot_head_free(struct snapshot_head *head);
/* Where @name, as in the head, is for somebody who opened the state file as @state. malloc'ed. */
char *snapshot_path(const char *state, const char *name);
/* How the head of @state shall name the file @path: the other way round. malloc'ed. */
char *snapshot_name(const char *state, const char *path);

/* --- Writing: snapshot/file.c --- */

/* Two files under their temporary names. */
struct snapshot_files {
	const char *state, *memory; /* what they will be called */
	char *state_tmp, *memory_tmp;
	int fd; /* of the memory file */
};

/* A random id, not 0. */
int snapshot_new_id(uint64_t *id, struct err *err);
/* Begin a memory file for @ram bytes: files->fd. After failure, and at the end, _drop(). */
int snapshot_files_begin(struct snapshot_files *files, const char *state, const char *memory,
			 uint64_t id, uint64_t ram, struct err *err);
/*
 * Memory is written: seal it, write the state of @len bytes, have both on disk, then put them in
 * place of what was there.
 */
int snapshot_files_commit(struct snapshot_files *files, const void *data, size_t len, uint64_t id,
			  uint64_t ram, struct err *err);
/* Let go; what was not committed is removed. */
void snapshot_files_drop(struct snapshot_files *files);
/* Is the memory file open as @fd the one with this id, complete? Errors have no context. */
int snapshot_check_memory(int fd, uint64_t id, uint64_t ram, struct err *err);

/* Write those pages of RAM whose bit is set to @fd, each at its place; pages of zeroes as holes. */
int snapshot_write_pages(int fd, const struct gmem *mem, const uint64_t *bits, struct err *err);
/* The bits as extents, malloc'ed. */
int snapshot_extents(const uint64_t *bits, uint64_t pages, struct snapshot_extent **extents,
		     size_t *n, struct err *err);

/* --- The command --- */

/* `vmm snapshot`; returns the exit status. */
int snapshot_main(int argc, char **argv);

#endif
