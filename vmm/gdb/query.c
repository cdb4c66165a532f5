// SPDX-License-Identifier: Apache-2.0
/*
 * GDB's remote serial protocol: general queries (GDB manual, E.4), and QEMU's packets for
 * physical memory (docs/system/gdb.rst in QEMU), which `maintenance packet` sends.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "vmm/gdb/session.h"

/* @p behind @word, or NULL. */
static const char *after(const char *p, const char *word)
{
	size_t len = strlen(word);

	return strncmp(p, word, len) == 0 ? p + len : NULL;
}

static bool offers(const char *features, const char *feature)
{
	size_t len = strlen(feature);

	for (const char *p = features; (p = strstr(p, feature)) != NULL; p += len)
		if ((p == features || p[-1] == ';') && (p[len] == ';' || p[len] == '\0'))
			return true;
	return false;
}

static void supported(struct gdb_session *s, const char *features)
{
	s->swbreak = offers(features, "swbreak+");
	s->hwbreak = offers(features, "hwbreak+");
	gdb_putf(s,
		 "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;vContSupported+;"
		 "swbreak+;hwbreak+",
		 GDB_PACKET_MAX);
}

/* qXfer:features:read:ANNEX:OFFSET,LENGTH */
static void features(struct gdb_session *s, const char *p)
{
	static const char annex[] = "target.xml:";
	size_t size = strlen(s->t->xml), left;
	uint64_t offset, len;

	if (strncmp(p, annex, sizeof(annex) - 1) != 0) {
		gdb_put(s, "E00");
		return;
	}
	p += sizeof(annex) - 1;
	if (!gdb_get_number(&p, &offset) || *p++ != ',' || !gdb_get_number(&p, &len) ||
	    *p != '\0' || offset > size) {
		gdb_put_error(s, EINVAL);
		return;
	}
	left = size - (size_t)offset;
	/* Escaping may double it, and 'l' says it is all. */
	if (len > GDB_PACKET_MAX / 2 - 1)
		len = GDB_PACKET_MAX / 2 - 1;
	gdb_put(s, len >= left ? "l" : "m");
	gdb_put_binary(s, s->t->xml + offset, len < left ? (size_t)len : left);
}

/* As many as fit; the next query goes on. */
static void threads(struct gdb_session *s, bool first)
{
	if (first)
		s->listed = 0;
	if (s->listed >= s->t->ncpus) {
		gdb_put(s, "l");
		return;
	}
	for (unsigned n = 0; n < 64 && s->listed < s->t->ncpus; n++)
		gdb_putf(s, "%c%x", n == 0 ? 'm' : ',', ++s->listed);
}

static void thread_name(struct gdb_session *s, const char *p)
{
	char name[64];
	uint64_t id;
	int len;

	if (!gdb_get_number(&p, &id) || *p != '\0' || id == 0 || id > s->t->ncpus) {
		gdb_put_error(s, EINVAL);
		return;
	}
	len = snprintf(name, sizeof(name), "CPU#%u [%s]", (unsigned)id - 1,
		       s->t->state(s->t, (unsigned)id - 1));
	gdb_put_hex(s, name, len < (int)sizeof(name) ? (size_t)len : sizeof(name) - 1);
}

static void monitor(struct gdb_session *s, const char *p)
{
	char words[256], text[GDB_TEXT_MAX] = "";
	size_t len = strlen(p) / 2;

	if (strlen(p) % 2 != 0 || len >= sizeof(words) || !gdb_get_hex(p, words, len)) {
		gdb_put_error(s, EINVAL);
		return;
	}
	words[len] = '\0';
	s->t->command(s->t, words, text);
	if (*text == '\0')
		gdb_put(s, "OK");
	else
		gdb_put_hex(s, text, strlen(text));
}

static void physical(struct gdb_session *s, const char *p)
{
	if ((*p != '0' && *p != '1') || p[1] != '\0') {
		gdb_put_error(s, EINVAL);
		return;
	}
	s->physical = *p == '1';
	gdb_put(s, "OK");
}

void gdb_query(struct gdb_session *s, const char *packet)
{
	const char *p;

	if ((p = after(packet, "qSupported")) != NULL && (*p == ':' || *p == '\0'))
		supported(s, *p == ':' ? p + 1 : p);
	else if ((p = after(packet, "qXfer:features:read:")) != NULL)
		features(s, p);
	else if (strcmp(packet, "qfThreadInfo") == 0)
		threads(s, true);
	else if (strcmp(packet, "qsThreadInfo") == 0)
		threads(s, false);
	else if ((p = after(packet, "qThreadExtraInfo,")) != NULL)
		thread_name(s, p);
	else if (strcmp(packet, "qC") == 0)
		gdb_putf(s, "QC%x", s->cpu + 1);
	else if (after(packet, "qAttached") != NULL)
		gdb_put(s, "1"); /* leaving it leaves the guest running */
	else if ((p = after(packet, "qRcmd,")) != NULL)
		monitor(s, p);
	else if (strcmp(packet, "qSymbol::") == 0)
		gdb_put(s, "OK"); /* no symbol is wanted */
	else if (strcmp(packet, "qqemu.PhyMemMode") == 0)
		gdb_put(s, s->physical ? "1" : "0");
	else if ((p = after(packet, "Qqemu.PhyMemMode:")) != NULL)
		physical(s, p);
	else if (strcmp(packet, "QStartNoAckMode") == 0) {
		gdb_put(s, "OK");
		s->no_ack = true;
	}
}
