// SPDX-License-Identifier: Apache-2.0
/*
 * The console device: Virtual I/O Device (VIRTIO) 1.2, section 5.3.
 *
 * Theory of operation. All uses of --console together are one device, each is a port: a
 * console (hvc0, hvc1, ...) or, with a name, a port for programs (/dev/virtio-ports/NAME). Consoles
 * come first, so that port 0, the only one a driver without MULTIPORT has, is one if there is
 * any. With a single console and nothing else MULTIPORT is not offered: the driver then
 * needs no control queues and is up sooner.
 *
 * Output. Chains are popped in batches and their segments go to the host in one writev(2), out
 * of guest memory. What the host does not take is put back into the queue; of the chain that
 * was in the middle only is kept how much of it is written (tx_done). So a port that waits for
 * a slow reader holds nothing, and reset or saving have nothing to care for. A guest that
 * changes such a chain meanwhile mixes up its own output.
 *
 * Input is read when the guest has buffers for it, and, on a port whose driver knows of such
 * things, has opened it: it would throw away what comes earlier.
 *
 * Control messages to the driver are bits of what it is to be told of each port (`news`); the
 * message is made when there is a buffer for it. So they need no queue, and a host
 * side that opens and closes is told of as it is then.
 *
 * Emergency writes may come at any time, even without a driver, and byte by byte from a vCPU
 * thread. They wait in a small buffer for the loop; what is too much for it is lost.
 *
 * The size of the terminal of port 0 is in the configuration space, that of others (and of
 * port 0, with MULTIPORT) is told by messages. These have the columns first, as
 * 5.3.6.2 has it; Linux expected the rows first before 6.16 and its stable releases of the time.
 *
 * Limits: no ports come or go while the guest runs.
 *
 * #syscalls main vcpu: futex
 */
#include <endian.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "devices/virtio.h"
#include "devices/virtio_console.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PORTS_MAX     31 /* two queues each, and two for control: VIRTIO_QUEUES_MAX */
#define PORT_NAME_MAX 63
#define QUEUE_SIZE    64
#define CHAIN_IOV     VIRTQUEUE_IOV(QUEUE_SIZE)
#define BATCH_CHAINS  QUEUE_SIZE
#define BATCH_IOV     1024	 /* IOV_MAX */
#define BATCH_BYTES   (1u << 20) /* of one write, so that it ends */
#define BATCHES_MAX   4		 /* before others get their turn */
#define EMERG_MAX     4096
#define PCI_CLASS     0x078000 /* simple communication controller, other */
#define SYSRQ_CHAR    0x0f     /* Ctrl-o: what hvc takes for a break */

enum { QUEUE_RX0, QUEUE_TX0, QUEUE_CONTROL_IN, QUEUE_CONTROL_OUT };

/* What the driver is to be told of a port, in this order. */
enum news { NEWS_ADD, NEWS_CONSOLE, NEWS_NAME, NEWS_SIZE, NEWS_OPEN, NEWS_N };

#define BIT(n) (1U << (n))

struct port {
	struct chardev_front front;
	struct console *con;
	struct chardev *chr;
	struct chardev_back *back;
	unsigned id;
	const char *name; /* NULL: a console */

	/* With MULTIPORT: */
	bool ready;	     /* the driver knows it */
	bool open;	     /* a program there has opened it */
	bool told_open;	     /* what it was told of our side */
	uint16_t cols, rows; /* what it was told of the terminal */
	uint32_t news;

	uint64_t tx_done; /* bytes of the next chain that are written already */
	bool tx_full;	  /* the back owes us tx_room() */
	bool rx_full;	  /* we owe it rx_room() */
};

struct console {
	struct virtio_device vdev;
	struct virtio_console_config config;
	unsigned nports;
	struct port *port; /* [nports] */

	struct loop_work emerg_work;
	unsigned emerg_n;
	uint8_t emerg[EMERG_MAX];

	/* While a batch is under way. */
	struct virtqueue_chain chain[BATCH_CHAINS];
	struct iovec iov[BATCH_IOV];
};

static struct console *console_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct console, vdev);
}

static unsigned rx_queue(const struct port *p)
{
	return p->id == 0 ? QUEUE_RX0 : 2 * p->id + 2;
}

