// SPDX-License-Identifier: Apache-2.0
/*
 * GDB's remote protocol: packets in, packets out, with a target that this file plays: two CPUs of
 * three registers (8, 4 and 10 bytes) and memory from 0x1000 to 0x1fff.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/test_run.h"
#include "vmm/gdb/session.h"

#define CPUS	3
#define REGS	22
#define MEM	0x1000
#define MEM_LEN 0x1000

static struct gdb_session session;
static struct gdb_target target;
static uint8_t regs[CPUS][REGS], mem[MEM_LEN];
static uint8_t actions[CPUS];
static unsigned resumes, stops, detaches, kills, points, asked_cpu;
static bool asked_physical;
static char command_words[256];
static char out[1 << 20]; /* all that was sent */
static size_t out_len;

/* --- The target --- */

static size_t reg(unsigned n, size_t *offset)
{
	static const size_t sizes[] = { 8, 4, 10 }, offsets[] = { 0, 8, 12 };

	if (n >= 3)
		return 0;
	*offset = offsets[n];
	return sizes[n];
}

static int read_regs(struct gdb_target *t, unsigned cpu, uint8_t *to)
{
	ck_assert_ptr_eq(t, &target);
	ck_assert_uint_lt(cpu, CPUS);
	memcpy(to, regs[cpu], REGS);
	return 0;
}

static int write_regs(struct gdb_target *t, unsigned cpu, const uint8_t *from)
{
	(void)t;
	ck_assert_uint_lt(cpu, CPUS);
	if (from[8] == 0xee)
		return -EPERM;
	memcpy(regs[cpu], from, REGS);
	return 0;
}

static const char *state(struct gdb_target *t, unsigned cpu)
{
	(void)t;
	return cpu == 0 ? "running" : "idle";
}

static size_t part(uint64_t addr, size_t len)
{
	if (addr < MEM || addr >= MEM + MEM_LEN)
		return 0;
	return len < MEM + MEM_LEN - addr ? len : (size_t)(MEM + MEM_LEN - addr);
}

static size_t read_mem(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
		       uint8_t *to, size_t len)
{
	size_t n = part(addr, len);

	(void)t;
	asked_cpu = cpu;
	asked_physical = physical;
	if (n > 0)
		memcpy(to, mem + (addr - MEM), n);
	return n;
}

static size_t write_mem(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
			const uint8_t *from, size_t len)
{
	size_t n = part(addr, len);

	(void)t;
	(void)cpu;
	(void)physical;
	if (n > 0)
		memcpy(mem + (addr - MEM), from, n);
	return n;
}

static int insert(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
		  uint64_t len)
{
	(void)t;
	(void)cpu;
	if (addr == 0xbad)
		return -ENOSPC;
	points += (unsigned)kind + 1 + (unsigned)len;
	return 0;
}

static int remove_point(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
			uint64_t len)
{
	(void)t;
	(void)cpu;
	(void)addr;
	points -= (unsigned)kind + 1 + (unsigned)len;
	return 0;
}

static void resume(struct gdb_target *t, const uint8_t *what)
{
	(void)t;
	memcpy(actions, what, CPUS);
	resumes++;
}

static void stop(struct gdb_target *t)
{
	const struct gdb_stop why = { .cpu = 1, .signal = 2 };

	(void)t;
	stops++;
	gdb_session_stopped(&session, &why);
}

static void detach(struct gdb_target *t)
{
	(void)t;
	detaches++;
}

static void kill_it(struct gdb_target *t)
{
	(void)t;
	kills++;
}

static void command(struct gdb_target *t, const char *words, char *text)
{
	(void)t;
	snprintf(command_words, sizeof(command_words), "%s", words);
	if (strcmp(words, "long") == 0) {
		memset(text, 'x', GDB_TEXT_MAX - 1);
		text[GDB_TEXT_MAX - 1] = '\0';
	} else if (strcmp(words, "quiet") != 0) {
		strcpy(text, "hi\n");
	}
}

/* --- The debugger --- */

static void send_out(struct gdb_session *s, const void *data, size_t len)
{
	ck_assert_ptr_eq(s, &session);
	ck_assert_uint_lt(out_len + len, sizeof(out));
	memcpy(out + out_len, data, len);
	out_len += len;
	out[out_len] = '\0';
}

