// SPDX-License-Identifier: Apache-2.0
/*
 * `vmm jail`: a monitor as another user, in an empty root. In this order:
 *
 *	inherited descriptors are closed; the program and the network namespace are opened
 *	control groups are made and entered
 *	the root is made, and becomes all that this process sees		root.c
 *	a process of its own, when it gets a namespace of processes		one fork at most
 *	a session of its own and no terminal, when it shall be a daemon
 *	limits of resources are set; user, group and all privileges given up; no_new_privs
 *	the program is executed, with an empty environment
 *
 * What was made stays when the program has ended, as with Firecracker's jailer: whoever chose the
 * id removes BASE/NAME/ID and the groups.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "vmm/base/cgroup.h"
#include "vmm/jail/jail.h"
#include "vmm/vm.h"

#define ID_MAX	    64
#define FILES_LIMIT 2048 /* when nothing is said, as Firecracker's has */
#define OWN_WORDS   6	 /* of the program's arguments */

struct word {
	char *text;
};

struct jail {
	struct opt_seen seen;
	char *id, *exec_file, *base, *netns, *parent;
	uint64_t uid, gid, cgroup_version;
	struct opt_list cgroups, limits; /* of struct word */
	bool daemonize, new_pid_ns, help;
	/* Not options. */
	char program[PATH_MAX];
	const char *name; /* last component of program */
	char **words;	  /* for the program */
	int nwords;
	uint64_t start_us; /* CLOCK_MONOTONIC */
	uint64_t cpu_us;   /* what this process used before a fork */
};

#define JAIL(field) offsetof(struct jail, field)
#define TEXT_KEYS(id, name_, arg_, default_, help_)                                                \
	static const struct opt_key id[] = {                                                       \
		{ .name = name_, .type = OPT_STR, .arg = arg_, .def = default_, .help = help_ },   \
		{ 0 }                                                                              \
	}
#define UINT_KEYS(id, name_, max_, help_)                                                          \
	static const struct opt_key id[] = {                                                       \
		{ .name = name_, .type = OPT_UINT, .arg = "N", .max = max_, .help = help_ }, { 0 } \
	}
#define FLAG_KEYS(id, help_)                                                                       \
	static const struct opt_key id[] = {                                                       \
		{ .name = "on", .type = OPT_BOOL, .def = "off", .help = help_ }, { 0 }             \
	}

TEXT_KEYS(id_keys, "id", "ID", NULL, "letters, digits and hyphens, 64 at most");
TEXT_KEYS(exec_keys, "path", "PATH", NULL, "program");
TEXT_KEYS(base_keys, "path", "PATH", "/srv/jailer", "folder");
TEXT_KEYS(netns_keys, "path", "PATH", NULL, "handle of a network namespace");
TEXT_KEYS(parent_keys, "path", "PATH", NULL, "relative path");
TEXT_KEYS(cgroup_keys, "setting", "FILE=VALUE", NULL,
	  "file of the control group, and what it gets");
TEXT_KEYS(limit_keys, "limit", "RESOURCE=N", NULL, "fsize=BYTES or no-file=COUNT");
UINT_KEYS(uid_keys, "uid", UINT32_MAX - 1, "numeric user id");
UINT_KEYS(gid_keys, "gid", UINT32_MAX - 1, "numeric group id");
UINT_KEYS(version_keys, "version", 2, "1 or 2; 0: whichever has the controller");
FLAG_KEYS(daemonize_keys, "a session of its own, no terminal");
FLAG_KEYS(pid_ns_keys, "a namespace of processes");
FLAG_KEYS(help_keys, "this text");

