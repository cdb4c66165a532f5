// SPDX-License-Identifier: Apache-2.0
/*
 * Saved state: see state.h for the format.
 *
 * Theory of operation. Both directions share a stack of open sections (struct level)
 * over one array of bytes. Saving appends; the length of a section is filled in when it
 * is closed. Loading walks the headers of a section's direct children once, when it is
 * opened, and refuses the section unless every header and length lies inside it; after
 * that fields are found by walking them again. Functions ask for fields in the order
 * they were saved, so a search begins behind the last hit and goes round: one step for
 * a file we wrote ourselves.
 *
 * What a hostile file can cost: nesting is at most STATE_DEPTH_MAX and a section has at
 * most STATE_ITEMS_MAX children, so opening looks at each byte at most STATE_DEPTH_MAX
 * times, a search takes at most STATE_ITEMS_MAX steps, and which children were asked for
 * fits a bitmap of fixed size. The checksum finds accidents, not malice: whoever can
 * write the file can also compute it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/state.h"

#define STATE_MAGIC	"VMMSTATE"
#define STATE_MAGIC_LEN 8
#define STATE_FORMAT	1
#define STATE_HEAD_LEN	(STATE_MAGIC_LEN + 4)
#define STATE_CRC_LEN	8
#define STATE_DEPTH_MAX 8
#define STATE_ITEMS_MAX 4096

enum kind {
	KIND_SECTION = 1,
	KIND_U8,
	KIND_U16,
	KIND_U32,
	KIND_U64,
	KIND_BOOL,
	KIND_BYTES,
	KIND_BLOB,
	KIND_END, /* one past the last */
};

static const char *const kind_names[] = {
	[KIND_SECTION] = "a section", [KIND_U8] = "a u8",     [KIND_U16] = "a u16",
	[KIND_U32] = "a u32",	      [KIND_U64] = "a u64",   [KIND_BOOL] = "a bool",
	[KIND_BYTES] = "bytes",	      [KIND_BLOB] = "a blob",
};

/* A section that is open. Level 0 is the file itself, which holds sections only. */
struct level {
	size_t name; /* offset of the name in the data */
	uint8_t name_len;
	size_t start, end;		      /* payload; @end only when loading */
	unsigned items;			      /* children */
	size_t pos;			      /* where the next search begins ... */
	unsigned index;			      /* ... and the number of the child there */
	uint64_t asked[STATE_ITEMS_MAX / 64]; /* loading: children that were asked for */
};

struct state {
	bool loading, finished;
	struct err err;	     /* the first error; sticks */
	uint8_t *buf;	     /* saving: ours */
	const uint8_t *data; /* what is read: @buf, or the caller's bytes */
	size_t len, cap;
	unsigned depth; /* sections open */
	struct level levels[STATE_DEPTH_MAX + 1];
};

/* A field or section in the data. */
struct item {
	uint8_t kind, name_len;
	size_t name;	   /* offset */
	uint32_t version;  /* sections */
	size_t data, next; /* offsets of the payload and of what follows it */
	unsigned index;	   /* its number among its siblings */
};

