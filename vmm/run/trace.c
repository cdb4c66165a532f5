// SPDX-License-Identifier: Apache-2.0
/*
 * Stack traces with file and line.
 *
 * Theory of operation. A trace has "symbol+0x12/0x34": an offset into the symbol, and its size.
 * Where the kernel was loaded (KASLR) does not matter for these. The symbol is looked up in the
 * kernel's vmlinux, which is the image itself, in the build tree the image is in, beside the image,
 * or where distributions put it. It must be of the same release, and a symbol of that name must
 * have that size there: otherwise it is not the kernel that ran, and a wrong line is worse than
 * none. All addresses go to one addr2line (binutils), which is ended if it takes too long. A
 * return address is the one behind the call, so what is looked up is one byte less, but for "RIP:".
 *
 * The text comes from a guest: of it, only names and numbers are used, the former to compare.
 *
 * Limits: no lines for addresses in modules, nor from compressed or split debug information.
 *
 * glibc's qsort() asks how much memory there is when it has a lot to sort.
 *
 * #syscalls files: openat read pread64 newfstatat fstat sysinfo
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "devices/broker.h"
#include "vmm/base/loop.h"
#include "vmm/run/trace.h"

#define PLACES_MAX 64
#define OUTPUT_MAX (64u << 10) /* of addr2line */
#define SYMBOL_MAX 128
#define BANNER_MAX 512

static const char *const base_argv[] = { "addr2line", "-e", NULL };

/* A place in a trace. */
struct place {
	unsigned line; /* which it is in */
	char symbol[SYMBOL_MAX];
	uint64_t offset, size;
	bool exact; /* not a return address */
	uint64_t address;
	bool found;
};

struct trace {
	struct place place[PLACES_MAX];
	unsigned n;
	uint64_t start; /* of start_kernel: its file's name tells where the tree is */
	char vmlinux[PATH_MAX];
};

/* --- What a trace says --- */

static bool is_symbol(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '$';
}

static bool hex(const char **text, uint64_t *value)
{
	char *end;

	if (strncmp(*text, "0x", 2) != 0 || !isxdigit((unsigned char)(*text)[2]))
		return false;
	*value = strtoull(*text, &end, 16);
	*text = end;
	return true;
}

/* The first place that @text names, unless it is in a module. */
static bool find_place(const char *text, struct place *place)
{
	for (const char *p = text; (p = strstr(p, "+0x")) != NULL; p++) {
		const char *begin = p, *rest = p + 1;
		size_t len;

		while (begin > text && is_symbol(begin[-1]))
			begin--;
		len = (size_t)(p - begin);
		if (len == 0 || len >= SYMBOL_MAX || !hex(&rest, &place->offset) ||
		    *rest++ != '/' || !hex(&rest, &place->size) || strncmp(rest, " [", 2) == 0)
			continue;
		memcpy(place->symbol, begin, len);
		place->symbol[len] = '\0';
		place->exact = strstr(text, "RIP:") != NULL || place->offset == 0;
		return true;
	}
	return false;
}

/* --- vmlinux --- */

struct symbols {
	Elf *elf;
	Elf_Data *data, *names;
	size_t n;
};

static bool open_symbols(struct symbols *s, int fd)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;

	*s = (struct symbols){ 0 };
	elf_version(EV_CURRENT);
	s->elf = elf_begin(fd, ELF_C_READ, NULL);
	while (s->elf != NULL && (scn = elf_nextscn(s->elf, scn)) != NULL) {
		if (gelf_getshdr(scn, &header) == NULL || header.sh_type != SHT_SYMTAB ||
		    header.sh_entsize == 0)
			continue;
		s->data = elf_getdata(scn, NULL);
		s->n = header.sh_size / header.sh_entsize;
		scn = elf_getscn(s->elf, header.sh_link);
		s->names = scn != NULL ? elf_getdata(scn, NULL) : NULL;
		return s->data != NULL && s->names != NULL && s->names->d_size > 0 &&
		       ((const char *)s->names->d_buf)[s->names->d_size - 1] == '\0';
	}
	return false;
}