static void setup(void)
{
	const struct gdb_stop begin = { 0 };

	target = (struct gdb_target){ .ncpus = CPUS,
				      .xml = "<target>#$}*</target>",
				      .regs_size = REGS,
				      .reg = reg,
				      .read_regs = read_regs,
				      .write_regs = write_regs,
				      .state = state,
				      .read = read_mem,
				      .write = write_mem,
				      .insert = insert,
				      .remove = remove_point,
				      .resume = resume,
				      .stop = stop,
				      .detach = detach,
				      .kill = kill_it,
				      .command = command };
	memset(regs, 0, sizeof(regs));
	memset(mem, 0, sizeof(mem));
	memset(actions, 0xff, sizeof(actions));
	resumes = stops = detaches = kills = points = 0;
	out_len = 0;
	gdb_session_init(&session, &target, &begin, send_out);
}

static bool raw(const char *data, size_t len)
{
	out_len = 0;
	out[0] = '\0';
	return gdb_session_input(&session, data, len);
}

static bool send_bytes(const char *packet, size_t len)
{
	char text[GDB_PACKET_MAX + 16];
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += (uint8_t)packet[i];
	text[0] = '$';
	memcpy(text + 1, packet, len);
	sprintf(text + 1 + len, "#%02x", sum);
	return raw(text, len + 4);
}

/* What is sent back is acknowledgement and one packet with the right sum; here are its contents. */
static const char *reply(const char *packet)
{
	static char text[GDB_PACKET_MAX + 16];
	uint8_t sum = 0;
	char *end;

	send_bytes(packet, strlen(packet));
	ck_assert_uint_ge(out_len, 5);
	ck_assert_int_eq(out[0], '+');
	ck_assert_int_eq(out[1], '$');
	end = memchr(out, '#', out_len);
	ck_assert_ptr_nonnull(end);
	ck_assert_ptr_eq(end + 3, out + out_len);
	for (char *p = out + 2; p < end; p++)
		sum += (uint8_t)*p;
	ck_assert_uint_eq(strtoul(end + 1, NULL, 16), sum);
	memcpy(text, out + 2, (size_t)(end - out - 2));
	text[end - out - 2] = '\0';
	return text;
}

#define IS(packet, expected) ck_assert_str_eq(reply(packet), expected)

/* --- Framing --- */

START_TEST(acknowledges)
{
	raw("+$qC#b4", 7);
	ck_assert_str_eq(out, "+$QC1#c5");
	raw("$qC#b5", 6); /* a wrong sum */
	ck_assert_str_eq(out, "-");
	raw("-", 1); /* once more */
	ck_assert_str_eq(out, "$QC1#c5");
	raw("$qC#bx", 6);
	ck_assert_str_eq(out, "");
	raw("$qC", 3);
	raw("#b", 2);
	ck_assert_str_eq(out, "");
	raw("4", 1);
	ck_assert_str_eq(out, "+$QC1#c5");
	raw("$cut off$qC#b4", 14);
	ck_assert_str_eq(out, "+$QC1#c5");
	raw("$}\x51}C#11", 8); /* escaped: q is 0x51 ^ 0x20 */
	IS("qC", "QC1");
}
END_TEST

