/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library of payloads written in C, on top of lib.S: output, the kernel command line,
 * time, memory, privilege level 3, more CPUs, interrupts. Payloads define `void main(void)`,
 * and PVH_ENTRY once; when `main` returns the machine is powered off.
 *
 * There is no C library below, no SSE, no stack protector; the compiler's own calls of memcpy
 * and memset are served. Code begins at privilege level 0, which hosts without hardware
 * virtualisation emulate, some 300 ns an instruction. After enter_user() it runs at level 3,
 * natively there too, and may use all memory, MMIO and ports as before.
 */
#ifndef GUEST_CLIB_H
#define GUEST_CLIB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "payload.h"

#define PVH_ENTRY                                                                                  \
	__asm__(".pushsection .note.pvh, \"a\", @note\n\t.balign 4\n\t.long 4, 4, 18\n\t"          \
		".asciz \"Xen\"\n\t.long start32\n\t.popsection")

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

void main(void);

/* --- Output, on the serial port --- */

/* %s, %c, %u and %x (unsigned), %lu and %lx (uint64_t). */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Wait for a byte from the serial port. */
uint8_t getbyte(void);

/* --- Kernel command line: words NAME=VALUE --- */

/* What follows "NAME=" up to the end of the line, or NULL when there is no such word. */
const char *arg(const char *name);
/* Decimal, or hexadecimal behind 0x; @otherwise without such a word. */
uint64_t arg_number(const char *name, uint64_t otherwise);
/* Is the word NAME=VALUE there? */
bool arg_is(const char *name, const char *value);
/* Is @name an element of NAME=a,b,c? Also true when that is "all", or not there. */
bool arg_has(const char *list, const char *name);

/* --- Memory --- */

/* @len bytes of RAM, zero, aligned to @align (a power of two). Never given back. */
void *ram_alloc(size_t len, size_t align);
/* Give back all that was allocated since ram_mark() returned @mark. */
uintptr_t ram_mark(void);
void ram_release(uintptr_t mark);

void *memset(void *to, int c, size_t len);
void *memcpy(void *to, const void *from, size_t len);
int memcmp(const void *a, const void *b, size_t len);

/* One access of just this width, by an instruction that any emulator knows. */
#define ACCESS(bits, suffix, reg)                                                                  \
	static inline uint##bits##_t rd##bits(uintptr_t a)                                         \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		__asm__ volatile("mov" suffix " (%1), %0" : "=" reg(v) : "r"(a) : "memory");       \
		return v;                                                                          \
	}                                                                                          \
	static inline void wr##bits(uintptr_t a, uint##bits##_t v)                                 \
	{                                                                                          \
		__asm__ volatile("mov" suffix " %1, (%0)" : : "r"(a), reg(v) : "memory");          \
	}
ACCESS(8, "b", "q")
ACCESS(16, "w", "r")
ACCESS(32, "l", "r")
ACCESS(64, "q", "r")
#undef ACCESS

/* The low @width bytes of @value, @width being 1, 2, 4 or 8. */
void wr(uintptr_t a, unsigned width, uint64_t value);
uint64_t rd(uintptr_t a, unsigned width);

static inline void barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

/* Full fence; MFENCE is unknown to some emulators. */
static inline void fence(void)
{
	__asm__ volatile("lock orl $0, (%%rsp)" : : : "memory", "cc");
}

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "d"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "d"(port));
	return v;
}

/* --- Time --- */

/* Time stamp counter. Only differences taken at one privilege level mean something. */
static inline uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* Ticks in @us, by the word khz= (the counter's frequency; 2500000 without it). */
uint64_t us_ticks(uint64_t us);

/* A sequence of pseudo-random numbers that begins with @state. Never gives state 0. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545f4914f6cdd1d;
}

/* --- user.S --- */

/* Go on at privilege level 3, with all I/O ports allowed. There is no way back. */
void enter_user(void);

/*
 * Start CPU number 1 (by APIC ID) at privilege level 3 in @function, which must not return.
 * Needs a VM of at least 2 CPUs. Call at level 0, once.
 */
void start_other(void (*function)(void));

/*
 * Interrupts, at level 0 only. They come at no other time than in irq_wait(), which sleeps until
 * there is one and returns its vector; irq_done() ends it (EOI). irq_init() returns the APIC ID.
 */
#define IRQ_VECTOR 0x40 /* .. 0x4f */
#define IRQ_VECTORS 16
unsigned irq_init(void);
unsigned irq_wait(void);
void irq_done(void);
/* Route pin @gsi of the I/O APIC to @vector here, edge-triggered. */
void irq_route(unsigned gsi, unsigned vector);

/* From lib.S */
extern const char *boot_cmdline;
void poweroff(void) __attribute__((noreturn));

/* End the VM with @status where there is the debug exit port, else power it off. */
void leave(uint8_t status) __attribute__((noreturn));

#endif
