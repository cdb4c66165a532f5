// SPDX-License-Identifier: Apache-2.0
/*
 * GDB's remote serial protocol (GDB manual, appendix E), in all-stop mode.
 *
 * Theory of operation. A packet is $DATA#SUM; each is acknowledged by '+' until QStartNoAckMode.
 * GDB sends one and waits for the reply; only ^C (byte 3) comes while the guest runs. CPUs are
 * threads 1, 2 ... of one process. They all stop when one does, and a stop is told of once, by
 * the reply to the packet that let them run.
 *
 * The other side is not trusted: packets are bounded by GDB_PACKET_MAX (longer ones are dropped
 * whole), a number has at most 16 digits, and what is malformed gets an error reply (E22) or, what
 * is unknown, an empty one, as the protocol asks. Errors are errno values in two hex digits.
 *
 * Limits: no non-stop mode, no several processes, no run-length encoding of replies. Memory is
 * read as far as it is there: a shorter reply, as the manual allows.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "vmm/gdb/session.h"

#define SIGNAL_TRAP 5

/* --- Pieces --- */

static char hex_digit(unsigned value)
{
	return "0123456789abcdef"[value & 15];
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool gdb_get_number(const char **p, uint64_t *value)
{
	unsigned n = 0;

	*value = 0;
	while (hex_value(**p) >= 0) {
		if (++n > 16)
			return false;
		*value = *value << 4 | (unsigned)hex_value(*(*p)++);
	}
	return n > 0;
}

bool gdb_get_hex(const char *p, void *data, size_t len)
{
	uint8_t *to = data;

	for (; len > 0; len--, p += 2) {
		int high = hex_value(p[0]), low = high < 0 ? -1 : hex_value(p[1]);

		if (low < 0)
			return false;
		*to++ = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* Room for the sum is kept. */
static size_t room(const struct gdb_session *s)
{
	return GDB_PACKET_MAX + 1 - s->out_len;
}

void gdb_put(struct gdb_session *s, const char *text)
{
	size_t len = strlen(text);

	if (len > room(s))
		len = room(s);
	memcpy(s->out + s->out_len, text, len);
	s->out_len += len;
}

void gdb_putf(struct gdb_session *s, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	gdb_put(s, text);
}

void gdb_put_hex(struct gdb_session *s, const void *data, size_t len)
{
	const uint8_t *from = data;

	for (; len > 0 && room(s) >= 2; len--, from++) {
		s->out[s->out_len++] = hex_digit(*from >> 4);
		s->out[s->out_len++] = hex_digit(*from);
	}
}

size_t gdb_put_binary(struct gdb_session *s, const void *data, size_t len)
{
	const uint8_t *from = data;
	size_t done;

	for (done = 0; done < len && room(s) >= 2; done++) {
		uint8_t c = from[done];

		if (c == '#' || c == '$' || c == '}' || c == '*') {
			s->out[s->out_len++] = '}';
			c ^= 0x20;
		}
		s->out[s->out_len++] = (char)c;
	}
	return done;
}

void gdb_put_error(struct gdb_session *s, int error)
{
	gdb_putf(s, "E%02x", (unsigned)(error < 0 ? -error : error) & 0xff);
}

static void put_result(struct gdb_session *s, int result)
{
	if (result < 0)
		gdb_put_error(s, result);
	else
		gdb_put(s, "OK");
}

static void begin_reply(struct gdb_session *s)
{
	s->out[0] = '$';
	s->out_len = 1;
}

static void send_reply(struct gdb_session *s)
{
	uint8_t sum = 0;

	for (size_t i = 1; i < s->out_len; i++)
		sum += (uint8_t)s->out[i];
	s->out[s->out_len++] = '#';
	s->out[s->out_len++] = hex_digit(sum >> 4);
	s->out[s->out_len++] = hex_digit(sum);
	s->send(s, s->out, s->out_len);
}

/* A thread's id: 1 to ncpus, 0 for any, -1 for all. *@cpu is ncpus for those two. */
static bool get_thread(const struct gdb_session *s, const char **p, unsigned *cpu)
{
	uint64_t id;

	if (**p == '-' && (*p)[1] == '1') {
		*p += 2;
		*cpu = s->t->ncpus;
		return true;
	}
	if (!gdb_get_number(p, &id) || id > s->t->ncpus)
		return false;
	*cpu = id == 0 ? s->t->ncpus : (unsigned)id - 1;
	return true;
}

/* --- Stop and go --- */

static void put_stop(struct gdb_session *s)
{
	static const char *const words[] = {
		[GDB_STOP_WRITE] = "watch", [GDB_STOP_READ] = "rwatch", [GDB_STOP_ACCESS] = "awatch"
	};
	const struct gdb_stop *stop = &s->last;

	gdb_putf(s, "T%02xthread:%x;", (unsigned)stop->signal & 0xff, stop->cpu + 1);
	if (stop->why == GDB_STOP_SOFT && s->swbreak)
		gdb_put(s, "swbreak:;");
	else if (stop->why == GDB_STOP_EXEC && s->hwbreak)
		gdb_put(s, "hwbreak:;");
	else if (stop->why >= GDB_STOP_WRITE)
		gdb_putf(s, "%s:%llx;", words[stop->why], (unsigned long long)stop->addr);
}

void gdb_session_stopped(struct gdb_session *s, const struct gdb_stop *stop)
{
	s->last = *stop;
	s->cpu = stop->cpu;
	if (!s->running)
		return;
	s->running = false;
	begin_reply(s);
	put_stop(s);
	send_reply(s);
}

void gdb_session_ended(struct gdb_session *s, int status)
{
	if (!s->running)
		return;
	s->running = false;
	begin_reply(s);
	gdb_putf(s, "W%02x", (unsigned)status & 0xff);
	send_reply(s);
}

static void go(struct gdb_session *s, const uint8_t *actions)
{
	s->running = true;
	s->t->resume(s->t, actions);
}

/* c, s, C and S, of the time before vCont: the CPU of Hc steps, all go on with it. */
static bool old_resume(struct gdb_session *s, const char *p, bool step, bool with_signal)
{
	uint8_t actions[GDB_CPUS_MAX];
	uint64_t signal;

	/* The signal cannot be given to a CPU, and is dropped; so does QEMU. */
	if (with_signal && !gdb_get_number(&p, &signal)) {
		gdb_put_error(s, EINVAL);
		return true;
	}
	if (*p != '\0') { /* another address to go on at: set pc before */
		gdb_put_error(s, EINVAL);
		return true;
	}
	memset(actions, GDB_CONTINUE, s->t->ncpus);
	if (step)
		actions[s->step_cpu < s->t->ncpus ? s->step_cpu : s->cpu] = GDB_STEP;
	go(s, actions);
	return false;
}

/* vCont;ACTION[:THREAD]...: for each thread the leftmost that fits counts. */
static bool vcont(struct gdb_session *s, const char *p)
{
	uint8_t actions[GDB_CPUS_MAX] = { 0 };
	bool given[GDB_CPUS_MAX] = { false }, any = false;

	while (*p == ';') {
		uint8_t action;
		uint64_t signal;
		unsigned cpu = s->t->ncpus;
		char kind = *++p;

		if (kind == '\0' || strchr("csCSt", kind) == NULL)
			goto malformed;
		p++;
		action = kind == 't'		      ? GDB_STAY
			 : kind == 'c' || kind == 'C' ? GDB_CONTINUE
						      : GDB_STEP;
		if ((kind == 'C' || kind == 'S') && !gdb_get_number(&p, &signal))
			goto malformed;
		if (*p == ':') {
			p++;
			if (!get_thread(s, &p, &cpu))
				goto malformed;
		}
		for (unsigned i = 0; i < s->t->ncpus; i++) {
			if (given[i] || (cpu < s->t->ncpus && cpu != i))
				continue;
			given[i] = true;
			actions[i] = action;
			any |= action != GDB_STAY;
		}
	}
	if (*p != '\0' || !any)
		goto malformed;
	go(s, actions);
	return false;
malformed:
	gdb_put_error(s, EINVAL);
	return true;
}

/* --- Registers and memory --- */

static void read_all_regs(struct gdb_session *s)
{
	uint8_t regs[GDB_REGS_MAX];
	int r = s->t->read_regs(s->t, s->cpu, regs);

	if (r < 0)
		gdb_put_error(s, r);
	else
		gdb_put_hex(s, regs, s->t->regs_size);
}

static int write_all_regs(struct gdb_session *s, const char *p)
{
	uint8_t regs[GDB_REGS_MAX];

	if (strlen(p) != 2 * s->t->regs_size || !gdb_get_hex(p, regs, s->t->regs_size))
		return -EINVAL;
	return s->t->write_regs(s->t, s->cpu, regs);
}

static void read_reg(struct gdb_session *s, const char *p)
{
	uint8_t regs[GDB_REGS_MAX];
	uint64_t n;
	size_t offset = 0, size;
	int r;

	if (!gdb_get_number(&p, &n) || *p != '\0' || n > UINT16_MAX ||
	    (size = s->t->reg((unsigned)n, &offset)) == 0) {
		gdb_put_error(s, EINVAL);
		return;
	}
	r = s->t->read_regs(s->t, s->cpu, regs);
	if (r < 0)
		gdb_put_error(s, r);
	else
		gdb_put_hex(s, regs + offset, size);
}

static int write_reg(struct gdb_session *s, const char *p)
{
	uint8_t regs[GDB_REGS_MAX];
	uint64_t n;
	size_t offset = 0, size;
	int r;

	if (!gdb_get_number(&p, &n) || *p != '=' || n > UINT16_MAX)
		return -EINVAL;
	size = s->t->reg((unsigned)n, &offset);
	if (size == 0 || strlen(p + 1) != 2 * size)
		return -EINVAL;
	r = s->t->read_regs(s->t, s->cpu, regs);
	if (r < 0)
		return r;
	if (!gdb_get_hex(p + 1, regs + offset, size))
		return -EINVAL;
	return s->t->write_regs(s->t, s->cpu, regs);
}

/* "ADDR,LENGTH" at *@p. */
static bool get_range(const char **p, uint64_t *addr, uint64_t *len)
{
	return gdb_get_number(p, addr) && *(*p)++ == ',' && gdb_get_number(p, len);
}

static void read_memory(struct gdb_session *s, const char *p)
{
	uint8_t data[GDB_PACKET_MAX / 2];
	uint64_t addr, len;
	size_t n;

	if (!get_range(&p, &addr, &len) || *p != '\0') {
		gdb_put_error(s, EINVAL);
		return;
	}
	if (len > sizeof(data))
		len = sizeof(data);
	n = s->t->read(s->t, s->cpu, s->physical, addr, data, (size_t)len);
	if (n == 0 && len > 0)
		gdb_put_error(s, EFAULT);
	else
		gdb_put_hex(s, data, n);
}

static int write_memory(struct gdb_session *s, const char *p, bool binary)
{
	uint8_t data[GDB_PACKET_MAX];
	uint64_t addr, len;
	size_t have;

	if (!get_range(&p, &addr, &len) || *p++ != ':')
		return -EINVAL;
	have = s->in_len - (size_t)(p - s->in);
	if (binary) {
		if (len != have)
			return -EINVAL;
		memcpy(data, p, have);
	} else if (have % 2 != 0 || len != have / 2 || !gdb_get_hex(p, data, (size_t)len)) {
		return -EINVAL;
	}
	if (s->t->write(s->t, s->cpu, s->physical, addr, data, (size_t)len) != len)
		return -EFAULT;
	return 0;
}

/* z and Z: "TYPE,ADDR,KIND". Conditions and commands behind it were not offered. */
static void point(struct gdb_session *s, const char *p, bool insert)
{
	uint64_t kind, addr, len;
	int r;

	if (!gdb_get_number(&p, &kind) || *p++ != ',' || !get_range(&p, &addr, &len) ||
	    *p != '\0') {
		gdb_put_error(s, EINVAL);
		return;
	}
	if (kind >= GDB_POINTS)
		return; /* the empty reply: not supported */
	r = (insert ? s->t->insert : s->t->remove)(s->t, s->cpu, (enum gdb_point)kind, addr, len);
	put_result(s, r);
}

/* --- Packets --- */

static int set_thread(struct gdb_session *s, const char *p)
{
	char what = *p++;
	unsigned cpu;

	if ((what != 'g' && what != 'c') || !get_thread(s, &p, &cpu) || *p != '\0')
		return -EINVAL;
	if (what == 'c')
		s->step_cpu = cpu;
	else if (cpu < s->t->ncpus)
		s->cpu = cpu;
	return 0;
}

static int thread_lives(struct gdb_session *s, const char *p)
{
	unsigned cpu;

	return get_thread(s, &p, &cpu) && *p == '\0' && cpu < s->t->ncpus ? 0 : -ESRCH;
}

/* True: there is a reply now. */
static bool v_packet(struct gdb_session *s, const char *p)
{
	if (strcmp(p, "vCont?") == 0) {
		gdb_put(s, "vCont;c;C;s;S;t");
	} else if (strncmp(p, "vCont;", 6) == 0) {
		return vcont(s, p + 5);
	} else if (strncmp(p, "vKill;", 6) == 0) {
		gdb_put(s, "OK");
		s->detached = true;
	}
	return true;
}

static bool packet(struct gdb_session *s)
{
	const char *p = s->in;

	switch (*p) {
	case '?':
		put_stop(s);
		return true;
	case 'g':
		read_all_regs(s);
		return true;
	case 'G':
		put_result(s, write_all_regs(s, p + 1));
		return true;
	case 'p':
		read_reg(s, p + 1);
		return true;
	case 'P':
		put_result(s, write_reg(s, p + 1));
		return true;
	case 'm':
		read_memory(s, p + 1);
		return true;
	case 'M':
	case 'X':
		put_result(s, write_memory(s, p + 1, *p == 'X'));
		return true;
	case 'Z':
	case 'z':
		point(s, p + 1, *p == 'Z');
		return true;
	case 'c':
	case 's':
		return old_resume(s, p + 1, *p == 's', false);
	case 'C':
	case 'S':
		return old_resume(s, p + 1, *p == 'S', true);
	case 'H':
		put_result(s, set_thread(s, p + 1));
		return true;
	case 'T':
		put_result(s, thread_lives(s, p + 1));
		return true;
	case 'v':
		return v_packet(s, p);
	case 'q':
	case 'Q':
		gdb_query(s, p);
		return true;
	case 'D':
		gdb_put(s, "OK");
		s->detached = true;
		return true;
	case 'k': /* no reply */
		s->detached = true;
		return false;
	default:
		return true;
	}
}

static void handle_packet(struct gdb_session *s)
{
	bool kill;

	s->in[s->in_len] = '\0';
	/* Only ^C is allowed while it runs. */
	if (s->running)
		return;
	begin_reply(s);
	if (packet(s))
		send_reply(s);
	if (!s->detached)
		return;
	kill = s->in[0] == 'k' || s->in[0] == 'v';
	if (kill)
		s->t->kill(s->t);
	else
		s->t->detach(s->t);
}

static void end_of_packet(struct gdb_session *s)
{
	bool good = s->sum == s->said && !s->escaped;

	if (!s->no_ack)
		s->send(s, good ? "+" : "-", 1);
	if (good && !s->too_long)
		handle_packet(s);
}

static void begin_packet(struct gdb_session *s)
{
	s->state = GDB_DATA;
	s->in_len = 0;
	s->sum = 0;
	s->escaped = s->too_long = false;
}

static void packet_byte(struct gdb_session *s, uint8_t c)
{
	s->sum += c;
	if (c == '}' && !s->escaped) {
		s->escaped = true;
		return;
	}
	if (s->escaped)
		c ^= 0x20;
	s->escaped = false;
	if (s->in_len < GDB_PACKET_MAX)
		s->in[s->in_len++] = (char)c;
	else
		s->too_long = true;
}

static void idle_byte(struct gdb_session *s, uint8_t c)
{
	switch (c) {
	case '$':
		begin_packet(s);
		break;
	case 3: /* ^C */
		if (s->running)
			s->t->stop(s->t);
		break;
	case '-':
		if (!s->no_ack && s->out_len > 0 && !s->running)
			s->send(s, s->out, s->out_len);
		break;
	default: /* '+', or noise */
		break;
	}
}

static void sum_byte(struct gdb_session *s, uint8_t c)
{
	int value = hex_value((char)c);

	bool first = s->state == GDB_SUM1;

	s->state = GDB_IDLE;
	if (value < 0)
		return;
	if (first) {
		s->said = (uint8_t)(value << 4);
		s->state = GDB_SUM2;
		return;
	}
	s->said |= (uint8_t)value;
	end_of_packet(s);
}

bool gdb_session_input(struct gdb_session *s, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (; len > 0 && !s->detached; len--, p++) {
		switch (s->state) {
		case GDB_IDLE:
			idle_byte(s, *p);
			break;
		case GDB_DATA:
			if (*p == '#')
				s->state = GDB_SUM1;
			else if (*p == '$')
				begin_packet(s); /* the one before was cut off */
			else
				packet_byte(s, *p);
			break;
		default:
			sum_byte(s, *p);
			break;
		}
	}
	return !s->detached;
}

void gdb_session_init(struct gdb_session *s, struct gdb_target *t, const struct gdb_stop *stop,
		      void (*send)(struct gdb_session *s, const void *data, size_t len))
{
	/* Not the buffers: they are large. */
	memset(s, 0, offsetof(struct gdb_session, in));
	s->out_len = 0;
	s->t = t;
	s->send = send;
	s->last = *stop;
	s->cpu = stop->cpu;
	s->step_cpu = t->ncpus;
	if (s->last.signal == 0)
		s->last.signal = SIGNAL_TRAP;
}