static unsigned tx_queue(const struct port *p)
{
	return rx_queue(p) + 1;
}

static bool multiport(const struct console *con)
{
	return virtio_has(&con->vdev, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* May @p be used with this driver at all? */
static bool usable(const struct port *p)
{
	return p->id == 0 || multiport(p->con);
}

/* --- Output --- */

/* Bytes of emergency writes are first. True: all are written. */
static bool emerg_flush(struct console *con)
{
	struct chardev_back *back = con->port[0].back;
	struct iovec iov = { .iov_base = con->emerg, .iov_len = con->emerg_n };
	size_t done;

	if (con->emerg_n == 0)
		return true;
	done = back->write(back, &iov, 1);
	con->emerg_n -= (unsigned)done;
	memmove(con->emerg, con->emerg + done, con->emerg_n);
	return con->emerg_n == 0;
}

/* Cut @iov to @max bytes. Returns how many elements are left. */
static unsigned clip(struct iovec *iov, unsigned n, size_t max)
{
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].iov_len >= max) {
			iov[i].iov_len = max;
			return i + 1;
		}
		max -= iov[i].iov_len;
	}
	return n;
}

/* Of @n chains popped @written bytes are written: give them back, or put them back. */
static void finish_batch(struct port *p, unsigned n, size_t written)
{
	struct console *con = p->con;
	unsigned q = tx_queue(p), i;
	struct virtqueue *vq;

	for (i = 0; i < n && written >= con->chain[i].readable.left; i++) {
		written -= con->chain[i].readable.left;
		virtio_push(&con->vdev, q, &con->chain[i]);
		p->tx_done = 0;
	}
	if (i == n)
		return;
	p->tx_done += written;
	vq = virtio_vq(&con->vdev, q);
	if (vq != NULL)
		virtqueue_unpop(vq, n - i);
}

/* Write what is in the queue, up to a bound. Returns the number of chains popped. */
static unsigned send_batch(struct port *p)
{
	struct console *con = p->con;
	unsigned n = 0, niov = 0, first = 0;
	size_t total = 0, written;

	while (n < BATCH_CHAINS && niov + CHAIN_IOV <= BATCH_IOV && total < BATCH_BYTES &&
	       virtio_pop(&con->vdev, tx_queue(p), &con->chain[n], con->iov + niov)) {
		struct virtqueue_cursor *c = &con->chain[n].readable;

		if (n == 0 && p->tx_done > 0) {
			virtqueue_skip(c, p->tx_done);
			niov = first = (unsigned)(c->iov - con->iov);
		}
		niov += c->n; /* what is writable there is not ours to care for */
		total += c->left;
		n++;
	}
	if (n == 0)
		return 0;
	if (total > BATCH_BYTES) {
		niov = first + clip(con->iov + first, niov - first, BATCH_BYTES);
		total = BATCH_BYTES;
	}
	written = p->back->write(p->back, con->iov + first, niov - first);
	p->tx_full = written < total;
	finish_batch(p, n, written);
	return n;
}

static void port_send(struct port *p)
{
	struct console *con = p->con;
	struct virtqueue *vq = virtio_vq(&con->vdev, tx_queue(p));
	unsigned batches = 0;

	if (p->tx_full)
		return;
	if (p->id == 0 && !emerg_flush(con)) {
		p->tx_full = true;
		return;
	}
	if (vq == NULL || !usable(p))
		return;
	do {
		virtqueue_disable_kicks(vq);
		while (batches < BATCHES_MAX && !p->tx_full && send_batch(p) > 0)
			batches++;
		virtio_interrupt(&con->vdev, tx_queue(p));
		if (!virtio_live(&con->vdev) || p->tx_full)
			return; /* when full, tx_room() goes on, not a kick */
		if (batches == BATCHES_MAX) {
			virtio_again(&con->vdev, tx_queue(p));
			return;
		}
	} while (virtqueue_enable_kicks(vq));
}

static void front_tx_room(struct chardev_front *front)
{
	struct port *p = container_of(front, struct port, front);

	pthread_mutex_lock(&p->con->vdev.lock);
	p->tx_full = false;
	port_send(p);
	pthread_mutex_unlock(&p->con->vdev.lock);
}

