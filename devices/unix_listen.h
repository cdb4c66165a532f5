/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening Unix stream socket with a name in the file system, unix(7); see unix_listen.c.
 */
#ifndef DEVICES_UNIX_LISTEN_H
#define DEVICES_UNIX_LISTEN_H

#include <sys/types.h>
#include <sys/un.h>
#include "vmm/base/err.h"

struct broker;

struct unix_listener {
	int fd; /* non-blocking; -1: not listening */
	struct sockaddr_un addr;
	/* private: the file that is ours, and who removes it when we may not */
	dev_t dev;
	ino_t ino;
	struct broker *broker;
	int rule;
};

/*
 * Listen at @path with room for @backlog clients that wait. The file is removed by @broker if that
 * has started by then (NULL: there is none). @what names the user in messages: "console".
 * unix_listen_end() undoes it, also after failure; that needs l->fd to be -1 before.
 */
int unix_listen(struct unix_listener *l, const char *what, const char *path, int backlog,
		struct broker *broker, struct err *err);
/* Connect to the socket at @path, without waiting. The connection or -errno. */
int unix_connect(const char *path);
/* Remove the file at @path, if it is still that one. */
void unix_remove(const char *path, dev_t dev, ino_t ino);
/* Close it and remove its file, if that is still ours. */
void unix_listen_end(struct unix_listener *l);

#endif
