// SPDX-License-Identifier: Apache-2.0
/*
 * A kernel's release, configuration and modules, for `vmm run`.
 *
 * Modules are looked for in the folder that --modules names; in the tree the kernel was built in
 * (the image lies in its arch/x86/boot, or is its vmlinux); in lib/modules/RELEASE beside the
 * image; and in /lib/modules/RELEASE. Such a folder lists what is built in (modules.builtin) and
 * what there is (modules.dep when installed, modules.order in a build tree). What a module needs
 * stands in the module itself (.modinfo, "depends="). Distributions compress modules; the
 * program that does is asked to undo it.
 *
 * The configuration is the file .config in the build tree, config-RELEASE or config beside the
 * image, or the folder's own; where there is one, something that the kernel lacks is told before
 * it is booted.
 */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libgen.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "arch/arch.h"
#include "guest/agent.h"
#include "vmm/run/kernel.h"

#define TEXT_MAX   (64u << 20) /* of a list, a configuration, a module */
#define LOADED_MAX 64
#define NAME_MAX_  64

extern char **environ;

/* --- Files --- */

/* All of the open @fd (closed), with a NUL behind it. NULL: errno. */
static char *read_fd(int fd, size_t *len)
{
	size_t size = 65536, have = 0;
	char *text = malloc(size + 1);
	ssize_t n;

	while (text != NULL && (n = read(fd, text + have, size - have)) != 0) {
		char *more = text;

		if (n < 0 && errno == EINTR)
			continue;
		have += n > 0 ? (size_t)n : 0;
		if (n > 0 && have == size) {
			size *= 2;
			more = size <= TEXT_MAX ? realloc(text, size + 1) : NULL;
		}
		if (n < 0 || more == NULL) {
			free(text);
			text = NULL;
			break;
		}
		text = more;
	}
	close(fd);
	if (text == NULL)
		return NULL;
	text[have] = '\0';
	if (len != NULL)
		*len = have;
	return text;
}

/* The file FOLDER/NAME; NULL when there is none. */
static char *read_in(const char *folder, const char *name, size_t *len)
{
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
		return NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? NULL : read_fd(fd, len);
}

/* --- Finding --- */

static bool use_dir(struct run_kernel *k, const char *dir)
{
	k->list = read_in(dir, "modules.dep", NULL);
	if (k->list == NULL)
		k->list = read_in(dir, "modules.order", NULL);
	k->builtin = read_in(dir, "modules.builtin", NULL);
	if (k->list == NULL && k->builtin == NULL)
		return false;
	k->dir = strdup(dir);
	return true;
}

/* The folder the image is in, and the top of the tree if that was built there. */
static void places(const char *path, char beside[PATH_MAX], char tree[PATH_MAX])
{
	static const char boot[] = "/arch/x86/boot";
	size_t len;

	*tree = '\0';
	if (realpath(path, beside) == NULL) {
		*beside = '\0';
		return;
	}
	dirname(beside);
	strcpy(tree, beside);
	len = strlen(tree);
	if (len > sizeof(boot) && strcmp(tree + len - (sizeof(boot) - 1), boot) == 0)
		tree[len - (sizeof(boot) - 1)] = '\0';
}

int run_kernel_init(struct run_kernel *k, const char *path, const char *modules, struct err *err)
{
	char beside[PATH_MAX], tree[PATH_MAX], dir[2 * PATH_MAX + RUN_RELEASE_MAX];

	*k = (struct run_kernel){ 0 };
	if (arch_kernel_release(path, k->release, sizeof(k->release), err) < 0)
		return -err->code;
	places(path, beside, tree);
	if (modules != NULL && !use_dir(k, modules)) {
		snprintf(dir, sizeof(dir), "%s/lib/modules/%s", modules, k->release);
		if (!use_dir(k, dir))
			return err_set(err, ENOENT,
				       "--modules %s: there is neither modules.dep nor "
				       "modules.order, and no lib/modules/%s",
				       modules, k->release);
	}
	if (k->dir == NULL && *tree != '\0')
		(void)use_dir(k, tree);
	if (k->dir == NULL && *k->release != '\0') {
		snprintf(dir, sizeof(dir), "%s/lib/modules/%s", beside, k->release);
		if (!use_dir(k, dir)) {
			snprintf(dir, sizeof(dir), "%s/modules/lib/modules/%s", beside, k->release);
			if (!use_dir(k, dir)) {
				snprintf(dir, sizeof(dir), "/lib/modules/%s", k->release);
				(void)use_dir(k, dir);
			}
		}
	}
	if (*tree != '\0')
		k->config = read_in(tree, ".config", NULL);
	snprintf(dir, sizeof(dir), "config-%s", k->release);
	if (k->config == NULL)
		k->config = read_in(beside, dir, NULL);
	if (k->config == NULL)
		k->config = read_in(beside, "config", NULL);
	if (k->config == NULL && k->dir != NULL)
		k->config = read_in(k->dir, "config", NULL);
	return 0;
}