/* clang-format off */
const struct opt jail_options[] = {
	{ .name = "id", .keys = id_keys, .plain = true, .offset = JAIL(id), .section = "Jail",
	  .help = "The VM's name, and part of its folders' names. Needed." },
	{ .name = "exec-file", .keys = exec_keys, .plain = true, .offset = JAIL(exec_file),
	  .help = "The program that is copied into the jail and started there, linked statically; vmm "
		  "itself if nothing is said." },
	{ .name = "uid", .keys = uid_keys, .plain = true, .offset = JAIL(uid),
	  .help = "The user it runs as. Needed." },
	{ .name = "gid", .keys = gid_keys, .plain = true, .offset = JAIL(gid),
	  .help = "The group it runs as. Needed." },
	{ .name = "chroot-base-dir", .keys = base_keys, .plain = true, .offset = JAIL(base),
	  .help = "The jail's root is PATH/PROGRAM/ID/root." },
	{ .name = "netns", .keys = netns_keys, .plain = true, .offset = JAIL(netns),
	  .help = "The network namespace it runs in, such as /run/netns/NAME." },
	{ .name = "new-pid-ns", .keys = pid_ns_keys, .plain = true, .offset = JAIL(new_pid_ns),
	  .help = "It sees no processes but its own. Its id is in PROGRAM.pid in its root, as always." },
	{ .name = "daemonize", .keys = daemonize_keys, .plain = true, .offset = JAIL(daemonize),
	  .help = "It has a session of its own, and /dev/null for standard streams." },
	{ .name = "resource-limit", .keys = limit_keys, .plain = true, .offset = JAIL(limits),
	  .size = sizeof(struct word), .max = 16,
	  .help = "The largest file it may write, or how many files it may have open (2048 if nothing "
		  "is said)." },
	{ .name = "cgroup", .keys = cgroup_keys, .plain = true, .offset = JAIL(cgroups),
	  .size = sizeof(struct word), .max = 64,
	  .help = "A setting of its control group, such as cpu.shares=512 or memory.max=1G." },
	{ .name = "parent-cgroup", .keys = parent_keys, .plain = true, .offset = JAIL(parent),
	  .help = "Its control group is PATH/ID; PROGRAM/ID if nothing is said. Without --cgroup it is put "
		  "into PATH itself, which must be there (version 2)." },
	{ .name = "cgroup-version", .keys = version_keys, .plain = true, .offset = JAIL(cgroup_version),
	  .help = "Which hierarchies are meant." },
	{ .name = "help", .letter = 'h', .keys = help_keys, .plain = true, .hidden = true,
	  .offset = JAIL(help), .help = "Show this text." },
	{ 0 }
};
/* clang-format on */

/* --- What was asked for --- */

static int check_id(const char *id, struct err *err)
{
	size_t len = strlen(id);

	for (size_t i = 0; i < len; i++)
		if (!((id[i] >= '0' && id[i] <= '9') || (id[i] >= 'a' && id[i] <= 'z') ||
		      (id[i] >= 'A' && id[i] <= 'Z') || id[i] == '-'))
			len = 0;
	if (len == 0 || len > ID_MAX)
		return err_set(err, EINVAL,
			       "id: '%.100s' is not 1 to %d letters, digits and hyphens", id,
			       ID_MAX);
	return 0;
}

/* What fsize=BYTES or no-file=COUNT means. */
static int read_limit(const char *text, __rlimit_resource_t *resource, rlim_t *value,
		      struct err *err)
{
	const char *digits = strchrnul(text, '=');
	size_t len = (size_t)(digits - text);
	char *end = NULL;

	*resource = len == 5 && memcmp(text, "fsize", 5) == 0 ? RLIMIT_FSIZE : RLIMIT_NOFILE;
	errno = 0;
	if (digits[0] == '=' && digits[1] >= '0' && digits[1] <= '9')
		*value = strtoull(digits + 1, &end, 10);
	if (end == NULL || *end != '\0' || errno != 0 ||
	    (*resource == RLIMIT_NOFILE && !(len == 7 && memcmp(text, "no-file", 7) == 0)))
		return err_set(err, EINVAL,
			       "resource-limit: '%.100s' is not fsize=BYTES or no-file=COUNT",
			       text);
	return 0;
}

static int check(struct jail *j, struct err *err)
{
	static const char *const needed[] = { "id", "uid", "gid" };
	__rlimit_resource_t resource;
	rlim_t limit;

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!opt_given(jail_options, j, needed[i]))
			return err_set(err, EINVAL, "--%s is needed", needed[i]);
	if (check_id(j->id, err) < 0)
		return -err->code;
	if (j->parent != NULL && !cgroup_is_path(j->parent))
		return err_set(err, EINVAL,
			       "parent-cgroup: '%.200s' is not a relative path without . and ..",
			       j->parent);
	for (size_t i = 0; i < j->cgroups.n; i++)
		if (jail_cgroup_check(((struct word *)j->cgroups.items)[i].text, err) < 0)
			return -err->code;
	for (size_t i = 0; i < j->limits.n; i++)
		if (read_limit(((struct word *)j->limits.items)[i].text, &resource, &limit, err) <
		    0)
			return -err->code;
	if (realpath(j->exec_file != NULL ? j->exec_file : "/proc/self/exe", j->program) == NULL)
		return err_sys(err, errno, "exec-file %.200s",
			       j->exec_file != NULL ? j->exec_file : "/proc/self/exe");
	j->name = strrchr(j->program, '/') + 1;
	/* Names that the jail has itself, or that would leave no room for ".pid". */
	if (strcmp(j->name, "dev") == 0 || strcmp(j->name, "run") == 0 || j->name[0] == '\0' ||
	    strlen(j->name) + strlen(".pid") > NAME_MAX)
		return err_set(err, EINVAL, "exec-file: a program cannot be called '%.100s'",
			       j->name);
	if (geteuid() != 0)
		return err_set(err, EPERM, "only root can make a jail");
	return 0;
}

