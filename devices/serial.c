// SPDX-License-Identifier: Apache-2.0
/*
 * 16550A UART: National Semiconductor PC16550D data sheet, section 8 "Registers".
 *
 * Theory of operation.
 *
 * Output. A vCPU thread puts bytes into a ring, the loop's thread hands everything there
 * is to the backend. The first byte after a silence wakes the loop at once, so a typed
 * character is echoed without delay. From then on the loop comes back by itself every
 * TX_GATHER_NS (tx_gather) until there was nothing new, and the vCPU wakes it only when
 * half the ring is full: a guest that prints on costs a wake-up and a write(2) for each
 * such interval and not, being slower than the loop, for each byte. The transmitter
 * is infinitely fast: THRE and TEMT are set at once and the interrupt follows the write.
 * Only when the backend is slow and the ring (nearly) full do they go away, and come back,
 * with the interrupt, when half the ring is free. THRE promises a driver room for a whole
 * FIFO of 16, hence the "nearly". A byte is lost only if the guest writes on against a
 * busy transmitter and a full ring, as with the real chip.
 *
 * Invariant: when the ring is not empty, either tx_work is queued or running, or tx_timer
 * is armed, or the backend has refused bytes and owes us tx_room().
 *
 * Input. Bytes wait in a second ring, the sender at the other end of the line; the guest's
 * FIFO of 16 (or one register) is refilled from it whenever there is room, so an overrun
 * cannot happen. The character time-out does not wait for four character times: fewer
 * bytes than the trigger level raise the interrupt at once.
 *
 * Input and drivers that start up. Linux, each time the port is opened or closed and
 * while it probes, clears the FIFOs and reads the receive register "for luck". On a real
 * line that costs the few characters typed at that moment; here a whole script may have
 * been piped in before the guest even booted. So the sender behaves as one with
 * hardware flow control to a port nobody has opened: after a reset of the receiver no
 * character comes in (rx_hold) until a driver shows that it listens: it enables the
 * receive interrupt, or polls the line status POLL_READS times on end. And what a reset
 * finds in the FIFO was never taken by anyone: it goes back to the sender's ring.
 *
 * Interrupts. The line is high while any enabled cause is pending, recomputed after each
 * step of the chip, and set under the mutex (see irq.h). The steps matter: the pin is
 * edge-triggered, and a write to THR takes the THRE interrupt away before it raises it
 * again; a driver that never reads IIR lives on that edge.
 *
 * Limits. The baud rate, word length, parity and the break the guest sends have no effect.
 * OUT2 does not gate the interrupt, as PC wiring would have it: nothing needs that, and
 * simple guests forget to set it. DMA modes are absent. Registers are bytes: wider
 * accesses read as ones and are dropped.
 *
 * #syscalls main vcpu: futex
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "devices/serial.h"
#include "vmm/base/util.h"

/* Register offsets; the first two are the divisor latch while DLAB is set. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDI	 0x01 /* received data available, time-out */
#define IER_THRI 0x02 /* transmitter holding register empty */
#define IER_RLSI 0x04 /* receiver line status */
#define IER_MSI	 0x08 /* modem status */
#define IER_ALL	 0x0f

#define IIR_NONE    0x01
#define IIR_MSI	    0x00
#define IIR_THRI    0x02
#define IIR_RDI	    0x04
#define IIR_RLSI    0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO    0xc0

#define FCR_ENABLE   0x01
#define FCR_RESET_RX 0x02
#define FCR_TRIGGER  0xc0
#define FCR_KEPT     (FCR_ENABLE | FCR_TRIGGER)

#define LCR_DLAB 0x80

#define MCR_DTR	 0x01
#define MCR_RTS	 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_ALL	 0x1f

#define LSR_DR	       0x01
#define LSR_OE	       0x02
#define LSR_BI	       0x10
#define LSR_THRE       0x20
#define LSR_TEMT       0x40
#define LSR_FIFO_ERROR 0x80

#define MSR_DELTA 0x0f /* DCTS, DDSR, TERI, DDCD: the lines' bits >> 4 */
#define MSR_CTS	  0x10
#define MSR_DSR	  0x20
#define MSR_RI	  0x40
#define MSR_DCD	  0x80

