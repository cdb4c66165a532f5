// SPDX-License-Identifier: Apache-2.0
/*
 * takeover: what can be done from inside a monitor whose guest has taken it over.
 *
 *	takeover list
 *	takeover PID THREAD ATTACK VICTIM
 *
 * Stops the thread called THREAD (the main one: "main") of the monitor PID, or its child process of
 * that name, and makes system calls in its name, as code that runs in it would, with the monitor as
 *it is shipped: the registers are set, one system call instruction of its own is stepped over, and
 *its result is looked at. VICTIM is the number of a process of the same user outside.
 *
 * Prints what became of it: "killed CALL", "refused CALL: ERROR", or "THROUGH what was reached".
 * Exit status 0, 1 when an attack came through, 2 when it could not be made.
 */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

#define ROOM 16384 /* below the thread's stack, for what system calls point to */

static pid_t pid, tid, victim, monitor;
static int memory;
static struct user_regs_struct saved;
static uint64_t room, room_used;
static bool dead;
static char last[64]; /* what the last call came to */

static void give_up(const char *what)
{
	fprintf(stderr, "takeover: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* --- Calls --- */

/* @len bytes in its memory; the address. */
static uint64_t bytes(const void *data, size_t len)
{
	uint64_t at = room + room_used;

	if (dead)
		return 0;
	room_used += (len + 15) & ~15ULL;
	if (room_used > ROOM - 4096 || pwrite(memory, data, len, (off_t)at) != (ssize_t)len)
		give_up("its memory");
	return at;
}

static uint64_t text(const char *s)
{
	return bytes(s, strlen(s) + 1);
}

/* A system call in its name: what it returned, or -ENOSYS when that was its end. */
static long call(const char *name, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		 uint64_t e, uint64_t f)
{
	struct user_regs_struct r = saved;
	struct iovec iov = { &r, sizeof(r) };
	int status;

	if (dead)
		return -ENOSYS;
	r.rax = (unsigned long)nr;
	r.orig_rax = (unsigned long)-1;
	r.rdi = a, r.rsi = b, r.rdx = c, r.r10 = d, r.r8 = e, r.r9 = f;
	r.rip = saved.rip - 2; /* it was stopped in one: its instruction is before */
	r.rsp = room - 256;
	if (ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) < 0 ||
	    ptrace(PTRACE_SINGLESTEP, tid, 0, 0) < 0)
		give_up("step");
	for (;;) {
		if (waitpid(tid, &status, __WALL) < 0)
			give_up("wait");
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			dead = true;
			snprintf(last, sizeof(last), "killed %s", name);
			return -ENOSYS;
		}
		if (WSTOPSIG(status) == SIGTRAP && status >> 16 == 0)
			break;
		/* A signal, a group stop, an exit of another: on. */
		if (ptrace(PTRACE_SINGLESTEP, tid, 0, 0) < 0 && errno == ESRCH) {
			dead = true;
			snprintf(last, sizeof(last), "killed %s", name);
			return -ENOSYS;
		}
	}
	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
		give_up("registers");
	if ((long)r.rax < 0 && (long)r.rax > -4096)
		snprintf(last, sizeof(last), "refused %s: %s", name, strerrorname_np((int)-r.rax));
	else
		snprintf(last, sizeof(last), "did %s", name);
	return (long)r.rax;
}

#define CALL6(name, a, b, c, d, e, f, ...)                                                         \
	call(#name, SYS_##name, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d),        \
	     (uint64_t)(e), (uint64_t)(f))
#define SYS(name, ...) CALL6(name, __VA_ARGS__, 0, 0, 0, 0, 0, 0)

/* --- Attacks: true when it came through --- */

static bool opens(const char *path, int flags)
{
	return SYS(openat, AT_FDCWD, text(path), flags, 0600) >= 0;
}

/* By ".." from every descriptor there is. */
static bool climbs(const char *path)
{
	for (int fd = 0; fd < 64 && !dead; fd++)
		if (SYS(openat, fd, text(path), O_RDONLY) >= 0)
			return true;
	return false;
}

