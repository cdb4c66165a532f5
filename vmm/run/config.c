// SPDX-License-Identifier: Apache-2.0
/*
 * The options of `vmm run`, and what it makes of them: the shares, the console port and the
 * settings of the machine that it takes.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "devices/virtio_console.h"
#include "vmm/devices.h"
#include "vmm/run/run.h"
#include "vmm/run/matrix.h"

#define HANG_NS	  (60ull * 1000000000)
#define OPT_BYTES (3 * PATH_MAX)
/* Magic SysRq: print all that follows, where the CPUs are, which tasks are blocked. */
#define ON_HANG "9lw"

static const char *const tty_names[] = { "auto", "on", "off", NULL };

#define RUN(field) offsetof(struct run_config, field)
#define TEXT_KEYS(id, name_, arg_, help_)                                                          \
	static const struct opt_key id[] = {                                                       \
		{ .name = name_, .type = OPT_STR, .arg = arg_, .help = help_ }, { 0 }              \
	}

TEXT_KEYS(root_keys, "path", "PATH", "folder or disk image");
TEXT_KEYS(cwd_keys, "path", "PATH", "working folder in the guest");
TEXT_KEYS(user_keys, "user", "USER", "name or UID[:GID]");
TEXT_KEYS(modules_keys, "path", "DIR", "folder of kernel modules");
TEXT_KEYS(log_keys, "path", "FILE", "where the kernel log goes");
TEXT_KEYS(fail_keys, "kinds", "KIND,...", "what the kernel log may not have");
TEXT_KEYS(json_keys, "path", "FILE", "where the report goes");
TEXT_KEYS(artifacts_keys, "path", "DIR", "folder for what a run leaves");
TEXT_KEYS(kernels_keys, "pattern", "PATTERN", "path of kernels, may have * ? and []");
TEXT_KEYS(commands_keys, "path", "FILE", "commands, one a line");
TEXT_KEYS(dir_keys, "path", "DIR", "folder");
TEXT_KEYS(env_keys, "assignment", "NAME[=VALUE]", "environment variable");
static const struct opt_key rw_keys[] = {
	{ .name = "on", .type = OPT_BOOL, .def = "off", .help = "let the guest write to it" }, { 0 }
};
static const struct opt_key repeat_keys[] = { { .name = "times",
						.type = OPT_UINT,
						.def = "1",
						.min = 1,
						.max = RUN_MATRIX_MAX,
						.arg = "N",
						.help = "how often" },
					      { 0 } };
static const struct opt_key jobs_keys[] = { { .name = "count",
					      .type = OPT_UINT,
					      .def = "1",
					      .min = 1,
					      .max = 1024,
					      .arg = "N",
					      .help = "runs at a time" },
					    { 0 } };
static const struct opt_key tty_keys[] = { { .name = "when",
					     .type = OPT_ENUM,
					     .values = tty_names,
					     .def = "auto",
					     .arg = "WHEN",
					     .help = "whether the command gets a terminal" },
					   { 0 } };

