// SPDX-License-Identifier: Apache-2.0
/*
 * The option table of `vmm [boot]`, and the rules that tie options together. Each kind of
 * virtio device brings its own option; the table is put together when it is first needed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "devices/virtio_console.h"
#include "vmm/config.h"
#include "vmm/devices.h"
#include "vmm/dump.h"
#include "vmm/snapshot/snapshot.h"

#define MIB (1ULL << 20)
#define TIB (1ULL << 40)

/* Tables, aligned by hand. */
/* clang-format off */

static const char *const entry_names[] = { "auto", "linux64", "pvh", NULL };
static const char *const hugepage_names[] = { "off", "thp", "2M", "1G", NULL };
static const char *const restore_clock_names[] = { "real", "saved", NULL };
static const char *const transport_names[] = { "auto", "pci", "mmio", NULL };
static const char *const serial_names[] = { "stdio", "file", "pty", "socket", "null", "off", NULL };

#define MACHINE(field) offsetof(struct machine_config, field)

/* A plain option's one key carries the name that errors show. */
#define PATH_KEY(text) { { .name = "path", .type = OPT_STR, .arg = "PATH", .help = text }, { 0 } }

static const struct opt_key kernel_keys[] = PATH_KEY("bzImage, or uncompressed ELF vmlinux");
static const struct opt_key initrd_keys[] = PATH_KEY("initial RAM disk");
static const struct opt_key config_keys[] = PATH_KEY("JSON, as printed by --dry-run");
static const struct opt_key cmdline_keys[] = {
	{ .name = "text", .type = OPT_STR, .arg = "TEXT", .help = "kernel parameters" }, { 0 }
};
static const struct opt_key name_keys[] = {
	{ .name = "name", .type = OPT_STR, .arg = "NAME", .help = "name of the VM" }, { 0 }
};
static const struct opt_key transport_keys[] = {
	{ .name = "transport", .type = OPT_ENUM, .values = transport_names, .def = "auto",
	  .arg = "KIND", .help = "how virtio devices are attached" },
	{ 0 }
};
static const struct opt_key entry_keys[] = {
	{ .name = "protocol", .type = OPT_ENUM, .values = entry_names, .def = "auto",
	  .arg = "PROTOCOL", .help = "how the kernel is entered" },
	{ 0 }
};
static const struct opt_key mem_keys[] = {
	{ .name = "size", .type = OPT_SIZE, .offset = offsetof(struct gmem_config, size),
	  .arg = "SIZE", .def = "512M", .min = 2 * MIB, .max = 8 * TIB, .unit = MIB,
	  .help = "RAM of the guest; a bare number counts MiB" },
	{ .name = "hugepages", .type = OPT_ENUM, .offset = offsetof(struct gmem_config, huge),
	  .values = hugepage_names, .def = "off", .arg = "KIND",
	  .help = "back it with huge pages: transparent, or from the host's pool" },
	{ .name = "prefault", .type = OPT_BOOL, .offset = offsetof(struct gmem_config, prefault),
	  .def = "off", .help = "allocate all of it before the guest starts" },
	{ .name = "merge", .type = OPT_BOOL, .offset = offsetof(struct gmem_config, merge),
	  .def = "off", .help = "let the host merge equal pages (KSM)" },
	{ .name = "track", .type = OPT_BOOL, .offset = offsetof(struct gmem_config, track),
	  .def = "off", .help = "log what is written, for snapshots with diff" },
	{ 0 }
};
static const struct opt_key cpus_keys[] = {
	{ .name = "count", .type = OPT_MILLI, .offset = offsetof(struct cpu_config, share),
	  .arg = "N", .def = "1", .min = 10, .max = MACHINE_CPUS_MAX * 1000,
	  .help = "number of vCPUs; 1.5: two that have the time of one and a half, by a control group" },
	{ .name = "sockets", .type = OPT_UINT, .offset = offsetof(struct cpu_config, sockets),
	  .arg = "N", .max = MACHINE_CPUS_MAX, .help = "sockets; 0 is one" },
	{ .name = "cores", .type = OPT_UINT, .offset = offsetof(struct cpu_config, cores),
	  .arg = "N", .max = MACHINE_CPUS_MAX, .help = "cores per socket; 0 is what is left" },
	{ .name = "threads", .type = OPT_UINT, .offset = offsetof(struct cpu_config, threads),
	  .arg = "N", .max = MACHINE_CPUS_MAX, .help = "threads per core; 0 is one" },
	{ 0 }
};
static const struct opt_key cpu_keys[] = {
	{ .name = "model", .type = OPT_ENUM, .offset = offsetof(struct cpu_model_config, model),
	  .values = arch_cpu_model_names, .def = "host", .arg = "MODEL",
	  .help = "host: all that it has; or a level that hosts have in common" },
	{ .name = "without", .type = OPT_STR, .offset = offsetof(struct cpu_model_config, without),
	  .arg = "NAME+NAME", .help = "features less, such as avx512f or rdrand+rdseed" },
	{ 0 }
};
static const struct opt_key gdb_keys[] = {
	{ .name = "to", .type = OPT_STR, .offset = offsetof(struct gdb_config, to),
	  .arg = "PATH|PORT", .required = true,
	  .help = "a Unix socket to listen on, or a TCP port on 127.0.0.1" },
	{ .name = "wait", .type = OPT_BOOL, .offset = offsetof(struct gdb_config, wait), .def = "on",
	  .help = "do not run the guest before the debugger says so" },
	{ 0 }
};
static const struct opt_key dump_keys[] = {
	{ .name = "path", .type = OPT_STR, .arg = "FILE", .help = "where the core goes" }, { 0 }
};
static const struct opt_key on_hang_keys[] = {
	{ .name = "sysrq", .type = OPT_STR, .offset = offsetof(struct hang_config, sysrq),
	  .arg = "KEYS", .help = "magic SysRq keys: l has all CPUs tell where they are" },
	{ .name = "nmi", .type = OPT_BOOL, .offset = offsetof(struct hang_config, nmi), .def = "off",
	  .help = "a non-maskable interrupt for every CPU" },
	{ 0 }
};
static const struct opt_key api_keys[] = {
	{ .name = "path", .type = OPT_STR, .offset = offsetof(struct api_config, path),
	  .arg = "PATH",
	  .help = "a Unix socket to listen on; auto: by the VM's name in $XDG_RUNTIME_DIR/vmm (root: "
		  "/run/vmm), where vmm list finds it" },
	{ .name = "fd", .type = OPT_UINT, .offset = offsetof(struct api_config, fd), .arg = "N",
	  .min = 3, .max = INT32_MAX, .help = "a listening Unix socket that is open already" },
	{ 0 }
};
static const struct opt_key api_body_keys[] = {
	{ .name = "size", .type = OPT_SIZE, .arg = "SIZE", .def = "51200", .min = 1,
	  .max = 16 * MIB, .help = "largest body of a request" },
	{ 0 }
};
static const struct opt_key config_file_keys[] = PATH_KEY("JSON, in Firecracker's format");
static const struct opt_key log_path_keys[] = PATH_KEY("file or named pipe for messages");
static const struct opt_key metrics_path_keys[] = PATH_KEY("file or named pipe for metrics");
static const struct opt_key level_keys[] = {
	{ .name = "level", .type = OPT_STR, .arg = "LEVEL", .help = "what is logged" }, { 0 }
};
static const struct opt_key restore_keys[] = {
	{ .name = "state", .type = OPT_STR, .offset = offsetof(struct restore_config, state),
	  .arg = "FILE", .required = true, .help = "the snapshot's state file" },
	{ .name = "memory", .type = OPT_STR, .offset = offsetof(struct restore_config, memory),
	  .arg = "FILE", .help = "its memory file; what the state file says if not given" },
	{ .name = "clock", .type = OPT_ENUM, .offset = offsetof(struct restore_config, clock),
	  .values = restore_clock_names, .def = "real", .arg = "KIND",
	  .help = "the guest's clocks: real, as time has passed, or saved, as they were" },
	{ .name = "mac", .type = OPT_BOOL, .offset = offsetof(struct restore_config, mac),
	  .def = "off", .help = "new MAC addresses, which its drivers see when they are loaded again" },
	{ .name = "paused", .type = OPT_BOOL, .offset = offsetof(struct restore_config, paused),
	  .def = "off", .help = "do not run it yet" },
	{ .name = "track", .type = OPT_BOOL, .offset = offsetof(struct restore_config, track),
	  .def = "off", .help = "as --mem track" },
	{ .name = "prefetch", .type = OPT_BOOL, .offset = offsetof(struct restore_config, prefetch),
	  .def = "off", .help = "read memory in the background, before it is asked for" },
	{ .name = "copy", .type = OPT_BOOL, .offset = offsetof(struct restore_config, copy),
	  .def = "off", .help = "read memory instead of mapping it: for --vhost-user" },
	{ 0 }
};
static const struct opt_key snapshot_keys[] = {
	{ .name = "state", .type = OPT_STR, .offset = offsetof(struct snapshot_config, state),
	  .arg = "FILE", .required = true, .help = "where the state goes" },
	{ .name = "memory", .type = OPT_STR, .offset = offsetof(struct snapshot_config, memory),
	  .arg = "FILE", .help = "where memory goes; FILE.mem if not given" },
	{ .name = "diff", .type = OPT_BOOL, .offset = offsetof(struct snapshot_config, diff),
	  .def = "off", .help = "only what changed in memory since the last snapshot" },
	{ .name = "stop", .type = OPT_BOOL, .offset = offsetof(struct snapshot_config, stop),
	  .def = "off", .help = "end the VM then, with status 0" },
	{ 0 }
};
static const char *const sandbox_values[] = { "off", "log", "on", "strict", NULL };
static const struct opt_key sandbox_keys[] = {
	{ .name = "mode", .type = OPT_ENUM, .arg = "MODE", .values = sandbox_values, .def = "on",
	  .help = "off, log, on or strict" },
	{ 0 }
};
static const struct opt_key sandbox_dir_keys[] = {
	{ .name = "path", .type = OPT_STR, .arg = "FOLDER", .required = true, .help = "a folder" }, { 0 }
};
static const struct opt_key serial_keys[] = { CHARDEV_KEYS(0, serial_names), { 0 } };