static bool connects(int family, const void *addr, size_t len)
{
	long fd = SYS(socket, family, SOCK_STREAM, 0);

	return fd >= 0 && SYS(connect, fd, bytes(addr, len), len) == 0;
}

static bool passwd(void)
{
	return opens("/etc/passwd", O_RDONLY);
}
static bool writes(void)
{
	return opens("/tmp/taken-over", O_WRONLY | O_CREAT);
}
static bool kvm(void)
{
	return opens("/dev/kvm", O_RDWR);
}
static bool self_mem(void)
{
	return opens("/proc/self/mem", O_RDWR);
}
static bool dev_mem(void)
{
	return opens("/dev/mem", O_RDWR);
}
static bool old_open(void)
{
	return SYS(open, text("/etc/passwd"), O_RDONLY) >= 0;
}
static bool climb(void)
{
	return climbs("../../../../../../../../etc/passwd");
}
static bool climb_short(void)
{
	return climbs("../etc/passwd");
}
static bool climb_proc(void)
{
	return climbs("../root/etc/passwd");
}
static bool climb_task(void)
{
	return climbs("../../1/root/etc/passwd");
}
static bool absolute(void)
{
	return SYS(openat, 3, text("/etc/passwd"), O_RDONLY) >= 0;
}
static bool open2(void)
{
	uint64_t how[3] = { O_RDONLY, 0, 0 };

	return SYS(openat2, AT_FDCWD, text("/etc/passwd"), bytes(how, sizeof(how)), sizeof(how)) >=
	       0;
}
static bool by_handle(void)
{
	uint8_t handle[24] = { 8, 0, 0, 0, 1 };

	return SYS(open_by_handle_at, 3, bytes(handle, sizeof(handle)), O_RDONLY) >= 0;
}
static bool executes(void)
{
	uint64_t argv[2] = { 0 };

	return SYS(execve, text("/bin/sh"), bytes(argv, sizeof(argv)), 0) == 0 && !dead;
}
static bool executes_at(void)
{
	uint64_t argv[2] = { 0 };

	return SYS(execveat, AT_FDCWD, text("/bin/sh"), bytes(argv, sizeof(argv)), 0, 0) == 0 &&
	       !dead;
}
static bool forks(void)
{
	return SYS(clone, SIGCHLD) > 0;
}
static bool vforks(void)
{
	return SYS(vfork, 0) > 0;
}
static bool forks3(void)
{
	uint64_t args[11] = { [4] = SIGCHLD };

	return SYS(clone3, bytes(args, sizeof(args)), sizeof(args)) > 0;
}
static bool inet(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons(22),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	long fd = SYS(socket, AF_INET, SOCK_STREAM, 0);

	return fd >= 0 && (SYS(connect, fd, bytes(&a, sizeof(a)), sizeof(a)) == 0 || fd >= 0);
}
static bool inet6(void)
{
	return SYS(socket, AF_INET6, SOCK_DGRAM, 0) >= 0;
}
static bool netlink(void)
{
	return SYS(socket, AF_NETLINK, SOCK_RAW, 0) >= 0;
}
static bool packet(void)
{
	return SYS(socket, AF_PACKET, SOCK_RAW, 0) >= 0;
}
static bool vsock(void)
{
	return SYS(socket, AF_VSOCK, SOCK_STREAM, 0) >= 0;
}
static bool algorithm(void)
{
	return SYS(socket, AF_ALG, SOCK_SEQPACKET, 0) >= 0;
}
static bool unix_path(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "/tmp/takeover.sock" };

	return connects(AF_UNIX, &a, sizeof(a));
}
static bool unix_abstract(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "\0takeover" };

	return connects(AF_UNIX, &a, sizeof(sa_family_t) + 9);
}
static bool traces(void)
{
	return SYS(ptrace, PTRACE_SEIZE, victim, 0, 0) == 0;
}
static bool traces_sibling(void)
{
	return SYS(ptrace, PTRACE_SEIZE, monitor, 0, 0) == 0;
}
static bool reads_sibling(void)
{
	uint64_t io[2] = { room, 8 };
	uint64_t v = bytes(io, sizeof(io));

	return SYS(process_vm_readv, monitor, v, 1, v, 1, 0) > 0;
}
static bool kills_sibling(void)
{
	/* A thread of the monitor's may: it is its own process. */
	return SYS(kill, monitor, SIGKILL) == 0;
}
static bool reads_other(void)
{
	uint64_t io[2] = { room, 8 };
	uint64_t v = bytes(io, sizeof(io));

	return SYS(process_vm_readv, victim, v, 1, v, 1, 0) > 0;
}
static bool writes_other(void)
{
	uint64_t io[2] = { room, 8 };
	uint64_t v = bytes(io, sizeof(io));

	return SYS(process_vm_writev, victim, v, 1, v, 1, 0) > 0;
}
static bool kills(void)
{
	return SYS(kill, victim, 0) == 0;
}
static bool kills_all(void)
{
	return SYS(kill, -1, SIGCONT) == 0;
}
static bool kills_thread(void)
{
	return SYS(tgkill, victim, victim, SIGCONT) == 0;
}
static bool kills_old(void)
{
	return SYS(tkill, victim, SIGCONT) == 0;
}
static bool queues(void)
{
	siginfo_t info = { .si_signo = SIGCONT, .si_code = SI_QUEUE };

	return SYS(rt_sigqueueinfo, victim, SIGCONT, bytes(&info, sizeof(info))) == 0;
}
static bool pidfd(void)
{
	return SYS(pidfd_open, victim, 0) >= 0;
}
static bool owns(void)
{
	return SYS(fcntl, 0, F_SETOWN, victim) == 0;
}
static bool owns_group(void)
{
	return SYS(fcntl, 0, F_SETOWN, -victim) == 0;
}
static bool module(void)
{
	return SYS(init_module, room, 16, text("")) == 0;
}
static bool module_fd(void)
{
	return SYS(finit_module, 3, text(""), 0) == 0;
}
static bool unshares(void)
{
	return SYS(unshare, CLONE_NEWUSER) == 0;
}
static bool unshares_mounts(void)
{
	return SYS(unshare, CLONE_NEWNS) == 0;
}
static bool joins(void)
{
	return SYS(setns, 3, 0) == 0;
}
static bool mounts(void)
{
	return SYS(mount, text("none"), text("/"), text("tmpfs"), 0, 0) == 0;
}
static bool remounts(void)
{
	return SYS(mount, 0, text("/"), 0, 4096 | 32, 0) == 0;
}
static bool unmounts(void)
{
	return SYS(umount2, text("/"), 2) == 0;
}
static bool pivots(void)
{
	return SYS(pivot_root, text("."), text(".")) == 0;
}
static bool chroots(void)
{
	return SYS(chroot, text(".")) == 0;
}
static bool new_mount(void)
{
	return SYS(fsopen, text("proc"), 0) >= 0;
}
static bool tree(void)
{
	return SYS(open_tree, AT_FDCWD, text("/"), 1) >= 0;
}
static bool changes_folder(void)
{
	return SYS(chdir, text("..")) == 0;
}
static bool enters_folder(void)
{
	for (int fd = 3; fd < 64 && !dead; fd++)
		if (SYS(fchdir, fd) == 0)
			return true;
	return false;
}
static bool removes(void)
{
	return SYS(unlink, text("/tmp/takeover.sock")) == 0;
}
static bool removes_at(void)
{
	for (int fd = 3; fd < 64 && !dead; fd++)
		if (SYS(unlinkat, fd, text("../../../../../../tmp/takeover.sock"), 0) == 0)
			return true;
	return false;
}
static bool renames(void)
{
	return SYS(rename, text("/tmp/takeover.sock"), text("/tmp/taken")) == 0;
}
static bool links(void)
{
	return SYS(linkat, AT_FDCWD, text("/etc/passwd"), AT_FDCWD, text("/tmp/taken"), 0) == 0;
}
static bool modes(void)
{
	return SYS(fchmodat, AT_FDCWD, text("/tmp/takeover.sock"), 0777) == 0;
}
static bool owners(void)
{
	return SYS(fchownat, AT_FDCWD, text("/tmp/takeover.sock"), 0, 0, 0) == 0;
}
static bool device(void)
{
	return SYS(mknodat, AT_FDCWD, text("/taken"), 020666, 0x103) == 0;
}
static bool key(void)
{
	return SYS(add_key, text("user"), text("taken"), room, 8, KEY_SPEC_PROCESS_KEYRING) >= 0;
}
static bool keyring(void)
{
	return SYS(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0) >= 0;
}
static bool key_request(void)
{
	return SYS(request_key, text("user"), text("taken"), 0, 0) >= 0;
}
static bool ring(void)
{
	struct io_uring_params p = { 0 };

	return SYS(io_uring_setup, 8, bytes(&p, sizeof(p))) >= 0;
}
static bool ring_unlock(void)
{
	for (int fd = 3; fd < 64 && !dead; fd++)
		if (SYS(io_uring_register, fd, IORING_REGISTER_PROBE, bytes((char[64]){ 0 }, 64),
			1) == 0)
			return true;
	return false;
}
static bool program(void)
{
	return SYS(bpf, 0, bytes((uint32_t[16]){ 2, 4, 4, 1 }, 64), 64) >= 0;
}
static bool profiles(void)
{
	return SYS(perf_event_open, bytes((uint32_t[32]){ 1, 128 }, 128), victim, -1, -1, 0) >= 0;
}
static bool faults(void)
{
	return SYS(userfaultfd, 0) >= 0;
}
static bool root_again(void)
{
	return SYS(setuid, 0) == 0;
}
static bool other_user(void)
{
	return SYS(setresuid, 4243, 4243, 4243) == 0;
}
static bool groups(void)
{
	return SYS(setgroups, 0, 0) == 0;
}
static bool caps(void)
{
	uint32_t head[2] = { 0x20080522, 0 }, data[6] = { ~0u, ~0u, ~0u, ~0u, ~0u, ~0u };

	return SYS(capset, bytes(head, sizeof(head)), bytes(data, sizeof(data))) == 0;
}
static bool dumpable(void)
{
	return SYS(prctl, PR_SET_DUMPABLE, 1) == 0;
}
static bool memory_map(void)
{
	return SYS(prctl, PR_SET_MM, PR_SET_MM_START_CODE, 4096) == 0;
}
static bool code(void)
{
	return SYS(mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) > 0;
}
static bool becomes_code(void)
{
	return SYS(mprotect, room & ~4095ULL, 4096, PROT_READ | PROT_EXEC) == 0;
}
static bool becomes_code2(void)
{
	return SYS(pkey_mprotect, room & ~4095ULL, 4096, PROT_READ | PROT_EXEC, -1) == 0;
}
static bool memfd(void)
{
	return SYS(memfd_create, text("taken"), 0) >= 0;
}
static bool shared(void)
{
	return SYS(shmget, 0, 1 << 30, 01600) >= 0;
}
static bool message(void)
{
	return SYS(msgget, 0, 01600) >= 0;
}
static bool queue(void)
{
	return SYS(mq_open, text("taken"), O_RDWR | O_CREAT, 0600, 0) >= 0;
}
static bool types(void)
{
	return SYS(ioctl, 0, TIOCSTI, text("x")) == 0;
}
static bool console(void)
{
	return SYS(ioctl, 0, TIOCCONS, 0) == 0;
}
static bool reboots(void)
{
	return SYS(reboot, 0xfee1dead, 672274793, 0) == 0;
}
static bool swaps(void)
{
	return SYS(swapoff, text("/")) == 0;
}
static bool sets_clock(void)
{
	return SYS(settimeofday, bytes((uint64_t[2]){ 1, 0 }, 16), 0) == 0;
}
static bool names_host(void)
{
	return SYS(sethostname, text("taken"), 5) == 0;
}
static bool limits(void)
{
	return SYS(prlimit64, 0, RLIMIT_NOFILE, bytes((uint64_t[2]){ 1 << 20, 1 << 20 }, 16), 0) ==
	       0;
}
static bool limits_other(void)
{
	return SYS(prlimit64, victim, RLIMIT_CORE, bytes((uint64_t[2]){ 0, 0 }, 16), 0) == 0;
}
static bool real_time(void)
{
	return SYS(sched_setscheduler, 0, SCHED_FIFO, bytes((uint32_t[1]){ 99 }, 4)) == 0;
}
static bool priority(void)
{
	return SYS(setpriority, PRIO_USER, 0, -20) == 0;
}
static bool logs(void)
{
	return SYS(syslog, 3, room, 64) >= 0;
}
static bool accounts(void)
{
	return SYS(acct, text("/tmp/taken")) == 0;
}
static bool watches(void)
{
	return SYS(inotify_init1, 0) >= 0;
}
static bool fans(void)
{
	return SYS(fanotify_init, 0, 0) >= 0;
}
static bool filters(void)
{
	struct sock_filter allow = { BPF_RET | BPF_K, 0, 0, 0x7fff0000 };
	struct sock_fprog prog = { 1, (struct sock_filter *)bytes(&allow, sizeof(allow)) };

	/* One more filter takes nothing away: the open after it is what counts. */
	SYS(seccomp, 1, 0, bytes(&prog, sizeof(prog)));
	return opens("/etc/passwd", O_RDONLY);
}
static bool old_abi(void)
{
	/* x32's open(2): another number for the same. */
	return call("x32 open", 0x40000000 | SYS_open, text("/etc/passwd"), O_RDONLY, 0, 0, 0, 0) >=
	       0;
}
static bool descriptors(void)
{
	long n = 0;

	for (; n < 70000 && SYS(fcntl, 0, F_DUPFD, 0) >= 0; n++)
		;
	return n == 70000;
}
static bool hoards(void)
{
	uint64_t sum = 0;

	/* 16 GiB, which need not be there to be promised. */
	for (; sum < 16; sum++)
		if (SYS(mmap, 0, 1ULL << 30, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) < 0 ||
		    dead)
			break;
	return sum == 16;
}
static bool swarms(void)
{
	return SYS(clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND, room - 4096) > 0;
}
#define ATTACK(name)                                                                               \
	{                                                                                          \
#name, name                                                                        \
	}