void run_kernel_fini(struct run_kernel *k)
{
	free(k->config);
	free(k->dir);
	free(k->builtin);
	free(k->list);
	*k = (struct run_kernel){ 0 };
}

/* --- Names --- */

/* The name of the module whose path is the @len bytes at @path: no folder, no ending, '_'. */
static bool module_name(const char *path, size_t len, char name[NAME_MAX_])
{
	const char *base = path, *end = path + len;
	size_t n = 0;

	for (const char *p = path; p < end; p++)
		if (*p == '/')
			base = p + 1;
	for (; base < end && *base != '.' && n < NAME_MAX_ - 1; base++)
		name[n++] = *base == '-' ? '_' : *base;
	name[n] = '\0';
	return n > 0;
}

/* The path in @list (lines, each up to a ':' or its end) of module @want. Its length or 0. */
static size_t find_in(const char *list, const char *want, const char **path)
{
	char name[NAME_MAX_];

	for (const char *line = list; line != NULL && *line != '\0';) {
		size_t len = strcspn(line, ":\n");

		if (module_name(line, len, name) && strcmp(name, want) == 0) {
			*path = line;
			return len;
		}
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	return 0;
}

/* 'y', 'm', 'n', or 0 when there is no configuration. */
static char configured(const struct run_kernel *k, const char *option)
{
	char line[80];
	const char *p;
	int len;

	if (k->config == NULL)
		return 0;
	len = snprintf(line, sizeof(line), "\nCONFIG_%s=", option);
	p = strstr(k->config, line);
	return p == NULL ? 'n' : p[len];
}

/* --- Modules --- */

/* Run @program -dc on the file, and read what it says. */
static char *unpack(const char *program, int file, size_t *len, struct err *err)
{
	char *argv[] = { (char *)program, (char *)"-dc", NULL }, *text;
	posix_spawn_file_actions_t actions;
	int pipes[2], status, r;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0) {
		err_sys(err, errno, "pipe");
		return NULL;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, file, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
	r = posix_spawnp(&pid, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[1]);
	if (r != 0) {
		close(pipes[0]);
		err_sys(err, r, "cannot run %s, which is needed to unpack it", program);
		return NULL;
	}
	text = read_fd(pipes[0], len);
	if (waitpid(pid, &status, 0) != pid || status != 0 || text == NULL) {
		free(text);
		err_set(err, EIO, "%s cannot unpack it", program);
		return NULL;
	}
	return text;
}

static char *read_module(const char *dir, const char *path, size_t path_len, size_t *len,
			 struct err *err)
{
	static const struct {
		const char *magic;
		size_t len;
		const char *program;
	} packed[] = { { "\xfd\x37zXZ", 5, "xz" },
		       { "\x28\xb5\x2f\xfd", 4, "zstd" },
		       { "\x1f\x8b", 2, "gzip" } };
	char full[PATH_MAX], head[6] = "";
	char *text;
	int fd;

	/* modules.order names what a module is made of, in trees of before 6.2. */
	if (*path == '/' || snprintf(full, sizeof(full), "%s/%.*s", dir, (int)path_len, path) >=
				    (int)sizeof(full)) {
		err_set(err, EINVAL, "its path in the list is %.*s", (int)path_len, path);
		return NULL;
	}
	if (strcmp(full + strlen(full) - 2, ".o") == 0)
		strcpy(full + strlen(full) - 2, ".ko");
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err_sys(err, errno, "cannot open %s", full);
		return NULL;
	}
	if (pread(fd, head, sizeof(head), 0) > 0) {
		for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++) {
			if (memcmp(head, packed[i].magic, packed[i].len) != 0)
				continue;
			text = unpack(packed[i].program, fd, len, err);
			close(fd);
			return text;
		}
	}
	text = read_fd(fd, len);
	if (text == NULL)
		err_sys(err, errno, "cannot read %s", full);
	return text;
}

/* Section @scn of the file in memory, which has @len bytes; NULL when it is not all in there. */
static char *section(Elf_Scn *scn, char *file, size_t len, GElf_Shdr *header)
{
	if (scn == NULL || gelf_getshdr(scn, header) == NULL || header->sh_type == SHT_NOBITS ||
	    header->sh_size == 0 || header->sh_offset > len ||
	    header->sh_size > len - header->sh_offset)
		return NULL;
	return file + header->sh_offset;
}

