/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A debugger's way into a guest: a socket on which GDB's remote protocol is spoken. See gdb/gdb.c.
 * All on the loop's thread.
 */
#ifndef VMM_GDB_H
#define VMM_GDB_H

#include "vmm/base/err.h"
#include "vmm/base/loop.h"
#include "vmm/vcpus.h"

/* The option --gdb. */
struct gdb_config {
	char *to;  /* path of a Unix socket, or a TCP port on 127.0.0.1; NULL: no debugger */
	bool wait; /* the guest does not run before it says so */
};

/* What the debugger asks of the VM, besides its vCPUs. */
struct gdb_host {
	/* The guest is to run on. False: it has met its end, and the VM ends now. */
	bool (*goes_on)(struct gdb_host *host);
	void (*quit)(struct gdb_host *host);
	void (*reset)(struct gdb_host *host);
	/* Send the magic SysRq key; false: there is no console to send it to. */
	bool (*sysrq)(struct gdb_host *host, char key);
	struct broker *broker; /* removes the socket in the end; NULL: there is none */
};

struct gdb;

/* Does @cfg make sense? Errors have no context. */
int gdb_check(const struct gdb_config *cfg, struct err *err);

/*
 * Listen where @cfg (borrowed) says. @cpus->debugged must be the work that gdb_work() gives.
 * NULL with @err filled on failure.
 */
struct gdb *gdb_new(const struct gdb_config *cfg, struct vcpus *cpus, struct gdb_host *host,
		    struct loop *loop, struct err *err);
void gdb_free(struct gdb *gdb);

/* The rest is harmless with a NULL @gdb. */

/* The guest is stopped and stays so: nobody but the debugger lets it run. */
bool gdb_holds(const struct gdb *gdb);
/* There is a debugger, or the guest waits for one: no time limits now. */
bool gdb_attached(const struct gdb *gdb);
/*
 * The guest met an end that is worth a look (@signal says which, for GDB). True: a debugger is
 * there, the guest is stopped, and host->goes_on() will follow.
 */
bool gdb_catch(struct gdb *gdb, int signal);
/* The vCPUs are as at power-on and RAM is clear: breakpoints in memory are gone. */
void gdb_guest_reset(struct gdb *gdb);
/* Take breakpoints out of the guest's memory. */
void gdb_lift(struct gdb *gdb);
/* The VM ends with @status: tell the debugger. */
void gdb_ended(struct gdb *gdb, int status);

#endif