START_TEST(without_acknowledgements)
{
	IS("QStartNoAckMode", "OK");
	raw("$qC#b4", 6);
	ck_assert_str_eq(out, "$QC1#c5");
	raw("$qC#b5", 6); /* a wrong one is dropped */
	ck_assert_str_eq(out, "");
	raw("-", 1);
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(too_long)
{
	static char packet[GDB_PACKET_MAX];

	memset(packet, '0', sizeof(packet));
	packet[0] = 'm';
	send_bytes(packet, sizeof(packet)); /* just fits */
	ck_assert_str_eq(out, "+$E16#ac");
	memset(packet, 'q', sizeof(packet));
	raw("$", 1);
	for (int i = 0; i < 100; i++)
		raw(packet, sizeof(packet));
	/* 100 * 16384 * 'q' */
	raw("#00", 3);
	ck_assert_str_eq(out, "+");
	IS("qC", "QC1");
}
END_TEST

START_TEST(unknown)
{
	static const char *const packets[] = { "",	     "!",	 "R00", "vMustReplyEmpty",
					       "vFile:open", "qTStatus", "Qx",	"b",
					       "\x7f" };

	for (unsigned i = 0; i < sizeof(packets) / sizeof(packets[0]); i++)
		IS(packets[i], "");
}
END_TEST

START_TEST(malformed)
{
	static const char *const packets[] = { "m",
					       "m1000",
					       "m1000,",
					       "m,4",
					       "m1000,4x",
					       "m11111111122222222,1",
					       "M1000,2:0",
					       "M1000,2:0g00",
					       "M1000,1",
					       "p",
					       "p3",
					       "pffffffff",
					       "P0",
					       "P0=00",
					       "P3=00",
					       "P0=g000000000000000",
					       "G00",
					       "G",
					       "Hx1",
					       "H",
					       "Hg4",
					       "Hg-2",
					       "Z",
					       "Z0",
					       "Z0,1000",
					       "Z0,1000,1;x",
					       "zz",
					       "vCont;",
					       "vCont;x",
					       "vCont;c:9",
					       "vCont;c:1x",
					       "vCont;t",
					       "vCont;Cxx",
					       "C",
					       "c1000",
					       "s1000",
					       "X1000,2:a",
					       "qXfer:features:read:target.xml:0",
					       "qXfer:features:read:target.xml:99,1",
					       "qRcmd,6",
					       "qRcmd,gg",
					       "Qqemu.PhyMemMode:2",
					       "qThreadExtraInfo,0",
					       "qThreadExtraInfo,4" };

	for (unsigned i = 0; i < sizeof(packets) / sizeof(packets[0]); i++)
		ck_assert_msg(strcmp(reply(packets[i]), "E16") == 0, "%s", packets[i]);
	ck_assert_uint_eq(resumes, 0);
	ck_assert_uint_eq(points, 0);
}
END_TEST

/* --- Registers and memory --- */

START_TEST(registers)
{
	for (unsigned i = 0; i < REGS; i++)
		regs[1][i] = (uint8_t)(i + 1);
	IS("g", "00000000000000000000000000000000000000000000");
	IS("Hg2", "OK");
	IS("g", "0102030405060708090a0b0c0d0e0f10111213141516");
	IS("p0", "0102030405060708");
	IS("p1", "090a0b0c");
	IS("p2", "0d0e0f10111213141516");
	IS("P1=aAbBcCdD", "OK");
	IS("p1", "aabbccdd");
	IS("P1=ee000000", "E01");
	IS("Hg0", "OK"); /* any: it stays */
	IS("p1", "aabbccdd");
	IS("Hg1", "OK");
	IS("G000000000000000001000000ffffffffffffffffffff", "OK");
	ck_assert_uint_eq(regs[0][8], 1);
	ck_assert_uint_eq(regs[0][REGS - 1], 0xff);
}
END_TEST

START_TEST(memory)
{
	IS("M1000,3:010203", "OK");
	IS("m1000,4", "01020300");
	IS("m1ffe,8", "0000"); /* as far as it is there */
	IS("m2000,1", "E0e");
	IS("m0,1", "E0e");
	IS("mffffffffffffffff,10", "E0e");
	IS("M1fff,2:0102", "E0e");
	IS("X1000,0:", "OK");
	send_bytes("X1000,4:}\x03}\x04}]}\x0a", 16); /* # $ } * */
	ck_assert_str_eq(out, "+$OK#9a");
	IS("m1000,4", "23247d2a");
	ck_assert(!asked_physical);
	IS("Qqemu.PhyMemMode:1", "OK");
	IS("qqemu.PhyMemMode", "1");
	IS("Hg3", "OK");
	IS("m1000,1", "23");
	ck_assert(asked_physical);
	ck_assert_uint_eq(asked_cpu, 2);
	ck_assert_uint_eq(strlen(reply("m1000,ffffffffffffffff")), 2 * MEM_LEN);
}
END_TEST

START_TEST(points_)
{
	IS("Z0,1000,1", "OK");
	IS("Z1,1000,1", "OK");
	IS("Z2,1000,8", "OK");
	IS("Z3,1000,4", "OK");
	IS("Z4,1000,2", "OK");
	ck_assert_uint_eq(points, 1 + 2 + 3 + 4 + 5 + 1 + 1 + 8 + 4 + 2);
	IS("Z5,1000,1", "");
	IS("Z1,bad,1", "E1c");
	IS("z0,1000,1", "OK");
	IS("z1,1000,1", "OK");
	IS("z2,1000,8", "OK");
	IS("z3,1000,4", "OK");
	IS("z4,1000,2", "OK");
	ck_assert_uint_eq(points, 0);
}
END_TEST

/* --- Stop and go --- */

static void goes(const char *packet, uint8_t a, uint8_t b, uint8_t c)
{
	const struct gdb_stop why = { .cpu = 0, .signal = 5 };
	unsigned before = resumes;

	send_bytes(packet, strlen(packet));
	ck_assert_str_eq(out, "+");
	ck_assert_uint_eq(resumes, before + 1);
	ck_assert_uint_eq(actions[0], a);
	ck_assert_uint_eq(actions[1], b);
	ck_assert_uint_eq(actions[2], c);
	out_len = 0;
	gdb_session_stopped(&session, &why);
	ck_assert_str_eq(out, "$T05thread:1;#d7");
	gdb_session_stopped(&session, &why); /* told of once */
	ck_assert_uint_eq(out_len, 16);
}

START_TEST(goes_on)
{
	enum { S = GDB_STAY, C = GDB_CONTINUE, T = GDB_STEP };

	IS("vCont?", "vCont;c;C;s;S;t");
	goes("vCont;c", C, C, C);
	goes("vCont;c:-1", C, C, C);
	goes("vCont;s:2;c", C, T, C);
	goes("vCont;s:2", S, T, S);
	goes("vCont;C05:1;t:2;s:3", C, S, T);
	goes("vCont;S05", T, T, T);
	goes("vCont;c:2;s:2", S, C, S); /* the leftmost */
	goes("c", C, C, C);
	goes("C05", C, C, C);
	goes("s", T, C, C);
	IS("Hc3", "OK");
	goes("s", C, C, T);
	IS("Hc-1", "OK");
	IS("Hg2", "OK");
	goes("S05", C, T, C);
}
END_TEST

START_TEST(stop_reasons)
{
	static const struct {
		struct gdb_stop stop;
		const char *plain, *full;
	} cases[] = {
		{ { 2, 5, GDB_STOP_SIGNAL, 0 }, "T05thread:3;", "T05thread:3;" },
		{ { 0, 11, GDB_STOP_SIGNAL, 0 }, "T0bthread:1;", "T0bthread:1;" },
		{ { 0, 5, GDB_STOP_SOFT, 0 }, "T05thread:1;", "T05thread:1;swbreak:;" },
		{ { 0, 5, GDB_STOP_EXEC, 0 }, "T05thread:1;", "T05thread:1;hwbreak:;" },
		{ { 0, 5, GDB_STOP_WRITE, 0xabc },
		  "T05thread:1;watch:abc;",
		  "T05thread:1;watch:abc;" },
		{ { 0, 5, GDB_STOP_READ, 1 }, "T05thread:1;rwatch:1;", "T05thread:1;rwatch:1;" },
		{ { 0, 5, GDB_STOP_ACCESS, 0xffffffff81000000 },
		  "T05thread:1;awatch:ffffffff81000000;",
		  "T05thread:1;awatch:ffffffff81000000;" },
	};

	IS("?", "T05thread:1;");
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		gdb_session_stopped(&session, &cases[i].stop);
		IS("?", cases[i].plain);
	}
	ck_assert_ptr_nonnull(
		strstr(reply("qSupported:multiprocess+;swbreak+;hwbreak+"), "PacketSize=4000"));
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		gdb_session_stopped(&session, &cases[i].stop);
		IS("?", cases[i].full);
		ck_assert_uint_eq(session.cpu, cases[i].stop.cpu);
	}
}
END_TEST