/* What is in the queue now, so at most as many chains as it has, also when the guest goes on. */
static size_t front_flush(struct chardev_front *front)
{
	struct port *p = container_of(front, struct port, front);
	struct console *con = p->con;
	unsigned chains = 0, n = 1;
	struct virtqueue *vq;
	size_t left;

	pthread_mutex_lock(&con->vdev.lock);
	p->tx_full = p->id == 0 && !emerg_flush(con);
	while (n > 0 && chains < QUEUE_SIZE && !p->tx_full && usable(p)) {
		n = send_batch(p);
		chains += n;
	}
	virtio_interrupt(&con->vdev, tx_queue(p));
	vq = virtio_vq(&con->vdev, tx_queue(p));
	left = p->tx_full || (vq != NULL && usable(p) && !virtqueue_empty(vq));
	if (left > 0 && !p->tx_full)
		virtio_again(&con->vdev, tx_queue(p));
	pthread_mutex_unlock(&con->vdev.lock);
	return left;
}

static void emerg_work(struct loop_work *work)
{
	struct console *con = container_of(work, struct console, emerg_work);

	pthread_mutex_lock(&con->vdev.lock);
	port_send(&con->port[0]);
	pthread_mutex_unlock(&con->vdev.lock);
}

static void console_config_write(struct virtio_device *vdev, unsigned off, const void *data,
				 unsigned len)
{
	struct console *con = console_of(vdev);

	(void)len;
	if (off != offsetof(struct virtio_console_config, emerg_wr) || con->emerg_n == EMERG_MAX)
		return;
	con->emerg[con->emerg_n++] = *(const uint8_t *)data;
	loop_post(vdev->loop, &con->emerg_work);
}

/* --- Input --- */

static bool takes_input(const struct port *p)
{
	return usable(p) && (p->open || !multiport(p->con));
}

static size_t front_input(struct chardev_front *front, const void *data, size_t len)
{
	struct port *p = container_of(front, struct port, front);
	struct console *con = p->con;
	unsigned q = rx_queue(p), chains = 0;
	struct virtqueue *vq;
	size_t done = 0;

	pthread_mutex_lock(&con->vdev.lock);
	vq = virtio_vq(&con->vdev, q);
	while (vq != NULL && takes_input(p) && done < len) {
		struct virtqueue_chain chain;

		if (chains++ == QUEUE_SIZE) { /* of buffers without room, it seems */
			virtio_again(&con->vdev, q);
			break;
		}
		if (virtio_pop(&con->vdev, q, &chain, con->iov)) {
			done += virtqueue_write(&chain.writable, (const char *)data + done,
						len - done);
			virtio_push(&con->vdev, q, &chain);
		} else if (!virtio_live(&con->vdev) || !virtqueue_enable_kicks(vq)) {
			break;
		}
	}
	if (chains > 0)
		virtio_interrupt(&con->vdev, q);
	p->rx_full = done < len;
	pthread_mutex_unlock(&con->vdev.lock);
	return done;
}

/* There may be buffers again. */
static void port_receive(struct port *p)
{
	struct virtqueue *vq = virtio_vq(&p->con->vdev, rx_queue(p));

	if (!p->rx_full || vq == NULL || !takes_input(p))
		return;
	if (virtqueue_empty(vq) && !virtqueue_enable_kicks(vq))
		return;
	p->rx_full = false;
	virtqueue_disable_kicks(vq);
	p->back->rx_room(p->back);
}

/* --- Control messages --- */

/* Make the message of @news into @buf. Returns its length, 0: it is none any more. */
static size_t make_message(struct port *p, enum news news, uint8_t *buf)
{
	static const uint16_t event[NEWS_N] = {
		[NEWS_ADD] = VIRTIO_CONSOLE_PORT_ADD,
		[NEWS_CONSOLE] = VIRTIO_CONSOLE_CONSOLE_PORT,
		[NEWS_NAME] = VIRTIO_CONSOLE_PORT_NAME,
		[NEWS_SIZE] = VIRTIO_CONSOLE_RESIZE,
		[NEWS_OPEN] = VIRTIO_CONSOLE_PORT_OPEN,
	};
	struct virtio_console_control msg = { .id = htole32(p->id),
					      .event = htole16(event[news]),
					      .value = htole16(1) };
	size_t len = sizeof(msg);

	if (news == NEWS_NAME) {
		memcpy(buf + len, p->name, strlen(p->name)); /* without its NUL: 5.3.6.2 */
		len += strlen(p->name);
	} else if (news == NEWS_SIZE) {
		uint16_t size[] = { htole16(p->cols), htole16(p->rows) };

		memcpy(buf + len, size, sizeof(size));
		len += sizeof(size);
	} else if (news == NEWS_OPEN) {
		msg.value = htole16(p->told_open);
	}
	memcpy(buf, &msg, sizeof(msg));
	return len;
}

