// SPDX-License-Identifier: Apache-2.0
/*
 * A debugger that sends what it likes.
 *
 * The first byte says which: even, the rest are bytes of the connection; odd, packets with a zero
 * byte behind each, which get their frame here. The target has registers and a page of memory, and
 * checks that it is asked for nothing that does not exist. It stops by itself after a while.
 */
#include <string.h>
#include "tests/fuzz/fuzz.h"
#include "vmm/gdb/session.h"

#define CPUS 5
#define REGS 30

struct fuzz {
	struct gdb_target target;
	struct gdb_session session;
	uint8_t mem[4096], regs[REGS];
	bool running, gone;
	size_t sent;
};

static struct fuzz *of(struct gdb_target *t)
{
	return (struct fuzz *)((char *)t - offsetof(struct fuzz, target));
}

static size_t reg(unsigned n, size_t *offset)
{
	*offset = n * 10;
	return n < 3 ? 10 : 0;
}

static int read_regs(struct gdb_target *t, unsigned cpu, uint8_t *regs)
{
	CHECK(cpu < CPUS && !of(t)->running);
	memcpy(regs, of(t)->regs, REGS);
	return 0;
}

static int write_regs(struct gdb_target *t, unsigned cpu, const uint8_t *regs)
{
	CHECK(cpu < CPUS && !of(t)->running);
	memcpy(of(t)->regs, regs, REGS);
	return 0;
}

static const char *state(struct gdb_target *t, unsigned cpu)
{
	CHECK(cpu < CPUS && !of(t)->running);
	return "running";
}

static size_t part(uint64_t addr, size_t len)
{
	return addr >= 4096 ? 0 : len < 4096 - addr ? len : (size_t)(4096 - addr);
}

static size_t read_mem(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
		       uint8_t *to, size_t len)
{
	size_t n = part(addr, len);

	(void)physical;
	CHECK(cpu < CPUS && !of(t)->running);
	if (n > 0)
		memcpy(to, of(t)->mem + addr, n);
	return n;
}

static size_t write_mem(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
			const uint8_t *from, size_t len)
{
	size_t n = part(addr, len);

	(void)physical;
	CHECK(cpu < CPUS && !of(t)->running);
	if (n > 0)
		memcpy(of(t)->mem + addr, from, n);
	return n;
}

static int point(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
		 uint64_t len)
{
	(void)len;
	CHECK(cpu < CPUS && kind < GDB_POINTS && !of(t)->running);
	return addr % 3 == 0 ? -1 : 0;
}

static void resume(struct gdb_target *t, const uint8_t *actions)
{
	bool any = false;

	CHECK(!of(t)->running);
	for (unsigned i = 0; i < CPUS; i++) {
		CHECK(actions[i] <= GDB_STEP);
		any |= actions[i] != GDB_STAY;
	}
	CHECK(any);
	of(t)->running = true;
}

static void stop(struct gdb_target *t)
{
	const struct gdb_stop why = { .cpu = 2, .signal = 2 };

	CHECK(of(t)->running);
	of(t)->running = false;
	gdb_session_stopped(&of(t)->session, &why);
}

static void leave(struct gdb_target *t)
{
	CHECK(!of(t)->gone);
	of(t)->gone = true;
}

static void command(struct gdb_target *t, const char *words, char *text)
{
	CHECK(!of(t)->running);
	strncpy(text, words, GDB_TEXT_MAX - 1);
}

static void send_out(struct gdb_session *s, const void *data, size_t len)
{
	struct fuzz *f = (struct fuzz *)((char *)s - offsetof(struct fuzz, session));

	CHECK(len > 0 && len <= GDB_PACKET_MAX + 8);
	CHECK(len == 1 || (*(const char *)data == '$' && ((const char *)data)[len - 3] == '#'));
	f->sent += len;
}

/* Some bytes at a time; now and then the target stops. */
static bool input(struct fuzz *f, const uint8_t *data, size_t size)
{
	static const struct gdb_stop why = { .cpu = 1, .signal = 5, .why = GDB_STOP_WRITE };

	while (size > 0) {
		size_t n = size < 61 ? size : 61;
		bool goes_on = gdb_session_input(&f->session, data, n);

		CHECK(goes_on == !f->gone);
		if (!goes_on)
			return false;
		if (f->running && n == 61) {
			f->running = false;
			gdb_session_stopped(&f->session, &why);
		}
		data += n;
		size -= n;
	}
	return true;
}

static bool packet(struct fuzz *f, const uint8_t *data, size_t size)
{
	uint8_t sum = 0;
	char tail[4];

	for (size_t i = 0; i < size; i++)
		sum += data[i];
	snprintf(tail, sizeof(tail), "#%02x", sum);
	if (f->running)
		stop(&f->target);
	return input(f, (const uint8_t *)"$", 1) && input(f, data, size) &&
	       input(f, (const uint8_t *)tail, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct gdb_stop begin = { .signal = 5 };
	struct fuzz *f;

	if (size == 0)
		return 0;
	f = calloc(1, sizeof(*f));
	CHECK(f != NULL);
	f->target = (struct gdb_target){ .ncpus = CPUS,
					 .xml = "<target>some text</target>",
					 .regs_size = REGS,
					 .reg = reg,
					 .read_regs = read_regs,
					 .write_regs = write_regs,
					 .state = state,
					 .read = read_mem,
					 .write = write_mem,
					 .insert = point,
					 .remove = point,
					 .resume = resume,
					 .stop = stop,
					 .detach = leave,
					 .kill = leave,
					 .command = command };
	gdb_session_init(&f->session, &f->target, &begin, send_out);
	if (data[0] % 2 == 0) {
		input(f, data + 1, size - 1);
	} else {
		for (data++, size--; size > 0;) {
			const uint8_t *end = memchr(data, 0, size);
			size_t n = end != NULL ? (size_t)(end - data) : size;

			if (!packet(f, data, n))
				break;
			data += n + (end != NULL);
			size -= n + (end != NULL);
		}
	}
	free(f);
	return 0;
}