#define FIFO_SIZE    16
#define TX_RING	     65536
#define TX_GATHER_NS 1000000
#define RX_RING	     8192
/* Room kept for what a FIFO reset puts back, and for a break on top of it. */
#define RX_INPUT_MAX (RX_RING - FIFO_SIZE - 1)
#define POLL_READS   16

/*
 * Divisor after power-on, of which the data sheet says nothing. 1 is 115200 baud; 0 would
 * make Linux' earlycon, which computes the rate from it, divide by zero.
 */
#define DIVISOR_INIT 1

/* A received character: the byte and what is special about it. */
struct rx_char {
	uint8_t byte;
	uint8_t flags; /* LSR_BI, RX_LOOPED */
};

#define RX_LOOPED 0x01 /* came from our own transmitter: not the sender's */

struct serial {
	pthread_mutex_t lock;
	struct loop *loop;
	struct irq_line irq;
	struct chardev_back *back;
	struct chardev_front front;
	struct bus_range range;
	struct loop_work tx_work;
	struct loop_timer tx_timer; /* the loop's thread only */

	uint8_t dll, dlm, ier, fcr, lcr, mcr, scr;
	uint8_t line_errors; /* LSR_OE, LSR_BI: until LSR is read */
	uint8_t msr_delta;   /* until MSR is read */
	bool thre_pending;   /* THRE interrupt, enabled or not */
	bool level;	     /* of the interrupt line */

	bool tx_busy;	  /* no THRE until the ring has drained */
	bool tx_gather;	  /* tx_timer will look at the ring */
	bool rx_hold;	  /* no input until a driver listens ... */
	uint8_t rx_polls; /* ... which this many reads of LSR prove */
	bool rx_refused;  /* the backend waits for rx_room() */

	unsigned fifo_head, fifo_n;
	struct rx_char fifo[FIFO_SIZE];
	unsigned rx_head, rx_n;
	struct rx_char rx[RX_RING];
	unsigned tx_head, tx_n;
	uint8_t tx[TX_RING];
};

/* --- Interrupts. Everything here runs under the mutex. --- */