static const char *symbol(const struct symbols *s, size_t i, GElf_Sym *sym)
{
	if (gelf_getsym(s->data, (int)i, sym) == NULL || sym->st_shndx == SHN_UNDEF ||
	    sym->st_shndx >= SHN_LORESERVE || sym->st_name >= s->names->d_size)
		return NULL;
	/* Not elf_strptr(), which brings zlib into the program. */
	return (const char *)s->names->d_buf + sym->st_name;
}

/* Is the text at @sym, linux_banner, that of @release? */
static bool same_release(const struct symbols *s, int fd, const GElf_Sym *sym, const char *release)
{
	char text[BANNER_MAX] = "", want[BANNER_MAX];
	Elf_Scn *scn = elf_getscn(s->elf, sym->st_shndx);
	GElf_Shdr header;

	if (scn == NULL || gelf_getshdr(scn, &header) == NULL || sym->st_value < header.sh_addr ||
	    pread(fd, text, sizeof(text) - 1,
		  (off_t)(header.sh_offset + (sym->st_value - header.sh_addr))) <= 0)
		return false;
	snprintf(want, sizeof(want), "Linux version %s ", release);
	return strncmp(text, want, strlen(want)) == 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* From @address to the next symbol, as the kernel counts it. */
static uint64_t size_of(const uint64_t *sorted, size_t n, uint64_t address)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sorted[middle] <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n ? sorted[low] - address : 0;
}

/* Addresses for all places that are in this vmlinux. False: it is not the one. */
static bool look_up(struct trace *t, int fd, const char *release)
{
	struct symbols s;
	uint64_t *sorted = NULL;
	bool same = false;
	size_t n = 0;

	if (!open_symbols(&s, fd))
		goto out;
	sorted = malloc(s.n * sizeof(*sorted));
	if (sorted == NULL)
		goto out;
	for (size_t i = 0; i < s.n; i++) {
		GElf_Sym sym;
		const char *name = symbol(&s, i, &sym);

		if (name == NULL)
			continue;
		sorted[n++] = sym.st_value;
		if (strcmp(name, "linux_banner") == 0)
			same = same_release(&s, fd, &sym, release);
		else if (strcmp(name, "start_kernel") == 0)
			t->start = sym.st_value;
	}
	if (!same)
		goto out;
	qsort(sorted, n, sizeof(*sorted), compare);
	for (size_t i = 0; i < s.n; i++) {
		GElf_Sym sym;
		const char *name = symbol(&s, i, &sym);

		for (unsigned k = 0; name != NULL && k < t->n; k++) {
			struct place *p = &t->place[k];

			if (p->found || strcmp(p->symbol, name) != 0 || p->offset >= p->size ||
			    size_of(sorted, n, sym.st_value) != p->size)
				continue;
			p->found = true;
			p->address = sym.st_value + p->offset - (p->exact ? 0 : 1);
		}
	}
out:
	free(sorted);
	elf_end(s.elf);
	return same;
}

static bool try_file(struct trace *t, const char *release, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	bool good;

	if (fd < 0)
		return false;
	good = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && look_up(t, fd, release);
	close(fd);
	if (good)
		snprintf(t->vmlinux, sizeof(t->vmlinux), "%s", path);
	return good;
}

static bool find_vmlinux(struct trace *t, const char *kernel, const char *release)
{
	static const struct {
		const char *before, *after;
		bool beside, release;
	} places[] = {
		{ "", "/vmlinux", true, false },
		{ "", "/../../../vmlinux", true, false },
		{ "", "/vmlinux-", true, true },
		{ "/usr/lib/debug/boot/vmlinux-", "", false, true },
		{ "/usr/lib/debug/lib/modules/", "/vmlinux", false, true },
		{ "/lib/modules/", "/build/vmlinux", false, true },
	};
	char folder[PATH_MAX], path[PATH_MAX + 256];

	if (try_file(t, release, kernel))
		return true;
	if (realpath(kernel, folder) == NULL)
		*folder = '\0';
	dirname(folder);
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		bool beside = places[i].beside;

		snprintf(path, sizeof(path), "%s%s%s%s", places[i].before,
			 beside ? folder : release, places[i].after,
			 beside && places[i].release ? release : "");
		if (try_file(t, release, path))
			return true;
	}
	return false;
}

