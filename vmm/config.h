/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the user asked for: one structure, filled by the option table from the command
 * line or a JSON file, read by vm_build().
 */
#ifndef VMM_CONFIG_H
#define VMM_CONFIG_H

#include "arch/arch.h"
#include "devices/chardev.h"
#include "vmm/base/opt.h"
#include "vmm/cgroup/cgroup.h"
#include "vmm/gdb/gdb.h"

/* Kinds of virtio devices there can be. */
#define VM_KINDS_MAX 32

/* What a guest that hangs is sent before it is ended. */
struct hang_config {
	char *sysrq; /* keys, one after the other; NULL: none */
	bool nmi;
};

/* What goes into a snapshot, and where. Paths are borrowed. */
struct snapshot_config {
	char *state;  /* path of the state file */
	char *memory; /* path of the memory file; NULL: the state file's and ".mem" */
	/*
	 * Only the pages that changed since the last snapshot of this VM, or since it was restored;
	 * everything when there was none. Needs --mem track (machine.mem.track), except for
	 * the changes since it was restored.
	 */
	bool diff;
	bool stop; /* of the option --snapshot: the VM ends then; vm_snapshot() does not look */
};

/* What clocks say in a restored guest; see arch_clock_state() in arch.h. */
enum restore_clock {
	RESTORE_CLOCK_REAL,  /* the time in between has passed: the wall clock is right */
	RESTORE_CLOCK_SAVED, /* it goes on where it was saved */
};

/* The option --restore. */
struct restore_config {
	char *state;   /* path of the state file; NULL: no restore */
	char *memory;  /* path of the memory file; NULL: what the state file says */
	bool paused;   /* restored, it waits for vm_resume() */
	bool track;    /* --mem track from here on */
	bool prefetch; /* read all of the memory file in the background */
	bool copy;     /* read all of memory first, into memory that can be shared (vhost-user) */
	bool mac;      /* new MAC addresses: for a clone */
	int clock;     /* enum restore_clock */
};

/* The option --api: where the control API listens. */
struct api_config {
	char *path;  /* of a Unix socket; NULL: none, or */
	uint64_t fd; /* a listening socket that was inherited; 0: none */
};

struct vm_config {
	struct opt_seen seen; /* on the command line */
	struct opt *options;  /* the table this was filled by */
	char *name;	      /* of the VM; NULL: none was given */
	struct machine_config machine;
	struct opt_list devices[VM_KINDS_MAX]; /* uses of the option of virtio_kind(i) */
	struct chardev_config serial;
	struct gdb_config gdb;
	char *dump; /* where a core goes; NULL: none is written */
	struct hang_config on_hang;
	struct vm_cgroup_config cgroup;
	bool core_sched;
	struct restore_config restore;
	struct snapshot_config save; /* on SIGUSR2; .state NULL: not */
	uint64_t timeout_ns;	     /* 0: none, as in the others */
	uint64_t hang_timeout_ns;
	uint64_t stop_timeout_ns;
	bool reboot;
	bool verbose;
	struct api_config api;
	uint64_t api_body_max;		       /* bytes */
	char *log_path, *level, *metrics_path; /* NULL: not given */
	bool show_level;
	bool no_seccomp;
	int sandbox;		      /* enum sandbox_mode */
	struct opt_list sandbox_dirs; /* of char * */
	/* Not part of the JSON. */
	struct opt_seen in_file;   /* in that of --config */
	struct snapshot *snapshot; /* open, when there is --restore; the configuration is its own */
	char *config_path;
	char *config_file; /* Firecracker's format */
	bool no_api;
	uint64_t start_us, start_cpu_us,
		parent_cpu_us; /* a jailer's clocks, for metrics; 0: none */
	bool dry_run, help;
};

/*
 * The option table of `vmm [boot]`: the machine's options, those of all kinds of virtio
 * devices, and the monitor's; before them @more, a command's own (ends with name == NULL; or
 * NULL). free() it. NULL with @err filled when out of memory.
 */
struct opt *vm_options_new(const struct opt *more, struct err *err);

/*
 * Fill @cfg from --config (if given) and then the command line, and check what can be
 * checked without touching KVM. Free with vm_config_free(), also after failure.
 */
int vm_config_parse(struct vm_config *cfg, int argc, char *const *argv, struct err *err);
/*
 * The two halves of that, for a command whose configuration begins with a vm_config and has
 * @size bytes in all, and options @more. Parsing stops after "--" and says in *@used where;
 * between the halves the command may change @cfg by opt_apply() and otherwise.
 */
int vm_config_read(struct vm_config *cfg, size_t size, const struct opt *more, int argc,
		   char *const *argv, int *used, struct err *err);
int vm_config_check(struct vm_config *cfg, struct err *err);
/* Was @option given on the command line or in the file of --config? */
bool vm_config_given(const struct vm_config *cfg, const char *option);
/* Is the control API asked for, so that a kernel may be named there? */
bool vm_config_waits(const struct vm_config *cfg);
/* Is there anything for api_run() to do? */
bool vm_config_controlled(const struct vm_config *cfg);
void vm_config_free(struct vm_config *cfg);

/*
 * --restore: open the snapshot that cfg->restore names as cfg->snapshot, and return its
 * configuration as JSON, without the options that are the monitor's and not the machine's: what
 * opt_from_json() takes. A new reference; NULL with @err filled. @cfg needs its options only.
 *
 * Options laid over that may change what the host does for the guest (paths, taps, sockets), not
 * what the guest sees: vm_config_check() says so.
 */
json_t *vm_config_restore(struct vm_config *cfg, struct err *err);
/* An option that says what the guest sees, and so cannot be given with --restore. */
bool vm_option_is_fixed(const char *name);
/* One that belongs to the monitor's run, and is not taken from a snapshot. */
bool vm_option_is_monitors(const char *name);
/* Do the machine of @cfg and the one in cfg->snapshot have the same devices? */
int vm_config_fits(const struct vm_config *cfg, struct err *err);

/* The effective configuration as a JSON text with a newline, malloc'ed; usable with --config. */
char *vm_config_json(const struct vm_config *cfg);

#endif
