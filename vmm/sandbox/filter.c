// SPDX-License-Identifier: Apache-2.0
/*
 * Filters of system calls: what a thread may ask of the host's kernel while a guest runs.
 *
 * The policy stands in the sources, beside the code that needs it: "#syscalls" and "#ioctls" lines,
 * from which policy.awk makes policy.inc when we are built. Calls that the C library makes on its
 * own account stand here. Some calls are too much as a whole: for these checks[] says which
 * arguments they may have.
 *
 * The program is a list of comparisons. Calls that are allowed whatever their arguments do not run
 * through it: Linux keeps a bitmap of these (5.11). ioctl(2), KVM_RUN in it, does, so it comes
 * first.
 *
 * #syscalls main io vcpu share: mmap munmap mremap brk madvise futex write writev close
 * #syscalls main io vcpu share: rt_sigprocmask restart_syscall exit clock_gettime
 * #syscalls main io vcpu share: getpid gettid tgkill
 * #syscalls main vcpu: rt_sigreturn
 * #syscalls: exit_group
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/vhost.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vmm/base/util.h"
#include "vmm/sandbox/filter.h"

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv)
#define FILTER_ARCH AUDIT_ARCH_RISCV64
#endif

#define PROGRAM_MAX  1024
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* glibc's pthread_create(). */
#define THREAD_FLAGS                                                                               \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |        \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

struct item {
	unsigned roles; /* whose it is */
	uint32_t value;
};

#define SYSCALL(roles, name) { roles, SYS_##name },
#define IOCTL(roles, name)
static const struct item syscalls[] = {
#include "policy.inc"
};
#undef SYSCALL
#undef IOCTL
#define SYSCALL(roles, name)
#define IOCTL(roles, name) { roles, (uint32_t)(name) },
static const struct item ioctls[] = {
#include "policy.inc"
};

/* What an argument must be. */
struct check {
	uint32_t nr;
	unsigned arg;
	uint32_t mask; /* its low half with this ... */
	uint32_t is;   /* ... is this */
};

struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned n;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (p->n < PROGRAM_MAX)
		p->code[p->n] = (struct sock_filter){ code, jt, jf, k };
	p->n++;
}

static void load(struct program *p, size_t offset)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void ret(struct program *p, uint32_t action)
{
	put(p, BPF_RET | BPF_K, action, 0, 0);
}

/* If what was loaded is @value: do @action. */
static void put_if(struct program *p, uint32_t value, uint32_t action)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	ret(p, action);
}

static void allow_if(struct program *p, uint32_t value)
{
	put_if(p, value, SECCOMP_RET_ALLOW);
}

/* ioctl(2), whose requests are listed. Its number is loaded. */
static void put_ioctl(struct program *p, unsigned roles, uint32_t otherwise)
{
	unsigned at = p->n;

	put(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0);
	put(p, BPF_JMP | BPF_JA, 0, 0, 0); /* over all of it: filled in below */
	load(p, offsetof(struct seccomp_data, args[1]));
	if ((roles & FILTER_ROLE(vcpu)) != 0)
		allow_if(p, KVM_RUN);
	for (size_t i = 0; i < COUNT(ioctls); i++)
		if ((ioctls[i].roles & roles) != 0)
			allow_if(p, ioctls[i].value);
	ret(p, otherwise);
	if (p->n <= PROGRAM_MAX)
		p->code[at + 1].k = p->n - at - 2;
}

/* Calls of which only some are harmless. The number is loaded, and is again afterwards. */
static void put_checked(struct program *p, const struct check *c, uint32_t otherwise)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, c->nr, 0, 5);
	load(p, offsetof(struct seccomp_data, args) + c->arg * sizeof(uint64_t));
	put(p, BPF_ALU | BPF_AND | BPF_K, c->mask, 0, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, c->is, 0, 1);
	ret(p, SECCOMP_RET_ALLOW);
	ret(p, otherwise);
}