/* CRC-64/XZ (ECMA-182 polynomial, reflected), four bits at a time. */
static uint64_t crc64(const uint8_t *data, size_t len)
{
	static const uint64_t table[16] = {
		0x0000000000000000, 0x7d9ba13851336649, 0xfb374270a266cc92, 0x86ace348f355aadb,
		0x64b62bcaebc387a1, 0x192d8af2baf0e1e8, 0x9f8169ba49a54b33, 0xe21ac88218962d7a,
		0xc96c5795d7870f42, 0xb4f7f6ad86b4690b, 0x325b15e575e1c3d0, 0x4fc0b4dd24d2a599,
		0xadda7c5f3c4488e3, 0xd041dd676d77eeaa, 0x56ed3e2f9e224471, 0x2b769f17cf112238,
	};
	uint64_t crc = ~0ULL;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

static void put_le(uint8_t *p, unsigned bytes, uint64_t value)
{
	for (unsigned i = 0; i < bytes; i++)
		p[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get_le(const uint8_t *p, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint64_t)p[i] << 8 * i;
	return value;
}

static bool failed(const struct state *s)
{
	return s->err.code != 0;
}

static struct level *top(struct state *s)
{
	return &s->levels[s->depth];
}

/* Keep the first error, with the open sections before it: "pci/rtc: ...". */
static void fail(struct state *s, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void vfail(struct state *s, int code, const char *fmt, va_list ap)
{
	char path[ERR_MSG_MAX / 2], text[ERR_MSG_MAX];
	size_t len = 0;

	if (failed(s))
		return;
	path[0] = '\0';
	for (unsigned i = 1; i <= s->depth && len < sizeof(path); i++)
		len += (size_t)snprintf(path + len, sizeof(path) - len, "%s%.*s", i > 1 ? "/" : "",
					(int)s->levels[i].name_len,
					(const char *)s->data + s->levels[i].name);
	vsnprintf(text, sizeof(text), fmt, ap);
	err_set(&s->err, code, "%s", text);
	if (s->depth > 0)
		err_context(&s->err, "%s", path);
}

static void fail(struct state *s, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail(s, code, fmt, ap);
	va_end(ap);
}

void state_fail(struct state *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfail(s, EINVAL, fmt, ap);
	va_end(ap);
}

/*
 * Read the header at @pos of something that must end at or before @end. False when it
 * is malformed. Names are printable ASCII: they end up in messages.
 */
static bool read_item(const struct state *s, size_t pos, size_t end, struct item *item)
{
	const uint8_t *p = s->data + pos;
	size_t left = end - pos, head;
	uint64_t len;

	if (left < 2)
		return false;
	item->kind = p[0];
	item->name_len = p[1];
	item->name = pos + 2;
	if (item->kind < KIND_SECTION || item->kind >= KIND_END || item->name_len == 0)
		return false;
	head = 2U + item->name_len + (item->kind == KIND_SECTION ? 8 : 4);
	if (left < head)
		return false;
	for (unsigned i = 0; i < item->name_len; i++) {
		if (p[2 + i] <= 0x20 || p[2 + i] >= 0x7f)
			return false;
	}
	item->version = item->kind == KIND_SECTION ? get_le(p + head - 8, 4) : 0;
	len = get_le(p + head - 4, 4);
	if (len > left - head)
		return false;
	item->data = pos + head;
	item->next = item->data + len;
	return true;
}

/* Is the whole of the level's payload well-formed children? Counts them. */
static bool check_items(struct state *s, struct level *level)
{
	struct item item;

	for (size_t pos = level->start; pos < level->end; pos = item.next) {
		if (level->items >= STATE_ITEMS_MAX) {
			fail(s, EINVAL, "more than %d fields", STATE_ITEMS_MAX);
			return false;
		}
		if (!read_item(s, pos, level->end, &item)) {
			fail(s, EINVAL, "malformed at byte %zu", pos);
			return false;
		}
		if (level == &s->levels[0] && item.kind != KIND_SECTION) {
			fail(s, EINVAL, "a field outside of any section at byte %zu", pos);
			return false;
		}
		level->items++;
	}
	return true;
}

/*
 * Find @name in the open section, beginning where the last search ended and going round
 * once. Both directions use it; nothing read here can be malformed any more.
 */
static bool find(struct state *s, const char *name, struct item *item)
{
	struct level *level = top(s);
	size_t end = s->loading ? level->end : s->len;
	size_t len = strlen(name);
	size_t pos = level->pos;
	unsigned index = level->index;

	for (unsigned n = 0; n < level->items; n++) {
		if (pos >= end) {
			pos = level->start;
			index = 0;
		}
		if (!read_item(s, pos, end, item))
			return false;
		item->index = index;
		if (item->name_len == len && memcmp(s->data + item->name, name, len) == 0)
			return true;
		pos = item->next;
		index++;
	}
	return false;
}

/* @item, found in the open section, is being read: searches go on behind it. */
static void mark_asked(struct state *s, const struct item *item)
{
	struct level *level = top(s);

	level->asked[item->index / 64] |= 1ULL << item->index % 64;
	level->pos = item->next;
	level->index = item->index + 1;
}

/* Fail if the open section has something that nobody asked for. */
static void check_asked(struct state *s)
{
	struct level *level = top(s);
	size_t pos = level->start;
	struct item item, other;

	for (unsigned i = 0; i < level->items; i++) {
		char name[UINT8_MAX + 1];

		if (!read_item(s, pos, level->end, &item))
			return;
		pos = item.next;
		if (level->asked[i / 64] >> i % 64 & 1)
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)item.name_len,
			 (const char *)s->data + item.name);
		/* Of two of a name only one was found; round from here this one comes last. */
		level->pos = item.next;
		level->index = i + 1;
		if (find(s, name, &other) && other.index != i)
			fail(s, EINVAL, "'%s' is there twice", name);
		else
			fail(s, EINVAL, "unknown %s '%s'",
			     item.kind == KIND_SECTION ? "section" : "field", name);
		return;
	}
}

struct state *state_new_save(void)
{
	struct state *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->cap = 4096;
	s->buf = malloc(s->cap);
	if (s->buf == NULL) {
		free(s);
		return NULL;
	}
	s->data = s->buf;
	memcpy(s->buf, STATE_MAGIC, STATE_MAGIC_LEN);
	put_le(s->buf + STATE_MAGIC_LEN, 4, STATE_FORMAT);
	s->len = STATE_HEAD_LEN;
	s->levels[0].start = s->levels[0].pos = s->len;
	return s;
}

/* What is wrong with the file as a whole? */
static int check_file(const uint8_t *data, size_t len, struct err *err)
{
	uint64_t format;

	if (len < STATE_HEAD_LEN + STATE_CRC_LEN || memcmp(data, STATE_MAGIC, STATE_MAGIC_LEN) != 0)
		return err_set(err, EINVAL, "not a saved state");
	format = get_le(data + STATE_MAGIC_LEN, 4);
	if (format != STATE_FORMAT)
		return err_set(err, EINVAL, "saved in format %u, this program reads format %u",
			       (unsigned)format, STATE_FORMAT);
	if (get_le(data + len - STATE_CRC_LEN, 8) != crc64(data, len - STATE_CRC_LEN))
		return err_set(err, EBADMSG, "damaged: the checksum does not match");
	return 0;
}

struct state *state_new_load(const void *data, size_t len, struct err *err)
{
	struct state *s;

	if (check_file(data, len, err) < 0)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		err_sys(err, ENOMEM, "saved state");
		return NULL;
	}
	s->loading = true;
	s->data = data;
	s->len = len - STATE_CRC_LEN;
	s->levels[0].start = s->levels[0].pos = STATE_HEAD_LEN;
	s->levels[0].end = s->len;
	if (!check_items(s, &s->levels[0])) {
		*err = s->err;
		state_free(s);
		return NULL;
	}
	return s;
}