#define FLAG_KEYS(id, default_, text)                                                     \
	static const struct opt_key id[] = {                                              \
		{ .name = "on", .type = OPT_BOOL, .def = default_, .help = text }, { 0 }  \
	}
#define TIME_KEYS(id, default_, text)                                                     \
	static const struct opt_key id[] = {                                              \
		{ .name = "time", .type = OPT_TIME, .arg = "TIME", .def = default_,       \
		  .help = text },                                                         \
		{ 0 }                                                                     \
	}

FLAG_KEYS(acpi_keys, "on", "describe the machine by ACPI tables");
FLAG_KEYS(pit_keys, "off", "add the legacy timer and interrupt controllers");
FLAG_KEYS(debug_exit_keys, "off", "let a write to port 0xf4 end the VM");
FLAG_KEYS(boot_timer_keys, "off", "let a write to address 0xc0000000 tell that the guest has booted");
FLAG_KEYS(reboot_keys, "on", "reboot in place when the guest asks");
FLAG_KEYS(verbose_keys, "off", "say more about what is done");
FLAG_KEYS(dry_run_keys, "off", "check everything and print the configuration");
FLAG_KEYS(help_keys, "off", "this text");
FLAG_KEYS(no_api_keys, "off", "no control API, with --config-file");
FLAG_KEYS(show_level_keys, "off", "begin messages with their level");
FLAG_KEYS(core_sched_keys, "off", "share no core with others");
FLAG_KEYS(no_seccomp_keys, "off", "no filters of system calls");
#define MICROSECONDS_KEYS(id, text)                                                         \
	static const struct opt_key id[] = {                                              \
		{ .name = "us", .type = OPT_UINT, .arg = "N", .def = "0", .max = INT64_MAX, .help = text },  \
		{ 0 }                                                                     \
	}

