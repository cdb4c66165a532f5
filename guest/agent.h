/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor (vmm/) and the agent in the guest (guest/agent/) say to each other. The one
 * header they share.
 *
 * The line is the virtio-console port AGENT_PORT, a byte stream each way. What goes over it is
 * frames: a header, then `len` bytes. Numbers are little-endian. Both sides check everything the
 * other says; who breaks the rules is not listened to any more.
 *
 *	agent                           monitor
 *	HELLO version, clock     ->
 *	                         <-     STEP ... STEP    mounts, user, environment, words
 *	                         <-     RUN
 *	FAILED step, errno       ->                      and that was all; or
 *	STARTED                  ->
 *	DATA, END, CREDIT        <->    DATA, END, CREDIT, SIGNAL, WINSIZE
 *	ALIVE                    ->                      every second, also before
 *	EXITED                   ->                      after the last DATA; disks are synced
 *
 * Flow control is by stream: DATA may be sent while the credit for its stream lasts, which is
 * AGENT_WINDOW bytes at first and grows by CREDIT. So a stream whose reader is slow holds up no
 * other one. The kernel log (AGENT_KLOG) has no credit: the agent reads it when it has time, and
 * the kernel keeps it meanwhile.
 */
#ifndef GUEST_AGENT_H
#define GUEST_AGENT_H

#include <stdint.h>

#define AGENT_PORT    "vmm.agent"
#define AGENT_VERSION 1u

/* What a driver's write() passes on in one piece, the header included. */
#define AGENT_DATA_MAX 32760u
/* Longest of all frames: a word of a command line may have 128 KiB. */
#define AGENT_FRAME_MAX (160u << 10)
#define AGENT_WINDOW	(256u << 10)

enum agent_type {
	AGENT_HELLO = 1, /* struct agent_hello */
	AGENT_STEP,	 /* words, each with its NUL; the first is the verb: steps.c */
	AGENT_RUN,	 /* nothing */
	AGENT_FAILED,	 /* struct agent_failed */
	AGENT_STARTED,	 /* struct agent_clock: when the command was started */
	AGENT_DATA,	 /* 1..AGENT_DATA_MAX bytes of the stream */
	AGENT_END,	 /* nothing: the stream has ended */
	AGENT_CREDIT,	 /* uint32_t: bytes more may be sent of the stream */
	AGENT_SIGNAL,	 /* uint32_t: send this signal to the command */
	AGENT_WINSIZE,	 /* struct agent_winsize */
	AGENT_ALIVE,	 /* nothing */
	AGENT_EXITED,	 /* struct agent_exited */
};

enum agent_stream { AGENT_STDIN, AGENT_STDOUT, AGENT_STDERR, AGENT_KLOG, AGENT_STREAMS };

struct agent_header {
	uint16_t type;	 /* enum agent_type */
	uint16_t stream; /* enum agent_stream where there is one, else 0 */
	uint32_t len;	 /* bytes that follow */
};

struct agent_clock {
	uint64_t ns; /* CLOCK_BOOTTIME of the guest */
};

struct agent_hello {
	uint32_t version;
	uint32_t zero;
	struct agent_clock clock; /* when the agent was started */
};

struct agent_failed {
	uint32_t step;	/* the first is 0 */
	uint32_t error; /* errno, of the guest's kernel */
};

struct agent_winsize {
	uint16_t rows, cols;
};

enum agent_end {
	AGENT_END_STATUS, /* it returned `value` */
	AGENT_END_SIGNAL, /* signal `value` killed it */
	AGENT_END_EXEC,	  /* it could not be executed: errno `value` */
};

struct agent_exited {
	uint32_t how; /* enum agent_end */
	uint32_t value;
	struct agent_clock clock; /* when it ended */
};

/* Where the initramfs has the modules, to be loaded in the order of their names. */
#define AGENT_MODULES "/modules"

#endif