void state_free(struct state *s)
{
	if (s == NULL)
		return;
	free(s->buf);
	free(s);
}

bool state_loading(const struct state *s)
{
	return s->loading;
}

/* Room for @len more bytes at the end of the buffer, or NULL and an error. */
static uint8_t *grow(struct state *s, size_t len)
{
	uint8_t *p;

	if (len > s->cap - s->len) {
		size_t cap = s->cap;

		while (cap - s->len < len) {
			if (__builtin_mul_overflow(cap, 2, &cap)) {
				fail(s, ENOMEM, "out of memory");
				return NULL;
			}
		}
		p = realloc(s->buf, cap);
		if (p == NULL) {
			fail(s, ENOMEM, "out of memory");
			return NULL;
		}
		s->buf = p;
		s->data = p;
		s->cap = cap;
	}
	p = s->buf + s->len;
	s->len += len;
	return p;
}

/*
 * Can what is saved under @name be loaded again? Mistakes of ours, found when the state is
 * saved and not when it is needed.
 */
static bool check_new_name(struct state *s, const char *name)
{
	size_t len = strlen(name);
	struct item item;

	if (len == 0 || len > UINT8_MAX) {
		fail(s, EINVAL, "a name of %zu characters", len);
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (name[i] <= 0x20 || name[i] >= 0x7f) {
			fail(s, EINVAL, "'%s' is not a name", name);
			return false;
		}
	}
	if (top(s)->items >= STATE_ITEMS_MAX) {
		fail(s, EINVAL, "more than %d fields", STATE_ITEMS_MAX);
		return false;
	}
	if (find(s, name, &item)) {
		fail(s, EINVAL, "'%s' saved twice", name);
		return false;
	}
	return true;
}

/* Append a header; the payload's length is put in later for a section. */
static bool save_head(struct state *s, enum kind kind, const char *name, uint32_t version,
		      size_t len)
{
	size_t name_len = strlen(name);
	uint8_t *p;

	if (!check_new_name(s, name))
		return false;
	if (len > UINT32_MAX) {
		fail(s, EINVAL, "'%s' is longer than 4 GiB", name);
		return false;
	}
	p = grow(s, 2 + name_len + (kind == KIND_SECTION ? 8 : 4));
	if (p == NULL)
		return false;
	*p++ = (uint8_t)kind;
	*p++ = (uint8_t)name_len;
	memcpy(p, name, name_len);
	p += name_len;
	if (kind == KIND_SECTION) {
		put_le(p, 4, version);
		p += 4;
	}
	put_le(p, 4, len);
	return true;
}