static unsigned fifo_room(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

/* The highest-priority enabled cause, as IIR shows it. */
static uint8_t serial_cause(const struct serial *s)
{
	static const uint8_t trigger[] = { 1, 4, 8, 14 };

	if ((s->ier & IER_RLSI) && s->line_errors != 0)
		return IIR_RLSI;
	if ((s->ier & IER_RDI) && s->fifo_n > 0) {
		if ((s->fcr & FCR_ENABLE) && s->fifo_n < trigger[s->fcr >> 6])
			return IIR_TIMEOUT;
		return IIR_RDI;
	}
	if ((s->ier & IER_THRI) && s->thre_pending)
		return IIR_THRI;
	if ((s->ier & IER_MSI) && s->msr_delta != 0)
		return IIR_MSI;
	return IIR_NONE;
}

static void serial_update_irq(struct serial *s)
{
	bool level = serial_cause(s) != IIR_NONE;

	if (level == s->level)
		return;
	s->level = level;
	irq_set(&s->irq, level);
}

/* --- Receiver --- */

/* A character reaches the top of the FIFO: its errors show in LSR. */
static void fifo_reveal(struct serial *s)
{
	if (s->fifo_n > 0)
		s->line_errors |= s->fifo[s->fifo_head].flags & LSR_BI;
}

static void fifo_push(struct serial *s, struct rx_char c)
{
	s->fifo[(s->fifo_head + s->fifo_n) % FIFO_SIZE] = c;
	s->fifo_n++;
	if (s->fifo_n == 1)
		fifo_reveal(s);
}

/* The sender sends as long as the receiver has room. */
static void rx_fill(struct serial *s)
{
	if (s->rx_hold || (s->mcr & MCR_LOOP))
		return;
	while (s->rx_n > 0 && s->fifo_n < fifo_room(s)) {
		fifo_push(s, s->rx[s->rx_head]);
		s->rx_head = (s->rx_head + 1) % RX_RING;
		s->rx_n--;
	}
	if (s->rx_refused && s->rx_n <= RX_INPUT_MAX / 2) {
		s->rx_refused = false;
		if (s->back != NULL)
			s->back->rx_room(s->back);
	}
}

/* Start to listen. */
static void rx_release(struct serial *s)
{
	s->rx_hold = false;
	s->rx_polls = 0;
	rx_fill(s);
}

/*
 * The guest resets the receiver. Characters of the sender go back to it, in order: the
 * ring has room for them, see RX_INPUT_MAX. Looped ones are gone. A driver that has
 * the receive interrupt enabled is listening already.
 */
static void rx_reset(struct serial *s)
{
	while (s->fifo_n > 0) {
		struct rx_char c;

		s->fifo_n--;
		c = s->fifo[(s->fifo_head + s->fifo_n) % FIFO_SIZE];
		if ((c.flags & RX_LOOPED) || s->rx_n == RX_RING)
			continue;
		s->rx_head = (s->rx_head + RX_RING - 1) % RX_RING;
		s->rx[s->rx_head] = c;
		s->rx_n++;
	}
	s->fifo_head = 0;
	s->line_errors = 0;
	s->rx_polls = 0;
	s->rx_hold = !(s->ier & IER_RDI);
	rx_fill(s);
}

static uint8_t rbr_read(struct serial *s)
{
	uint8_t byte;

	s->rx_polls = 0;
	if (s->fifo_n == 0)
		return 0;
	byte = s->fifo[s->fifo_head].byte;
	s->fifo_head = (s->fifo_head + 1) % FIFO_SIZE;
	s->fifo_n--;
	fifo_reveal(s);
	rx_fill(s);
	return byte;
}

static uint8_t lsr_read(struct serial *s)
{
	uint8_t value;

	if (s->rx_hold && ++s->rx_polls == POLL_READS)
		rx_release(s);

	value = s->line_errors;
	if (s->fifo_n > 0)
		value |= LSR_DR;
	if (!s->tx_busy)
		value |= LSR_THRE | LSR_TEMT;
	if (s->fcr & FCR_ENABLE)
		for (unsigned i = 0; i < s->fifo_n; i++)
			if (s->fifo[(s->fifo_head + i) % FIFO_SIZE].flags & LSR_BI)
				value |= LSR_FIFO_ERROR;

	s->line_errors = 0;
	if (s->fifo_n > 0)
		s->fifo[s->fifo_head].flags &= ~LSR_BI;
	return value;
}

/* --- Transmitter --- */

/* A byte on its way back to us; here the guest can overrun itself. */
static void tx_loop(struct serial *s, uint8_t byte)
{
	struct rx_char c = { .byte = byte, .flags = RX_LOOPED };

	if (s->fifo_n < fifo_room(s)) {
		fifo_push(s, c);
		return;
	}
	s->line_errors |= LSR_OE;
	/*
	 * A full FIFO keeps what it has; the single register takes the new character,
	 * unless it holds one of the sender's, who is promised that none is lost.
	 */
	if (!(s->fcr & FCR_ENABLE) && (s->fifo[s->fifo_head].flags & RX_LOOPED))
		s->fifo[s->fifo_head] = c;
}

static void tx_put(struct serial *s, uint8_t byte)
{
	if (s->tx_n == TX_RING)
		return;
	if (s->tx_n == (s->tx_gather ? TX_RING / 2 : 0))
		loop_post(s->loop, &s->tx_work);
	s->tx[(s->tx_head + s->tx_n) % TX_RING] = byte;
	s->tx_n++;
	if (TX_RING - s->tx_n < FIFO_SIZE)
		s->tx_busy = true;
}

static void thr_write(struct serial *s, uint8_t byte)
{
	/* Down and up again: a new edge, see the theory of operation. */
	s->thre_pending = false;
	serial_update_irq(s);
	if (s->mcr & MCR_LOOP)
		tx_loop(s, byte);
	else
		tx_put(s, byte);
	s->thre_pending = !s->tx_busy;
}

/*
 * Hand the backend what is in the ring now, and no more than that: a guest that prints
 * without end must not keep the loop here. The mutex is not held meanwhile; the piece
 * stays put because only this thread takes from the ring.
 */
static void tx_drain(struct serial *s)
{
	unsigned left;
	bool any, refused;

	pthread_mutex_lock(&s->lock);
	left = s->tx_n;
	any = left > 0;
	while (left > 0) {
		unsigned len = left < TX_RING - s->tx_head ? left : TX_RING - s->tx_head;
		struct iovec piece = { .iov_base = s->tx + s->tx_head, .iov_len = len };
		size_t taken = len;

		pthread_mutex_unlock(&s->lock);
		if (s->back != NULL)
			taken = s->back->write(s->back, &piece, 1);
		pthread_mutex_lock(&s->lock);

		if (taken > len)
			taken = len;
		s->tx_head = (s->tx_head + taken) % TX_RING;
		s->tx_n -= taken;
		left -= taken;
		if (taken < len)
			break;
	}
	if (s->tx_n == 0)
		s->tx_head = 0; /* the front of the ring stays in the cache */
	refused = left > 0;
	s->tx_gather = any && !refused;
	if (s->tx_gather)
		loop_arm(s->loop, &s->tx_timer, TX_GATHER_NS);
	else
		loop_disarm(&s->tx_timer);
	if (s->tx_n > TX_RING / 2 && !refused)
		loop_post(s->loop, &s->tx_work); /* it came while tx_gather was not set */
	if (s->tx_busy && s->tx_n <= TX_RING / 2) {
		s->tx_busy = false;
		s->thre_pending = true;
		serial_update_irq(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void serial_tx_work(struct loop_work *work)
{
	tx_drain(container_of(work, struct serial, tx_work));
}

static void serial_tx_timer(struct loop_timer *timer)
{
	tx_drain(container_of(timer, struct serial, tx_timer));
}

/* --- Registers --- */

static void ier_write(struct serial *s, uint8_t value)
{
	uint8_t enabled = value & ~s->ier;

	s->ier = value & IER_ALL;
	if ((enabled & IER_THRI) && !s->tx_busy)
		s->thre_pending = true;
	if (s->ier & IER_RDI)
		rx_release(s);
}

static uint8_t iir_read(struct serial *s)
{
	uint8_t cause = serial_cause(s);

	if (cause == IIR_THRI)
		s->thre_pending = false;
	return cause | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

/*
 * The transmitter's reset (bit 2) has nothing to clear: every byte has left the FIFO
 * the moment it was written.
 */
static void fcr_write(struct serial *s, uint8_t value)
{
	bool toggled = (value ^ s->fcr) & FCR_ENABLE;

	/* The other bits count only together with the enable bit. */
	s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	if (toggled || ((value & FCR_ENABLE) && (value & FCR_RESET_RX)))
		rx_reset(s);
}

/* The modem's lines; in loopback, our own outputs. */
static uint8_t modem_lines(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
	       (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void mcr_write(struct serial *s, uint8_t value)
{
	uint8_t old = modem_lines(s->mcr), now;

	s->mcr = value & MCR_ALL;
	now = modem_lines(s->mcr);
	/* Of the ring indicator only the trailing edge counts. */
	s->msr_delta |= ((old ^ now) & ~(now & MSR_RI)) >> 4;
	rx_fill(s);
}

static uint8_t msr_read(struct serial *s)
{
	uint8_t value = modem_lines(s->mcr) | s->msr_delta;

	s->msr_delta = 0;
	return value;
}

static uint8_t reg_read(struct serial *s, unsigned reg)
{
	switch (reg) {
	case REG_DATA:
		return s->lcr & LCR_DLAB ? s->dll : rbr_read(s);
	case REG_IER:
		return s->lcr & LCR_DLAB ? s->dlm : s->ier;
	case REG_IIR_FCR:
		return iir_read(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return lsr_read(s);
	case REG_MSR:
		return msr_read(s);
	case REG_SCR:
		return s->scr;
	}
	return 0xff;
}

static void reg_write(struct serial *s, unsigned reg, uint8_t value)
{
	s->rx_polls = 0;
	switch (reg) {
	case REG_DATA:
		if (s->lcr & LCR_DLAB)
			s->dll = value;
		else
			thr_write(s, value);
		break;
	case REG_IER:
		if (s->lcr & LCR_DLAB)
			s->dlm = value;
		else
			ier_write(s, value);
		break;
	case REG_IIR_FCR:
		fcr_write(s, value);
		break;
	case REG_LCR:
		s->lcr = value;
		break;
	case REG_MCR:
		mcr_write(s, value);
		break;
	case REG_SCR:
		s->scr = value;
		break;
	default: /* LSR and MSR are read-only but for factory tests */
		break;
	}
}

static void serial_read(void *opaque, uint64_t off, void *data, unsigned len)
{
	struct serial *s = opaque;
	uint64_t value = UINT64_MAX;

	if (len == 1) {
		pthread_mutex_lock(&s->lock);
		value = reg_read(s, off);
		serial_update_irq(s);
		pthread_mutex_unlock(&s->lock);
	}
	bus_put_le(data, len, value);
}

static void serial_write(void *opaque, uint64_t off, const void *data, unsigned len)
{
	struct serial *s = opaque;

	if (len != 1)
		return;
	pthread_mutex_lock(&s->lock);
	reg_write(s, off, bus_get_le(data, len));
	serial_update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

/* --- For the other end of the line --- */

static void rx_put(struct serial *s, struct rx_char c)
{
	s->rx[(s->rx_head + s->rx_n) % RX_RING] = c;
	s->rx_n++;
}

static size_t front_input(struct chardev_front *front, const void *data, size_t len)
{
	struct serial *s = container_of(front, struct serial, front);
	const uint8_t *bytes = data;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	/* Twice, as the first may have filled the FIFO and made room in the ring. */
	for (int pass = 0; pass < 2; pass++) {
		while (n < len && s->rx_n < RX_INPUT_MAX)
			rx_put(s, (struct rx_char){ .byte = bytes[n++] });
		rx_fill(s);
	}
	if (n < len)
		s->rx_refused = true;
	serial_update_irq(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* On the line; behind the input before it. */
static void front_break(struct chardev_front *front)
{
	struct serial *s = container_of(front, struct serial, front);

	pthread_mutex_lock(&s->lock);
	/* Queued behind the input before it; on a full line it is lost in the noise. */
	if (s->rx_n <= RX_INPUT_MAX) {
		rx_put(s, (struct rx_char){ .byte = 0, .flags = LSR_BI });
		rx_fill(s);
		serial_update_irq(s);
	}
	pthread_mutex_unlock(&s->lock);
}

static void front_tx_room(struct chardev_front *front)
{
	struct serial *s = container_of(front, struct serial, front);

	pthread_mutex_lock(&s->lock);
	if (s->tx_n > 0)
		loop_post(s->loop, &s->tx_work);
	pthread_mutex_unlock(&s->lock);
}

static size_t front_flush(struct chardev_front *front)
{
	struct serial *s = container_of(front, struct serial, front);
	size_t left;

	tx_drain(s);
	pthread_mutex_lock(&s->lock);
	left = s->tx_n;
	pthread_mutex_unlock(&s->lock);
	return left;
}

/* --- For the rest of the monitor --- */

/* Power-on values; the rings, which are the other end of the line, stay. */
static void serial_init_regs(struct serial *s)
{
	s->dll = DIVISOR_INIT;
	s->dlm = 0;
	s->ier = 0;
	s->fcr = 0;
	s->lcr = 0;
	s->mcr = 0;
	s->scr = 0;
	s->msr_delta = 0;
	s->thre_pending = false;
	rx_reset(s);
}

struct serial *serial_new(struct loop *loop, struct irq_line irq, struct chardev_back *back,
			  struct err *err)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_sys(err, ENOMEM, "serial port");
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->loop = loop;
	s->irq = irq;
	s->back = back;
	s->front = (struct chardev_front){
		.input = front_input,
		.tx_room = front_tx_room,
		.flush = front_flush,
		.send_break = front_break,
	};
	s->tx_work.fn = serial_tx_work;
	s->tx_timer.fn = serial_tx_timer;
	s->range = (struct bus_range){
		.len = SERIAL_PORTS,
		.name = "serial port",
		.dev = s,
		.read = serial_read,
		.write = serial_write,
	};
	serial_init_regs(s);
	if (back != NULL)
		back->front = &s->front;
	return s;
}

void serial_free(struct serial *s)
{
	if (s == NULL)
		return;
	if (s->back != NULL)
		s->back->front = NULL;
	loop_disarm(&s->tx_timer);
	loop_unpost(s->loop, &s->tx_work);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct bus_range *serial_range(struct serial *s)
{
	return &s->range;
}

void serial_reset(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	serial_init_regs(s);
	serial_update_irq(s);
	pthread_mutex_unlock(&s->lock);
}

/* A ring of received characters as a field: byte and flags of each, oldest first. */
static void state_rx(struct state *st, const char *name, struct rx_char *ring, unsigned size,
		     unsigned *head, unsigned *n)
{
	struct rx_char buf[RX_RING];
	size_t len = *n * sizeof(buf[0]);

	for (unsigned i = 0; i < *n; i++)
		buf[i] = ring[(*head + i) % size];
	state_blob(st, name, buf, &len, size * sizeof(buf[0]));
	if (!state_loading(st))
		return;
	if (len % sizeof(buf[0]) != 0)
		state_fail(st, "%s: half a character", name);
	*head = 0;
	*n = len / sizeof(buf[0]);
	for (unsigned i = 0; i < *n; i++) {
		ring[i].byte = buf[i].byte;
		ring[i].flags = buf[i].flags & (LSR_BI | RX_LOOPED);
	}
}

static void state_tx(struct serial *s, struct state *st)
{
	size_t len = s->tx_n;
	uint8_t *buf = malloc(TX_RING);

	if (buf == NULL) {
		state_fail(st, "serial port: out of memory");
		return;
	}
	for (unsigned i = 0; i < s->tx_n; i++)
		buf[i] = s->tx[(s->tx_head + i) % TX_RING];
	state_blob(st, "output", buf, &len, TX_RING);
	if (state_loading(st)) {
		s->tx_head = 0;
		s->tx_n = len;
		memcpy(s->tx, buf, len);
	}
	free(buf);
}

/* What a file says may be nonsense; what the code above relies on is put right. */
static void serial_loaded(struct serial *s)
{
	s->ier &= IER_ALL;
	s->fcr &= FCR_KEPT;
	s->mcr &= MCR_ALL;
	s->line_errors &= LSR_OE | LSR_BI;
	s->msr_delta &= MSR_DELTA;
	s->rx_polls %= POLL_READS;
	s->rx_refused = false;
	if (TX_RING - s->tx_n < FIFO_SIZE)
		s->tx_busy = true;
	if (s->tx_n == 0)
		s->tx_busy = false; /* nobody would end it */
	else
		loop_post(s->loop, &s->tx_work);
	s->level = serial_cause(s) != IIR_NONE;
	irq_set(&s->irq, s->level);
}

int serial_state(struct serial *s, struct state *st)
{
	int ret;

	pthread_mutex_lock(&s->lock);
	state_begin(st, "serial", 1);
	state_u8(st, "dll", &s->dll);
	state_u8(st, "dlm", &s->dlm);
	state_u8(st, "ier", &s->ier);
	state_u8(st, "fcr", &s->fcr);
	state_u8(st, "lcr", &s->lcr);
	state_u8(st, "mcr", &s->mcr);
	state_u8(st, "scr", &s->scr);
	state_u8(st, "line-errors", &s->line_errors);
	state_u8(st, "modem-deltas", &s->msr_delta);
	state_bool(st, "thre-pending", &s->thre_pending);
	state_bool(st, "tx-busy", &s->tx_busy);
	state_bool(st, "rx-hold", &s->rx_hold);
	state_u8(st, "rx-polls", &s->rx_polls);
	state_rx(st, "fifo", s->fifo, FIFO_SIZE, &s->fifo_head, &s->fifo_n);
	state_rx(st, "input", s->rx, RX_RING, &s->rx_head, &s->rx_n);
	state_tx(s, st);
	ret = state_end(st);
	if (state_loading(st))
		serial_loaded(s);
	pthread_mutex_unlock(&s->lock);
	return ret;
}
