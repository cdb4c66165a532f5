// SPDX-License-Identifier: Apache-2.0
/*
 * The other side of tests/bench/run-phases: what the agent of `vmm run` does, as process 1 under
 * QEMU. Modules of /modules are loaded, the root "root" is mounted by virtio-fs, read-only, with an
 * overlay on each folder that programs write to, and what a program expects is mounted in it; then
 * it runs the words behind "--" of the kernel's command line, and switches the machine off.
 *
 * It says "hello", "started" and "exited STATUS" on the first virtio-serial port, for others to
 * see when.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEW  "/newroot"
#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int port = -1;

static void say(const char *text)
{
	if (write(port, text, strlen(text)) < 0)
		reboot(RB_POWER_OFF);
}

static void must(int r, const char *what)
{
	char text[256];

	if (r >= 0)
		return;
	snprintf(text, sizeof(text), "failed %s: %m\n", what);
	say(text);
	reboot(RB_POWER_OFF);
}

static void load_modules(void)
{
	struct dirent **entry;
	int n = scandir("/modules", &entry, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		char path[512];
		int fd;

		snprintf(path, sizeof(path), "/modules/%s", entry[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && entry[i]->d_name[0] != '.')
			syscall(SYS_finit_module, fd, "", 0);
		close(fd);
	}
}

static void overlay(const char *dir)
{
	char lower[64], upper[64], work[64], data[256];
	struct stat st;

	snprintf(lower, sizeof(lower), NEW "%s", dir);
	if (lstat(lower, &st) < 0 || !S_ISDIR(st.st_mode))
		return;
	snprintf(upper, sizeof(upper), NEW "/run/vmm%s", dir);
	mkdir(upper, 0755);
	snprintf(upper, sizeof(upper), NEW "/run/vmm%s/upper", dir);
	snprintf(work, sizeof(work), NEW "/run/vmm%s/work", dir);
	must(mkdir(upper, strcmp(dir, "/tmp") == 0 ? 01777 : 0755), upper);
	must(mkdir(work, 0755), work);
	snprintf(data, sizeof(data), "lowerdir=%s/.,upperdir=%s,workdir=%s", lower, upper, work);
	must(mount("overlay", lower, "overlay", 0, data), lower);
}

static void make_root(void)
{
	static const char *const written[] = { "/etc",	"/var", "/tmp", "/home",
					       "/root", "/srv", "/opt", "/mnt" };
	static const struct {
		const char *type, *path;
		unsigned long flags;
		const char *data;
	} system[] = {
		{ "proc", "/proc", SAFE, "" },
		{ "sysfs", "/sys", SAFE, "" },
		{ "devtmpfs", "/dev", MS_NOSUID, "" },
		{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666" },
		{ "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777" },
		{ "cgroup2", "/sys/fs/cgroup", SAFE, "nsdelegate" },
		{ "debugfs", "/sys/kernel/debug", SAFE, "" },
		{ "tracefs", "/sys/kernel/tracing", SAFE, "" },
		{ "bpf", "/sys/fs/bpf", SAFE, "mode=700" },
		{ "securityfs", "/sys/kernel/security", SAFE, "" },
	};

	must(mkdir(NEW, 0755), "mkdir");
	must(mount("root", NEW, "virtiofs", MS_RDONLY, ""), "the root");
	must(mount("run", NEW "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755"), "/run");
	must(mkdir(NEW "/run/vmm", 0700), "mkdir");
	for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++)
		overlay(written[i]);
	for (size_t i = 0; i < sizeof(system) / sizeof(system[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), NEW "%s", system[i].path);
		if (i == 3 || i == 4)
			mkdir(path, 0755);
		(void)mount(system[i].type, path, system[i].type, system[i].flags, system[i].data);
	}
	must(chdir(NEW), NEW);
	must(mount(".", "/", NULL, MS_MOVE, NULL), "move");
	must(chroot("."), "chroot");
	must(chdir("/"), "/");
}

/* What the kernel hands over are the words behind "--". */
int main(int argc, char **argv)
{
	char text[32];
	int status;
	pid_t pid;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	(void)mount("proc", "/proc", "proc", SAFE, NULL);
	(void)mount("sys", "/sys", "sysfs", SAFE, NULL);
	(void)mount("dev", "/dev", "devtmpfs", MS_NOSUID, NULL);
	load_modules();
	/* Its number is that of the virtio device. */
	for (unsigned i = 0; port < 0; i++) {
		snprintf(text, sizeof(text), "/dev/vport%up1", i % 8);
		port = open(text, O_RDWR | O_CLOEXEC);
		if (i % 8 == 7)
			usleep(1000);
	}
	say("hello\n");
	make_root();
	say("started\n");
	pid = fork();
	if (pid == 0) {
		if (argc > 1)
			execvp(argv[1], argv + 1);
		_exit(127);
	}
	must(waitpid(pid, &status, 0), "wait");
	snprintf(text, sizeof(text), "exited %d\n", WEXITSTATUS(status));
	say(text);
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