/* May the open section get or have one more thing in it? */
static bool usable(struct state *s)
{
	if (!failed(s) && s->finished)
		fail(s, EINVAL, "already finished");
	return !failed(s);
}

static uint32_t load_begin(struct state *s, const char *name, uint32_t version)
{
	struct level *level;
	struct item item;

	if (!find(s, name, &item)) {
		fail(s, EINVAL, "section '%s' is missing", name);
		return 0;
	}
	mark_asked(s, &item);
	if (item.kind != KIND_SECTION) {
		fail(s, EINVAL, "'%s' is %s, not a section", name, kind_names[item.kind]);
		return 0;
	}
	if (item.version == 0 || item.version > version) {
		fail(s, EINVAL, "section '%s' has version %u, this program knows up to %u", name,
		     item.version, version);
		return 0;
	}
	level = &s->levels[++s->depth];
	memset(level, 0, sizeof(*level));
	level->name = item.name;
	level->name_len = item.name_len;
	level->start = level->pos = item.data;
	level->end = item.next;
	return check_items(s, level) ? item.version : 0;
}

static uint32_t save_begin(struct state *s, const char *name, uint32_t version)
{
	size_t name_len = strlen(name);
	size_t at = s->len;
	struct level *level;

	if (version == 0) {
		fail(s, EINVAL, "section '%s': versions begin with 1", name);
		return 0;
	}
	if (!save_head(s, KIND_SECTION, name, version, 0))
		return 0;
	level = &s->levels[++s->depth];
	memset(level, 0, sizeof(*level));
	level->name = at + 2;
	level->name_len = (uint8_t)name_len;
	level->start = level->pos = s->len;
	return version;
}

uint32_t state_begin(struct state *s, const char *name, uint32_t version)
{
	if (!usable(s))
		return 0;
	if (s->depth == STATE_DEPTH_MAX) {
		fail(s, EINVAL, "sections nested more than %d deep", STATE_DEPTH_MAX);
		return 0;
	}
	return s->loading ? load_begin(s, name, version) : save_begin(s, name, version);
}

int state_end(struct state *s)
{
	struct level *level = top(s);

	if (!usable(s))
		return -s->err.code;
	if (s->depth == 0) {
		fail(s, EINVAL, "a section is closed that was never opened");
	} else if (s->loading) {
		check_asked(s);
	} else if (s->len - level->start > UINT32_MAX) {
		fail(s, EINVAL, "longer than 4 GiB");
	} else {
		put_le(s->buf + level->start - 4, 4, s->len - level->start);
		level[-1].items++;
	}
	if (failed(s))
		return -s->err.code;
	s->depth--;
	return 0;
}

/* One field may be saved or loaded now? */
static bool field_usable(struct state *s, const char *name)
{
	if (!usable(s))
		return false;
	if (s->depth == 0) {
		fail(s, EINVAL, "field '%s' is outside of any section", name);
		return false;
	}
	return true;
}

static void save_field(struct state *s, enum kind kind, const char *name, const void *data,
		       size_t len)
{
	uint8_t *p;

	if (!save_head(s, kind, name, 0, len))
		return;
	if (len > 0) {
		p = grow(s, len);
		if (p == NULL)
			return;
		memcpy(p, data, len);
	}
	top(s)->items++;
}

/*
 * The payload of field @name, which must be of @kind and, unless it is a blob, of @len
 * bytes; for a blob at most @len. NULL when it is missing or on error.
 */
static const uint8_t *load_field(struct state *s, enum kind kind, const char *name, size_t len,
				 size_t *found)
{
	struct item item;

	if (!find(s, name, &item))
		return NULL;
	mark_asked(s, &item);
	*found = item.next - item.data;
	if (item.kind != kind) {
		fail(s, EINVAL, "'%s' is %s, expected %s", name, kind_names[item.kind],
		     kind_names[kind]);
		return NULL;
	}
	if (kind == KIND_BLOB && *found > len) {
		fail(s, EINVAL, "'%s' has %zu bytes, at most %zu fit", name, *found, len);
		return NULL;
	}
	if (kind != KIND_BLOB && *found != len) {
		fail(s, EINVAL, "'%s' has %zu bytes, expected %zu", name, *found, len);
		return NULL;
	}
	return s->data + item.data;
}

/* An integer of @bytes bytes. Returns what the variable shall be from now on. */
static uint64_t state_int(struct state *s, enum kind kind, const char *name, unsigned bytes,
			  uint64_t value)
{
	const uint8_t *p;
	uint8_t le[8];
	size_t found;

	if (!field_usable(s, name))
		return value;
	if (!s->loading) {
		put_le(le, bytes, value);
		save_field(s, kind, name, le, bytes);
		return value;
	}
	p = load_field(s, kind, name, bytes, &found);
	return p != NULL ? get_le(p, bytes) : value;
}

