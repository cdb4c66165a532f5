// SPDX-License-Identifier: Apache-2.0
/*
 * What is done before the command: the monitor decides, these are its verbs.
 *
 *	mkdir PATH MODE                 folder, and those above it; MODE is octal
 *	link TARGET PATH                symbolic link
 *	write PATH TEXT                 into a file that is there, or a new one
 *	mount SOURCE PATH TYPE FLAGS DATA    mount(2); FLAGS is a number
 *	root PATH                       what is mounted there becomes the root
 *	up NAME [ADDRESS MASK GATEWAY]  a network interface
 *	user UID GID [GROUP]...
 *	cwd PATH
 *	env NAME=VALUE
 *	arg WORD                        of the command
 *	tty ROWS COLS                   the command gets a terminal
 *	try STEP                        the same, and it does not matter if it fails
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "guest/agent/agent.h"

#define WORDS_MAX   (STEPS_GROUPS_MAX + 3)
#define MODULES_MAX 256

static unsigned long number(const char *word, int base)
{
	return strtoul(word, NULL, base);
}

/* --- Files --- */

static int do_mkdir(char *const *w)
{
	char path[4096];
	mode_t mode = (mode_t)number(w[2], 8);

	if (strlen(w[1]) >= sizeof(path))
		return -ENAMETOOLONG;
	strcpy(path, w[1]);
	for (char *p = path + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		(void)mkdir(path, 0755);
		*p = '/';
	}
	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : -errno;
	return chmod(path, mode) < 0 ? -errno : 0; /* whatever the umask says */
}

static int do_link(char *const *w)
{
	return symlink(w[1], w[2]) < 0 && errno != EEXIST ? -errno : 0;
}

