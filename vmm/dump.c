// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's memory and registers as an ELF core (System V ABI, "Program Loading"; the notes of
 * Linux's vmcores, Documentation/admin-guide/kdump), for crash, gdb and drgn.
 *
 * Theory of operation. The file has, in this order,
 *
 *	ELF header, program headers: a PT_NOTE, a PT_LOAD for each region of RAM, one for the image
 *	notes: NT_PRSTATUS and QEMU's for each vCPU, VMCOREINFO if there is one
 *	the regions of RAM, from a multiple of the page size on
 *
 * p_paddr is a physical address. p_vaddr is the one in the kernel's direct map, where the
 * page tables show one, and the last PT_LOAD says once more where the kernel's image is: with
 * both, gdb finds variables, stacks and most of the heap. crash takes the alignment 0 for the mark
 * of a kdump core.
 *
 * VMCOREINFO is text that tells tools about the kernel. There is no device by which a guest hands
 * it over, so it is looked for: Linux (CONFIG_VMCORE_INFO) keeps it in a page of its own, which
 * begins with "OSRELEASE=". A guest may put there what it likes; it is text in a note, no more.
 *
 * Holes stay holes: memory never touched is not looked at (reading it would allocate it), and
 * pages of zeroes are not written. A temporary file beside it is renamed when it is complete. It
 * has mode 0600: it may hold anybody's secrets.
 *
 * Limits: devices' memory (virtio-pmem) is not in it.
 *
 * #syscalls files: openat pwrite64 ftruncate lseek rename unlink close fsync
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "vmm/base/log.h"
#include "vmm/dump.h"

#define PAGE ((size_t)GMEM_PAGE_SIZE)

/* Without these words it is some other page that begins like it. */
static const char info_begin[] = "OSRELEASE=";
static const char info_inside[] = "\nPAGESIZE=";

struct dump {
	struct machine *m;
	int fd;
	uint64_t data;	  /* where RAM begins in the file */
	uint64_t written; /* bytes of memory */
	uint8_t *notes;
	size_t notes_len, notes_size;
	const void *info; /* VMCOREINFO in guest memory, NULL: not found */
	size_t info_len;
};

size_t dump_vmcoreinfo(const void *page, size_t size)
{
	const char *text = page;
	size_t len = strnlen(text, size);

	if (len < sizeof(info_begin) || memcmp(text, info_begin, sizeof(info_begin) - 1) != 0 ||
	    memmem(text, len, info_inside, sizeof(info_inside) - 1) == NULL)
		return 0;
	for (size_t i = 0; i < len; i++)
		if (text[i] != '\n' && (text[i] < ' ' || text[i] > '~'))
			return 0;
	return len;
}

int dump_check(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char *folder;
	struct stat st;
	int r = 0;

	if (*path == '\0')
		return err_set(err, EINVAL, "the path is empty; name a file");
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s is there and is no file", path);
	folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
	if (folder == NULL)
		return err_set(err, ENOMEM, "no memory");
	if (access(folder, W_OK | X_OK) < 0)
		r = err_sys(err, errno, "cannot write to the folder %s", folder);
	free(folder);
	return r;
}

/* --- Memory --- */

/*
 * The next stretch of @r from *@at on that has ever been touched, *@at to *@end (offsets into
 * the region). False: there is none.
 */