static const struct {
	const char *name;
	bool (*fn)(void);
} attacks[] = {
	ATTACK(passwd),		ATTACK(writes),	       ATTACK(kvm),
	ATTACK(self_mem),	ATTACK(dev_mem),       ATTACK(old_open),
	ATTACK(climb),		ATTACK(climb_short),   ATTACK(climb_proc),
	ATTACK(climb_task),	ATTACK(absolute),      ATTACK(open2),
	ATTACK(by_handle),	ATTACK(executes),      ATTACK(executes_at),
	ATTACK(forks),		ATTACK(vforks),	       ATTACK(forks3),
	ATTACK(inet),		ATTACK(inet6),	       ATTACK(netlink),
	ATTACK(packet),		ATTACK(vsock),	       ATTACK(algorithm),
	ATTACK(unix_path),	ATTACK(unix_abstract), ATTACK(traces),
	ATTACK(traces_sibling), ATTACK(reads_other),   ATTACK(writes_other),
	ATTACK(kills),		ATTACK(kills_all),     ATTACK(kills_thread),
	ATTACK(kills_old),	ATTACK(queues),	       ATTACK(pidfd),
	ATTACK(owns),		ATTACK(owns_group),    ATTACK(module),
	ATTACK(module_fd),	ATTACK(unshares),      ATTACK(unshares_mounts),
	ATTACK(joins),		ATTACK(mounts),	       ATTACK(remounts),
	ATTACK(unmounts),	ATTACK(pivots),	       ATTACK(chroots),
	ATTACK(new_mount),	ATTACK(tree),	       ATTACK(changes_folder),
	ATTACK(enters_folder),	ATTACK(removes),       ATTACK(removes_at),
	ATTACK(renames),	ATTACK(links),	       ATTACK(modes),
	ATTACK(owners),		ATTACK(device),	       ATTACK(key),
	ATTACK(keyring),	ATTACK(key_request),   ATTACK(ring),
	ATTACK(ring_unlock),	ATTACK(program),       ATTACK(profiles),
	ATTACK(faults),		ATTACK(root_again),    ATTACK(other_user),
	ATTACK(groups),		ATTACK(caps),	       ATTACK(dumpable),
	ATTACK(memory_map),	ATTACK(code),	       ATTACK(becomes_code),
	ATTACK(becomes_code2),	ATTACK(memfd),	       ATTACK(shared),
	ATTACK(message),	ATTACK(queue),	       ATTACK(types),
	ATTACK(console),	ATTACK(reboots),       ATTACK(swaps),
	ATTACK(sets_clock),	ATTACK(names_host),    ATTACK(limits),
	ATTACK(limits_other),	ATTACK(real_time),     ATTACK(priority),
	ATTACK(logs),		ATTACK(accounts),      ATTACK(watches),
	ATTACK(fans),		ATTACK(filters),       ATTACK(old_abi),
	ATTACK(descriptors),	ATTACK(hoards),	       ATTACK(swarms),
	ATTACK(reads_sibling),	ATTACK(kills_sibling),
};