static int do_write(char *const *w)
{
	size_t len = strlen(w[2]);
	int fd = open(w[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, w[2], len);
	close(fd);
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}

static int do_mount(char *const *w)
{
	return mount(w[1], w[2], w[3], number(w[4], 0), w[5]) < 0 ? -errno : 0;
}

/* Free the memory of the initramfs: it holds modules that are loaded, and us. */
static void remove_all(int dir, dev_t device)
{
	DIR *d = fdopendir(dir);
	struct dirent *entry;
	struct stat st;

	if (d == NULL) {
		close(dir);
		return;
	}
	while ((entry = readdir(d)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    st.st_dev != device)
			continue;
		if (!S_ISDIR(st.st_mode)) {
			(void)unlinkat(dir, entry->d_name, 0);
			continue;
		}
		int sub =
			openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (sub >= 0)
			remove_all(sub, device);
		(void)unlinkat(dir, entry->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

static int do_root(char *const *w)
{
	int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (old < 0 || fstat(old, &st) < 0 || chdir(w[1]) < 0)
		return -errno;
	remove_all(old, st.st_dev);
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return -errno;
	return 0;
}

/* --- Network: ioctls of AF_INET sockets, netdevice(7) and rtentry --- */

static int set_address(int s, struct ifreq *ifr, unsigned long request, const char *text)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	if (inet_pton(AF_INET, text, &in.sin_addr) != 1)
		return -EINVAL;
	memcpy(&ifr->ifr_addr, &in, sizeof(in));
	return ioctl(s, (int)request, ifr) < 0 ? -errno : 0;
}

static int add_gateway(int s, const char *text)
{
	struct sockaddr_in any = { .sin_family = AF_INET }, gateway = any;
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	if (inet_pton(AF_INET, text, &gateway.sin_addr) != 1)
		return -EINVAL;
	memcpy(&route.rt_dst, &any, sizeof(any));
	memcpy(&route.rt_genmask, &any, sizeof(any));
	memcpy(&route.rt_gateway, &gateway, sizeof(gateway));
	return ioctl(s, SIOCADDRT, &route) < 0 && errno != EEXIST ? -errno : 0;
}

static int do_up(char *const *w, unsigned n)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;
	struct ifreq ifr = { 0 };

	if (s < 0)
		return -errno;
	strncpy(ifr.ifr_name, w[1], IFNAMSIZ - 1);
	if (n > 2)
		r = set_address(s, &ifr, SIOCSIFADDR, w[2]);
	if (r == 0 && n > 3)
		r = set_address(s, &ifr, SIOCSIFNETMASK, w[3]);
	if (r == 0 && ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
		r = -errno;
	ifr.ifr_flags |= IFF_UP;
	if (r == 0 && ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		r = -errno;
	if (r == 0 && n > 4)
		r = add_gateway(s, w[4]);
	close(s);
	return r;
}

/* --- The command --- */

static int keep_word(char **list, unsigned *n, const char *word)
{
	if (*n == STEPS_WORDS_MAX)
		return -E2BIG;
	list[*n] = strdup(word);
	if (list[*n] == NULL)
		return -ENOMEM;
	++*n;
	return 0;
}

/* A variable that is there already is replaced. */
static int keep_variable(struct job *job, const char *word)
{
	size_t name = strcspn(word, "=") + 1;

	for (unsigned i = 0; i < job->nenv; i++) {
		char *copy;

		if (strncmp(job->env[i], word, name) != 0)
			continue;
		copy = strdup(word);
		if (copy == NULL)
			return -ENOMEM;
		free(job->env[i]);
		job->env[i] = copy;
		return 0;
	}
	return keep_word(job->env, &job->nenv, word);
}

static int do_user(struct job *job, char *const *w, unsigned n)
{
	job->has_user = true;
	job->uid = (uid_t)number(w[1], 10);
	job->gid = (gid_t)number(w[2], 10);
	for (unsigned i = 3; i < n; i++)
		job->groups[job->ngroups++] = (gid_t)number(w[i], 10);
	return 0;
}

static int do_cwd(struct job *job, const char *path)
{
	free(job->cwd);
	job->cwd = strdup(path);
	return job->cwd == NULL ? -ENOMEM : 0;
}

static int do_tty(struct job *job, char *const *w)
{
	job->tty = true;
	job->rows = (uint16_t)number(w[1], 10);
	job->cols = (uint16_t)number(w[2], 10);
	return 0;
}

static int do_words(struct job *job, char *const *w, unsigned n)
{
#define IS(verb, count) (strcmp(w[0], verb) == 0 && n == (count))
	if (IS("mkdir", 3))
		return do_mkdir(w);
	if (IS("link", 3))
		return do_link(w);
	if (IS("write", 3))
		return do_write(w);
	if (IS("mount", 6))
		return do_mount(w);
	if (IS("root", 2))
		return do_root(w);
	if (strcmp(w[0], "up") == 0 && (n == 2 || n == 4 || n == 5))
		return do_up(w, n);
	if (strcmp(w[0], "user") == 0 && n >= 3 && n - 3 <= STEPS_GROUPS_MAX)
		return do_user(job, w, n);
	if (IS("cwd", 2))
		return do_cwd(job, w[1]);
	if (IS("env", 2))
		return keep_variable(job, w[1]);
	if (IS("arg", 2))
		return keep_word(job->arg, &job->nargs, w[1]);
	if (IS("tty", 3))
		return do_tty(job, w);
#undef IS
	return -EINVAL;
}

int step_do(struct job *job, const char *words, size_t len)
{
	char *w[WORDS_MAX];
	unsigned n = 0;

	if (len == 0 || words[len - 1] != '\0')
		return -EINVAL;
	for (const char *p = words; p < words + len; p += strlen(p) + 1) {
		if (n == WORDS_MAX)
			return -E2BIG;
		w[n++] = (char *)p;
	}
	if (strcmp(w[0], "try") != 0)
		return do_words(job, w, n);
	if (n > 1)
		(void)do_words(job, w + 1, n - 1);
	return 0;
}

/* --- Modules --- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void steps_load_modules(void)
{
	DIR *dir = opendir(AGENT_MODULES);
	char *name[MODULES_MAX];
	struct dirent *entry;
	unsigned n = 0;

	if (dir == NULL)
		return;
	while (n < MODULES_MAX && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && (name[n] = strdup(entry->d_name)) != NULL)
			n++;
	qsort(name, n, sizeof(name[0]), by_name);
	for (unsigned i = 0; i < n; i++) {
		int fd = openat(dirfd(dir), name[i], O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			(void)syscall(SYS_finit_module, fd, "", 0);
			close(fd);
		}
		free(name[i]);
	}
	closedir(dir);
}
