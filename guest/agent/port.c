// SPDX-License-Identifier: Apache-2.0
/*
 * The line to the monitor: a port of a virtio console (Linux, drivers/char/virtio_console.c).
 *
 * A port is found by its name in /sys/class/virtio-ports; without a daemon that makes links of
 * the names there is no other way. Driver and device may come late, as modules do.
 *
 * write() passes on up to 32 KiB in one piece and waits while the monitor has no room; that
 * it always makes some again is the monitor's part (flow control, guest/agent.h).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "guest/agent/agent.h"

#define CLASS	 "/sys/class/virtio-ports"
#define PAUSE_US 1000

static bool is_ours(const char *port)
{
	char path[300], name[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), CLASS "/%s/name", port);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, name, sizeof(name));
	close(fd);
	return n == (ssize_t)sizeof(AGENT_PORT) && memcmp(name, AGENT_PORT "\n", (size_t)n) == 0;
}

static int try_open(void)
{
	DIR *dir = opendir(CLASS);
	struct dirent *entry;
	char path[300];
	int fd = -1;

	if (dir == NULL)
		return -1;
	while (fd < 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.' || !is_ours(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	closedir(dir);
	return fd;
}

int port_open(void)
{
	int fd;

	while ((fd = try_open()) < 0)
		usleep(PAUSE_US);
	return fd;
}

static void write_all(int port, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(port, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			power_off();
		bytes += n;
		len -= (size_t)n;
	}
}

void port_send_frame(int port, uint16_t type, uint16_t stream, uint8_t *frame, uint32_t len)
{
	struct agent_header header = { .type = type, .stream = stream, .len = len };

	memcpy(frame, &header, sizeof(header));
	write_all(port, frame, sizeof(header) + len);
}

void port_send(int port, uint16_t type, uint16_t stream, const void *data, uint32_t len)
{
	uint8_t frame[64];

	if (len > sizeof(frame) - sizeof(struct agent_header))
		return; /* only the small ones come here */
	memcpy(frame + sizeof(struct agent_header), data, len);
	port_send_frame(port, type, stream, frame, len);
}

bool port_read(int port, struct port_input *in)
{
	ssize_t n;

	do {
		n = read(port, in->bytes + in->have, sizeof(in->bytes) - in->have);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return true;
	if (n <= 0)
		return false;
	in->have += (size_t)n;
	return true;
}

bool port_next(struct port_input *in, size_t *used, struct agent_header *header,
	       const uint8_t **data)
{
	if (*used > 0) {
		in->have -= *used;
		memmove(in->bytes, in->bytes + *used, in->have);
		*used = 0;
	}
	if (in->have < sizeof(*header))
		return false;
	memcpy(header, in->bytes, sizeof(*header));
	if (header->len > AGENT_FRAME_MAX)
		power_off(); /* not the monitor we know */
	if (in->have - sizeof(*header) < header->len)
		return false;
	*data = in->bytes + sizeof(*header);
	*used = sizeof(*header) + header->len;
	return true;
}
