/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character devices: what is behind a serial port or the port of a virtio console.
 * See chardev.c.
 *
 * A line has two ends. The `chardev_back` is on the host: terminal, file, pty, socket, or
 * whatever a test makes of it. The `chardev_front` is the device that the guest sees. Both
 * refuse what they have no room for, and say later that there is room again, so that nothing
 * is lost and nothing grows in between.
 */
#ifndef DEVICES_CHARDEV_H
#define DEVICES_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "vmm/base/err.h"
#include "vmm/base/loop.h"
#include "vmm/base/opt.h"

struct chardev_front;

/* The host's end. */
struct chardev_back {
	/*
	 * Guest output: take what there is room for and return how much that was, in bytes.
	 * When not all, front->tx_room() follows once there is room. @iov is used up on the
	 * way. The loop's thread; never blocks, and does not call the front from within.
	 */
	size_t (*write)(struct chardev_back *back, struct iovec *iov, unsigned n);
	/*
	 * The guest made room for input: front->input(), which took less than it was given,
	 * takes bytes again. Any thread; does not call the front from within.
	 */
	void (*rx_room)(struct chardev_back *back);
	struct chardev_front *front; /* NULL: nobody, input waits */
};

/* The guest's end; all on the loop's thread. */
struct chardev_front {
	/*
	 * Input: take up to @len bytes, return how many were taken (0..len). When fewer, call
	 * back->rx_room() once there is room.
	 */
	size_t (*input)(struct chardev_front *front, const void *data, size_t len);
	/* The back has room for output again. */
	void (*tx_room)(struct chardev_front *front);
	/*
	 * Hand over what the guest has printed until now, as far as the back takes it. Returns
	 * 0 when nothing is left.
	 */
	size_t (*flush)(struct chardev_front *front);
	/* Ctrl-a b: a break. NULL: @break_char comes as input instead, if it is not 0. */
	void (*send_break)(struct chardev_front *front);
	uint8_t break_char;
	/* chardev_is_open() or chardev_size() changed. May be NULL. */
	void (*changed)(struct chardev_front *front);
	/* There will be no more input. May be NULL. */
	void (*ended)(struct chardev_front *front);
	/* Begin without input: not before back->rx_room(). */
	bool starts_full;
};

/* Where it leads. Names of the words in options: chardev_names. */
enum chardev_to {
	CHARDEV_STDIO,
	CHARDEV_FILE,
	CHARDEV_PTY,
	CHARDEV_SOCKET,
	CHARDEV_NULL,
	CHARDEV_OFF, /* no device at all, where the option has that word */
	/* Not to be had by an option: */
	CHARDEV_STDERR,
	CHARDEV_GIVEN, /* @given is the host's end */
};

struct chardev_config {
	int to; /* enum chardev_to */
	char *path;
	bool cooked; /* a terminal on stdin keeps its mode, and there are no escapes */
	struct chardev_back *given;
};

extern const char *const chardev_names[]; /* without CHARDEV_OFF */

/* The keys `to` and `path` for an option whose structure has a chardev_config at @off. */
#define CHARDEV_KEYS(off, names)                                                                   \
	{ .name = "to",                                                                            \
	  .type = OPT_ENUM,                                                                        \
	  .offset = (off) + offsetof(struct chardev_config, to),                                   \
	  .values = (names),                                                                       \
	  .def = "stdio",                                                                          \
	  .arg = "WHERE",                                                                          \
	  .help = "where it leads" },                                                              \
	{                                                                                          \
		.name = "path", .type = OPT_STR,                                                   \
		.offset = (off) + offsetof(struct chardev_config, path), .arg = "PATH",            \
		.help = "the file of to=file, the Unix socket of to=socket"                        \
	}

/* Does @cfg make sense? Errors have no context. */
int chardev_check(const struct chardev_config *cfg, struct err *err);

struct chardev;

struct broker;

/* All character devices of a VM, and who hears of what passes; all on the loop's thread. */
struct chardevs {
	void *owner;
	/*
	 * Bytes a console printed, as they were written. *@mark is the owner's, one for each
	 * console, and 0 at first. May be NULL, as may `quit` and `nmi`.
	 */
	void (*printed)(void *owner, size_t *mark, const char *data, size_t len);
	/* Ctrl-a x was typed; Ctrl-a n. */
	void (*quit)(void *owner);
	void (*nmi)(void *owner);
	struct broker *broker; /* who removes sockets in the end; NULL: we do */
	struct chardev *first; /* private */
};

/*
 * Open where @cfg (borrowed until chardev_free) leads and add it to @all. @what names it in
 * messages ("serial"; copied). With @console the owner of @all hears of its output.
 * NULL with @err filled on failure.
 */
struct chardev *chardev_new(const struct chardev_config *cfg, const char *what, bool console,
			    struct chardevs *all, struct loop *loop, struct err *err);
/* After its front is gone. */
void chardev_free(struct chardev *c);
/* Its end of the line; the front is for the caller to set. */
struct chardev_back *chardev_back(struct chardev *c);

/* Is somebody there? Always, unless it is a socket without a client. */
bool chardev_is_open(const struct chardev *c);
/* Size of the terminal in characters; false when there is none, or it is not known. */
bool chardev_size(const struct chardev *c, uint16_t *cols, uint16_t *rows);

/* The VM runs: take input, put the terminal on stdin to raw mode. */
int chardevs_start(struct chardevs *all, struct err *err);
/* Write out what the guest has printed, without waiting. */
void chardevs_flush(struct chardevs *all);
/*
 * The guest has ended: the same, and with @wait, for a reader that is slow, as long as
 * it takes something every 10 s and @stop_fd has nothing to read.
 */
void chardevs_drain(struct chardevs *all, bool wait, int stop_fd);
/* All marks are 0 again. */
void chardevs_clear_marks(struct chardevs *all);
/*
 * Magic SysRq: a break and @key to the console that has the standard streams, else to the first
 * one. False: there is none, or it has no room.
 */
bool chardevs_sysrq(struct chardevs *all, char key);
/* SIGWINCH came. */
void chardevs_resized(struct chardevs *all);
/* Put the terminal back as it was. Async-signal-safe, and harmless when repeated. */
void chardevs_restore_terminal(struct chardevs *all);

#endif
