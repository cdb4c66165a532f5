// SPDX-License-Identifier: Apache-2.0
/*
 * What the guest of `vmm run` is made of: the initramfs with the agent and modules, and the steps
 * that lead from there to the command.
 *
 * The root is the host's folder, read-only, at /newroot until it becomes the root. Folders that
 * programs write to get an overlay whose upper layer is in the guest's memory, each its own, so
 * that a file system mounted on one of them on the host is seen too. What is not found in every
 * kernel or root is tried, and not missed.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "vmm/run/run.h"
#include "vmm/run/kernel.h"

/* The agent's program, put in by run/agent_image.S. */
extern const char agent_image[], agent_image_end[];

extern char **environ;

#define NEW   "/newroot"
#define UPPER NEW "/run/vmm"

#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/* --- The initramfs --- */

static bool root_is_image(const struct run_config *cfg)
{
	struct stat st;

	return cfg->root != NULL && stat(cfg->root, &st) == 0 && !S_ISDIR(st.st_mode);
}

static bool has_device(const struct run_config *cfg, const char *option)
{
	const struct opt *opt = cfg->vm.options;

	for (; opt->name != NULL; opt++)
		if (strcmp(opt->name, option) == 0)
			return ((const struct opt_list *)((const char *)cfg + opt->offset))->n > 0;
	return false;
}

static int add_modules(const struct run_config *cfg, struct cpio *cpio, struct err *err)
{
	const struct {
		struct run_want want;
		bool needed;
	} all[] = {
		{ { "virtio_mmio", "VIRTIO_MMIO", "virtio devices on MMIO" },
		  cfg->vm.machine.transport == TRANSPORT_MMIO || !cfg->vm.machine.acpi },
		{ { "virtio_pci", "VIRTIO_PCI", "virtio devices on PCI" },
		  cfg->vm.machine.transport != TRANSPORT_MMIO && cfg->vm.machine.acpi },
		{ { "virtio_console", "VIRTIO_CONSOLE", "virtio consoles" }, true },
		{ { "virtiofs", "VIRTIO_FS", "shared folders" }, has_device(cfg, "share") },
		{ { "overlay", "OVERLAY_FS", "overlay file systems" },
		  !cfg->rw && !root_is_image(cfg) },
		{ { "virtio_blk", "VIRTIO_BLK", "virtio disks" }, has_device(cfg, "disk") },
		{ { "ext4", "EXT4_FS", "the ext4 file system" }, root_is_image(cfg) },
		{ { "virtio_net", "VIRTIO_NET", "virtio networks" }, has_device(cfg, "net") },
	};
	struct run_want wants[sizeof(all) / sizeof(all[0]) + 1] = { 0 };
	struct run_kernel kernel;
	unsigned n = 0;
	int r;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].needed)
			wants[n++] = all[i].want;
	r = run_kernel_init(&kernel, cfg->vm.machine.kernel, cfg->modules, err);
	if (r == 0)
		r = run_kernel_add_modules(&kernel, wants, cpio, err);
	run_kernel_fini(&kernel);
	return r;
}

int run_job_initramfs(const struct run_config *cfg, struct cpio *cpio, struct err *err)
{
	if (cpio_init(cpio, err) < 0 ||
	    cpio_add(cpio, "dev", S_IFDIR | 0755, 0, NULL, 0, err) < 0 ||
	    cpio_add(cpio, "dev/console", S_IFCHR | 0600, makedev(5, 1), NULL, 0, err) < 0 ||
	    cpio_add(cpio, "init", S_IFREG | 0755, 0, agent_image,
		     (size_t)(agent_image_end - agent_image), err) < 0 ||
	    add_modules(cfg, cpio, err) < 0)
		return -err->code;
	return cpio_end(cpio, err);
}

/* --- Steps --- */

int run_steps_add(struct run_steps *steps, const char *const *words, struct err *err)
{
	struct run_step *step;
	size_t len = 0;
	char *to;

	if (steps->n == steps->size) {
		unsigned size = steps->size > 0 ? 2 * steps->size : 64;

		step = realloc(steps->step, size * sizeof(*step));
		if (step == NULL)
			return err_sys(err, ENOMEM, "the agent's steps");
		steps->step = step;
		steps->size = size;
	}
	for (const char *const *w = words; *w != NULL; w++)
		len += strlen(*w) + 1;
	to = malloc(len);
	if (to == NULL)
		return err_sys(err, ENOMEM, "the agent's steps");
	step = &steps->step[steps->n++];
	*step = (struct run_step){ .words = to, .len = len };
	for (const char *const *w = words; *w != NULL; w++)
		to = stpcpy(to, *w) + 1;
	return 0;
}

#define STEP(...) run_steps_add(steps, (const char *const[]){ __VA_ARGS__, NULL }, err)

static int mount_step(struct run_steps *steps, bool try, const char *source, const char *path,
		      const char *type, unsigned long flags, const char *data, struct err *err)
{
	char number[24];

	snprintf(number, sizeof(number), "%lu", flags);
	if (try)
		return STEP("try", "mount", source, path, type, number, data);
	return STEP("mount", source, path, type, number, data);
}