static bool next_data(const struct gmem_region *r, uint64_t *at, uint64_t *end)
{
	off_t from, to;

	if (*at >= r->size)
		return false;
	*end = r->size;
	if (r->fd < 0)
		return true; /* private memory: nothing is known, and reading is free */
	from = lseek(r->fd, (off_t)(r->offset + *at), SEEK_DATA);
	if (from < 0)
		return errno != ENXIO;
	if ((uint64_t)from >= r->offset + r->size)
		return false;
	*at = (uint64_t)from - r->offset;
	to = lseek(r->fd, from, SEEK_HOLE);
	if (to > from && (uint64_t)to < r->offset + r->size)
		*end = (uint64_t)to - r->offset;
	return true;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static int write_at(struct dump *d, const void *data, uint64_t len, uint64_t offset,
		    struct err *err)
{
	const uint8_t *from = data;

	while (len > 0) {
		ssize_t n = pwrite(d->fd, from, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot write");
		from += n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Runs of pages that are not zero, of [at, end) in @r, to @offset, where the region begins. */
static int write_stretch(struct dump *d, const struct gmem_region *r, uint64_t at, uint64_t end,
			 uint64_t offset, struct err *err)
{
	while (at < end) {
		uint64_t from;

		while (at < end && is_zero(r->host + at))
			at += PAGE;
		from = at;
		while (at < end && !is_zero(r->host + at))
			at += PAGE;
		if (write_at(d, r->host + from, at - from, offset + from, err) < 0)
			return -err->code;
		d->written += at - from;
	}
	return 0;
}

static int write_memory(struct dump *d, struct err *err)
{
	const struct gmem *mem = &d->m->mem;
	uint64_t offset = d->data;

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		if (!r->ram)
			continue;
		for (uint64_t at = 0, end; next_data(r, &at, &end); at = end)
			if (write_stretch(d, r, at, end, offset, err) < 0)
				return -err->code;
		offset += r->size;
	}
	return 0;
}

static void find_vmcoreinfo(struct dump *d)
{
	const struct gmem *mem = &d->m->mem;

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		for (uint64_t at = 0, end; r->ram && next_data(r, &at, &end); at = end) {
			for (; at < end; at += PAGE) {
				d->info_len = dump_vmcoreinfo(r->host + at, PAGE);
				if (d->info_len > 0) {
					d->info = r->host + at;
					return;
				}
			}
		}
	}
}

/* --- Headers --- */

static int add_note(struct dump *d, const char *name, uint32_t type, const void *data, size_t len,
		    struct err *err)
{
	Elf64_Nhdr head = { .n_namesz = (uint32_t)strlen(name) + 1,
			    .n_descsz = (uint32_t)len,
			    .n_type = type };
	size_t name_len = (head.n_namesz + 3) & ~3U, data_len = (len + 3) & ~(size_t)3;
	size_t need = d->notes_len + sizeof(head) + name_len + data_len;
	uint8_t *to;

	if (need > d->notes_size) {
		to = realloc(d->notes, 2 * need);
		if (to == NULL)
			return err_set(err, ENOMEM, "no memory for the notes");
		d->notes = to;
		d->notes_size = 2 * need;
	}
	to = d->notes + d->notes_len;
	memset(to, 0, need - d->notes_len);
	memcpy(to, &head, sizeof(head));
	memcpy(to + sizeof(head), name, head.n_namesz);
	memcpy(to + sizeof(head) + name_len, data, len);
	d->notes_len = need;
	return 0;
}

static int make_notes(struct dump *d, struct kvm_vcpu *const *vcpus, unsigned n, struct err *err)
{
	uint8_t note[ARCH_CORE_NOTE_MAX];
	size_t len;

	for (unsigned i = 0; i < n; i++) {
		len = arch_core_prstatus(vcpus[i], i, note);
		if (len > 0 && add_note(d, "CORE", NT_PRSTATUS, note, len, err) < 0)
			return -err->code;
	}
	for (unsigned i = 0; i < n; i++) {
		len = arch_core_qemu(vcpus[i], note);
		if (len > 0 && add_note(d, "QEMU", 0, note, len, err) < 0)
			return -err->code;
	}
	find_vmcoreinfo(d);
	if (d->info != NULL)
		return add_note(d, "VMCOREINFO", 0, d->info, d->info_len, err);
	return 0;
}

/* The image as a stretch of the region that has it. */
static bool add_image(const struct arch_core_map *map, const struct gmem_region *r, uint64_t offset,
		      Elf64_Phdr *ph)
{
	uint64_t in = map->image_pa - r->gpa, size = map->image_size;

	if (!map->has_image || map->image_pa < r->gpa || in >= r->size)
		return false;
	if (size > r->size - in)
		size = r->size - in;
	*ph = (Elf64_Phdr){ .p_type = PT_LOAD,
			    .p_flags = PF_R | PF_W | PF_X,
			    .p_offset = offset + in,
			    .p_vaddr = map->image_va,
			    .p_paddr = map->image_pa,
			    .p_filesz = size,
			    .p_memsz = size };
	return true;
}

static int write_headers(struct dump *d, const struct arch_core_map *map, struct err *err)
{
	const struct gmem *mem = &d->m->mem;
	Elf64_Phdr ph[GMEM_REGIONS_MAX + 2] = { 0 }, image;
	Elf64_Ehdr eh = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_CORE,
		.e_machine = arch_core_machine(),
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(ph[0]),
	};
	uint64_t notes = sizeof(eh) + sizeof(ph), offset;
	bool has_image = false;
	unsigned n = 1;

	offset = d->data = (notes + d->notes_len + PAGE - 1) / PAGE * PAGE;
	ph[0] = (Elf64_Phdr){ .p_type = PT_NOTE,
			      .p_offset = notes,
			      .p_filesz = d->notes_len,
			      .p_memsz = d->notes_len };
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];

		if (!r->ram)
			continue;
		ph[n++] = (Elf64_Phdr){ .p_type = PT_LOAD,
					.p_flags = PF_R | PF_W | PF_X,
					.p_offset = offset,
					.p_vaddr = map->has_direct ? map->direct + r->gpa : 0,
					.p_paddr = r->gpa,
					.p_filesz = r->size,
					.p_memsz = r->size };
		has_image = has_image || add_image(map, r, offset, &image);
		offset += r->size;
	}
	if (has_image)
		ph[n++] = image;
	eh.e_phnum = (uint16_t)n;
	if (ftruncate(d->fd, (off_t)offset) < 0)
		return err_sys(err, errno, "cannot make a file of %llu MiB",
			       (unsigned long long)offset >> 20);
	if (write_at(d, &eh, sizeof(eh), 0, err) < 0 ||
	    write_at(d, ph, sizeof(ph), sizeof(eh), err) < 0)
		return -err->code;
	return write_at(d, d->notes, d->notes_len, notes, err);
}

