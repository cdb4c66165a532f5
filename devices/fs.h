/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder (or one file) of the host, served by the FUSE protocol. virtio_fs.c is the device;
 * fs_session.c takes its requests apart and is where to begin reading; fs_impl.h says which
 * file does what.
 *
 * Not locked: the owner calls everything under one mutex of its own; fs_forked(), fs_setup(),
 * fs_watch() and fs_serve() on the thread of its loop, the rest on any.
 */
#ifndef DEVICES_FS_H
#define DEVICES_FS_H

#include <stdbool.h>
#include <stdint.h>
#include "devices/aio.h"
#include "devices/fs_fuse.h"
#include "devices/virtqueue.h"
#include "vmm/base/err.h"
#include "vmm/base/loop.h"
#include "vmm/base/state.h"

/* Queues are so long: a request of FS_IO_MAX bytes in pages, and its headers, must fit. */
#define FS_QUEUE_SIZE 512
#define FS_IOV	      VIRTQUEUE_IOV(FS_QUEUE_SIZE)
#define FS_IO_MAX     (1u << 20) /* bytes of one READ or WRITE, with pages of 4 KiB */

enum { FS_IDS_MAP, FS_IDS_HOST, FS_IDS_XATTR };
enum { FS_CACHE_AUTO, FS_CACHE_ALWAYS, FS_CACHE_NEVER };

struct fs_config {
	const char *path; /* borrowed, for fs_new() only */
	bool ro;
	int ids;		     /* FS_IDS_* */
	uint32_t uid, gid;	     /* MAP, XATTR: what the caller's own are in the guest */
	int cache;		     /* FS_CACHE_* */
	bool mounts;		     /* show what is mounted inside */
	struct iothreads *iothreads; /* as in aio_new() */
};

struct fs;
struct fs_node;
struct fs_handle;

/* A request. The owner keeps it until it is answered and fills in the chain. */
struct fs_req {
	struct virtqueue_chain chain;
	struct iovec iov[FS_IOV]; /* the chain's */

	/* private */
	struct fs *fs;
	struct fuse_in_header in;
	const uint8_t *args; /* after the header, in memory of ours */
	uint32_t nargs;	     /* bytes */
	const char *name[2]; /* of operations that have them */
	bool has_group;	     /* ids=host: the user is of the folder's group, too */
	uint32_t group;
	struct fs_node *node;
	struct aio_req io;
	bool kill_suid;
	struct fs_handle *handle;     /* held while I/O is in flight */
	struct virtqueue_cursor data; /* READ: where it goes */
	struct iovec data_iov[FS_IOV];
};

/*
 * Open what cfg->path names. @name is what messages call it (borrowed). @ready(@owner) is as in
 * aio_new(); @answered(@owner, req) says that a request fs_serve() had not answered at once now
 * is. NULL with @err filled.
 */
struct fs *fs_new(const struct fs_config *cfg, const char *name, void (*ready)(void *owner),
		  void (*answered)(void *owner, struct fs_req *req), void *owner, struct err *err);
/* Waits for what is in flight. */
void fs_free(struct fs *fs);

/* Once, on the thread that will serve it: see fs_open.c. 0 or -code. */
int fs_setup(struct fs *fs, struct err *err);
/* Before that, where it is a copy of what another process made: it is this one's. 0 or -code. */
int fs_forked(struct fs *fs, struct err *err);
/* Call @fn for each descriptor it holds. */
void fs_descriptors(const struct fs *fs, void (*fn)(void *arg, int fd), void *arg);
/* Can the rest of the host be reached from what it holds open, by whoever takes it over? */
bool fs_leads_out(const struct fs *fs);
/* Watch for completions on @loop. Harmless when watched. 0 or -code. */
int fs_watch(struct fs *fs, struct loop *loop, struct err *err);

/*
 * Serve a request. True: it is answered, to be given back with what is in the chain's writable
 * bytes (none: there was nothing to say or no room to say it). False: later; fs_run().
 */
bool fs_serve(struct fs *fs, struct fs_req *req);
/* Start the I/O that was asked for, answer what has completed. */
void fs_run(struct fs *fs);
/* Wait until nothing is in flight. */
void fs_drain(struct fs *fs);
/*
 * Save all the guest knows, or load it after fs_reset(); nothing is in flight. On any thread.
 * Format: fs_state.c.
 */
void fs_state(struct fs *fs, struct state *st);
/* Forget all the guest knows, after fs_drain(): nodes, handles, what was negotiated. */
void fs_reset(struct fs *fs);

#endif