static int enter_groups(const struct jail *j, struct err *err)
{
	const char *settings[64]; /* .max of the option */
	struct jail_cgroups groups = {
		.mounts = "/proc/self/mounts",
		.version = (unsigned)j->cgroup_version,
		.parent = j->parent != NULL ? j->parent : j->name,
		.parent_given = j->parent != NULL,
		.id = j->id,
		.settings = settings,
		.n = j->cgroups.n,
	};

	for (size_t i = 0; i < groups.n; i++)
		settings[i] = ((struct word *)j->cgroups.items)[i].text;
	return jail_cgroups_enter(&groups, err);
}

/* --- Becoming the program --- */

static uint64_t now_us(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The parent's part: writes the pid, and waits until the program runs, or has failed: why. */
static int see_off(const struct jail_root *root, pid_t pid, int pipe_fd, struct err *err)
{
	char said[ERR_MSG_MAX];
	ssize_t n;

	if (dprintf(root->pidfile, "%d", (int)pid) < 0)
		err_sys(err, errno, "cannot write %s.pid", root->name);
	do {
		n = read(pipe_fd, said, sizeof(said) - 1);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		said[n] = '\0';
		err_set(err, EIO, "%s", said);
	}
	return err->code == 0 ? 0 : -err->code;
}

static int stand_alone(int null, struct err *err)
{
	if (setsid() < 0)
		return err_sys(err, errno, "cannot make a session");
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(null, fd) < 0)
			return err_sys(err, errno, "cannot replace the standard streams");
	return 0;
}

static int set_limits(const struct jail *j, struct err *err)
{
	struct rlimit limit = { FILES_LIMIT, FILES_LIMIT };
	__rlimit_resource_t resource;

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_sys(err, errno, "cannot limit open files");
	for (size_t i = 0; i < j->limits.n; i++) {
		const char *text = ((struct word *)j->limits.items)[i].text;

		if (read_limit(text, &resource, &limit.rlim_cur, err) < 0)
			return -err->code;
		limit.rlim_max = limit.rlim_cur;
		if (setrlimit(resource, &limit) < 0)
			return err_sys(err, errno, "resource-limit %.100s", text);
	}
	return 0;
}

static int drop_privileges(uid_t uid, gid_t gid, struct err *err)
{
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_sys(err, errno, "cannot become user %u, group %u", uid, gid);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(err, errno, "no_new_privs");
	return 0;
}

/* Returns -code, or not at all. */
static int execute(const struct jail *j, const struct jail_root *root, struct err *err)
{
	char *environment[] = { NULL }, start[48], cpu[40], parent_cpu[48];
	char **words = calloc((size_t)j->nwords + OWN_WORDS + 1, sizeof(*words));
	size_t n = 0;

	if (words == NULL)
		return err_set(err, ENOMEM, "no memory for the program's arguments");
	snprintf(start, sizeof(start), "--start-time-us=%llu", (unsigned long long)j->start_us);
	snprintf(cpu, sizeof(cpu), "--start-time-cpu-us=%llu",
		 (unsigned long long)now_us(CLOCK_PROCESS_CPUTIME_ID));
	snprintf(parent_cpu, sizeof(parent_cpu), "--parent-cpu-time-us=%llu",
		 (unsigned long long)j->cpu_us);
	words[n++] = (char *)j->name;
	words[n++] = (char *)"--id";
	words[n++] = j->id;
	words[n++] = start;
	words[n++] = cpu;
	words[n++] = parent_cpu;
	if (j->nwords > 0)
		memcpy(words + n, j->words, (size_t)j->nwords * sizeof(*words));
	execveat(root->program, "", words, environment, AT_EMPTY_PATH);
	err_sys(err, errno, "cannot execute %.200s in the jail%s", j->program,
		errno == ENOENT ? " (is it linked statically?)" : "");
	free(words);
	return -err->code;
}