static int overlay_step(struct run_steps *steps, const char *dir, struct err *err)
{
	char path[PATH_MAX + 16], upper[PATH_MAX + 32], work[PATH_MAX + 32], data[4 * PATH_MAX];

	if (*dir != '/' || strpbrk(dir, ",:\\\"") != NULL)
		return err_set(
			err, EINVAL,
			"--overlay %s: give its whole path, from /, without any of , : \\ \"", dir);
	snprintf(path, sizeof(path), NEW "%s", dir);
	snprintf(upper, sizeof(upper), UPPER "%s/upper", dir);
	snprintf(work, sizeof(work), UPPER "%s/work", dir);
	/* The dot: what is mounted there on the host shall be mounted here before it is looked at.
	 */
	snprintf(data, sizeof(data), "lowerdir=%s/.,upperdir=%s,workdir=%s", path, upper, work);
	/* With the mode that programs expect; the lower folder's own is not known here. */
	if (STEP("mkdir", upper, strcmp(dir, "/tmp") == 0 ? "1777" : "755") < 0 ||
	    STEP("mkdir", work, "755") < 0)
		return -err->code;
	return mount_step(steps, false, "overlay", path, "overlay", 0, data, err);
}

static int overlay_steps(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	static const char *const usual[] = { "/etc",  "/var", "/tmp", "/home",
					     "/root", "/srv", "/opt", "/mnt" };
	const struct run_word *more = cfg->overlays.items;
	const char *root = cfg->root != NULL ? cfg->root : "";

	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
		char path[PATH_MAX];
		struct stat st;

		snprintf(path, sizeof(path), "%s%s", root, usual[i]);
		if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
		    overlay_step(steps, usual[i], err) < 0)
			return -err->code;
	}
	for (size_t i = 0; i < cfg->overlays.n; i++)
		if (overlay_step(steps, more[i].text, err) < 0)
			return -err->code;
	return 0;
}

static int root_steps(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	const struct run_word *rwdir = cfg->rwdirs.items;
	bool image = root_is_image(cfg);

	if (STEP("mkdir", NEW, "755") < 0)
		return -err->code;
	if (image ? mount_step(steps, false, "/dev/vda", NEW, "ext4", 0, "", err) < 0
		  : mount_step(steps, false, RUN_TAG_ROOT, NEW, "virtiofs", cfg->rw ? 0 : MS_RDONLY,
			       "", err) < 0)
		return -err->code;
	if (mount_step(steps, false, "run", NEW "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755",
		       err) < 0 ||
	    STEP("mkdir", UPPER, "700") < 0)
		return -err->code;
	if (!image && !cfg->rw && overlay_steps(cfg, steps, err) < 0)
		return -err->code;
	for (size_t i = 0; i < cfg->rwdirs.n; i++) {
		char tag[32], path[PATH_MAX + 16];

		snprintf(tag, sizeof(tag), RUN_TAG_RW "%zu", i);
		snprintf(path, sizeof(path), NEW "%s", rwdir[i].text);
		if (mount_step(steps, false, tag, path, "virtiofs", 0, "", err) < 0)
			return -err->code;
	}
	return 0;
}

/* What every program takes for granted. */
static int system_steps(struct run_steps *steps, struct err *err)
{
	const struct {
		const char *source, *path, *type;
		unsigned long flags;
		const char *data;
		bool try;
	} mounts[] = {
		{ "proc", NEW "/proc", "proc", SAFE, "", false },
		{ "sys", NEW "/sys", "sysfs", SAFE, "", false },
		{ "dev", NEW "/dev", "devtmpfs", MS_NOSUID, "", false },
		{ "devpts", NEW "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		  "gid=5,mode=620,ptmxmode=666", true },
		{ "shm", NEW "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777", true },
		{ "cgroup2", NEW "/sys/fs/cgroup", "cgroup2", SAFE, "nsdelegate", true },
		{ "debugfs", NEW "/sys/kernel/debug", "debugfs", SAFE, "", true },
		{ "tracefs", NEW "/sys/kernel/tracing", "tracefs", SAFE, "", true },
		{ "bpf", NEW "/sys/fs/bpf", "bpf", SAFE, "mode=700", true },
		{ "securityfs", NEW "/sys/kernel/security", "securityfs", SAFE, "", true },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		if (i == 3 && (STEP("try", "mkdir", NEW "/dev/pts", "755") < 0 ||
			       STEP("try", "mkdir", NEW "/dev/shm", "1777") < 0))
			return -err->code;
		if (mount_step(steps, mounts[i].try, mounts[i].source, mounts[i].path,
			       mounts[i].type, mounts[i].flags, mounts[i].data, err) < 0)
			return -err->code;
	}
	if (STEP("try", "link", "/proc/self/fd", NEW "/dev/fd") < 0 ||
	    STEP("try", "link", "/proc/self/fd/0", NEW "/dev/stdin") < 0 ||
	    STEP("try", "link", "/proc/self/fd/1", NEW "/dev/stdout") < 0 ||
	    STEP("try", "link", "/proc/self/fd/2", NEW "/dev/stderr") < 0 || STEP("root", NEW) < 0)
		return -err->code;
	return STEP("try", "up", "lo");
}

/* "UID" or "UID:GID"; a GID that is not there is the UID. */
static bool parse_ids(const char *text, unsigned *uid, unsigned *gid)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	*uid = *gid = (unsigned)strtoul(text, &end, 10);
	if (*end == ':' && end[1] >= '0' && end[1] <= '9')
		*gid = (unsigned)strtoul(end + 1, &end, 10);
	return *end == '\0';
}