/* The value of "depends=" in the module's .modinfo, in place; NULL when there is none. */
static const char *depends(char *module, size_t len)
{
	const char *found = NULL, *names = NULL, *info;
	GElf_Shdr header, names_header;
	Elf_Scn *scn = NULL;
	size_t strings;
	Elf *elf;

	elf_version(EV_CURRENT);
	elf = elf_memory(module, len);
	/* Not elf_strptr(), which brings zlib into the program. */
	if (elf != NULL && elf_getshdrstrndx(elf, &strings) == 0)
		names = section(elf_getscn(elf, strings), module, len, &names_header);
	if (names != NULL && names[names_header.sh_size - 1] != '\0')
		names = NULL;
	while (names != NULL && found == NULL && (scn = elf_nextscn(elf, scn)) != NULL) {
		info = section(scn, module, len, &header);
		if (info == NULL || header.sh_name >= names_header.sh_size ||
		    strcmp(names + header.sh_name, ".modinfo") != 0 ||
		    info[header.sh_size - 1] != '\0')
			continue;
		for (const char *p = info; p < info + header.sh_size; p += strlen(p) + 1)
			if (strncmp(p, "depends=", 8) == 0)
				found = p + 8;
	}
	elf_end(elf);
	return found;
}

struct load {
	const struct run_kernel *k;
	struct cpio *cpio;
	unsigned n;
	char name[LOADED_MAX][NAME_MAX_];
};

static int add_module(struct load *load, const char *name, unsigned depth, struct err *err);

/* Those in the comma-separated list, first. */
static int add_list(struct load *load, const char *list, unsigned depth, struct err *err)
{
	char name[NAME_MAX_];

	while (list != NULL && *list != '\0') {
		size_t len = strcspn(list, ",");

		if (module_name(list, len, name) && add_module(load, name, depth + 1, err) < 0)
			return -err->code;
		list += len + (list[len] == ',');
	}
	return 0;
}

static int add_module(struct load *load, const char *name, unsigned depth, struct err *err)
{
	const struct run_kernel *k = load->k;
	char entry[NAME_MAX_ + 32], *text;
	const char *path;
	size_t path_len, len;
	int r;

	for (unsigned i = 0; i < load->n; i++)
		if (strcmp(load->name[i], name) == 0)
			return 0;
	if (find_in(k->builtin, name, &path) > 0)
		return 0;
	path_len = find_in(k->list, name, &path);
	if (path_len == 0 || load->n == LOADED_MAX || depth > 16)
		return err_set(err, ENOENT, "module %s is not in %s", name, k->dir);
	text = read_module(k->dir, path, path_len, &len, err);
	if (text == NULL)
		return err_context(err, "module %s", name);
	r = add_list(load, depends(text, len), depth, err);
	if (r == 0 && load->n < LOADED_MAX) {
		snprintf(entry, sizeof(entry), "%s/%03u-%s.ko", AGENT_MODULES + 1, load->n, name);
		strcpy(load->name[load->n++], name);
		r = cpio_add(load->cpio, entry, S_IFREG | 0644, 0, text, len, err);
	}
	free(text);
	return r;
}

static int add_wanted(struct load *load, const struct run_want *want, struct err *err)
{
	const struct run_kernel *k = load->k;
	char is = configured(k, want->option);
	const char *path;

	if (is == 'y' || find_in(k->builtin, want->module, &path) > 0)
		return 0;
	if (find_in(k->list, want->module, &path) > 0)
		return add_module(load, want->module, 0, err);
	if (is == 'm' && k->dir == NULL)
		return err_set(err, ENOENT,
			       "kernel %s has %s as module %s, and there is no /lib/modules/%s; "
			       "name the folder by --modules",
			       k->release, want->what, want->module, k->release);
	if (is == 'n' || k->builtin != NULL)
		return err_set(err, ENOENT, "kernel %s has no %s: it needs CONFIG_%s", k->release,
			       want->what, want->option);
	return 0; /* nobody knows; the agent will see */
}

int run_kernel_add_modules(const struct run_kernel *k, const struct run_want *wants,
			   struct cpio *cpio, struct err *err)
{
	struct load load = { .k = k, .cpio = cpio };

	if (cpio_add(cpio, AGENT_MODULES + 1, S_IFDIR | 0755, 0, NULL, 0, err) < 0)
		return -err->code;
	for (; wants->module != NULL; wants++)
		if (add_wanted(&load, wants, err) < 0)
			return -err->code;
	return 0;
}