/* clang-format off */
const struct opt run_options[] = {
	{ .name = "root", .keys = root_keys, .plain = true, .offset = RUN(root), .section = "Command",
	  .help = "The guest's root: a folder of the host (/ if nothing is said), which the guest "
		  "cannot change, or a disk image with ext4." },
	{ .name = "rw", .keys = rw_keys, .plain = true, .offset = RUN(rw),
	  .help = "Let the guest write to the root folder, as the user you are." },
	{ .name = "rwdir", .keys = dir_keys, .plain = true, .offset = RUN(rwdirs),
	  .size = sizeof(struct run_word), .max = 16,
	  .help = "A folder of the host, at the same place in the guest, that it may write to." },
	{ .name = "overlay", .keys = dir_keys, .plain = true, .offset = RUN(overlays),
	  .size = sizeof(struct run_word), .max = 32,
	  .help = "A folder in which what the guest writes stays in its memory, besides /etc, /var, "
		  "/tmp, /home, /root, /srv, /opt and /mnt." },
	{ .name = "cwd", .keys = cwd_keys, .plain = true, .offset = RUN(cwd),
	  .help = "Working folder of the command; this one if nothing is said." },
	{ .name = "user", .keys = user_keys, .plain = true, .offset = RUN(user),
	  .help = "Who runs the command: UID, UID:GID, or root; you if nothing is said." },
	{ .name = "env", .keys = env_keys, .plain = true, .offset = RUN(env),
	  .size = sizeof(struct run_word), .max = 256,
	  .help = "Set a variable, or with NAME alone take it from here. With the root / the "
		  "environment comes along anyway." },
	{ .name = "tty", .keys = tty_keys, .plain = true, .offset = RUN(tty),
	  .help = "Give the command a terminal: auto does when all three standard streams are one." },
	{ .name = "modules", .keys = modules_keys, .plain = true, .offset = RUN(modules),
	  .help = "Where the kernel's modules are, when not in its build tree, in lib/modules beside it "
		  "or in /lib/modules." },
	{ .name = "log", .keys = log_keys, .plain = true, .offset = RUN(log),
	  .help = "Write the kernel log to FILE." },
	{ .name = "fail-on", .keys = fail_keys, .plain = true, .offset = RUN(fail_on),
	  .help = "Status 123 when the command succeeds but the kernel log has one of these: oops, bug, "
		  "warn, lockdep, kasan, ubsan, kcsan, kmsan, rcu, hung, lockup, leak; all is every one." },

	{ .name = "json", .keys = json_keys, .plain = true, .offset = RUN(json),
	  .section = "Reports", .help = "Write a report as JSON: how it ended, times, complaints, results of tests." },
	{ .name = "junit", .keys = json_keys, .plain = true, .offset = RUN(junit),
	  .help = "Write a report as JUnit's XML, with the results of TAP and KTAP in the output and the "
		  "kernel log." },
	{ .name = "artifacts", .keys = artifacts_keys, .plain = true, .offset = RUN(artifacts),
	  .help = "Keep kernel log, output, kernel command line, reports and the core of a guest that dies "
		  "in DIR; of several runs each in a folder there, and then the output is not shown." },

	{ .name = "kernels", .keys = kernels_keys, .plain = true, .offset = RUN(kernels),
	  .size = sizeof(struct run_word), .max = 64, .section = "Several runs",
	  .help = "Do it with each of these kernels, and with that of --kernel if given." },
	{ .name = "commands", .keys = commands_keys, .plain = true, .offset = RUN(commands),
	  .help = "Instead of a command behind --: do each line of FILE, by the guest's shell. Empty "
		  "lines and those with a # in front are none." },
	{ .name = "repeat", .keys = repeat_keys, .plain = true, .offset = RUN(repeat),
	  .help = "Do it N times." },
	{ .name = "jobs", .letter = 'j', .keys = jobs_keys, .plain = true, .offset = RUN(jobs),
	  .help = "Have N virtual machines at a time." },
	{ 0 }
};
/* clang-format on */

/* @path with what would end a value of an option escaped. */
static void escape(const char *path, char *to, size_t size)
{
	size_t n = 0;

	for (; *path != '\0' && n + 2 < size; path++) {
		if (*path == ',' || *path == '\\')
			to[n++] = '\\';
		to[n++] = *path;
	}
	to[n] = '\0';
}

static int add_share(struct run_config *cfg, const char *path, const char *tag, bool rw,
		     struct err *err)
{
	char escaped[2 * PATH_MAX], value[OPT_BYTES];
	bool same = cfg->root == NULL; /* the host's own: ids are what they are here */

	escape(path, escaped, sizeof(escaped));
	snprintf(value, sizeof(value), "path=%s,tag=%s%s,uid=%u,gid=%u", escaped, tag,
		 rw ? "" : ",ro", same ? geteuid() : 0, same ? getegid() : 0);
	return opt_apply(cfg->vm.options, cfg, "share", value, err);
}

/* The guest cannot make what it needs to mount on. */
static int check_root(const char *root, struct err *err)
{
	static const char *const needed[] = { "run", "proc", "sys", "dev" };

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		char path[PATH_MAX];
		struct stat st;

		snprintf(path, sizeof(path), "%s/%s", root, needed[i]);
		if (lstat(path, &st) < 0 && errno == ENOENT)
			return err_set(err, ENOENT,
				       "--root %s: /%s is missing in it; the guest mounts on /run, "
				       "/proc, /sys and /dev",
				       root, needed[i]);
	}
	return 0;
}

static int add_root(struct run_config *cfg, struct err *err)
{
	const char *root = cfg->root != NULL ? cfg->root : "/";
	char escaped[2 * PATH_MAX], value[OPT_BYTES];
	struct stat st;

	if (stat(root, &st) < 0)
		return err_sys(err, errno, "--root %s", root);
	if (S_ISDIR(st.st_mode) && check_root(root, err) < 0)
		return -err->code;
	if (S_ISDIR(st.st_mode))
		return add_share(cfg, root, RUN_TAG_ROOT, cfg->rw, err);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "--root %s: is neither a folder nor a disk image",
			       root);
	escape(root, escaped, sizeof(escaped));
	snprintf(value, sizeof(value), "path=%s%s", escaped, cfg->rw ? "" : ",overlay");
	return opt_apply(cfg->vm.options, cfg, "disk", value, err);
}

