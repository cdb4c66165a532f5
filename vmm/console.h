/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host side of the guest's serial console: terminal, standard streams, file, pty.
 * See console.c.
 */
#ifndef VMM_CONSOLE_H
#define VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include "devices/serial.h"
#include "vmm/base/err.h"
#include "vmm/base/loop.h"
#include "vmm/config.h"

struct console;

/* What the console tells its owner; all on the loop's thread. */
struct console_ops {
	void *owner;
	/* Bytes the guest printed, after they were written. */
	void (*printed)(void *owner, const char *data, size_t len);
	/* Ctrl-a x was typed. */
	void (*quit)(void *owner);
};

/*
 * Open where @cfg leads. A terminal on stdin goes to raw mode when console_attach() is
 * called. NULL with @err filled on failure.
 */
struct console *console_new(const struct serial_config *cfg, struct loop *loop,
			    const struct console_ops *ops, struct err *err);
/* Restores the terminal. */
void console_free(struct console *c);

/* The backend to make the serial port with. */
struct serial_backend *console_backend(struct console *c);
/* Begin to pass input to @serial (NULL: stop, before the port goes away). */
int console_attach(struct console *c, struct serial *serial, struct err *err);

/*
 * Write out all the guest has printed. With @wait, for a reader that is slow, as long as
 * it takes something every 10 s and @stop_fd has nothing to read.
 */
void console_drain(struct console *c, bool wait, int stop_fd);

/* Put the terminal back as it was. Async-signal-safe, and harmless when repeated. */
void console_restore_terminal(struct console *c);

#endif
