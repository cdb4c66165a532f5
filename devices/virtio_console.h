/* SPDX-License-Identifier: Apache-2.0 */
/* The console device's option, for those who must know where consoles lead. */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include "devices/chardev.h"

/* One use of --console: one port. */
struct console_options {
	struct chardev_config chr;
	char *name; /* NULL: a console; else a port for programs */
};

#endif