static int become(const struct jail *j, const struct jail_root *root, int null, struct err *err)
{
	if (j->daemonize && stand_alone(null, err) < 0)
		return -err->code;
	if (set_limits(j, err) < 0 || drop_privileges((uid_t)j->uid, (gid_t)j->gid, err) < 0)
		return -err->code;
	return execute(j, root, err);
}

/* In a process of its own where one is needed: setsid(2) is not for leaders. */
static int start(struct jail *j, const struct jail_root *root, int null, struct err *err)
{
	bool leader = j->daemonize && getpgrp() == getpid();
	int ends[2], r;
	pid_t pid;

	j->cpu_us = now_us(CLOCK_PROCESS_CPUTIME_ID);
	if (!j->new_pid_ns && !leader) {
		if (dprintf(root->pidfile, "%d", (int)getpid()) < 0)
			return err_sys(err, errno, "cannot write %s.pid", root->name);
		return become(j, root, null, err);
	}
	if (j->new_pid_ns && unshare(CLONE_NEWPID) < 0)
		return err_sys(err, errno, "cannot make a namespace of processes");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "cannot make a pipe");
	pid = fork();
	if (pid < 0)
		err_sys(err, errno, "cannot fork");
	if (pid == 0) {
		close(ends[0]);
		become(j, root, null, err);
		/* Standard error may be gone. */
		(void)!write(ends[1], err->msg, strlen(err->msg));
		close(ends[1]);
		return STATUS_CANNOT;
	}
	close(ends[1]);
	r = pid < 0 ? -err->code : see_off(root, pid, ends[0], err);
	close(ends[0]);
	return r;
}

static int open_path(const char *path, int flags, const char *what, struct err *err)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		err_sys(err, errno, "%s %.200s", what, path);
	return fd;
}

/* Returns as jail_main() does. */
static int jail(struct jail *j, struct err *err)
{
	struct jail_root root = { .fd = -1, .program = -1, .pidfile = -1 };
	enum { PROGRAM, NETNS, DEV_NULL, NFDS };
	int fd[NFDS] = { -1, -1, -1 }, r = -1;
	struct stat st;

	fd[PROGRAM] = open_path(j->program, O_RDONLY, "exec-file", err);
	if (err->code == 0 && (fstat(fd[PROGRAM], &st) < 0 || !S_ISREG(st.st_mode)))
		err_set(err, EINVAL, "exec-file %.200s: not a regular file", j->program);
	if (err->code == 0 && j->netns != NULL)
		fd[NETNS] = open_path(j->netns, O_RDONLY, "netns", err);
	if (err->code == 0)
		fd[DEV_NULL] = open_path("/dev/null", O_RDWR, "cannot open", err);
	if (err->code == 0 && enter_groups(j, err) == 0 &&
	    jail_root_make(&root, j->base, j->name, j->id, fd[PROGRAM], (uid_t)j->uid,
			   (gid_t)j->gid, err) == 0) {
		if (fd[NETNS] >= 0 && setns(fd[NETNS], CLONE_NEWNET) < 0)
			err_sys(err, errno, "netns %.200s", j->netns);
		else if (jail_root_enter(&root, err) == 0)
			r = start(j, &root, fd[DEV_NULL], err);
	}
	jail_root_close(&root);
	for (int i = 0; i < NFDS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return r >= 0 ? r : -err->code;
}

int jail_main(int argc, char **argv, struct err *err)
{
	struct jail j = { .start_us = now_us(CLOCK_MONOTONIC) };
	int used = 0, r;

	if (opt_defaults(jail_options, &j, err) < 0 ||
	    opt_parse(jail_options, &j, argc, argv, false, &used, err) < 0) {
		r = -err->code;
	} else if (j.help) {
		r = JAIL_HELP;
	} else if (check(&j, err) < 0) {
		r = -err->code;
	} else {
		close_range(STDERR_FILENO + 1, ~0U, 0);
		j.words = argv + used;
		j.nwords = argc - used;
		r = jail(&j, err);
	}
	opt_free(jail_options, &j);
	return r;
}