/* fcntl(2): F_SETOWN has the kernel send signals to whoever is named. That may be us. */
static void put_fcntl(struct program *p, uint32_t pid, uint32_t otherwise)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 7);
	load(p, offsetof(struct seccomp_data, args[1]));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN_EX, 4, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN, 0, 2);
	load(p, offsetof(struct seccomp_data, args[2]));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, pid, 0, 1);
	ret(p, SECCOMP_RET_ALLOW);
	ret(p, otherwise);
}

/*
 * Calls that are allowed as they are: nr[from ... to), ascending, by halves. Not for the calls,
 * which do not run through it: when a filter is set, Linux runs it once for each call there is.
 */
static void put_plain(struct program *p, const uint32_t *nr, size_t from, size_t to,
		      uint32_t otherwise)
{
	size_t middle = from + (to - from) / 2;
	unsigned at = p->n;

	if (to - from <= 4) {
		for (size_t i = from; i < to; i++)
			put_if(p, nr[i], SECCOMP_RET_ALLOW);
		ret(p, otherwise);
		return;
	}
	put(p, BPF_JMP | BPF_JGE | BPF_K, nr[middle], 0, 1);
	put(p, BPF_JMP | BPF_JA, 0, 0, 0); /* over the lower half: filled in below */
	put_plain(p, nr, from, middle, otherwise);
	if (p->n <= PROGRAM_MAX)
		p->code[at + 1].k = p->n - at - 2;
	put_plain(p, nr, middle, to, otherwise);
}

static int by_number(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Does a call have a rule of its own? Then it is put here. @pid: of this process. */
static bool put_special(struct program *p, uint32_t nr, uint32_t pid, uint32_t otherwise)
{
	const uint32_t all = UINT32_MAX;
	const struct check checks[] = {
		/* Nothing becomes code. */
		{ SYS_mmap, 2, PROT_EXEC, 0 },
		{ SYS_mprotect, 2, PROT_EXEC, 0 },
		/* Threads, no processes; and no namespaces. */
		{ SYS_clone, 0, all, THREAD_FLAGS },
		{ SYS_socket, 0, all, AF_UNIX },
		{ SYS_socketpair, 0, all, AF_UNIX },
		/* Signals: to ourselves. */
		{ SYS_tgkill, 0, all, pid },
		{ SYS_prctl, 0, all, PR_SET_NAME },
	};
	size_t i = 0;

	while (i < COUNT(checks) && checks[i].nr != nr)
		i++;
	if (i < COUNT(checks))
		put_checked(p, &checks[i], otherwise);
	else if (nr == SYS_fcntl)
		put_fcntl(p, pid, otherwise);
	else if (nr == SYS_clone3) /* flags in memory: the C library then takes clone(2) */
		put_if(p, nr, SECCOMP_RET_ERRNO | ENOSYS);
	else if (nr == SYS_io_uring_setup) /* not a restricted one: threads then */
		put_if(p, nr, SECCOMP_RET_ERRNO | EPERM);
	else
		return false;
	return true;
}

static void make(struct program *p, unsigned roles, uint32_t otherwise)
{
	uint32_t plain[COUNT(syscalls)], pid = (uint32_t)getpid();
	size_t n = 0;

	load(p, offsetof(struct seccomp_data, arch));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
	ret(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
	put_ioctl(p, roles, otherwise);
	for (size_t i = 0; i < COUNT(syscalls); i++) {
		uint32_t nr = syscalls[i].value;

		if ((syscalls[i].roles & roles) != 0 && nr != SYS_ioctl &&
		    !put_special(p, nr, pid, otherwise))
			plain[n++] = nr;
	}
	qsort(plain, n, sizeof(plain[0]), by_number);
	put_plain(p, plain, 0, n, otherwise);
}

int filter_enter(unsigned roles, bool log_only, struct err *err)
{
	struct program p = { .n = 0 };
	struct sock_fprog prog;

	make(&p, roles, log_only ? SECCOMP_RET_LOG : SECCOMP_RET_KILL_PROCESS);
	if (p.n > PROGRAM_MAX)
		return err_set(err, E2BIG, "the system call filter is too large");
	prog = (struct sock_fprog){ (unsigned short)p.n, p.code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return err_sys(err, errno, "cannot set a system call filter");
	return 0;
}
