// SPDX-License-Identifier: Apache-2.0
/*
 * A writer of AML byte code: ACPI 6.5, chapter 20 (encoding) and 6.4 (resources).
 *
 * A term's PkgLength counts its own bytes, of which there are one to four, and is not
 * known before the term's content is. So opening a term only remembers where the length
 * belongs, and closing it moves the content up by as many bytes as the length takes. An
 * inner term is always closed first and only moves what lies behind it, so the places
 * remembered for the outer ones stay right. The content is a few hundred bytes; moving
 * it costs less than walking it twice.
 *
 * Limits: only the terms the tables here need; values are little-endian as in AML, what
 * the host is does not matter.
 */
#include <errno.h>
#include <string.h>
#include "firmware/aml.h"

/* Opcodes and prefixes that do not stand on their own (20.3, table 20.2). */
#define OP_ZERO		0x00
#define OP_ONE		0x01
#define OP_NAME		0x08
#define OP_BYTE_PREFIX	0x0a
#define OP_WORD_PREFIX	0x0b
#define OP_DWORD_PREFIX 0x0c
#define OP_STRING	0x0d
#define OP_QWORD_PREFIX 0x0e
#define OP_SCOPE	0x10
#define OP_BUFFER	0x11
#define OP_PACKAGE	0x12
#define OP_METHOD	0x14
#define OP_DUAL_NAME	0x2e
#define OP_MULTI_NAME	0x2f
#define OP_EXT		0x5b
#define EXT_OP_REGION	0x80
#define EXT_FIELD	0x81
#define EXT_DEVICE	0x82
#define OP_IF		0xa0
#define OP_ELSE		0xa1
#define OP_ONES		0xff

/* Resource descriptor tags (6.4.2, 6.4.3). */
#define RES_IO		  0x47
#define RES_END_TAG	  0x79
#define RES_MEMORY32FIXED 0x86
#define RES_DWORD_SPACE	  0x87
#define RES_WORD_SPACE	  0x88
#define RES_INTERRUPT	  0x89
#define RES_QWORD_SPACE	  0x8a

#define SEG_LEN	 4
#define SEGS_MAX 255

void aml_init(struct aml *aml, void *buf, size_t size)
{
	*aml = (struct aml){ .buf = buf, .size = size };
}

static void fail(struct aml *aml, int error)
{
	if (aml->error == 0)
		aml->error = error;
}

/* Put @len bytes in at @at, which is at most aml->len. */
static void insert(struct aml *aml, size_t at, const void *data, size_t len)
{
	if (aml->error != 0 || len == 0)
		return;
	if (len > aml->size - aml->len) {
		fail(aml, -ENOSPC);
		return;
	}
	memmove(aml->buf + at + len, aml->buf + at, aml->len - at);
	memcpy(aml->buf + at, data, len);
	aml->len += len;
}

void aml_bytes(struct aml *aml, const void *data, size_t len)
{
	insert(aml, aml->len, data, len);
}

static void put_le(struct aml *aml, uint64_t value, unsigned len)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < len; i++)
		bytes[i] = value >> (8 * i);
	aml_bytes(aml, bytes, len);
}

void aml_byte(struct aml *aml, uint8_t value)
{
	put_le(aml, value, 1);
}

void aml_word(struct aml *aml, uint16_t value)
{
	put_le(aml, value, 2);
}

void aml_dword(struct aml *aml, uint32_t value)
{
	put_le(aml, value, 4);
}

void aml_qword(struct aml *aml, uint64_t value)
{
	put_le(aml, value, 8);
}

/* Names */

static bool seg_char(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
}

/* Length of the segment @path begins with, 0 when there is none. */
static size_t seg_len(const char *path)
{
	size_t len = 0;

	while (len < SEG_LEN && seg_char(path[len], len == 0))
		len++;
	return len;
}

static void put_seg(struct aml *aml, const char *seg, size_t len)
{
	uint8_t padded[SEG_LEN] = { '_', '_', '_', '_' };

	memcpy(padded, seg, len);
	aml_bytes(aml, padded, SEG_LEN);
}