/* The next news of any port; those of ports to add are first. */
static struct port *next_news(struct console *con, enum news *news)
{
	for (unsigned bit = 0; bit < NEWS_N; bit++) {
		for (unsigned i = 0; i < con->nports; i++) {
			if ((con->port[i].news & BIT(bit)) != 0) {
				*news = bit;
				return &con->port[i];
			}
		}
	}
	return NULL;
}

static void send_news(struct console *con)
{
	struct virtqueue *vq = virtio_vq(&con->vdev, QUEUE_CONTROL_IN);
	uint8_t buf[sizeof(struct virtio_console_control) + PORT_NAME_MAX + 1];
	struct virtqueue_chain chain;
	enum news news;
	struct port *p;

	if (!multiport(con) || vq == NULL)
		return;
	virtqueue_disable_kicks(vq);
	while ((p = next_news(con, &news)) != NULL) {
		if (virtio_pop(&con->vdev, QUEUE_CONTROL_IN, &chain, con->iov)) {
			p->news &= ~BIT(news);
			virtqueue_write(&chain.writable, buf, make_message(p, news, buf));
			virtio_push(&con->vdev, QUEUE_CONTROL_IN, &chain);
		} else if (!virtio_live(&con->vdev) || !virtqueue_enable_kicks(vq)) {
			break;
		}
	}
	virtio_interrupt(&con->vdev, QUEUE_CONTROL_IN);
}

/* Note what has changed on the host's side of @p since the driver was told. */
static void look_at_host(struct port *p)
{
	struct console *con = p->con;
	uint16_t cols, rows;
	bool open = chardev_is_open(p->chr);

	if (open != p->told_open) {
		p->told_open = open;
		p->news |= p->ready ? BIT(NEWS_OPEN) : 0;
	}
	if (p->name != NULL || !chardev_size(p->chr, &cols, &rows) ||
	    (cols == p->cols && rows == p->rows))
		return;
	p->cols = cols;
	p->rows = rows;
	p->news |= p->ready ? BIT(NEWS_SIZE) : 0;
	if (p->id == 0) {
		con->config.cols = htole16(cols);
		con->config.rows = htole16(rows);
		virtio_config_changed(&con->vdev);
	}
}

static void front_changed(struct chardev_front *front)
{
	struct port *p = container_of(front, struct port, front);

	pthread_mutex_lock(&p->con->vdev.lock);
	look_at_host(p);
	send_news(p->con);
	pthread_mutex_unlock(&p->con->vdev.lock);
}

/* The driver made @p: now it can be told what kind of port that is. */
static void port_ready(struct port *p)
{
	look_at_host(p);
	p->ready = true;
	p->news |= p->name != NULL ? BIT(NEWS_NAME) : BIT(NEWS_CONSOLE);
	if (p->cols > 0)
		p->news |= BIT(NEWS_SIZE);
	if (p->told_open)
		p->news |= BIT(NEWS_OPEN);
}

static bool control(struct virtio_device *vdev, unsigned q, struct virtqueue_chain *chain)
{
	struct console *con = console_of(vdev);
	struct virtio_console_control msg;
	struct port *p = NULL;
	bool value;

	(void)q;
	if (virtqueue_read(&chain->readable, &msg, sizeof(msg)) < sizeof(msg))
		return true;
	value = msg.value != 0;
	if (le32toh(msg.id) < con->nports)
		p = &con->port[le32toh(msg.id)];
	switch (le16toh(msg.event)) {
	case VIRTIO_CONSOLE_DEVICE_READY:
		for (unsigned i = 0; value && i < con->nports; i++)
			con->port[i].news |= BIT(NEWS_ADD);
		break;
	case VIRTIO_CONSOLE_PORT_READY:
		if (p != NULL && value)
			port_ready(p);
		else if (p != NULL)
			log_limited(LOG_WARN, "%s: the guest's driver cannot use port %u",
				    vdev->name, p->id);
		break;
	case VIRTIO_CONSOLE_PORT_OPEN:
		if (p == NULL)
			break;
		p->open = value;
		port_receive(p);
		break;
	default: /* of a later version */
		break;
	}
	return true;
}

