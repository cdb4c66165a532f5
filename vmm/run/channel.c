// SPDX-License-Identifier: Apache-2.0
/*
 * The line to the agent: frames (guest/agent.h), flow control, the command's streams.
 *
 * Theory of operation. The channel is the host's end (chardev_back) of a port of the console
 * device, so what the guest writes comes here from where it lies in guest memory, with no copy
 * between. A frame's header is put together byte by byte, as a frame may be cut anywhere; the
 * bytes of a DATA frame go on as they come. Each stream is the guest's end (chardev_front) of a
 * character device on the host (chardev.c), which knows terminals, pipes and slow readers. What
 * the host does not take at once waits in the stream's ring. Its size is the window: the credit
 * for bytes is given back when they have left the ring, so that they always find room, unless the
 * guest lies; then it is not listened to any more.
 *
 * What we say waits in one queue, which the port takes from when it has buffers. Standard input
 * is read only while there is credit for it, so the queue is bounded by the job and one window.
 *
 * The guest is hostile: lengths, types, streams, credits and the order of messages are checked.
 *
 * #syscalls: none
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/util.h"
#include "vmm/run/channel.h"

#define CREDIT_STEP (AGENT_WINDOW / 4) /* so much at once, lest every read be answered */
#define QUEUE_MAX   (64u << 20)	       /* of all we have to say */

struct stream {
	struct chardev_front front;
	struct run_channel *ch;
	struct chardev_config cfg;
	struct chardev *chr;
	uint16_t out; /* the stream its output is */
	/* Output that is not written yet. */
	uint8_t *ring;
	size_t head, len;
	uint32_t granted; /* the guest may still send so much */
	uint32_t owed;	  /* written, and not granted anew */
};

struct run_channel {
	struct chardev_back back;
	struct run_events *events;
	struct loop *loop;
	struct loop_work pump_work;
	bool broken;

	/* The frame that is coming in. */
	struct agent_header header;
	size_t header_have, payload_have;
	_Alignas(8) uint8_t payload[64]; /* of all but DATA */

	/* What goes out. */
	uint8_t *queue;
	size_t queue_head, queue_len, queue_size;

	struct stream std, err; /* stdin and stdout; stderr */
	uint32_t stdin_credit;
	bool stdin_open, stdin_ended, stdin_waits;
};

/* --- To the agent --- */

static void pump(struct loop_work *work)
{
	struct run_channel *ch = container_of(work, struct run_channel, pump_work);
	struct chardev_front *front = ch->back.front;

	while (front != NULL && ch->queue_len > 0) {
		size_t n = front->input(front, ch->queue + ch->queue_head, ch->queue_len);

		ch->queue_head += n;
		ch->queue_len -= n;
		if (ch->queue_len == 0)
			ch->queue_head = 0;
		if (n == 0)
			return; /* back_rx_room() comes */
	}
}

static void post_pump(struct run_channel *ch)
{
	if (ch->loop != NULL)
		loop_post(ch->loop, &ch->pump_work);
}

/* Room for @len bytes more at the end of the queue. */
static uint8_t *queue_room(struct run_channel *ch, size_t len)
{
	size_t size = ch->queue_size > 0 ? ch->queue_size : 4096;
	uint8_t *queue;

	if (ch->queue_head > 0 && ch->queue_head + ch->queue_len + len > ch->queue_size) {
		memmove(ch->queue, ch->queue + ch->queue_head, ch->queue_len);
		ch->queue_head = 0;
	}
	if (ch->queue_len + len > QUEUE_MAX)
		return NULL;
	while (size < ch->queue_len + len)
		size *= 2;
	if (size > ch->queue_size) {
		queue = realloc(ch->queue, size);
		if (queue == NULL)
			return NULL;
		ch->queue = queue;
		ch->queue_size = size;
	}
	return ch->queue + ch->queue_head + ch->queue_len;
}