static int write_file(struct dump *d, struct kvm_vcpu *const *vcpus, unsigned n, struct err *err)
{
	struct arch_core_map map;

	/* So that what is in RAM is all in its memfd: see next_data(). */
	if (gmem_release_files(&d->m->mem, err) < 0 || make_notes(d, vcpus, n, err) < 0)
		return -err->code;
	arch_core_map(d->m, vcpus, n, &map);
	if (write_headers(d, &map, err) < 0 || write_memory(d, err) < 0)
		return -err->code;
	return fsync(d->fd) < 0 ? err_sys(err, errno, "cannot write") : 0;
}

int dump_write(struct machine *m, struct kvm_vcpu *const *vcpus, unsigned n, const char *path,
	       uint64_t *bytes, struct err *err)
{
	struct dump d = { .m = m, .fd = -1 };
	char *temporary;
	int r;

	if (asprintf(&temporary, "%s.XXXXXX", path) < 0)
		return err_set(err, ENOMEM, "no memory");
	d.fd = mkostemp(temporary, O_CLOEXEC);
	if (d.fd < 0) {
		r = err_sys(err, errno, "cannot make %s", temporary);
		free(temporary);
		return r;
	}
	r = write_file(&d, vcpus, n, err);
	close(d.fd);
	if (r == 0 && rename(temporary, path) < 0)
		r = err_sys(err, errno, "cannot rename %s", temporary);
	if (r < 0)
		unlink(temporary);
	*bytes = d.data + d.written;
	free(temporary);
	free(d.notes);
	return r;
}