START_TEST(interrupt)
{
	raw("\3", 1); /* nothing runs */
	ck_assert_uint_eq(stops, 0);
	send_bytes("vCont;c", 7);
	raw("$g#67", 5); /* not while it runs */
	ck_assert_str_eq(out, "+");
	raw("\3", 1);
	ck_assert_uint_eq(stops, 1);
	ck_assert_str_eq(out, "$T02thread:2;#d5");
	IS("qC", "QC2");
}
END_TEST

START_TEST(ended)
{
	gdb_session_ended(&session, 120);
	ck_assert_uint_eq(out_len, 0);
	send_bytes("c", 1);
	out_len = 0;
	gdb_session_ended(&session, 120);
	ck_assert_str_eq(out, "$W78#c6");
}
END_TEST

START_TEST(leaves)
{
	ck_assert(!send_bytes("D", 1));
	ck_assert_str_eq(out, "+$OK#9a");
	ck_assert_uint_eq(detaches, 1);
	ck_assert(!raw("$qC#b4", 6));
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(kills_)
{
	ck_assert(!send_bytes("k", 1));
	ck_assert_str_eq(out, "+");
	ck_assert_uint_eq(kills, 1);
	setup();
	ck_assert(!send_bytes("vKill;1", 7));
	ck_assert_str_eq(out, "+$OK#9a");
	ck_assert_uint_eq(kills, 1);
}
END_TEST

/* --- Queries --- */

START_TEST(queries)
{
	IS("qfThreadInfo", "m1,2,3");
	IS("qsThreadInfo", "l");
	IS("qThreadExtraInfo,1", "435055233020"
				 "5b72756e6e696e675d"); /* CPU#0 [running] */
	IS("qThreadExtraInfo,3", "435055233220"
				 "5b69646c655d");
	IS("T1", "OK");
	IS("T3", "OK");
	IS("T4", "E03");
	IS("T0", "E03");
	IS("qAttached", "1");
	IS("qSymbol::", "OK");
	IS("qXfer:features:read:other.xml:0,10", "E00");
	IS("qXfer:features:read:target.xml:0,8", "m<target>");
	IS("qXfer:features:read:target.xml:c,fff", "l</target>");
	IS("qXfer:features:read:target.xml:15,1", "l");
	/* '#', '$', '}' and '*' escaped: there is a '}' before each. */
	send_bytes("qXfer:features:read:target.xml:8,4", 34);
	ck_assert_uint_eq(out_len, 1 + 1 + 1 + 8 + 3);
	ck_assert_int_eq(memcmp(out + 2, "m}\3}\4}]}\n#", 10), 0);
}
END_TEST

START_TEST(many_threads)
{
	unsigned seen = 0;
	const char *p;

	target.ncpus = GDB_CPUS_MAX;
	for (p = reply("qfThreadInfo"); *p == 'm'; p = reply("qsThreadInfo"))
		for (; *p != '\0'; p++)
			seen += *p == 'm' || *p == ',';
	ck_assert_str_eq(p, "l");
	ck_assert_uint_eq(seen, GDB_CPUS_MAX);
}
END_TEST

START_TEST(monitor)
{
	IS("qRcmd,7175696574", "OK");
	ck_assert_str_eq(command_words, "quiet");
	IS("qRcmd,6e6d69", "68690a");
	ck_assert_str_eq(command_words, "nmi");
	IS("qRcmd,", "68690a");
	ck_assert_uint_eq(strlen(reply("qRcmd,6c6f6e67")), 2 * (GDB_TEXT_MAX - 1));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gdb");
	TCase *tc = tcase_create("gdb");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, acknowledges);
	tcase_add_test(tc, without_acknowledgements);
	tcase_add_test(tc, too_long);
	tcase_add_test(tc, unknown);
	tcase_add_test(tc, malformed);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, memory);
	tcase_add_test(tc, points_);
	tcase_add_test(tc, goes_on);
	tcase_add_test(tc, stop_reasons);
	tcase_add_test(tc, interrupt);
	tcase_add_test(tc, ended);
	tcase_add_test(tc, leaves);
	tcase_add_test(tc, kills_);
	tcase_add_test(tc, queries);
	tcase_add_test(tc, many_threads);
	tcase_add_test(tc, monitor);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