static int say(struct run_channel *ch, uint16_t type, uint16_t stream, const void *data,
	       uint32_t len)
{
	struct agent_header header = { .type = type, .stream = stream, .len = len };
	uint8_t *to = queue_room(ch, sizeof(header) + len);

	if (to == NULL)
		return -ENOMEM;
	memcpy(to, &header, sizeof(header));
	if (len > 0)
		memcpy(to + sizeof(header), data, len);
	ch->queue_len += sizeof(header) + len;
	post_pump(ch);
	return 0;
}

int run_channel_step(struct run_channel *ch, const char *words, size_t len)
{
	if (len > AGENT_FRAME_MAX)
		return -E2BIG;
	return say(ch, AGENT_STEP, 0, words, (uint32_t)len);
}

void run_channel_send(struct run_channel *ch, uint16_t type, const void *data, uint32_t len)
{
	(void)say(ch, type, 0, data, len);
}

static void back_rx_room(struct chardev_back *back)
{
	post_pump(container_of(back, struct run_channel, back));
}

/* --- Standard input --- */

static size_t stdin_input(struct chardev_front *front, const void *data, size_t len)
{
	struct run_channel *ch = container_of(front, struct stream, front)->ch;
	size_t done = 0;

	while (ch->stdin_open && done < len && ch->stdin_credit > 0) {
		uint32_t piece =
			ch->stdin_credit < AGENT_DATA_MAX ? ch->stdin_credit : AGENT_DATA_MAX;

		if (piece > len - done)
			piece = (uint32_t)(len - done);
		if (say(ch, AGENT_DATA, AGENT_STDIN, (const uint8_t *)data + done, piece) < 0)
			break;
		ch->stdin_credit -= piece;
		done += piece;
	}
	ch->stdin_waits = done < len;
	return done;
}

static void stdin_ended(struct chardev_front *front)
{
	struct run_channel *ch = container_of(front, struct stream, front)->ch;

	if (ch->stdin_open && !ch->stdin_ended)
		(void)say(ch, AGENT_END, AGENT_STDIN, NULL, 0);
	ch->stdin_ended = true;
}

void run_channel_open_stdin(struct run_channel *ch)
{
	struct chardev_back *back = chardev_back(ch->std.chr);

	ch->stdin_open = true;
	ch->stdin_credit = AGENT_WINDOW;
	if (ch->stdin_ended)
		(void)say(ch, AGENT_END, AGENT_STDIN, NULL, 0);
	back->rx_room(back);
}

/* --- Output --- */

static struct stream *stream_of(struct run_channel *ch, uint16_t stream)
{
	if (stream == AGENT_STDOUT)
		return &ch->std;
	if (stream == AGENT_STDERR && ch->err.chr != NULL)
		return &ch->err;
	return NULL;
}

static void grant(struct stream *s)
{
	if (s->owed < CREDIT_STEP && s->granted > 0)
		return;
	if (s->owed == 0 || say(s->ch, AGENT_CREDIT, s->out, &s->owed, sizeof(s->owed)) < 0)
		return;
	s->granted += s->owed;
	s->owed = 0;
}

/* Write what waits. False: some still does. */
static bool stream_write(struct stream *s)
{
	struct chardev_back *back = chardev_back(s->chr);

	while (s->len > 0) {
		size_t piece = AGENT_WINDOW - s->head < s->len ? AGENT_WINDOW - s->head : s->len;
		struct iovec iov = { .iov_base = s->ring + s->head, .iov_len = piece };
		size_t n = back->write(back, &iov, 1);

		s->head = (s->head + n) % AGENT_WINDOW;
		s->len -= n;
		s->owed += (uint32_t)n;
		if (n < piece)
			break;
	}
	grant(s);
	return s->len == 0;
}

static void stream_tx_room(struct chardev_front *front)
{
	(void)stream_write(container_of(front, struct stream, front));
}

static size_t stream_flush(struct chardev_front *front)
{
	return stream_write(container_of(front, struct stream, front)) ? 0 : 1;
}

