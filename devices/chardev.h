/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of a character device: terminal, standard streams, file, pty, socket.
 * See chardev.c.
 */
#ifndef DEVICES_CHARDEV_H
#define DEVICES_CHARDEV_H

#include <stddef.h>

/* Who hears of what passes; all on the main loop's thread. */
struct chardev_ops {
	void *owner;
	/* Bytes the guest printed, after they were written. */
	void (*printed)(void *owner, const char *data, size_t len);
	/* Ctrl-a x was typed. */
	void (*quit)(void *owner);
};

#endif
