// SPDX-License-Identifier: Apache-2.0
/*
 * Filters of system calls, by processes that set one and then do something: what is needed works,
 * all else is the end. The stages as a whole are tested with whole monitors
 * (tests/hostile/takeover).
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "vmm/sandbox/filter.h"

#define KILLED (-1)

static void *nothing(void *arg)
{
	return arg;
}

static int makes_thread(void)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0;
}

/* Runs @fn in a process that has the filter of @roles: what it returned, or KILLED by it. */
static int confined(unsigned roles, bool log_only, int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct err err = ERR_INIT;
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		/* The monitor has threads before it has filters; the first one costs more calls. */
		(void)makes_thread();
		if (filter_enter(roles, log_only, &err) < 0)
			_exit(99);
		/* As a thread ends: exit_group(2) is not for all roles. _exit() would also make
		 * calls of its own under AddressSanitizer. */
		for (int result = fn();;)
			syscall(SYS_exit, result);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		ck_assert_int_eq(WTERMSIG(status), SIGSYS);
		return KILLED;
	}
	return WEXITSTATUS(status);
}

#define IN(role, fn) confined(FILTER_ROLE(role), false, fn)

static int opens(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY) < 0;
}

static int opens_by_old_name(void)
{
#ifdef SYS_open
	return syscall(SYS_open, "/dev/null", O_RDONLY) < 0;
#else
	return opens();
#endif
}

static int executes(void)
{
	char *const none[] = { NULL };

	execve("/bin/true", none, none);
	return errno;
}

static int makes_socket(void)
{
	return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0) < 0;
}

static int makes_inet_socket(void)
{
	return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0) < 0;
}

static int traces(void)
{
	return syscall(SYS_ptrace, 0, 0, 0, 0) < 0;
}

static int mounts(void)
{
	return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL) < 0;
}

static int makes_ring(void)
{
	return syscall(SYS_io_uring_setup, 0, NULL) < 0 ? errno : 0;
}

static int maps(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0) == -1;
}

static int maps_code(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0) == -1;
}

static int runs_vcpu(void)
{
	return ioctl(-1, KVM_RUN, 0) == 0 || errno != EBADF;
}

static int makes_vm(void)
{
	return ioctl(-1, KVM_CREATE_VM, 0) == 0 || errno != EBADF;
}

static int asks_terminal(void)
{
	return ioctl(-1, TIOCSTI, "x") == 0;
}

static int signals_itself(void)
{
	return syscall(SYS_tgkill, getpid(), gettid(), 0) != 0;
}

static int signals_parent(void)
{
	return syscall(SYS_tgkill, 1, 1, 0) != 0;
}

static int asks_owner(void)
{
	return fcntl(-1, F_GETFD) == 0;
}

static int owns_itself(void)
{
	return fcntl(-1, F_SETOWN, getpid()) == 0;
}

static int owns_other(void)
{
	return fcntl(-1, F_SETOWN, 1) == 0;
}

static int forks(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0;
}

static int filters_again(void)
{
	struct err err = ERR_INIT;

	return filter_enter(FILTER_ROLE(main), false, &err) < 0;
}

START_TEST(nobody_opens)
{
	static const enum filter_role all[] = { FILTER_main, FILTER_io, FILTER_vcpu };

	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(confined(1u << all[i], false, opens), KILLED);
		ck_assert_int_eq(confined(1u << all[i], false, opens_by_old_name), KILLED);
		ck_assert_int_eq(confined(1u << all[i], false, makes_socket), KILLED);
		ck_assert_int_eq(confined(1u << all[i], false, executes), KILLED);
		ck_assert_int_eq(confined(1u << all[i], false, makes_ring), KILLED);
		ck_assert_int_eq(confined(1u << all[i], false, makes_thread), KILLED);
	}
}
END_TEST

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* As many as a kernel has symbols. */
static int sorts_much(void)
{
	static int many[100000];

	for (int i = 0; i < 100000; i++)
		many[i] = i * 7919 % 100000;
	qsort(many, 100000, sizeof(many[0]), compare);
	return many[4711] != 4711;
}

START_TEST(nobody_does_worse)
{
	static int (*const worse[])(void) = {
		traces,	       mounts,	       maps_code,  forks,	 makes_inet_socket,
		asks_terminal, signals_parent, owns_other, filters_again
	};

	/* Whatever else is allowed: all of it. A program that is started has to map its code. */
	for (unsigned i = 0; i < sizeof(worse) / sizeof(worse[0]); i++)
		for (unsigned role = 0; role < FILTER_ROLES; role++)
			ck_assert_int_eq(confined(1u << role, false, worse[i]), KILLED);
}
END_TEST

START_TEST(what_is_needed)
{
	ck_assert_int_eq(IN(main, maps), 0);
	ck_assert_int_eq(IN(vcpu, runs_vcpu), 0);
	ck_assert_int_eq(IN(main, runs_vcpu), KILLED);
	ck_assert_int_eq(IN(vcpu, makes_vm), KILLED);
	ck_assert_int_eq(IN(io, signals_itself), 0);
	ck_assert_int_eq(IN(main, asks_owner), 0);
	ck_assert_int_eq(IN(main, owns_itself), 0);
	ck_assert_int_eq(confined(FILTER_ROLE(main) | FILTER_ROLE(files), false, makes_socket),
			 KILLED);
	ck_assert_int_eq(IN(share, opens), 0);
	ck_assert_int_eq(confined(FILTER_ROLE(main) | FILTER_ROLE(files), false, opens), 0);
	ck_assert_int_eq(confined(FILTER_ROLE(main) | FILTER_ROLE(files), false, sorts_much), 0);
#ifndef __SANITIZE_ADDRESS__ /* whose threads make calls of their own */
	ck_assert_int_eq(confined(FILTER_ROLE(main) | FILTER_ROLE(files), false, makes_thread), 0);
#endif
	ck_assert_int_eq(confined(FILTER_ROLE(main) | FILTER_ROLE(files), false, makes_ring),
			 EPERM);
}
END_TEST

START_TEST(logged)
{
	ck_assert_int_eq(confined(FILTER_ROLE(vcpu), true, opens), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sandbox");
	TCase *tc = tcase_create("filters");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, nobody_opens);
	tcase_add_test(tc, nobody_does_worse);
	tcase_add_test(tc, what_is_needed);
	tcase_add_test(tc, logged);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