/* @len bytes of output, for which there is credit and so room. */
static void stream_take(struct stream *s, const uint8_t *data, size_t len)
{
	struct chardev_back *back = chardev_back(s->chr);
	size_t done = 0, at, piece;

	if (s->len == 0) {
		struct iovec iov = { .iov_base = (void *)data, .iov_len = len };

		done = back->write(back, &iov, 1);
		s->owed += (uint32_t)done;
	}
	if (done == len) {
		grant(s);
		return;
	}
	data += done;
	len -= done;
	at = (s->head + s->len) % AGENT_WINDOW;
	piece = AGENT_WINDOW - at < len ? AGENT_WINDOW - at : len;
	memcpy(s->ring + at, data, piece);
	memcpy(s->ring, data + piece, len - piece);
	s->len += len;
}

/* --- From the agent --- */

static void break_off(struct run_channel *ch, const char *why)
{
	ch->broken = true;
	ch->events->broken(ch->events, why);
}

/* How long a frame of this type is; -1: not for us, or not a fixed length. */
static int64_t expected_len(uint16_t type)
{
	switch (type) {
	case AGENT_HELLO:
		return sizeof(struct agent_hello);
	case AGENT_FAILED:
		return sizeof(struct agent_failed);
	case AGENT_STARTED:
		return sizeof(struct agent_clock);
	case AGENT_CREDIT:
		return sizeof(uint32_t);
	case AGENT_EXITED:
		return sizeof(struct agent_exited);
	case AGENT_ALIVE:
	case AGENT_END:
		return 0;
	default:
		return -1;
	}
}

/* The header is complete. NULL, or what is wrong with it. */
static const char *check_header(struct run_channel *ch)
{
	const struct agent_header *h = &ch->header;
	struct stream *s;

	if (h->type != AGENT_DATA)
		return expected_len(h->type) == h->len ? NULL : "a message of unknown kind or size";
	if (h->len == 0 || h->len > AGENT_DATA_MAX)
		return "data of a wrong size";
	if (h->stream == AGENT_KLOG)
		return NULL;
	s = stream_of(ch, h->stream);
	if (s == NULL)
		return "data of a stream that is not there";
	if (h->len > s->granted)
		return "more data than it was given room for";
	s->granted -= h->len;
	return NULL;
}

static void handle(struct run_channel *ch)
{
	struct run_events *ev = ch->events;
	uint32_t credit;

	switch (ch->header.type) {
	case AGENT_HELLO:
		ev->hello(ev, (const struct agent_hello *)ch->payload);
		break;
	case AGENT_FAILED:
		ev->failed(ev, (const struct agent_failed *)ch->payload);
		break;
	case AGENT_STARTED:
		ev->started(ev, (const struct agent_clock *)ch->payload);
		break;
	case AGENT_EXITED:
		ev->exited(ev, (const struct agent_exited *)ch->payload);
		break;
	case AGENT_ALIVE:
		ev->alive(ev);
		break;
	case AGENT_CREDIT:
		memcpy(&credit, ch->payload, sizeof(credit));
		if (credit > AGENT_WINDOW - ch->stdin_credit) {
			break_off(ch, "more room than there is");
			break;
		}
		ch->stdin_credit += credit;
		if (ch->stdin_waits)
			chardev_back(ch->std.chr)->rx_room(chardev_back(ch->std.chr));
		break;
	default: /* AGENT_END: the streams are drained at the end anyway */
		break;
	}
}

static void data_came(struct run_channel *ch, const uint8_t *data, size_t len)
{
	if (ch->header.stream == AGENT_KLOG) {
		ch->events->klog(ch->events, (const char *)data, len);
		return;
	}
	if (ch->events->output != NULL)
		ch->events->output(ch->events, ch->header.stream == AGENT_STDERR, data, len);
	stream_take(stream_of(ch, ch->header.stream), data, len);
}