/* --- addr2line --- */

/* What it prints, malloc'ed, or NULL. */
static char *read_output(int fd)
{
	uint64_t end = loop_now_ns() + RUN_TRACE_SECONDS * 1000000000ull, now;
	char *text = malloc(OUTPUT_MAX);
	size_t len = 0;

	while (text != NULL && (now = loop_now_ns()) < end) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = 0;

		if (poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		n = read(fd, text + len, OUTPUT_MAX - 1 - len);
		if (n <= 0) {
			text[len] = '\0';
			return text;
		}
		len += (size_t)n;
	}
	free(text);
	return NULL;
}

static char *addr2line(const struct trace *t, const struct run_tracer *tracer)
{
	char hex_of[PLACES_MAX + 1][20], *text;
	const char *argv[PLACES_MAX + 5];
	struct child child = CHILD_INIT(NULL);
	struct err ignored = ERR_INIT;
	unsigned n = 0;

	while (base_argv[n] != NULL) {
		argv[n] = base_argv[n];
		n++;
	}
	argv[n++] = t->vmlinux;
	snprintf(hex_of[0], sizeof(hex_of[0]), "%llx", (unsigned long long)t->start);
	argv[n++] = hex_of[0];
	for (unsigned i = 0; i < t->n; i++) {
		if (!t->place[i].found)
			continue;
		snprintf(hex_of[i + 1], sizeof(hex_of[0]), "%llx",
			 (unsigned long long)t->place[i].address);
		argv[n++] = hex_of[i + 1];
	}
	argv[n] = NULL;
	child.output = true;
	child.by = tracer->broker;
	child.rule = tracer->rule;
	if (child_start(&child, argv, NULL, 0, 0, &ignored) < 0)
		return NULL;
	text = read_output(child.stderr_fd);
	child_stop(&child);
	return text;
}

/* Put " (@where)" behind the line. */
static void append(char **line, const char *where, size_t len)
{
	char *text;

	if (asprintf(&text, "%s (%.*s)", *line, (int)len, where) < 0)
		return;
	free(*line);
	*line = text;
}

/* Of "/home/me/linux/init/main.c:880" the bytes before "init/main.c". */
static size_t root_len(const char *first)
{
	const char *end = strchr(first, '\n'), *at = strstr(first, "init/main.c:");

	return at != NULL && end != NULL && at < end ? (size_t)(at - first) : 0;
}

static void annotate(const struct trace *t, const char *output, char **lines)
{
	const char *first = output, *at = strchr(output, '\n');
	size_t root = root_len(first);

	for (unsigned i = 0; i < t->n && at != NULL; i++) {
		size_t len, skip;

		if (!t->place[i].found)
			continue;
		at++;
		len = strcspn(at, " \n"); /* " (discriminator 3)" */
		skip = len > root && strncmp(at, first, root) == 0 ? root : 0;
		if (len > skip && *at != '?' && at[len - 1] != '?')
			append(&lines[t->place[i].line], at + skip, len - skip);
		at = strchr(at, '\n');
	}
}

int run_tracer_init(struct run_tracer *tracer, struct broker *broker, struct err *err)
{
	struct broker_rule rule = { .kind = BROKER_RUN, .argv = base_argv, .more = true };

	tracer->broker = broker;
	tracer->rule = broker_allow(broker, &rule, err);
	return tracer->rule < 0 ? tracer->rule : 0;
}

void run_trace_decode(const char *kernel, const char *release, char **lines, unsigned n,
		      struct run_tracer *tracer)
{
	struct trace *t = calloc(1, sizeof(*t));
	char *output = NULL;
	unsigned found = 0;

	if (t == NULL)
		return;
	for (unsigned i = 0; i < n && t->n < PLACES_MAX; i++) {
		struct place *p = &t->place[t->n];

		p->line = i;
		t->n += find_place(lines[i], p);
	}
	if (t->n > 0 && *release != '\0' && find_vmlinux(t, kernel, release)) {
		for (unsigned i = 0; i < t->n; i++)
			found += t->place[i].found;
		if (found > 0)
			output = addr2line(t, tracer);
		if (output != NULL)
			annotate(t, output, lines);
	}
	free(output);
	free(t);
}