/* The number of segments of @path, which has no root or parent prefix; -1: not a path. */
static int count_segs(const char *path)
{
	int n = 0;

	if (*path == '\0')
		return 0;
	for (;; path++) {
		size_t len = seg_len(path);

		if (len == 0 || ++n > SEGS_MAX)
			return -1;
		path += len;
		if (*path == '\0')
			return n;
		if (*path != '.')
			return -1;
	}
}

void aml_path(struct aml *aml, const char *path)
{
	int n;

	if (*path == '\\')
		aml_byte(aml, *path++);
	else
		for (; *path == '^'; path++)
			aml_byte(aml, *path);

	n = count_segs(path);
	if (n < 0) {
		fail(aml, -EINVAL);
		return;
	}
	if (n == 0) {
		aml_byte(aml, 0); /* NullName */
	} else if (n == 2) {
		aml_byte(aml, OP_DUAL_NAME);
	} else if (n > 2) {
		aml_byte(aml, OP_MULTI_NAME);
		aml_byte(aml, n);
	}
	for (; n > 0; n--) {
		size_t len = seg_len(path);

		put_seg(aml, path, len);
		path += len + 1;
	}
}

/* Data objects */

/* Encode @value into @out (9 bytes are enough); returns the length. */
static size_t encode_int(uint8_t *out, uint64_t value)
{
	unsigned len;

	if (value <= 1 || value == UINT64_MAX) {
		out[0] = value == 0 ? OP_ZERO : value == 1 ? OP_ONE : OP_ONES;
		return 1;
	}
	if (value <= UINT8_MAX) {
		out[0] = OP_BYTE_PREFIX;
		len = 1;
	} else if (value <= UINT16_MAX) {
		out[0] = OP_WORD_PREFIX;
		len = 2;
	} else if (value <= UINT32_MAX) {
		out[0] = OP_DWORD_PREFIX;
		len = 4;
	} else {
		out[0] = OP_QWORD_PREFIX;
		len = 8;
	}
	for (unsigned i = 0; i < len; i++)
		out[1 + i] = value >> (8 * i);
	return 1 + len;
}

void aml_int(struct aml *aml, uint64_t value)
{
	uint8_t bytes[9];

	aml_bytes(aml, bytes, encode_int(bytes, value));
}