void state_u8(struct state *s, const char *name, uint8_t *v)
{
	*v = (uint8_t)state_int(s, KIND_U8, name, 1, *v);
}

void state_u16(struct state *s, const char *name, uint16_t *v)
{
	*v = (uint16_t)state_int(s, KIND_U16, name, 2, *v);
}

void state_u32(struct state *s, const char *name, uint32_t *v)
{
	*v = (uint32_t)state_int(s, KIND_U32, name, 4, *v);
}

void state_u64(struct state *s, const char *name, uint64_t *v)
{
	*v = state_int(s, KIND_U64, name, 8, *v);
}

void state_bool(struct state *s, const char *name, bool *v)
{
	uint64_t value = state_int(s, KIND_BOOL, name, 1, *v);

	/* A bool of any other value is undefined behaviour, which a file must not reach. */
	if (value > 1)
		fail(s, EINVAL, "'%s' is a bool of value %u", name, (unsigned)value);
	else
		*v = value;
}

void state_bytes(struct state *s, const char *name, void *buf, size_t len)
{
	const uint8_t *p;
	size_t found;

	if (!field_usable(s, name))
		return;
	if (!s->loading) {
		save_field(s, KIND_BYTES, name, buf, len);
		return;
	}
	p = load_field(s, KIND_BYTES, name, len, &found);
	if (p != NULL && len > 0)
		memcpy(buf, p, len);
}

void state_blob(struct state *s, const char *name, void *buf, size_t *len, size_t cap)
{
	const uint8_t *p;
	size_t found;

	if (!field_usable(s, name))
		return;
	if (!s->loading) {
		if (*len > cap)
			fail(s, EINVAL, "'%s' has %zu bytes, at most %zu fit", name, *len, cap);
		else
			save_field(s, KIND_BLOB, name, buf, *len);
		return;
	}
	p = load_field(s, KIND_BLOB, name, cap, &found);
	if (p == NULL)
		return;
	if (found > 0)
		memcpy(buf, p, found);
	*len = found;
}

bool state_has(struct state *s, const char *name)
{
	struct item item;

	return s->loading && !failed(s) && find(s, name, &item);
}

bool state_ok(const struct state *s)
{
	return !failed(s);
}

void state_copy(struct state *to, struct state *from)
{
	struct level *level = &from->levels[0];
	size_t pos = level->start;
	struct item item;

	if (!usable(to) || !usable(from))
		return;
	for (unsigned i = 0; i < level->items && read_item(from, pos, level->end, &item); i++) {
		if ((level->asked[i / 64] >> i % 64 & 1) == 0) {
			uint8_t *p = grow(to, item.next - pos);

			if (p == NULL)
				return;
			memcpy(p, from->data + pos, item.next - pos);
			to->levels[0].items++;
		}
		pos = item.next;
	}
}

void state_splice(struct state *to, struct state *from)
{
	struct level *level = top(from);
	uint8_t *p;

	if (!usable(to) || !usable(from))
		return;
	if (!from->loading || to->loading || from->depth == 0 || to->depth == 0) {
		fail(to, EINVAL, "there is nothing to splice");
		return;
	}
	p = grow(to, level->end - level->start);
	if (p == NULL)
		return;
	memcpy(p, from->data + level->start, level->end - level->start);
	top(to)->items += level->items;
	memset(level->asked, 0xff, sizeof(level->asked));
}

size_t state_blob_size(struct state *s, const char *name)
{
	struct item item;

	if (!s->loading || failed(s) || !find(s, name, &item) || item.kind != KIND_BLOB)
		return 0;
	return item.next - item.data;
}

int state_finish(struct state *s, const void **data, size_t *len, struct err *err)
{
	if (!failed(s) && s->depth > 0)
		fail(s, EINVAL, "a section is not closed");
	if (!failed(s) && s->loading)
		check_asked(s);
	if (!failed(s) && !s->loading && !s->finished) {
		uint64_t crc = crc64(s->data, s->len);
		uint8_t *p = grow(s, STATE_CRC_LEN);

		if (p != NULL)
			put_le(p, STATE_CRC_LEN, crc);
	}
	s->finished = true;
	if (failed(s)) {
		*err = s->err;
		return -s->err.code;
	}
	if (!s->loading) {
		*data = s->data;
		*len = s->len;
	}
	return 0;
}