/* --- The thread --- */

/* Is the thread or process whose folder in /proc is @path called @name? */
static bool is_called(const char *path, const char *name)
{
	char file_name[96], comm[32] = "";
	FILE *file;

	snprintf(file_name, sizeof(file_name), "%s/comm", path);
	file = fopen(file_name, "r");
	if (file == NULL)
		return false;
	if (fgets(comm, sizeof(comm), file) != NULL)
		comm[strcspn(comm, "\n")] = '\0';
	fclose(file);
	return strcmp(comm, name) == 0;
}

/* The child of @pid with that name. It is what is attacked then, not the monitor. */
static pid_t find_child(const char *name)
{
	char path[64];
	pid_t child;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	file = fopen(path, "r");
	while (file != NULL && fscanf(file, "%d", &child) == 1) {
		snprintf(path, sizeof(path), "/proc/%d", child);
		if (is_called(path, name)) {
			fclose(file);
			return pid = child;
		}
	}
	if (file != NULL)
		fclose(file);
	return 0;
}

/* The thread of @pid with that name, or its child. */
static pid_t find(const char *name)
{
	struct dirent *entry;
	pid_t found = 0;
	char path[64];
	DIR *dir;

	if (strcmp(name, "main") == 0)
		return pid;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir != NULL && found == 0 && (entry = readdir(dir)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s", pid, entry->d_name);
		if (atoi(entry->d_name) != pid && is_called(path, name))
			found = atoi(entry->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	return found != 0 ? found : find_child(name);
}

static void take(void)
{
	struct iovec iov = { &saved, sizeof(saved) };
	char path[64];
	uint16_t insn = 0;
	int status;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	memory = open(path, O_RDWR | O_CLOEXEC);
	if (memory < 0)
		give_up(path);
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 ||
	    waitpid(tid, &status, __WALL) != tid)
		give_up("stop");
	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
		give_up("registers");
	if (pread(memory, &insn, sizeof(insn), (off_t)saved.rip - 2) != sizeof(insn) ||
	    insn != 0x050f) {
		errno = EAGAIN;
		give_up("it was not in a system call");
	}
	room = (saved.rsp - ROOM) & ~15ULL;
}

int main(int argc, char **argv)
{
	bool through;

	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++)
			puts(attacks[i].name);
		return 0;
	}
	if (argc != 5) {
		fputs("usage: takeover list | takeover PID THREAD ATTACK VICTIM\n", stderr);
		return 2;
	}
	pid = monitor = atoi(argv[1]);
	victim = atoi(argv[4]);
	tid = find(argv[2]);
	errno = ESRCH;
	if (tid == 0)
		give_up(argv[2]);
	for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		if (strcmp(attacks[i].name, argv[3]) != 0)
			continue;
		take();
		through = attacks[i].fn();
		printf("%s%s\n", through ? "THROUGH " : "", last);
		return through;
	}
	errno = EINVAL;
	give_up(argv[3]);
}
