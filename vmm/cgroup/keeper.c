// SPDX-License-Identifier: Apache-2.0
/*
 * The end of a VM's control group: see group.c.
 *
 * The keeper is a process in the group that waits for the monitor's end. It is a fork of the
 * monitor, made before there is guest memory, and has nothing but the descriptors it needs. The
 * monitor has none of them: they lead to the host's control groups, and it may be in an empty root.
 *
 * #syscalls: write close waitid
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "vmm/cgroup/impl.h"

#define REMOVE_TRIES 200
#define REMOVE_NS    10000000

/* Process @pid ("0": this one) goes back to where it, or the one it is a copy of, came from. */
static void go_back(const struct vm_cgroup *cg, const char *pid)
{
	size_t len = strlen(pid);

	for (unsigned i = cg->n; i-- > 0;) {
		const struct vm_cgroup_group *g = &cg->groups[i];

		if (g->back < 0 || write(g->back, pid, len) > 0 || g->control < 0)
			continue;
		/* Version 2: processes and groups with controllers do not live side by side. */
		if (write(g->control, g->taken, strlen(g->taken)) > 0)
			(void)!write(g->back, pid, len);
	}
}

/* The last processes may still be about to end, KVM's threads among them. */
static void remove_groups(const struct vm_cgroup *cg)
{
	static const struct timespec pause = { .tv_nsec = REMOVE_NS };

	for (unsigned i = cg->n; i-- > 0;) {
		const struct vm_cgroup_group *g = &cg->groups[i];

		for (unsigned k = 0; g->made && g->dir >= 0 && k < REMOVE_TRIES &&
				     unlinkat(g->dir, cg->name, AT_REMOVEDIR) < 0 && errno == EBUSY;
		     k++)
			nanosleep(&pause, NULL);
	}
}

/* Close all descriptors but @fds, of which those below 0 are none. */
static void close_others(int *fds, unsigned n)
{
	unsigned next = 0;

	for (unsigned i = 1; i < n; i++) {
		for (unsigned k = i; k > 0 && fds[k - 1] > fds[k]; k--) {
			int fd = fds[k];

			fds[k] = fds[k - 1];
			fds[k - 1] = fd;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		if ((unsigned)fds[i] > next)
			close_range(next, (unsigned)fds[i] - 1, 0);
		next = (unsigned)fds[i] + 1;
	}
	close_range(next, ~0u, 0);
}

/* The keeper: nothing but system calls, as it may be a copy of a process with several threads. */
static void __attribute__((noreturn)) keep(struct vm_cgroup *cg, int pipe, int monitor)
{
	struct pollfd end = { .fd = monitor, .events = POLLIN };
	int fds[2 + 3 * CGROUP_GROUPS_MAX] = { pipe, monitor };
	unsigned n = 2;
	char bye, pid[16];

	snprintf(pid, sizeof(pid), "%d", getppid());
	for (unsigned i = 0; i < cg->n; i++) {
		fds[n++] = cg->groups[i].dir;
		fds[n++] = cg->groups[i].control;
		fds[n++] = cg->groups[i].back;
	}
	close_others(fds, n);
	setsid(); /* no key of the terminal's is for it */
	prctl(PR_SET_NAME, "vmm-cgroup");
	if (read(pipe, &bye, 1) == 1)
		go_back(cg, pid);
	else /* killed: it is gone when its memory is */
		(void)poll(&end, 1, -1);
	go_back(cg, "0");
	remove_groups(cg);
	/* Not an exit: nothing of the monitor's is to be run or flushed here. */
	for (;;)
		kill(getpid(), SIGKILL);
}

/* Close what leads out of the groups: whoever takes the monitor over finds nothing of it. */
static void close_ways(struct vm_cgroup *cg)
{
	for (unsigned i = 0; i < cg->n; i++) {
		int *fds[] = { &cg->groups[i].dir, &cg->groups[i].control, &cg->groups[i].back };

		for (unsigned k = 0; k < 3; k++) {
			if (*fds[k] >= 0)
				close(*fds[k]);
			*fds[k] = -1;
		}
	}
}

int vm_cgroup_start_keeper(struct vm_cgroup *cg, struct err *err)
{
	int monitor = pidfd_open(getpid(), 0), pipe[2];
	sigset_t all, old;

	if (monitor < 0 || pipe2(pipe, O_CLOEXEC) < 0) {
		err_sys(err, errno, "cgroup: cannot watch over it");
		if (monitor >= 0)
			close(monitor);
		return -err->code;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	cg->keeper_pid = fork();
	if (cg->keeper_pid == 0)
		keep(cg, pipe[0], monitor);
	if (cg->keeper_pid < 0)
		err_sys(err, errno, "cgroup: cannot start a process that removes it");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	close(monitor);
	close(pipe[0]);
	cg->keeper = pipe[1];
	if (cg->keeper_pid < 0)
		return -err->code;
	close_ways(cg);
	return 0;
}

void vm_cgroup_leave(struct vm_cgroup *cg)
{
	siginfo_t info;

	if (cg->keeper_pid > 0) {
		(void)!write(cg->keeper, "", 1);
		close(cg->keeper);
		waitid(P_PID, (id_t)cg->keeper_pid, &info, WEXITED);
		return;
	}
	go_back(cg, "0");
	remove_groups(cg);
	close_ways(cg);
}
