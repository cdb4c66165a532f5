// SPDX-License-Identifier: Apache-2.0
/*
 * What is done before the command: the monitor decides, these are its verbs.
 *
 *	mkdir PATH MODE                 folder, and those above it; MODE is octal
 *	link TARGET PATH                symbolic link
 *	write PATH TEXT                 into a file that is there, or a new one
 *	mount SOURCE PATH TYPE FLAGS DATA    mount(2); FLAGS is a number
 *	root PATH                       what is mounted there becomes the root
 *	cover PATH TEXT                 PATH is a file with this text; what was there is only hidden
 *	up NAME [ADDRESS MASK GATEWAY MTU]
 *	                                a network interface, by its name or MAC address; "-" is
 *	                                no gateway, 0 the MTU it has
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
#include <limits.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "guest/agent/agent.h"

#define WORDS_MAX      (STEPS_GROUPS_MAX + 3)
#define MODULES_MAX    256
#define INTERFACES_MAX 64
/* Types of file systems, statfs(2). musl has no kernel headers. */
#define OVERLAYFS_MAGIC 0x794c7630
#define TMPFS_MAGIC	0x01021994
#define OURS		"/run/vmm" /* in memory; the monitor makes it */

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

/* Where symbolic links of @path lead to; the last part need not be there. */
static int follow(const char *path, char to[PATH_MAX])
{
	char target[PATH_MAX];

	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(to, path);
	for (int i = 0; i < 8; i++) {
		ssize_t n = readlink(to, target, sizeof(target) - 1);
		size_t keep = 0;

		if (n < 0)
			return 0;
		target[n] = '\0';
		if (*target != '/')
			keep = (size_t)(strrchr(to, '/') - to) + 1;
		if (keep + (size_t)n >= PATH_MAX)
			return -ENAMETOOLONG;
		strcpy(to + keep, target);
	}
	return -ELOOP;
}

/* Is what is written at @path lost when the machine ends? As to the folder, or those above it. */
static bool is_in_memory(const char *path)
{
	char folder[PATH_MAX];
	struct statfs fs;

	strcpy(folder, path);
	do {
		char *slash = strrchr(folder, '/');

		if (slash == NULL)
			return false;
		slash[slash == folder] = '\0';
		if (statfs(folder, &fs) == 0)
			return fs.f_type == OVERLAYFS_MAGIC || fs.f_type == TMPFS_MAGIC;
	} while (folder[1] != '\0');
	return false;
}

/*
 * Where nothing else sees it, a new file. Otherwise one of ours is mounted there, if there is
 * something to mount it on; programs that replace the file by rename() cannot do so then.
 */
static int do_cover(char *const *w)
{
	char path[PATH_MAX], folder[PATH_MAX], ours[PATH_MAX];
	int r = follow(w[1], path);

	if (r < 0)
		return r;
	if (is_in_memory(path)) {
		strcpy(folder, path);
		*strrchr(folder, '/') = '\0';
		if (access(folder, F_OK) < 0)
			(void)do_mkdir((char *[]){ NULL, folder, (char *)"755" });
		(void)unlink(path);
		return do_write((char *[]){ NULL, path, w[2] });
	}
	if (access(path, F_OK) < 0)
		return -errno;
	if (snprintf(ours, sizeof(ours), OURS "%s", strrchr(path, '/')) >= (int)sizeof(ours))
		return -ENAMETOOLONG;
	r = do_write((char *[]){ NULL, ours, w[2] });
	return r == 0 && mount(ours, path, NULL, MS_BIND, NULL) < 0 ? -errno : r;
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

static int set_mtu(int s, struct ifreq *ifr, const char *text)
{
	ifr->ifr_mtu = (int)number(text, 10);
	return ifr->ifr_mtu > 0 && ioctl(s, SIOCSIFMTU, ifr) < 0 ? -errno : 0;
}

/* @name is one, or the MAC address of the interface that is meant. */
static int find_interface(int s, struct ifreq *ifr, const char *name)
{
	uint8_t mac[6];
	char *end;

	strncpy(ifr->ifr_name, name, IFNAMSIZ - 1);
	if (strchr(name, ':') == NULL)
		return 0;
	for (int i = 0; i < 6; i++, name = end + (*end == ':'))
		mac[i] = (uint8_t)strtoul(name, &end, 16);
	for (int i = 1; i <= INTERFACES_MAX; i++) {
		unsigned same = 0;

		ifr->ifr_ifindex = i;
		if (ioctl(s, SIOCGIFNAME, ifr) < 0 || ioctl(s, SIOCGIFHWADDR, ifr) < 0 ||
		    ifr->ifr_hwaddr.sa_family != ARPHRD_ETHER)
			continue;
		while (same < 6 && (uint8_t)ifr->ifr_hwaddr.sa_data[same] == mac[same])
			same++;
		if (same == 6)
			return 0;
	}
	return -ENODEV;
}

static int do_up(char *const *w, unsigned n)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;
	struct ifreq ifr = { 0 };

	if (s < 0)
		return -errno;
	r = find_interface(s, &ifr, w[1]);
	if (r == 0 && n > 5)
		r = set_mtu(s, &ifr, w[5]);
	if (r == 0 && n > 2)
		r = set_address(s, &ifr, SIOCSIFADDR, w[2]);
	if (r == 0 && n > 3)
		r = set_address(s, &ifr, SIOCSIFNETMASK, w[3]);
	if (r == 0 && ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
		r = -errno;
	ifr.ifr_flags |= IFF_UP;
	if (r == 0 && ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		r = -errno;
	if (r == 0 && n > 4 && strcmp(w[4], "-") != 0)
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
	if (IS("cover", 3))
		return do_cover(w);
	if (IS("mount", 6))
		return do_mount(w);
	if (IS("root", 2))
		return do_root(w);
	if (strcmp(w[0], "up") == 0 && (n == 2 || n == 6))
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