/* --- The device --- */

static void console_kick(struct virtio_device *vdev, unsigned q)
{
	struct console *con = console_of(vdev);
	struct port *p;

	if (q == QUEUE_CONTROL_IN || q == QUEUE_CONTROL_OUT) {
		if (q == QUEUE_CONTROL_OUT && multiport(con))
			virtio_serve(vdev, q, con->iov, QUEUE_SIZE, control);
		send_news(con);
		return;
	}
	p = &con->port[q < 2 ? 0 : q / 2 - 1];
	if (q % 2 != 0)
		port_send(p);
	else
		port_receive(p);
}

static void console_reset(struct virtio_device *vdev)
{
	struct console *con = console_of(vdev);

	for (unsigned i = 0; i < con->nports; i++) {
		struct port *p = &con->port[i];

		p->ready = p->open = false;
		p->news = 0;
		p->tx_done = 0;
		p->tx_full = false;
	}
}

static void console_resume(struct virtio_device *vdev)
{
	struct console *con = console_of(vdev);

	for (unsigned i = 0; i < con->nports; i++)
		look_at_host(&con->port[i]);
}

static void port_state(struct port *p, struct state *st)
{
	char name[16];

	snprintf(name, sizeof(name), "port%u", p->id);
	state_begin(st, name, 1);
	state_bool(st, "ready", &p->ready);
	state_bool(st, "open", &p->open);
	state_bool(st, "told_open", &p->told_open);
	state_u16(st, "cols", &p->cols);
	state_u16(st, "rows", &p->rows);
	state_u32(st, "news", &p->news);
	state_u64(st, "tx_done", &p->tx_done);
	state_end(st);
	if (state_loading(st))
		p->news &= (BIT(NEWS_N) - 1) & ~BIT(p->name != NULL ? NEWS_CONSOLE : NEWS_NAME);
}

static void console_state(struct virtio_device *vdev, struct state *st)
{
	struct console *con = console_of(vdev);
	uint32_t nports = con->nports;
	size_t len = con->emerg_n;

	state_u32(st, "ports", &nports);
	if (nports != con->nports) {
		state_fail(st,
			   "%s: %u ports were saved, %u are there: give the same --console options",
			   vdev->name, nports, con->nports);
		return;
	}
	for (unsigned i = 0; i < con->nports; i++)
		port_state(&con->port[i], st);
	state_blob(st, "emergency", con->emerg, &len, EMERG_MAX);
	if (!state_loading(st))
		return;
	con->emerg_n = (unsigned)len;
	con->config.cols = htole16(con->port[0].cols);
	con->config.rows = htole16(con->port[0].rows);
	loop_post(vdev->loop, &con->emerg_work);
}

static void console_destroy(struct virtio_device *vdev)
{
	struct console *con = console_of(vdev);

	for (unsigned i = 0; i < con->nports; i++) {
		if (con->port[i].back != NULL)
			con->port[i].back->front = NULL;
		chardev_free(con->port[i].chr);
	}
	if (vdev->loop != NULL)
		loop_unpost(vdev->loop, &con->emerg_work);
	virtio_fini(vdev);
	free(con->port);
	free(con);
}

static int make_port(struct console *con, const struct console_options *options,
		     const struct virtio_host *host, struct err *err)
{
	struct port *p = &con->port[con->nports];
	char what[16 + PORT_NAME_MAX];

	snprintf(what, sizeof(what), "console%s%s", options->name != NULL ? " " : "",
		 options->name != NULL ? options->name : "");
	p->con = con;
	p->id = con->nports;
	p->name = options->name;
	p->rx_full = true;
	p->front = (struct chardev_front){
		.input = front_input,
		.tx_room = front_tx_room,
		.flush = front_flush,
		.changed = front_changed,
		.break_char = p->name == NULL ? SYSRQ_CHAR : 0,
		.starts_full = true,
	};
	con->nports++;
	p->chr = chardev_new(&options->chr, what, p->name == NULL, host->chardevs, host->loop, err);
	if (p->chr == NULL)
		return -err->code;
	p->back = chardev_back(p->chr);
	p->back->front = &p->front;
	return 0;
}