MICROSECONDS_KEYS(start_keys, "CLOCK_MONOTONIC");
MICROSECONDS_KEYS(start_cpu_keys, "CLOCK_PROCESS_CPUTIME_ID");
MICROSECONDS_KEYS(parent_cpu_keys, "CLOCK_PROCESS_CPUTIME_ID");
TIME_KEYS(timeout_keys, "0", "end the VM after this time");
TIME_KEYS(hang_keys, "0", "end it after this time without console output");
TIME_KEYS(stop_keys, "10s", "grace between power button and the end");

#define CONFIG(field) offsetof(struct vm_config, field)

static const struct opt machine_options[] = {
	{ .name = "kernel", .letter = 'k', .keys = kernel_keys, .plain = true,
	  .offset = CONFIG(machine.kernel), .section = "Boot",
	  .help = "The kernel: a bzImage (64-bit boot protocol 2.12 or later) or an uncompressed "
		  "ELF vmlinux. Required." },
	{ .name = "initrd", .letter = 'i', .keys = initrd_keys, .plain = true,
	  .offset = CONFIG(machine.initrd), .help = "Initial RAM disk for the kernel." },
	{ .name = "cmdline", .letter = 'a', .alias = "append", .keys = cmdline_keys, .plain = true,
	  .offset = CONFIG(machine.cmdline),
	  .help = "Kernel command line. console=ttyS0 is put before it unless it names a console." },
	{ .name = "entry", .keys = entry_keys, .plain = true, .offset = CONFIG(machine.entry),
	  .help = "Boot protocol: auto takes what the image offers, linux64 is the 64-bit entry of "
		  "bzImage and vmlinux, pvh the entry of a vmlinux's PVH note." },

	{ .name = "mem", .letter = 'm', .keys = mem_keys, .offset = CONFIG(machine.mem),
	  .section = "Machine", .help = "Guest memory." },
	{ .name = "cpus", .letter = 'c', .keys = cpus_keys, .offset = CONFIG(machine.cpus),
	  .help = "vCPUs and how they are arranged." },
	{ .name = "cpu", .keys = cpu_keys, .offset = CONFIG(machine.cpu),
	  .help = "Which features of the host's CPU the guest is told of. With a level of the x86-64 ABI a "
		  "snapshot can go on on any host that has it." },
	{ .name = "name", .alias = "id", .keys = name_keys, .plain = true, .offset = CONFIG(name),
	  .help = "Name of the VM; network devices get stable MAC addresses from it." },
	{ .name = "transport", .keys = transport_keys, .plain = true,
	  .offset = CONFIG(machine.transport),
	  .help = "How virtio devices are attached: pci, or mmio, which boots faster; auto is pci "
		  "with ACPI and mmio without." },
	{ .name = "serial", .keys = serial_keys, .offset = CONFIG(serial),
	  .help = "The serial port (ttyS0): the terminal or standard streams, a file that is "
		  "appended to, a new pseudo-terminal, a Unix socket that is listened on, nowhere, or no port at "
		  "all." },
	{ .name = "acpi", .keys = acpi_keys, .plain = true, .offset = CONFIG(machine.acpi),
	  .help = "ACPI tables. --no-acpi is for kernels built without it; they get an MP table." },
	{ .name = "pit", .keys = pit_keys, .plain = true, .offset = CONFIG(machine.pit),
	  .help = "Legacy PIT and PICs, for kernels that cannot use the APIC. Of use with --no-acpi: the "
		  "ACPI tables are those of a machine without them. Start and end of the VM take "
		  "milliseconds longer." },
	{ .name = "debug-exit", .keys = debug_exit_keys, .plain = true,
	  .offset = CONFIG(machine.debug_exit),
	  .help = "A byte written to port 0xf4 ends the VM with that exit status; for test "
		  "payloads." },
	{ .name = "boot-timer", .keys = boot_timer_keys, .plain = true,
	  .offset = CONFIG(machine.boot_timer),
	  .help = "Firecracker's boot timer: when the guest first writes the byte 123 to address 0xc0000000, a "
		  "message says how long that is after the VM's start, or after --restore, and how "
		  "much CPU time went by." },
};

