// SPDX-License-Identifier: Apache-2.0
/*
 * The library of payloads written in C. See clib.h.
 */
#include "clib.h"

/* --- Output --- */

static void put(char c)
{
	static unsigned room;

	if (room == 0) {
		while ((inb(SERIAL_LSR) & LSR_THRE) == 0)
			;
		room = 16;
	}
	room--;
	outb(SERIAL, (uint8_t)c);
}

static void put_number(uint64_t n, unsigned base)
{
	char digits[20];
	unsigned i = 0;

	do {
		digits[i++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n > 0);
	while (i > 0)
		put(digits[--i]);
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt != '\0'; fmt++) {
		bool wide;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		wide = *++fmt == 'l';
		fmt += wide;
		switch (*fmt) {
		case 's':
			for (const char *s = va_arg(ap, const char *); *s != '\0'; s++)
				put(*s);
			break;
		case 'c':
			put((char)va_arg(ap, int));
			break;
		case 'u':
		case 'x':
			put_number(wide ? va_arg(ap, uint64_t) : va_arg(ap, unsigned),
				   *fmt == 'u' ? 10 : 16);
			break;
		default:
			put(*fmt);
		}
	}
	va_end(ap);
}

uint8_t getbyte(void)
{
	while ((inb(SERIAL_LSR) & LSR_DATA) == 0)
		__asm__ volatile("pause");
	return inb(SERIAL);
}

void leave(uint8_t status)
{
	outb(DEBUG_EXIT, status);
	outb(SLEEP_CONTROL, SLEEP_S5);
	for (;;)
		__asm__ volatile("pause");
}

/* --- Kernel command line --- */

const char *arg(const char *name)
{
	const char *word = boot_cmdline;

	while (word != NULL && *word != '\0') {
		const char *n = name;

		while (*n != '\0' && *word == *n) {
			word++;
			n++;
		}
		if (*n == '\0' && *word == '=')
			return word + 1;
		while (*word != '\0' && *word != ' ')
			word++;
		while (*word == ' ')
			word++;
	}
	return NULL;
}

uint64_t arg_number(const char *name, uint64_t otherwise)
{
	const char *s = arg(name);
	unsigned base = 10;
	uint64_t n = 0;

	if (s == NULL)
		return otherwise;
	if (s[0] == '0' && s[1] == 'x') {
		base = 16;
		s += 2;
	}
	for (;; s++) {
		unsigned digit;

		if (*s >= '0' && *s <= '9')
			digit = (unsigned)(*s - '0');
		else if (base == 16 && *s >= 'a' && *s <= 'f')
			digit = (unsigned)(*s - 'a' + 10);
		else
			return n;
		n = n * base + digit;
	}
}

/* Does @s begin with @what, and end there or at a separator? */
static bool begins(const char *s, const char *what)
{
	while (*what != '\0' && *s == *what) {
		s++;
		what++;
	}
	return *what == '\0' && (*s == '\0' || *s == ' ' || *s == ',');
}

bool arg_is(const char *name, const char *value)
{
	const char *s = arg(name);

	return s != NULL && begins(s, value);
}

bool arg_has(const char *list, const char *name)
{
	const char *s = arg(list);

	if (s == NULL || begins(s, "all"))
		return true;
	for (;;) {
		if (begins(s, name))
			return true;
		while (*s != ',' && *s != ' ' && *s != '\0')
			s++;
		if (*s != ',')
			return false;
		s++;
	}
}

/* --- Memory --- */

#define POOL	 0x400000ul /* above the payload, below everything put at the end of RAM */
#define POOL_END 0x3000000ul /* payloads with a pool need 64 MiB */

static uintptr_t pool = POOL;

uintptr_t ram_mark(void)
{
	return pool;
}

void ram_release(uintptr_t mark)
{
	pool = mark;
}

void *ram_alloc(size_t len, size_t align)
{
	uintptr_t at = (pool + align - 1) & ~(align - 1);

	if (at > POOL_END || len > POOL_END - at) {
		print("out of memory\n");
		leave(99);
	}
	pool = at + len;
	return memset((void *)at, 0, len);
}

void *memset(void *to, int c, size_t len)
{
	void *p = to;

	__asm__ volatile("rep stosb" : "+D"(p), "+c"(len) : "a"(c) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
	void *p = to;

	__asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(len) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const uint8_t *p = a, *q = b;

	for (size_t i = 0; i < len; i++) {
		if (p[i] != q[i])
			return p[i] < q[i] ? -1 : 1;
	}
	return 0;
}

void wr(uintptr_t a, unsigned width, uint64_t value)
{
	switch (width) {
	case 1:
		wr8(a, (uint8_t)value);
		break;
	case 2:
		wr16(a, (uint16_t)value);
		break;
	case 4:
		wr32(a, (uint32_t)value);
		break;
	default:
		wr64(a, value);
	}
}

uint64_t rd(uintptr_t a, unsigned width)
{
	switch (width) {
	case 1:
		return rd8(a);
	case 2:
		return rd16(a);
	case 4:
		return rd32(a);
	default:
		return rd64(a);
	}
}

/* --- Time --- */

uint64_t us_ticks(uint64_t us)
{
	return arg_number("khz", 2500000) * us / 1000;
}
