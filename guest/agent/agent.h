/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the agent share. See main.c. */
#ifndef GUEST_AGENT_AGENT_H
#define GUEST_AGENT_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "guest/agent.h"

/* --- port.c: frames on the line to the monitor --- */

/* Find and open the port, waiting for its driver as long as it takes. */
int port_open(void);
/* Send one frame; waits for room. Nobody to hear it: the machine is switched off. */
void port_send(int port, uint16_t type, uint16_t stream, const void *data, uint32_t len);
/* The same for a frame that is in @frame already, behind room for its header. */
void port_send_frame(int port, uint16_t type, uint16_t stream, uint8_t *frame, uint32_t len);

/* A frame as it comes in. */
struct port_input {
	uint8_t bytes[sizeof(struct agent_header) + AGENT_FRAME_MAX];
	size_t have;
};
/* Read what there is. False: the line has ended. */
bool port_read(int port, struct port_input *in);
/*
 * The next complete frame: its header, and its bytes in *@data until the next call. False: not
 * all of it is there yet. Pass the frame's length as *@used to the next call; 0 at first.
 */
bool port_next(struct port_input *in, size_t *used, struct agent_header *header,
	       const uint8_t **data);

/* --- steps.c: what the monitor wants done before the command --- */

#define STEPS_WORDS_MAX	 4096 /* arguments, and as many variables */
#define STEPS_GROUPS_MAX 64

struct job {
	char *arg[STEPS_WORDS_MAX + 1], *env[STEPS_WORDS_MAX + 1];
	unsigned nargs, nenv;
	char *cwd;
	bool has_user;
	uid_t uid;
	gid_t gid, groups[STEPS_GROUPS_MAX];
	unsigned ngroups;
	bool tty;
	uint16_t rows, cols;
};

/* Do one step, given as words that each end in NUL, @len bytes of them. 0 or -errno. */
int step_do(struct job *job, const char *words, size_t len);
/* Load AGENT_MODULES. What does not load is reported by the kernel in its log. */
void steps_load_modules(void);

/* --- command.c: the command --- */

struct command {
	pid_t pid;
	int in, out, err; /* our ends; with a terminal in == out and err is -1 */
};

/* Start it. 0, or -errno of what went wrong; *@exec_failed when that was exec itself. */
int command_start(const struct job *job, struct command *cmd, bool *exec_failed);

/* --- main.c --- */

struct agent_clock clock_now(void);
/* The end of the machine. */
void power_off(void) __attribute__((noreturn));

#endif