/* What the guest was told once. With --restore it is what it was. */
static const char *const fixed_options[] = { "kernel", "initrd", "cmdline",   "entry", "mem",
					     "cpus",   "cpu",	    "transport", "acpi", "pit",
					     "debug-exit" };

static const struct opt monitor_options[] = {
	{ .name = "timeout", .keys = timeout_keys, .plain = true, .offset = CONFIG(timeout_ns),
	  .section = "Life and death", .help = "End the VM after TIME (90, 500ms, 10m; a bare number counts seconds) with "
		  "status 124; 0 is never." },
	{ .name = "hang-timeout", .keys = hang_keys, .plain = true,
	  .offset = CONFIG(hang_timeout_ns),
	  .help = "End the VM with status 121 when its serial port and consoles were silent for "
		  "TIME; 0 is never." },
	{ .name = "on-hang", .keys = on_hang_keys, .offset = CONFIG(on_hang),
	  .help = "What a guest that hangs (--hang-timeout) is sent before it is ended, so that its last "
		  "words say where it was. It has until it is silent for a second, 10 s at most. vmm run "
		  "sends sysrq=9lw if nothing is said." },
	{ .name = "stop-timeout", .keys = stop_keys, .plain = true,
	  .offset = CONFIG(stop_timeout_ns),
	  .help = "SIGTERM and SIGINT press the power button; a guest that is still there after "
		  "TIME is ended. A second signal ends it at once." },
	{ .name = "reboot", .keys = reboot_keys, .plain = true, .offset = CONFIG(reboot),
	  .help = "With --no-reboot a reboot of the guest ends the VM: status 0, or 120 after a "
		  "panic." },

	{ .name = "cgroup", .keys = vm_cgroup_keys, .offset = CONFIG(cgroup),
	  .section = "The host's resources",
	  .help = "Run in a control group of its own, named vmm-NAME by --name or the process, with these "
		  "limits, which hold for guest and monitor together. It is removed in the end." },
	{ .name = "core-sched", .keys = core_sched_keys, .plain = true, .offset = CONFIG(core_sched),
	  .help = "While a thread of this process is on a core, the other hardware threads of the core run "
		  "nothing but threads of this process (core scheduling)." },

	{ .name = "restore", .keys = restore_keys, .offset = CONFIG(restore), .hidden = true,
	  .section = "Snapshots",
	  .help = "Go on where a saved guest was, instead of booting a kernel. Everything is as it was saved; "
		  "options given besides may lead disks, networks, consoles and sockets elsewhere: one kind of "
		  "device (all --disk, say) as a whole." },
	{ .name = "snapshot", .keys = snapshot_keys, .offset = CONFIG(save),
	  .help = "On SIGUSR2 the guest is paused, saved, and goes on. Files that are there are replaced "
		  "when the new ones are complete." },

	{ .name = "dump", .keys = dump_keys, .plain = true, .offset = CONFIG(dump),
	  .section = "Debugging",
	  .help = "When the guest panics, dies or hangs, or --timeout is reached, write its memory and "
		  "registers to FILE: an ELF core for crash, gdb and drgn." },
	{ .name = "gdb", .keys = gdb_keys, .offset = CONFIG(gdb),
	  .help = "Let a debugger in: gdb's `target remote PATH` or `target remote :PORT`. No time "
		  "limits while it is there." },

	{ .name = "api", .alias = "api-sock", .keys = api_keys, .offset = CONFIG(api),
	  .section = "Control",
	  .help = "Serve the control API, HTTP in Firecracker's dialect, on a Unix socket; vmm ctl speaks "
		  "it. Without a kernel the VM is configured and started there, and a guest that reboots "
		  "ends it unless --reboot is given." },
	{ .name = "http-api-max-payload-size", .keys = api_body_keys, .plain = true,
	  .offset = CONFIG(api_body_max), .help = "Largest body of a request." },
	{ .name = "config-file", .keys = config_file_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(config_file),
	  .help = "Configure the VM by a file in Firecracker's format, and start it." },
	{ .name = "no-api", .keys = no_api_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(no_api), .help = "With --config-file: no control API." },
	{ .name = "log-path", .keys = log_path_keys, .plain = true, .offset = CONFIG(log_path),
	  .help = "Append messages to a file, or write them to a named pipe, instead of stderr." },
	{ .name = "level", .keys = level_keys, .plain = true, .offset = CONFIG(level),
	  .help = "Log messages up to LEVEL: Off, Error, Warning, Info, Debug or Trace. The default is "
		  "Warning." },
	{ .name = "show-level", .keys = show_level_keys, .plain = true, .offset = CONFIG(show_level),
	  .help = "Begin each message with its level." },
	{ .name = "metrics-path", .keys = metrics_path_keys, .plain = true,
	  .offset = CONFIG(metrics_path),
	  .help = "Append metrics to a file, or write them to a named pipe, a line of JSON each minute "
		  "and when they are asked for." },
	{ .name = "start-time-us", .keys = start_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(start_us),
	  .help = "When whoever started this process did so: metrics say how long it took." },
	{ .name = "start-time-cpu-us", .keys = start_cpu_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(start_cpu_us), .help = "How much CPU time this process had used then." },
	{ .name = "parent-cpu-time-us", .keys = parent_cpu_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(parent_cpu_us), .help = "How much CPU time its parent had used." },
	{ .name = "sandbox", .keys = sandbox_keys, .plain = true, .offset = CONFIG(sandbox),
	  .section = "Isolation",
	  .help = "What is left to this process while the guest runs: namespaces of its own, an empty root, "
		  "no privileges, the system calls it needs. on: all that this host can do; strict: all, or "
		  "do not start; log: system calls that are not needed are made, and logged by the host's "
		  "kernel; off: nothing is given up." },
	{ .name = "sandbox-dir", .keys = sandbox_dir_keys, .plain = true, .offset = CONFIG(sandbox_dirs),
	  .size = sizeof(char *), .max = 16,
	  .help = "Files that are named while the guest runs (snapshots, disks that are changed by the control "
		  "API, cores) are in this folder, or another one that is named so; nothing else of "
		  "the host is there. Without it, where such files are possible, all that the user may open is." },
	{ .name = "no-seccomp", .keys = no_seccomp_keys, .plain = true, .offset = CONFIG(no_seccomp),
	  .help = "The sandbox without its filters of system calls, as on Firecracker's command lines." },

	{ .name = "verbose", .letter = 'v', .keys = verbose_keys, .plain = true,
	  .offset = CONFIG(verbose), .section = "Monitor", .help = "More messages on stderr, and the registers of a guest that had to be ended." },
	{ .name = "config", .keys = config_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(config_path),
	  .help = "Read options from a JSON file; those of the command line go over it." },
	{ .name = "dry-run", .keys = dry_run_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(dry_run),
	  .help = "Check everything that can be checked, print the effective configuration as "
		  "JSON, and exit." },
	{ .name = "help", .letter = 'h', .keys = help_keys, .plain = true, .hidden = true,
	  .offset = CONFIG(help), .help = "Show this text." },
};