/* Each folder to be written is a share of its own, with its place in the list as its tag. */
static int add_rwdirs(struct run_config *cfg, struct err *err)
{
	const struct run_word *dir = cfg->rwdirs.items;

	for (size_t i = 0; i < cfg->rwdirs.n; i++) {
		char tag[32];

		if (dir[i].text[0] != '/')
			return err_set(err, EINVAL, "--rwdir %s: give its whole path, from /",
				       dir[i].text);
		snprintf(tag, sizeof(tag), RUN_TAG_RW "%zu", i);
		if (add_share(cfg, dir[i].text, tag, true, err) < 0)
			return -err->code;
	}
	return 0;
}

/* All the kernels there are to be; the first is --kernel. */
static int find_kernels(struct run_config *cfg, struct err *err)
{
	const struct run_word *pattern = cfg->kernels.items;
	char **kernel = &cfg->vm.machine.kernel;

	if (*kernel != NULL && run_glob_add(*kernel, &cfg->paths, err) < 0)
		return -err->code;
	for (size_t i = 0; i < cfg->kernels.n; i++)
		if (run_glob(pattern[i].text, &cfg->paths, err) < 0)
			return err_context(err, "--kernels");
	if (*kernel == NULL && cfg->paths.n > 0) {
		*kernel = strdup(cfg->paths.path[0]);
		if (*kernel == NULL)
			return err_sys(err, ENOMEM, "kernels");
	}
	return 0;
}

/* The kernel of this host, when none is named. */
static int find_kernel(struct run_config *cfg, struct err *err)
{
	struct utsname name;
	char path[PATH_MAX];

	if (cfg->vm.machine.kernel != NULL)
		return 0;
	uname(&name);
	snprintf(path, sizeof(path), "/boot/vmlinuz-%s", name.release);
	if (access(path, R_OK) < 0)
		return err_sys(
			err, errno,
			"no kernel given (--kernel PATH), and this host's own, %s, cannot be "
			"read",
			path);
	cfg->vm.machine.kernel = strdup(path);
	if (cfg->vm.machine.kernel == NULL)
		return err_sys(err, ENOMEM, "kernel");
	return run_glob_add(path, &cfg->paths, err);
}

/* What follows from what was given, and from what was not. */
static int settle(struct run_config *cfg, struct err *err)
{
	bool all = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);

	cfg->has_tty = cfg->tty == RUN_TTY_ON || (cfg->tty == RUN_TTY_AUTO && all);
	if (cfg->log != NULL && cfg->artifacts != NULL)
		return err_set(
			err, EINVAL,
			"--log: --artifacts keeps the log, too, as kernel.log; give one of them");
	if (!vm_config_given(&cfg->vm, "serial"))
		cfg->vm.serial.to = CHARDEV_NULL;
	if (cfg->vm.serial.to == CHARDEV_STDIO)
		return err_set(err, EINVAL,
			       "--serial stdio: the standard streams are the command's; see --log "
			       "and --verbose");
	if (!vm_config_given(&cfg->vm, "hang-timeout"))
		cfg->vm.hang_timeout_ns = HANG_NS;
	if (!vm_config_given(&cfg->vm, "on-hang")) {
		cfg->vm.on_hang.sysrq = strdup(ON_HANG);
		if (cfg->vm.on_hang.sysrq == NULL)
			return err_sys(err, ENOMEM, "--on-hang");
	}
	cfg->vm.reboot = false;
	if (!vm_config_given(&cfg->vm, "mem"))
		cfg->vm.machine.mem.size = 1ull << 30;
	return run_net_settle(cfg, err);
}

int run_config_parse(struct run_config *cfg, int argc, char *const *argv, struct err *err)
{
	int used = 0;

	if (vm_config_read(&cfg->vm, sizeof(*cfg), run_options, argc, argv, &used, err) < 0)
		return -err->code;
	cfg->words = argv + used;
	if (cfg->vm.help)
		return vm_config_check(&cfg->vm, err);
	if (used > 0 && used < argc && strcmp(argv[used - 1], "--") != 0)
		return err_set(err, EINVAL, "unexpected argument '%s'; the command goes behind --",
			       argv[used]);
	if (find_kernels(cfg, err) < 0 || find_kernel(cfg, err) < 0 || settle(cfg, err) < 0)
		return -err->code;
	if (cfg->vm.dry_run) {
		/* With --config the root and the agent's port are added again. */
		cfg->asked = vm_config_json(&cfg->vm);
		if (cfg->asked == NULL)
			return err_sys(err, ENOMEM, "--dry-run");
	}
	if (add_root(cfg, err) < 0 || add_rwdirs(cfg, err) < 0 ||
	    opt_apply(cfg->vm.options, cfg, "console", "null,name=" AGENT_PORT, err) < 0)
		return -err->code;
	return vm_config_check(&cfg->vm, err);
}

void run_config_free(struct run_config *cfg)
{
	vm_config_free(&cfg->vm);
	run_paths_fini(&cfg->paths);
	free(cfg->line);
	free(cfg->asked);
	cfg->line = cfg->asked = NULL;
}