static int user_step(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	char uid[16], gid[16], group[64][16];
	const char *words[3 + 64 + 1] = { "user", uid, gid };
	gid_t groups[64];
	unsigned u = 0, g = 0;
	int n = 0;

	if (cfg->user == NULL && cfg->root == NULL) {
		u = geteuid();
		g = getegid();
		n = getgroups(64, groups);
	} else if (cfg->user != NULL && strcmp(cfg->user, "root") != 0 &&
		   !parse_ids(cfg->user, &u, &g)) {
		return err_set(err, EINVAL, "--user %s: is neither root, UID nor UID:GID",
			       cfg->user);
	}
	snprintf(uid, sizeof(uid), "%u", u);
	snprintf(gid, sizeof(gid), "%u", g);
	for (int i = 0; i < n; i++) {
		snprintf(group[i], sizeof(group[i]), "%u", groups[i]);
		words[3 + i] = group[i];
	}
	return run_steps_add(steps, words, err);
}

static int env_steps(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	static const char *const few[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"
	};
	static const char *const taken[] = { "TERM", "LANG" };
	const struct run_word *word = cfg->env.items;

	if (cfg->root == NULL) {
		for (char **e = environ; *e != NULL; e++)
			if (STEP("env", *e) < 0)
				return -err->code;
	} else {
		for (size_t i = 0; i < 2; i++) {
			const char *value = getenv(taken[i]);
			char text[256];

			snprintf(text, sizeof(text), "%s=%s", taken[i], value != NULL ? value : "");
			if (STEP("env", few[i]) < 0 || (value != NULL && STEP("env", text) < 0))
				return -err->code;
		}
	}
	/* What comes later wins. */
	for (size_t i = 0; i < cfg->env.n; i++) {
		const char *text = word[i].text, *value = getenv(text);
		char *both = NULL;
		int r;

		if (strchr(text, '=') == NULL) {
			if (value == NULL)
				continue;
			if (asprintf(&both, "%s=%s", text, value) < 0)
				return err_sys(err, ENOMEM, "--env");
			text = both;
		}
		r = STEP("env", text);
		free(both);
		if (r < 0)
			return r;
	}
	return 0;
}

static int command_steps(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	char cwd[PATH_MAX] = "/";
	const char *shell = getenv("SHELL");
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };

	if (cfg->cwd == NULL && cfg->root == NULL && getcwd(cwd, sizeof(cwd)) == NULL)
		strcpy(cwd, "/");
	if (STEP("cwd", cfg->cwd != NULL ? cfg->cwd : cwd) < 0)
		return -err->code;
	if (cfg->has_tty) {
		char rows[8], cols[8];

		(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &ws);
		snprintf(rows, sizeof(rows), "%u", ws.ws_row);
		snprintf(cols, sizeof(cols), "%u", ws.ws_col);
		if (STEP("tty", rows, cols) < 0)
			return -err->code;
	}
	for (char *const *w = cfg->words; *w != NULL; w++)
		if (STEP("arg", *w) < 0)
			return -err->code;
	if (*cfg->words != NULL)
		return 0;
	return STEP("arg", shell != NULL && cfg->root == NULL ? shell : "/bin/sh");
}

int run_steps_make(const struct run_config *cfg, struct run_steps *steps, struct err *err)
{
	*steps = (struct run_steps){ 0 };
	if (root_steps(cfg, steps, err) < 0 || system_steps(steps, err) < 0 ||
	    run_net_steps(cfg, steps, err) < 0 || user_step(cfg, steps, err) < 0 ||
	    env_steps(cfg, steps, err) < 0)
		return -err->code;
	return command_steps(cfg, steps, err);
}

void run_steps_free(struct run_steps *steps)
{
	for (unsigned i = 0; i < steps->n; i++)
		free(steps->step[i].words);
	free(steps->step);
	*steps = (struct run_steps){ 0 };
}

void run_steps_explain(const struct run_steps *steps, unsigned i, char *text, size_t size)
{
	size_t n = 0;

	if (i >= steps->n) {
		snprintf(text, size, "start the command");
		return;
	}
	for (size_t k = 0; k + 1 < steps->step[i].len && n + 1 < size; k++)
		text[n++] = steps->step[i].words[k] != '\0' ? steps->step[i].words[k] : ' ';
	text[n] = '\0';
}