static int console_init(struct console *con, const struct console_options *options, unsigned n,
			const struct virtio_ops *ops, const struct virtio_host *host,
			struct err *err)
{
	bool many = n > 1 || options[0].name != NULL;

	con->emerg_work.fn = emerg_work;
	con->vdev.features = BIT(VIRTIO_CONSOLE_F_SIZE) | BIT(VIRTIO_CONSOLE_F_EMERG_WRITE) |
			     (many ? BIT(VIRTIO_CONSOLE_F_MULTIPORT) : 0);
	con->config.max_nr_ports = htole32(n);
	con->port = calloc(n, sizeof(*con->port));
	if (con->port == NULL)
		return err_set(err, ENOMEM, "no memory for %u consoles", n);
	con->vdev.untimed = VIRTIO_RX_QUEUES;
	if (virtio_init(&con->vdev, ops, host, host->loop, many ? 2 * n + 2 : 2, QUEUE_SIZE,
			&con->config, sizeof(con->config), err) < 0)
		return -err->code;
	for (unsigned named = 0; named < 2; named++)
		for (unsigned i = 0; i < n; i++)
			if ((options[i].name != NULL) == named &&
			    make_port(con, &options[i], host, err) < 0)
				return -err->code;
	for (unsigned i = 0; i < n; i++)
		look_at_host(&con->port[i]);
	return 0;
}

/* A name that udev can make a link of. */
static int console_check(const void *item, struct err *err)
{
	const struct console_options *options = item;
	const char *name = options->name;

	if (name != NULL && (*name == '\0' || strlen(name) > PORT_NAME_MAX))
		return err_set(err, EINVAL, "name: has %zu bytes; 1 to %d are possible",
			       strlen(name), PORT_NAME_MAX);
	for (const char *c = name; c != NULL && *c != '\0'; c++)
		if (*c <= ' ' || *c > '~' || *c == '/')
			return err_set(err, EINVAL,
				       "name: '%s' has a character other than printable ASCII, or "
				       "a blank or slash",
				       name);
	return chardev_check(&options->chr, err);
}

static const struct opt_key console_keys[] = {
	CHARDEV_KEYS(offsetof(struct console_options, chr), chardev_names),
	{ .name = "name",
	  .type = OPT_STR,
	  .offset = offsetof(struct console_options, name),
	  .arg = "NAME",
	  .unique = true,
	  .help = "a port for programs, /dev/virtio-ports/NAME, and no console" },
	{ 0 }
};

static struct virtio_device *console_create(const void *items, unsigned n, unsigned index,
					    const struct virtio_host *host, struct err *err);

static const struct virtio_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = PCI_CLASS,
	.option = { .name = "console",
		    .keys = console_keys,
		    .size = sizeof(struct console_options),
		    .max = PORTS_MAX,
		    .stands_alone = true,
		    .help = "A virtio console (hvc0, hvc1, ...), or with name= a port for programs. "
			    "One that leads to stdio takes the place of the serial port, unless "
			    "--serial is given." },
	.single = true,
	.check = console_check,
	.create = console_create,
	.destroy = console_destroy,
	.kick = console_kick,
	.reset = console_reset,
	.config_write = console_config_write,
	.resume = console_resume,
	.state = console_state,
};
VIRTIO_DEVICE(console_ops);

static struct virtio_device *console_create(const void *items, unsigned n, unsigned index,
					    const struct virtio_host *host, struct err *err)
{
	struct console *con = calloc(1, sizeof(*con));

	(void)index; /* 0 */
	if (con == NULL) {
		err_set(err, ENOMEM, "no memory for the console");
		return NULL;
	}
	if (console_init(con, items, n, &console_ops, host, err) < 0) {
		console_destroy(&con->vdev);
		return NULL;
	}
	return &con->vdev;
}