/* Take up to @len bytes, at least one. Returns how many. */
static size_t take(struct run_channel *ch, const uint8_t *data, size_t len)
{
	size_t want = sizeof(ch->header) - ch->header_have;
	const char *wrong;

	if (want > 0) {
		if (len > want)
			len = want;
		memcpy((uint8_t *)&ch->header + ch->header_have, data, len);
		ch->header_have += len;
		if (len < want)
			return len;
		wrong = check_header(ch);
		if (wrong != NULL)
			break_off(ch, wrong);
		ch->payload_have = 0;
	} else {
		want = ch->header.len - ch->payload_have;
		if (len > want)
			len = want;
		if (ch->header.type == AGENT_DATA)
			data_came(ch, data, len);
		else
			memcpy(ch->payload + ch->payload_have, data, len);
		ch->payload_have += len;
	}
	if (!ch->broken && ch->payload_have == ch->header.len) {
		ch->header_have = 0;
		handle(ch);
	}
	return len;
}

static size_t back_write(struct chardev_back *back, struct iovec *iov, unsigned n)
{
	struct run_channel *ch = container_of(back, struct run_channel, back);
	size_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		for (size_t done = 0; done < iov[i].iov_len && !ch->broken;)
			done += take(ch, (const uint8_t *)iov[i].iov_base + done,
				     iov[i].iov_len - done);
		total += iov[i].iov_len;
	}
	return total;
}

/* --- Life --- */

struct chardev_back *run_channel_back(struct run_channel *ch)
{
	return &ch->back;
}

struct run_channel *run_channel_new(struct run_events *events, struct err *err)
{
	struct run_channel *ch = calloc(1, sizeof(*ch));

	if (ch == NULL) {
		err_sys(err, ENOMEM, "the line to the agent");
		return NULL;
	}
	ch->back = (struct chardev_back){ .write = back_write, .rx_room = back_rx_room };
	ch->events = events;
	ch->pump_work.fn = pump;
	return ch;
}

void run_channel_free(struct run_channel *ch)
{
	if (ch == NULL)
		return;
	run_channel_detach(ch);
	free(ch->queue);
	free(ch);
}

static int attach(struct stream *s, struct run_channel *ch, uint16_t out, const char *what,
		  struct chardevs *all, struct loop *loop, struct err *err)
{
	s->ch = ch;
	s->out = out;
	s->granted = AGENT_WINDOW;
	s->ring = malloc(AGENT_WINDOW);
	if (s->ring == NULL)
		return err_sys(err, ENOMEM, "%s", what);
	s->front = (struct chardev_front){
		.input = stdin_input,
		.ended = stdin_ended,
		.tx_room = stream_tx_room,
		.flush = stream_flush,
		.starts_full = true,
	};
	s->chr = chardev_new(&s->cfg, what, false, all, loop, err);
	if (s->chr == NULL)
		return -err->code;
	chardev_back(s->chr)->front = &s->front;
	return 0;
}

int run_channel_attach(struct run_channel *ch, bool tty, struct chardevs *all, struct loop *loop,
		       struct err *err)
{
	ch->loop = loop;
	ch->std.cfg = (struct chardev_config){ .to = CHARDEV_STDIO, .cooked = !tty };
	ch->err.cfg = (struct chardev_config){ .to = CHARDEV_STDERR };
	if (attach(&ch->std, ch, AGENT_STDOUT, "standard output", all, loop, err) < 0)
		return -err->code;
	if (!tty && attach(&ch->err, ch, AGENT_STDERR, "standard error", all, loop, err) < 0)
		return -err->code;
	if (ch->queue_len > 0)
		post_pump(ch);
	return 0;
}

static void detach(struct stream *s)
{
	chardev_free(s->chr);
	s->chr = NULL;
	free(s->ring);
	s->ring = NULL;
	s->len = 0;
}

void run_channel_detach(struct run_channel *ch)
{
	if (ch->loop == NULL)
		return;
	loop_unpost(ch->loop, &ch->pump_work);
	ch->loop = NULL;
	ch->broken = true; /* what the port still flushes is nobody's */
	detach(&ch->std);
	detach(&ch->err);
}