/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct opt *vm_options_new(const struct opt *more, struct err *err)
{
	unsigned nkinds = virtio_nkinds() < VM_KINDS_MAX ? virtio_nkinds() : VM_KINDS_MAX;
	struct opt *table, *o;
	size_t nmore = 0;

	while (more != NULL && more[nmore].name != NULL)
		nmore++;
	table = calloc(nmore + COUNT(machine_options) + nkinds + COUNT(monitor_options) + 1,
		       sizeof(*table));
	if (table == NULL) {
		err_set(err, ENOMEM, "no memory for the option table");
		return NULL;
	}
	o = table;
	if (nmore > 0)
		o = mempcpy(o, more, nmore * sizeof(*more));
	o = mempcpy(o, machine_options, sizeof(machine_options));
	for (unsigned i = 0; i < nkinds; i++, o++) {
		*o = virtio_kind(i)->option;
		o->offset = offsetof(struct vm_config, devices) + i * sizeof(struct opt_list);
		o->section = i == 0 ? "Devices" : NULL;
	}
	memcpy(o, monitor_options, sizeof(monitor_options));
	return table;
}

static int load_json(struct vm_config *cfg, const char *path, struct err *err)
{
	json_error_t where;
	struct stat st;
	json_t *json;
	FILE *file;
	int r;

	file = fopen(path, "re");
	if (file == NULL)
		return err_sys(err, errno, "config %s: cannot open", path);
	if (fstat(fileno(file), &st) == 0 && S_ISDIR(st.st_mode)) {
		fclose(file);
		return err_set(err, EISDIR, "config %s: is a directory; name the file in it", path);
	}
	json = json_loadf(file, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
	fclose(file);
	if (json == NULL)
		return err_set(err, EINVAL, "config %s: line %d: %s", path, where.line, where.text);
	r = opt_from_json(cfg->options, cfg, json, err);
	json_decref(json);
	return r < 0 ? err_context(err, "config %s", path) : 0;
}

/* @cfg as before its first option, but for the snapshot that is open. */
static int begin_again(struct vm_config *cfg, size_t size, struct err *err)
{
	struct snapshot *snapshot = cfg->snapshot;
	struct opt *options = cfg->options;

	opt_free(options, cfg);
	memset(cfg, 0, size);
	cfg->options = options;
	cfg->snapshot = snapshot;
	return opt_defaults(options, cfg, err);
}

/*
 * --config names what the rest of the command line is laid over, so it is wanted first:
 * parse once to find it, then file and command line into a fresh configuration.
 */
static int parse_with_file(struct vm_config *cfg, size_t size, int argc, char *const *argv,
			   struct err *err)
{
	struct opt *options = cfg->options;
	char *path = cfg->config_path;
	int used, r;

	cfg->config_path = NULL;
	r = begin_again(cfg, size, err);
	if (r == 0)
		r = load_json(cfg, path, err);
	free(path);
	cfg->in_file = cfg->seen;
	cfg->seen = (struct opt_seen){ 0 };
	if (r == 0)
		r = opt_parse(options, cfg, argc, argv, false, &used, err);
	return r;
}

static int check_path(const char *option, const char *path, struct err *err)
{
	if (path == NULL || *path != '\0')
		return 0;
	return err_set(err, EINVAL, "%s: the path is empty; name a file", option);
}

static int check_mem(const struct gmem_config *mem, struct err *err)
{
	uint64_t unit = mem->huge == GMEM_HUGE_1G   ? 1024 * MIB
			: mem->huge == GMEM_HUGE_2M ? 2 * MIB
						    : GMEM_PAGE_SIZE;

	if (mem->size % unit == 0)
		return 0;
	return err_set(
		err, EINVAL,
		"--mem: size of %llu bytes is not a multiple of the page size, %s; round it up",
		(unsigned long long)mem->size,
		unit == GMEM_PAGE_SIZE ? "4K" : hugepage_names[mem->huge]);
}

bool vm_option_is_fixed(const char *name)
{
	for (size_t i = 0; i < COUNT(fixed_options); i++)
		if (strcmp(fixed_options[i], name) == 0)
			return true;
	return false;
}

bool vm_option_is_monitors(const char *name)
{
	/* A guest that was not to reboot in place is not to later. */
	for (size_t i = 0; i < COUNT(monitor_options); i++)
		if (strcmp(monitor_options[i].name, name) == 0)
			return strcmp(name, "reboot") != 0;
	return false;
}

/*
 * As parse_with_file(), with the configuration in a snapshot. A repeatable option of the command
 * line takes the place of all of its uses in there.
 */
static int parse_with_snapshot(struct vm_config *cfg, size_t size, int argc, char *const *argv,
			       struct err *err)
{
	struct opt *options = cfg->options;
	json_t *json = vm_config_restore(cfg, err);
	int used, r = json != NULL ? 0 : -err->code;

	for (const struct opt *o = options; r == 0 && o->name != NULL; o++) {
		if (!opt_given(options, cfg, o->name))
			continue;
		if (vm_option_is_fixed(o->name))
			r = err_set(err, EINVAL,
				    "--%s and --restore: a restored guest keeps what it was told",
				    o->name);
		json_object_del(json, o->name);
	}
	if (r == 0)
		r = begin_again(cfg, size, err);
	if (r == 0 && opt_from_json(options, cfg, json, err) < 0)
		r = err_context(err, "snapshot: its configuration");
	json_decref(json);
	cfg->seen = (struct opt_seen){ 0 };
	if (r == 0)
		r = opt_parse(options, cfg, argc, argv, false, &used, err);
	if (r == 0)
		cfg->machine.mem.track = cfg->restore.track;
	return r;
}

/* Each device's own check of its option. */
static int check_devices(const struct vm_config *cfg, struct err *err)
{
	for (unsigned i = 0; i < virtio_nkinds(); i++) {
		const struct virtio_ops *ops = virtio_kind(i);
		const char *item = cfg->devices[i].items;

		for (size_t k = 0; ops->check != NULL && k < cfg->devices[i].n;
		     k++, item += ops->option.size)
			if (ops->check(item, err) < 0)
				return err_context(err, "--%s", ops->option.name);
		if (opt_check_unique(&ops->option, &cfg->devices[i], err) < 0)
			return err_context(err, "--%s", ops->option.name);
	}
	return 0;
}

/* The standard streams have one user. A serial port that nobody asked for makes way. */
static int settle_stdio(struct vm_config *cfg, struct err *err)
{
	const struct opt_list *uses = vm_devices_uses(cfg, VIRTIO_ID_CONSOLE);
	const struct console_options *console = uses != NULL ? uses->items : NULL;
	unsigned n = 0;

	for (size_t i = 0; uses != NULL && i < uses->n; i++)
		n += console[i].chr.to == CHARDEV_STDIO;
	if (n > 1)
		return err_set(err, EINVAL,
			       "--console: %u of them lead to stdio; give all but one another "
			       "to=WHERE",
			       n);
	if (n == 0 || cfg->serial.to != CHARDEV_STDIO)
		return 0;
	if (opt_given(cfg->options, cfg, "serial"))
		return err_set(err, EINVAL,
			       "--serial and --console both lead to stdio; give one of them "
			       "another to=WHERE");
	cfg->serial.to = CHARDEV_OFF;
	return 0;
}

static int check_on_hang(const struct hang_config *cfg, struct err *err)
{
	static const char keys[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

	if (cfg->sysrq == NULL)
		return 0;
	if (*cfg->sysrq == '\0' || strspn(cfg->sysrq, keys) != strlen(cfg->sysrq))
		return err_set(err, EINVAL,
			       "sysrq: '%s' are no keys; letters and digits are, as in sysrq=9lw",
			       cfg->sysrq);
	if (strlen(cfg->sysrq) > 16)
		return err_set(err, EINVAL, "sysrq: %zu keys; 16 at most", strlen(cfg->sysrq));
	return 0;
}

bool vm_config_waits(const struct vm_config *cfg)
{
	return cfg->api.path != NULL || cfg->api.fd != 0 || cfg->config_file != NULL;
}

bool vm_config_controlled(const struct vm_config *cfg)
{
	return vm_config_waits(cfg) || cfg->log_path != NULL || cfg->level != NULL ||
	       cfg->show_level || cfg->metrics_path != NULL;
}

/* What serves others than the guest. */
static int check_control(const struct vm_config *cfg, struct err *err)
{
	if (cfg->api.path != NULL && cfg->api.fd != 0)
		return err_set(err, EINVAL, "--api: path and fd exclude each other");
	if (check_path("--api", cfg->api.path, err) < 0 ||
	    check_path("--config-file", cfg->config_file, err) < 0 ||
	    check_path("--log-path", cfg->log_path, err) < 0 ||
	    check_path("--metrics-path", cfg->metrics_path, err) < 0)
		return -err->code;
	if (cfg->no_api && (cfg->api.path != NULL || cfg->api.fd != 0))
		return err_set(err, EINVAL, "--api and --no-api exclude each other");
	if (cfg->no_api && cfg->config_file == NULL)
		return err_set(err, EINVAL, "--no-api goes with --config-file");
	return 0;
}

static int check(const struct vm_config *cfg, struct err *err)
{
	if (check_control(cfg, err) < 0)
		return -err->code;
	if (cfg->machine.kernel == NULL && cfg->restore.state == NULL && !vm_config_waits(cfg))
		return err_set(err, EINVAL, "no kernel given: --kernel PATH is needed");
	if (check_path("--kernel", cfg->machine.kernel, err) < 0 ||
	    check_path("--initrd", cfg->machine.initrd, err) < 0 ||
	    check_mem(&cfg->machine.mem, err) < 0)
		return -err->code;
	if (chardev_check(&cfg->serial, err) < 0)
		return err_context(err, "--serial");
	if (gdb_check(&cfg->gdb, err) < 0)
		return err_context(err, "--gdb");
	if (cfg->dump != NULL && dump_check(cfg->dump, err) < 0)
		return err_context(err, "--dump");
	if (check_on_hang(&cfg->on_hang, err) < 0)
		return err_context(err, "--on-hang");
	if (vm_cgroup_check(&cfg->cgroup, err) < 0)
		return err_context(err, "--cgroup");
	/* A restored machine's fraction may have to give way: it cannot be told otherwise. */
	if (cfg->cgroup.cpu_max != 0 && cfg->machine.cpus.share % 1000 != 0 &&
	    cfg->snapshot == NULL)
		return err_set(err, EINVAL,
			       "--cpus with a fraction and --cgroup cpu-max exclude each other");
	if (cfg->name != NULL && *cfg->name == '\0')
		return err_set(err, EINVAL, "--name: the name is empty");
	if (cfg->save.state != NULL && *cfg->save.state == '\0')
		return err_set(err, EINVAL, "--snapshot: the path is empty; name a file");
	if (check_devices(cfg, err) < 0 || vm_config_fits(cfg, err) < 0)
		return -err->code;
	return arch_check_config(&cfg->machine, err);
}

int vm_config_read(struct vm_config *cfg, size_t size, const struct opt *more, int argc,
		   char *const *argv, int *used, struct err *err)
{
	memset(cfg, 0, size);
	cfg->options = vm_options_new(more, err);
	if (cfg->options == NULL || opt_defaults(cfg->options, cfg, err) < 0 ||
	    opt_parse(cfg->options, cfg, argc, argv, false, used, err) < 0)
		return -err->code;
	if (cfg->restore.state != NULL && cfg->config_path != NULL)
		return err_set(err, EINVAL, "--config and --restore exclude each other");
	if (cfg->restore.state != NULL && more != NULL)
		return err_set(err, EINVAL, "--restore goes on with a machine; it runs no command");
	if (cfg->config_path != NULL && parse_with_file(cfg, size, argc, argv, err) < 0)
		return -err->code;
	if (cfg->restore.state != NULL && !cfg->help)
		return parse_with_snapshot(cfg, size, argc, argv, err);
	return 0;
}

bool vm_config_given(const struct vm_config *cfg, const char *option)
{
	return opt_given(cfg->options, &cfg->seen, option) ||
	       opt_given(cfg->options, &cfg->in_file, option);
}

int vm_config_check(struct vm_config *cfg, struct err *err)
{
	if (!cfg->help && settle_stdio(cfg, err) < 0)
		return -err->code;
	cfg->machine.serial = cfg->serial.to != CHARDEV_OFF;
	cfg->machine.cpus.count = (cfg->machine.cpus.share + 999) / 1000;
	cfg->machine.nvirtio = vm_devices_count(cfg);
	return cfg->help ? 0 : check(cfg, err);
}

int vm_config_parse(struct vm_config *cfg, int argc, char *const *argv, struct err *err)
{
	int used = 0;

	if (vm_config_read(cfg, sizeof(*cfg), NULL, argc, argv, &used, err) < 0)
		return -err->code;
	if (used < argc)
		return err_set(err, EINVAL, "unexpected argument '%s'", argv[used]);
	return vm_config_check(cfg, err);
}

void vm_config_free(struct vm_config *cfg)
{
	if (cfg->options != NULL)
		opt_free(cfg->options, cfg);
	free(cfg->options);
	snapshot_close(cfg->snapshot);
	memset(cfg, 0, sizeof(*cfg));
}

char *vm_config_json(const struct vm_config *cfg)
{
	json_t *json = opt_to_json(cfg->options, cfg);
	char *text = json != NULL ? json_dumps(json, JSON_INDENT(2)) : NULL;

	json_decref(json);
	return text;
}
