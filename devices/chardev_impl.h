/* SPDX-License-Identifier: Apache-2.0 */
/* What chardev.c, chardev_open.c and chardev_socket.c share. */
#ifndef DEVICES_CHARDEV_IMPL_H
#define DEVICES_CHARDEV_IMPL_H

#include <sys/types.h>
#include <termios.h>
#include "devices/chardev.h"
#include "devices/unix_listen.h"

#define CHARDEV_INPUT_MAX 32768
#define CHARDEV_KEEP	  65536 /* output kept for the next client of a socket */

struct chardev {
	struct chardev_back back;
	struct chardevs *all;
	struct chardev *next;
	struct loop *loop;
	const struct chardev_config *cfg;
	char what[64];
	bool console; /* the owner hears of its output */
	size_t mark;
	bool running;

	struct loop_fd out;
	bool out_pollable, out_nonblock, own_out;
	bool out_dead; /* nobody takes output: it vanishes, or is kept in the ring */

	struct loop_fd in;
	bool in_pollable, own_in;
	bool in_ended;	 /* there will be no more */
	bool front_full; /* it takes no input until rx_room() */
	struct loop_work room_work;
	struct loop_work read_more;	      /* for input that epoll cannot watch */
	size_t input_done, input_len;	      /* passed on, read */
	uint8_t input[1 + CHARDEV_INPUT_MAX]; /* read one byte further, see filter_escapes() */

	bool tty, raw, escaped; /* stdin is a terminal */
	struct termios saved;
	int pty_slave;	     /* kept open so that the pty has no hang-ups */
	const char *created; /* file made by us; removed if the VM never runs */

	/* to=socket: in and out are the client's, -1 without one */
	struct unix_listener listening;
	struct loop_fd listener; /* listening.fd */
	bool left;		 /* the client is gone, what it sent is not read yet */
	uint8_t *keep;		 /* ring of CHARDEV_KEEP bytes */
	size_t keep_head, keep_n;
};

/* chardev.c */

/* Watch for input as it is wanted now. */
void chardev_watch_input(struct chardev *c);

/* chardev_open.c: open what c->cfg names. */
int chardev_open(struct chardev *c, struct err *err);

/* chardev_socket.c */

int chardev_listen(struct chardev *c, struct err *err);
void chardev_unlisten(struct chardev *c);
/* The client has gone; what it sent can still be read. */
void chardev_client_left(struct chardev *c);
/* There is nothing more to be read from the client. */
void chardev_client_ended(struct chardev *c);
/* Keep output for a client to come; the oldest goes when it is too much. */
void chardev_keep(struct chardev *c, const uint8_t *data, size_t len);
/* Write out what was kept, as far as the client takes it. True: nothing is left. */
bool chardev_write_kept(struct chardev *c);

#endif
