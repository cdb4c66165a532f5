// SPDX-License-Identifier: Apache-2.0
/*
 * The stages in which the monitor gives up what it does not need. The threat is a guest that has
 * found a bug in a device and runs code of its own in this process.
 *
 *	everything is opened	files, sockets, taps, KVM: by vm_build()
 *		must not: run the guest
 *	entered			sandbox_enter(), one thread
 *		inherited descriptors are closed; namespaces of users (who is not root), mounts,
 *		network (where sockets can be made), System V IPC, host names and control groups; an
 *		empty root that cannot be written; no core dumps, a limit of memory
 *		must not: open files by name, but for what is said below
 *	confined		sandbox_confine(), each thread
 *		no capabilities, no_new_privs, a filter of system calls of the thread's own
 *		should: serve the guest; must not: anything else
 *	the guest runs
 *
 * Not emptied is the root where files are opened by name later: with the control API (snapshots,
 * disks that are changed), for `vmm run` (its reports), --dump, --snapshot. There the
 * main thread may open what the user may; vCPU and I/O threads may not. Unless it is said in which
 * folders these are (--sandbox-dir): then they are all there is, see root.c.
 *
 * Starting programs (a storage daemon that serves a qcow2 disk again, addr2line for `vmm run`),
 * connecting to sockets and removing them is done by another process, which is not confined and
 * does only what was said before: see devices/broker.c.
 *
 * There is no namespace of processes: it would take a second process for each VM. The filters let
 * through no call that names another process.
 *
 * A process that serves a folder (virtio_process.c) goes through the same stages by itself, and
 * has nothing of the monitor: no descriptors, no files by name ever, and an empty root always. It,
 * or the thread that does this where guest memory is private, keeps, for root, the capabilities
 * that files need.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/sandbox/sandbox.h"

#define MEMORY_MORE (1ULL << 30) /* stacks of threads, mostly, of which little is ever there */
#define CAP(name)   (1ULL << CAP_##name)

/* A sanitizer looks at /proc and stops all threads in the end. The filters have a test of their
 * own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* For files of any owner; FILES_CAPS are those of who makes files by name. */
#define FILES_CAPS (CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH))
#define SHARE_CAPS (FILES_CAPS | CAP(CHOWN) | CAP(FOWNER) | CAP(FSETID) | CAP(MKNOD) | CAP(SETFCAP))
/* For who acts for others. */
#define USER_CAPS (CAP(SETUID) | CAP(SETGID))

/* What this host cannot do: said, or, if nothing may be left out, an error. */
static int left_out(const struct sandbox *sb, const char *what, int code, struct err *err)
{
	if (sb->mode == SANDBOX_STRICT)
		return err_set(err, code, "--sandbox strict: %s: %s", what, strerrordesc_np(code));
	if (!sb->quiet)
		log_warn("the sandbox is without %s: %s", what, strerrordesc_np(code));
	return 0;
}

/* --- Descriptors --- */

/* All of ours are closed on exec; what is not was inherited. */
static void close_inherited(const struct sandbox *sb)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		int fd = atoi(entry->d_name), flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;

		if (flags >= 0 && (flags & FD_CLOEXEC) == 0 && fd != sb->keep)
			close(fd);
	}
	if (dir != NULL)
		closedir(dir);
}

