/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GDB's remote serial protocol, one conversation: bytes in, bytes out, and what is debugged
 * behind a few functions. See gdb/session.c; the sockets are in gdb/gdb.c, the guest in gdb/vm.c.
 */
#ifndef VMM_GDB_SESSION_H
#define VMM_GDB_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GDB_PACKET_MAX 16384 /* bytes between '$' and '#', either way */
#define GDB_REGS_MAX   1024  /* bytes of all registers of a CPU */
#define GDB_CPUS_MAX   256
#define GDB_TEXT_MAX   4096 /* what a monitor command says */

/* The types of Z packets. */
enum gdb_point { GDB_SOFT, GDB_EXEC, GDB_WRITE, GDB_READ, GDB_ACCESS, GDB_POINTS };

/* What a CPU is to do when the others go on. */
enum gdb_action { GDB_STAY, GDB_CONTINUE, GDB_STEP };

enum gdb_stop_why {
	GDB_STOP_SIGNAL, /* nothing but a signal to tell of */
	GDB_STOP_SOFT,	 /* a software breakpoint; the program counter is at it */
	GDB_STOP_EXEC,	 /* a hardware breakpoint */
	GDB_STOP_WRITE,	 /* a watchpoint; @addr is the one it was set at */
	GDB_STOP_READ,
	GDB_STOP_ACCESS,
};

/* Why everything stopped. */
struct gdb_stop {
	unsigned cpu;
	int signal; /* by GDB's numbers, which are Linux's for those used here */
	enum gdb_stop_why why;
	uint64_t addr;
};

/*
 * What is debugged. CPUs count from 0. Everything is called with the target stopped, except
 * stop() and kill(). Functions return 0 or -errno.
 */
struct gdb_target {
	unsigned ncpus;	  /* at most GDB_CPUS_MAX */
	const char *xml;  /* the description, "target.xml" */
	size_t regs_size; /* bytes of the "g" packet, at most GDB_REGS_MAX */
	/* Size in bytes of register @n, and where it is among them; 0: no such register. */
	size_t (*reg)(unsigned n, size_t *offset);
	int (*read_regs)(struct gdb_target *t, unsigned cpu, uint8_t *regs);
	int (*write_regs)(struct gdb_target *t, unsigned cpu, const uint8_t *regs);
	/* What it is doing: "running", "halted". */
	const char *(*state)(struct gdb_target *t, unsigned cpu);
	/* Bytes done from the start, 0 to @len; @physical: not through page tables. */
	size_t (*read)(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
		       uint8_t *to, size_t len);
	size_t (*write)(struct gdb_target *t, unsigned cpu, bool physical, uint64_t addr,
			const uint8_t *from, size_t len);
	/* Inserting what is there, and removing what is not, are no errors. */
	int (*insert)(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
		      uint64_t len);
	int (*remove)(struct gdb_target *t, unsigned cpu, enum gdb_point kind, uint64_t addr,
		      uint64_t len);
	/* Go on, @actions[ncpus]; gdb_session_stopped() follows, not from within. */
	void (*resume)(struct gdb_target *t, const uint8_t *actions);
	/* Stop; gdb_session_stopped() follows, possibly from within. */
	void (*stop)(struct gdb_target *t);
	/* The debugger has gone: forget all points, go on. */
	void (*detach)(struct gdb_target *t);
	void (*kill)(struct gdb_target *t);
	/* `monitor WORDS`: fill @text, which has GDB_TEXT_MAX bytes, with what to say. */
	void (*command)(struct gdb_target *t, const char *words, char *text);
};

struct gdb_session {
	struct gdb_target *t;
	/* Send @len bytes, all of them. */
	void (*send)(struct gdb_session *s, const void *data, size_t len);
	/* private */
	enum { GDB_IDLE, GDB_DATA, GDB_SUM1, GDB_SUM2 } state;
	bool escaped, too_long, no_ack;
	bool running;	       /* gdb waits for it to stop */
	bool detached;	       /* by D or k: there is no more to do */
	bool physical;	       /* Qqemu.PhyMemMode */
	bool swbreak, hwbreak; /* gdb understands these stop reasons */
	uint8_t sum, said;     /* of the packet being read: computed, and as it says */
	unsigned cpu;	       /* that g, m and their like are about (Hg) */
	unsigned step_cpu;     /* that s and c are about (Hc); ncpus: all */
	unsigned listed;       /* threads that qfThreadInfo and qsThreadInfo have named */
	struct gdb_stop last;
	size_t in_len;
	char in[GDB_PACKET_MAX + 1];
	size_t out_len;
	char out[GDB_PACKET_MAX + 8]; /* '$' ... "#xx"; kept to be sent again */
};

/* Begin: it is a new conversation about @t, which is stopped because of @stop. */
void gdb_session_init(struct gdb_session *s, struct gdb_target *t, const struct gdb_stop *stop,
		      void (*send)(struct gdb_session *s, const void *data, size_t len));
/* Bytes came. False: the conversation is over (detached or killed). */
bool gdb_session_input(struct gdb_session *s, const void *data, size_t len);
/* The target stopped. */
void gdb_session_stopped(struct gdb_session *s, const struct gdb_stop *stop);
/* The target is no more, and ended with @status. */
void gdb_session_ended(struct gdb_session *s, int status);

/* For gdb/session.c and gdb/query.c: the reply, put together piece by piece. */
void gdb_put(struct gdb_session *s, const char *text);
void gdb_putf(struct gdb_session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gdb_put_hex(struct gdb_session *s, const void *data, size_t len);
void gdb_put_error(struct gdb_session *s, int error);
/* As in qXfer and X: binary data, escaped. How many bytes there was room for. */
size_t gdb_put_binary(struct gdb_session *s, const void *data, size_t len);

/* A number in hex at *@p, which is moved behind it; false: there is none, or it is too long. */
bool gdb_get_number(const char **p, uint64_t *value);
/* @len bytes from 2 * @len hex digits. */
bool gdb_get_hex(const char *p, void *data, size_t len);

/* Packets that begin with q or Q. An unknown one gets the empty reply. */
void gdb_query(struct gdb_session *s, const char *packet);

#endif