void aml_string(struct aml *aml, const char *ascii)
{
	for (const char *c = ascii; *c != '\0'; c++)
		if ((uint8_t)*c > 0x7f)
			fail(aml, -EINVAL);
	aml_byte(aml, OP_STRING);
	aml_bytes(aml, ascii, strlen(ascii) + 1);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* 6.1.5: five bits a letter ('A' is 1), four bits a digit, most significant byte first. */
void aml_eisa_id(struct aml *aml, const char *id)
{
	uint32_t value = 0;
	uint8_t bytes[5];

	for (int i = 0; i < 7; i++) {
		int digit = i < 3 ? id[i] - 'A' + 1 : hex_digit(id[i]);

		if (digit < (i < 3 ? 1 : 0) || digit > (i < 3 ? 26 : 15)) {
			fail(aml, -EINVAL);
			return;
		}
		value = value << (i < 3 ? 5 : 4) | digit;
	}
	if (id[7] != '\0') {
		fail(aml, -EINVAL);
		return;
	}
	bytes[0] = OP_DWORD_PREFIX;
	for (int i = 0; i < 4; i++)
		bytes[1 + i] = value >> (24 - 8 * i);
	aml_bytes(aml, bytes, sizeof(bytes));
}

void aml_name(struct aml *aml, const char *path)
{
	aml_byte(aml, OP_NAME);
	aml_path(aml, path);
}

void aml_name_int(struct aml *aml, const char *path, uint64_t value)
{
	aml_name(aml, path);
	aml_int(aml, value);
}

void aml_name_string(struct aml *aml, const char *path, const char *ascii)
{
	aml_name(aml, path);
	aml_string(aml, ascii);
}

void aml_name_eisa_id(struct aml *aml, const char *path, const char *id)
{
	aml_name(aml, path);
	aml_eisa_id(aml, id);
}

/* Terms with a PkgLength */

/*
 * 20.2.4: up to 63 in the low six bits of one byte; more: the two highest bits of the
 * first byte count the bytes that follow, its low four bits begin the value. @value is
 * what the length says without the bytes written here, which it counts as well when
 * @count_self (it does for terms, it does not for the widths of field units).
 */
static size_t encode_pkg_length(uint8_t out[4], size_t value, bool count_self)
{
	static const uint32_t limit[] = { 1 << 6, 1 << 12, 1 << 20, 1 << 28 };

	for (size_t n = 1; n <= 4; n++) {
		size_t total = value + (count_self ? n : 0);

		if (total >= limit[n - 1])
			continue;
		if (n == 1) {
			out[0] = total;
			return n;
		}
		out[0] = (n - 1) << 6 | (total & 0xf);
		for (size_t i = 1; i < n; i++)
			out[i] = total >> (8 * i - 4);
		return n;
	}
	return 0;
}

static void insert_pkg_length(struct aml *aml, size_t at, size_t value, bool count_self)
{
	uint8_t bytes[4];
	size_t len = encode_pkg_length(bytes, value, count_self);

	if (len == 0)
		fail(aml, -ENOSPC);
	insert(aml, at, bytes, len);
}

void aml_end(struct aml *aml, size_t start)
{
	/* After an error @start may lie behind what was written. */
	if (aml->error == 0)
		insert_pkg_length(aml, start, aml->len - start, true);
}

size_t aml_scope(struct aml *aml, const char *path)
{
	size_t start;

	aml_byte(aml, OP_SCOPE);
	start = aml->len;
	aml_path(aml, path);
	return start;
}

size_t aml_device(struct aml *aml, const char *path)
{
	size_t start;

	aml_byte(aml, OP_EXT);
	aml_byte(aml, EXT_DEVICE);
	start = aml->len;
	aml_path(aml, path);
	return start;
}

size_t aml_method(struct aml *aml, const char *path, unsigned nargs, bool serialized)
{
	size_t start;

	if (nargs > 7)
		fail(aml, -EINVAL);
	aml_byte(aml, OP_METHOD);
	start = aml->len;
	aml_path(aml, path);
	aml_byte(aml, nargs | (serialized ? 1 << 3 : 0));
	return start;
}

size_t aml_package(struct aml *aml, uint8_t nelements)
{
	size_t start;

	aml_byte(aml, OP_PACKAGE);
	start = aml->len;
	aml_byte(aml, nelements);
	return start;
}

size_t aml_if(struct aml *aml)
{
	aml_byte(aml, OP_IF);
	return aml->len;
}

size_t aml_else(struct aml *aml)
{
	aml_byte(aml, OP_ELSE);
	return aml->len;
}

/* A buffer's size is a term of its own between PkgLength and bytes. */
static void buffer_end(struct aml *aml, size_t start)
{
	uint8_t bytes[9];

	if (aml->error != 0)
		return;
	insert(aml, start, bytes, encode_int(bytes, aml->len - start));
	aml_end(aml, start);
}

void aml_buffer(struct aml *aml, const void *data, size_t len)
{
	size_t start;

	aml_byte(aml, OP_BUFFER);
	start = aml->len;
	aml_bytes(aml, data, len);
	buffer_end(aml, start);
}

void aml_op_region(struct aml *aml, const char *path, enum aml_space space, uint64_t offset,
		   uint64_t len)
{
	aml_byte(aml, OP_EXT);
	aml_byte(aml, EXT_OP_REGION);
	aml_path(aml, path);
	aml_byte(aml, space);
	aml_int(aml, offset);
	aml_int(aml, len);
}

size_t aml_field(struct aml *aml, const char *region, enum aml_access access)
{
	size_t start;

	aml_byte(aml, OP_EXT);
	aml_byte(aml, EXT_FIELD);
	start = aml->len;
	aml_path(aml, region);
	aml_byte(aml, access);
	return start;
}

void aml_field_unit(struct aml *aml, const char *name, uint32_t bits)
{
	size_t len = seg_len(name);

	if (len == 0 || name[len] != '\0') {
		fail(aml, -EINVAL);
		return;
	}
	put_seg(aml, name, len);
	insert_pkg_length(aml, aml->len, bits, false);
}

void aml_field_skip(struct aml *aml, uint32_t bits)
{
	aml_byte(aml, 0);
	insert_pkg_length(aml, aml->len, bits, false);
}

void aml_op(struct aml *aml, enum aml_op op)
{
	aml_byte(aml, op);
}

/* Resources */

size_t aml_name_resources(struct aml *aml, const char *path)
{
	aml_name(aml, path);
	aml_byte(aml, OP_BUFFER);
	return aml->len;
}

void aml_resources_end(struct aml *aml, size_t start)
{
	uint8_t sum = 0;

	aml_byte(aml, RES_END_TAG);
	if (aml->error != 0)
		return;
	for (size_t i = start; i < aml->len; i++)
		sum += aml->buf[i];
	aml_byte(aml, -sum);
	buffer_end(aml, start);
}

/* 6.4.2.5 */
void aml_io(struct aml *aml, uint16_t base, uint8_t len)
{
	aml_byte(aml, RES_IO);
	aml_byte(aml, 1); /* _DEC: 16-bit addresses */
	aml_word(aml, base);
	aml_word(aml, base);
	aml_byte(aml, 1); /* alignment */
	aml_byte(aml, len);
}

/* 6.4.3.6 */
void aml_interrupt(struct aml *aml, uint32_t gsi)
{
	aml_byte(aml, RES_INTERRUPT);
	aml_word(aml, 6);
	aml_byte(aml, 1 << 0 | 1 << 1); /* consumer, edge; active high, exclusive */
	aml_byte(aml, 1);
	aml_dword(aml, gsi);
}

/* 6.4.3.4 */
void aml_memory32_fixed(struct aml *aml, uint32_t base, uint32_t len)
{
	aml_byte(aml, RES_MEMORY32FIXED);
	aml_word(aml, 9);
	aml_byte(aml, 1); /* read-write */
	aml_dword(aml, base);
	aml_dword(aml, len);
}

/*
 * 6.4.3.5: an address space descriptor whose five numbers have @width bytes each. Both
 * ends are fixed, so the granularity must be 0 and the length says the same as the ends.
 */
static void address_space(struct aml *aml, uint8_t tag, unsigned width, uint8_t type, bool producer,
			  uint8_t type_flags, uint64_t base, uint64_t len)
{
	uint64_t space_max = UINT64_MAX >> (64 - 8 * width);

	if (len == 0 || len > space_max || base > space_max || len - 1 > space_max - base) {
		fail(aml, -EINVAL);
		return;
	}
	aml_byte(aml, tag);
	aml_word(aml, 3 + 5 * width);
	aml_byte(aml, type);
	aml_byte(aml, 1 << 2 | 1 << 3 | (producer ? 0 : 1)); /* minimum, maximum fixed */
	aml_byte(aml, type_flags);
	put_le(aml, 0, width); /* granularity */
	put_le(aml, base, width);
	put_le(aml, base + len - 1, width);
	put_le(aml, 0, width); /* translation */
	put_le(aml, len, width);
}

void aml_bus_range(struct aml *aml, uint16_t first, uint16_t last)
{
	if (last < first)
		fail(aml, -EINVAL);
	else
		address_space(aml, RES_WORD_SPACE, 2, 2, true, 0, first, last - first + 1);
}

void aml_dword_memory(struct aml *aml, bool producer, uint32_t base, uint32_t len)
{
	address_space(aml, RES_DWORD_SPACE, 4, 0, producer, 1, base, len);
}

void aml_qword_memory(struct aml *aml, bool producer, uint64_t base, uint64_t len)
{
	address_space(aml, RES_QWORD_SPACE, 8, 0, producer, 1, base, len);
}