/* --- Namespaces --- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;
	int code = errno;

	if (fd >= 0)
		close(fd);
	errno = code;
	return n < 0 ? -code : 0;
}

/* Everybody else's name is nobody, ours remains. user_namespaces(7) */
static int map_ids(uid_t uid, gid_t gid)
{
	char text[48];
	int r;

	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	r = write_text("/proc/self/uid_map", text);
	if (r == 0)
		r = write_text("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	return r == 0 ? write_text("/proc/self/gid_map", text) : r;
}

/*
 * A network namespace takes half a millisecond, memory of the host's kernel, and a lock that all
 * VMs share, more than all else here. Where no socket can be made there is nobody to see it.
 */
static bool needs_network(const struct sandbox *sb)
{
	return sb->mode != SANDBOX_ON || sb->no_filter || sb->roles != 0;
}

/*
 * Namespaces of mounts and, for who is not root, of users; sb->parted: there they are. Without a
 * name in the latter no file could be made any more, and without /proc it cannot be given one: in a
 * jail, which has done the like of all this.
 */
static int part_from_mounts(struct sandbox *sb, struct err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r = 0;

	if (uid != 0 && access("/proc/self/uid_map", F_OK) < 0)
		return sb->mode == SANDBOX_STRICT ? left_out(sb, "namespaces", ENOENT, err) : 0;
	if (unshare(CLONE_NEWNS | (uid != 0 ? CLONE_NEWUSER : 0)) < 0)
		return left_out(sb, "namespaces", errno, err);
	if (uid != 0)
		r = map_ids(uid, gid);
	if (r < 0)
		return err_sys(err, -r, "--sandbox: cannot give its user a name in a namespace");
	/* What is mounted here shall not be seen outside; and pivot_root(2) refuses shared ones. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return left_out(sb, "namespaces", errno, err);
	sb->parted = true;
	return 0;
}

static int make_namespaces(struct sandbox *sb, struct err *err)
{
	int flags = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP, r;

	if (needs_network(sb))
		flags |= CLONE_NEWNET;
	if (!sb->began && part_from_mounts(sb, err) < 0)
		return -err->code;
	if (!sb->parted)
		return 0;
	/* Programs that were started since have the same mounts, and are to keep their root. */
	if (sb->began)
		flags |= CLONE_NEWNS;
	if (unshare(flags) < 0)
		return left_out(sb, "namespaces", errno, err);
	if (sb->reason != NULL && sb->nfolders == 0)
		return 0;
	r = sandbox_root(sb->folders, sb->nfolders, err);
	if (r < 0 && sb->nfolders > 0) /* asked for by name */
		return err_context(err, "--sandbox-dir");
	return r < 0 ? left_out(sb, "an empty root", -r, err) : 0;
}

int sandbox_begin(struct sandbox *sb, struct err *err)
{
	if (sb->mode == SANDBOX_OFF || SANITIZED || geteuid() == 0)
		return 0;
	sb->began = true;
	return part_from_mounts(sb, err);
}

/* --- Privileges --- */

/* capset(2): of this thread. */
static int set_caps(uint64_t caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2], now[2];

	if (syscall(SYS_capget, &head, now) < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t keep = (uint32_t)(caps >> 32 * i) & now[i].permitted;

		data[i].permitted = keep;
		data[i].effective = keep & now[i].effective;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* --- Limits --- */

/* Address space: what there is, as much again as @ram (a copy of it may be made), and some more. */
static int limit_memory(uint64_t ram)
{
	char text[32] = "";
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	struct rlimit limit;

	if (fd >= 0)
		close(fd);
	if (fd < 0) /* a jail, which has its limits */
		return 0;
	if (n <= 0 || getrlimit(RLIMIT_AS, &limit) < 0)
		return -1;
	limit.rlim_cur =
		strtoull(text, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) + ram + MEMORY_MORE;
	if (limit.rlim_cur < limit.rlim_max)
		limit.rlim_max = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_AS, &limit);
}

int sandbox_enter(struct sandbox *sb, struct err *err)
{
	struct rlimit none = { 0, 0 };

	if (sb->mode == SANDBOX_OFF || SANITIZED)
		return 0;
	if (sb->reason != NULL && sb->nfolders == 0 && sb->mode == SANDBOX_STRICT)
		return err_set(
			err, ENOTSUP,
			"--sandbox strict: %s opens files by name while the guest runs: say in "
			"which folders with --sandbox-dir",
			sb->reason);
	if (sb->reason != NULL && sb->nfolders == 0)
		log_info(
			"the sandbox has no empty root: %s opens files by name while the guest runs",
			sb->reason);
	if (sb->leads_out) {
		int r = left_out(sb, "shared folders without a way up", EPERM, err);

		if (r < 0)
			return r;
	}
	close_inherited(sb);
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_sys(err, errno, "cannot forbid core dumps");
	if (limit_memory(sb->ram) < 0)
		return err_sys(err, errno, "cannot limit memory");
	sb->entered = true;
	sb->root = geteuid() == 0;
	return make_namespaces(sb, err);
}

int sandbox_confine(const struct sandbox *sb, enum filter_role role, struct err *err)
{
	bool files = role == FILTER_main && (sb->roles & FILTER_ROLE(files)) != 0;
	unsigned roles = 1u << role | (role == FILTER_main ? sb->roles : 0);
	uint64_t caps;
	int r;

	if (!sb->entered)
		return 0;
	if (role == FILTER_main && !files && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_sys(err, errno, "cannot hide from debuggers");
	/* Others have those only that came with their namespace. */
	if (!sb->root)
		caps = 0;
	else if (role == FILTER_share)
		caps = SHARE_CAPS | (sb->users ? USER_CAPS : 0);
	else
		caps = files ? FILES_CAPS : 0;
	r = set_caps(caps);
	if (r < 0)
		return err_sys(err, -r, "cannot give up privileges");
	if (sb->no_filter)
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
			       ? err_sys(err, errno, "cannot give up new privileges")
			       : 0;
	r = filter_enter(roles, sb->mode == SANDBOX_LOG, err);
	return r < 0 ? left_out(sb, "filters of system calls", -r, err) : 0;
}
