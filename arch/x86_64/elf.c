// SPDX-License-Identifier: Apache-2.0
/*
 * ELF kernels: Linux's vmlinux, and anything else that brings a PVH note.
 *
 * System V gABI chapters 4 and 5 (ELF header, program headers, notes) and the psABI for
 * x86-64, read with libelf. Each PT_LOAD goes to its *physical* address p_paddr; what of
 * p_memsz the file does not hold is zeroed.
 *
 * How it is entered. Xen's PVH protocol is announced by a note "Xen" of type 18
 * (XEN_ELFNOTE_PHYS32_ENTRY, in the xen tree's docs/misc/pvh.pandoc and
 * public/elfnote.h) that holds a 32-bit physical address. Without it there is only e_entry,
 * in Linux's vmlinux the physical address of startup_64, which wants what the 64-bit boot
 * protocol promises. When the choice is ours and there is a note, PVH is taken: it says
 * what machine state the image expects, while e_entry says nothing of that.
 *
 * libelf opens the file with ELF_C_READ: it reads, it does not map, so a file truncated
 * meanwhile is an error and not a SIGBUS. What it reads is bounded before it is asked to.
 *
 * Limits: 64-bit little-endian x86-64 only, no relocation (an ET_DYN image must be linked
 * for, or not care about, where its p_paddr put it), at most 64 program headers.
 */
#include <errno.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <stdbool.h>
#include <string.h>
#include "arch/x86_64/kernel_file.h"
#include "arch/x86_64/map.h"

#define PHDRS_MAX 64
#define NOTES_MAX 65536 /* bytes of one PT_NOTE */

#define XEN_ELFNOTE_PHYS32_ENTRY 18

/* What Linux takes (COMMAND_LINE_SIZE, with the NUL); an ELF file does not say. */
#define LINUX_COMMAND_LINE_SIZE 2048

/* What is learned from the headers, before anything is loaded. */
struct elf_image {
	uint64_t entry; /* e_entry */
	bool dynamic;	/* ET_DYN */
	bool has_pvh;
	uint64_t pvh_entry;
	bool user_program; /* it says that it runs under an operating system */
	unsigned nloads;
	struct elf_segment {
		uint64_t paddr, memsz;
		uint64_t offset, filesz;
	} load[PHDRS_MAX];
};

static int damaged(struct err *err)
{
	const char *why = elf_errmsg(-1);

	return err_set(err, ENOEXEC, "damaged ELF file: %s", why != NULL ? why : "unknown reason");
}

static int check_header(const GElf_Ehdr *ehdr, struct err *err)
{
	/* The machine first: "64-bit" would be no help to one who gave an arm64 vmlinux. */
	if (ehdr->e_machine == EM_386)
		return err_set(err, ENOEXEC,
			       "is a 32-bit kernel (ELF for i386); give one built for x86-64");
	if (ehdr->e_machine != EM_X86_64)
		return err_set(err, ENOEXEC,
			       "is an ELF file for %s, but this is an x86-64 machine; give one "
			       "built for x86-64",
			       ehdr->e_machine == EM_AARCH64 ? "arm64"
			       : ehdr->e_machine == EM_RISCV ? "riscv"
							     : "another architecture");
	if (ehdr->e_ident[EI_CLASS] != ELFCLASS64)
		return err_set(err, ENOEXEC,
			       "is a 32-bit ELF file (x32); give a kernel built for x86-64");
	if (ehdr->e_ident[EI_DATA] != ELFDATA2LSB)
		return err_set(err, ENOEXEC, "damaged ELF file: x86-64, but big-endian");
	switch (ehdr->e_type) {
	case ET_EXEC:
	case ET_DYN:
		return 0;
	case ET_REL:
		return err_set(err, ENOEXEC,
			       "is an object file or kernel module, not a linked kernel; give a "
			       "bzImage or vmlinux");
	case ET_CORE:
		return err_set(err, ENOEXEC, "is a core dump; give a bzImage or vmlinux");
	default:
		return err_set(err, ENOEXEC, "is an ELF file of unknown type %u", ehdr->e_type);
	}
}

/* PT_LOAD @phdr joins @image->load if the file and the address space can hold it. */
static int add_load(const struct kernel_file *file, const GElf_Phdr *phdr, struct elf_image *image,
		    struct err *err)
{
	uint64_t end;

	if (phdr->p_memsz == 0)
		return 0;
	if (phdr->p_filesz > phdr->p_memsz)
		return err_set(err, ENOEXEC,
			       "damaged ELF file: a segment of %" PRIu64 " bytes has only %" PRIu64
			       " in memory",
			       phdr->p_filesz, phdr->p_memsz);
	if (__builtin_add_overflow(phdr->p_offset, phdr->p_filesz, &end) || end > file->size)
		return err_set(err, ENOEXEC,
			       "truncated ELF file: a segment of %" PRIu64 " bytes at %" PRIu64
			       " ends beyond the file's %" PRIu64 "; copy or build it again",
			       phdr->p_filesz, phdr->p_offset, file->size);
	if (__builtin_add_overflow(phdr->p_paddr, phdr->p_memsz, &end))
		return err_set(err, ENOEXEC,
			       "damaged ELF file: segment at 0x%" PRIx64
			       " reaches over the end of the address space",
			       phdr->p_paddr);
	image->load[image->nloads++] = (struct elf_segment){
		.paddr = phdr->p_paddr,
		.memsz = phdr->p_memsz,
		.offset = phdr->p_offset,
		.filesz = phdr->p_filesz,
	};
	return 0;
}

static int read_note(const GElf_Nhdr *nhdr, const char *name, const void *desc,
		     struct elf_image *image, struct err *err)
{
	uint32_t addr32;

	if (nhdr->n_namesz != 4)
		return 0;
	/* Compilers put it into programs for Linux; kernels do not have it. */
	if (nhdr->n_type == NT_GNU_ABI_TAG && memcmp(name, "GNU", 4) == 0)
		image->user_program = true;
	if (nhdr->n_type != XEN_ELFNOTE_PHYS32_ENTRY || memcmp(name, "Xen", 4) != 0 ||
	    image->has_pvh)
		return 0;
	/* Linux writes a pointer of its own size, Xen's interface says 32 bits. */
	switch (nhdr->n_descsz) {
	case 4:
		memcpy(&addr32, desc, 4);
		image->pvh_entry = addr32;
		break;
	case 8:
		memcpy(&image->pvh_entry, desc, 8);
		break;
	default:
		return err_set(err, ENOEXEC,
			       "damaged ELF file: its PVH note has %u bytes instead of 4 or 8",
			       nhdr->n_descsz);
	}
	image->has_pvh = true;
	return 0;
}

static int read_notes(Elf *elf, const GElf_Phdr *phdr, struct elf_image *image, struct err *err)
{
	size_t pos = 0, next, name, desc;
	Elf_Data *data;
	GElf_Nhdr nhdr;
	int ret;

	if (phdr->p_filesz == 0)
		return 0;
	/* Stops a file that would have the monitor allocate what its header says. */
	if (phdr->p_filesz > NOTES_MAX)
		return err_set(err, ENOEXEC, "damaged ELF file: %" PRIu64 " bytes of notes",
			       phdr->p_filesz);
	data = elf_getdata_rawchunk(elf, (int64_t)phdr->p_offset, phdr->p_filesz,
				    phdr->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
	if (data == NULL)
		return damaged(err);
	while ((next = gelf_getnote(data, pos, &nhdr, &name, &desc)) > 0) {
		ret = read_note(&nhdr, (const char *)data->d_buf + name,
				(const char *)data->d_buf + desc, image, err);
		if (ret < 0)
			return ret;
		pos = next;
	}
	return 0;
}

static int read_phdrs(Elf *elf, const GElf_Ehdr *ehdr, const struct kernel_file *file,
		      struct elf_image *image, struct err *err)
{
	GElf_Phdr phdr;
	int ret;

	/* Also stops PN_XNUM, with which the number would come from a section header. */
	if (ehdr->e_phnum > PHDRS_MAX)
		return err_set(err, ENOEXEC,
			       "damaged ELF file: %u program headers, at most %u are expected",
			       ehdr->e_phnum, PHDRS_MAX);
	if (ehdr->e_phoff > file->size ||
	    ehdr->e_phnum * sizeof(Elf64_Phdr) > file->size - ehdr->e_phoff)
		return err_set(err, ENOEXEC,
			       "truncated ELF file: its program headers lie beyond its end; copy "
			       "or build it again");
	for (int i = 0; i < ehdr->e_phnum; i++) {
		if (gelf_getphdr(elf, i, &phdr) == NULL)
			return damaged(err);
		ret = 0;
		if (phdr.p_type == PT_INTERP)
			image->user_program = true;
		else if (phdr.p_type == PT_LOAD)
			ret = add_load(file, &phdr, image, err);
		else if (phdr.p_type == PT_NOTE)
			ret = read_notes(elf, &phdr, image, err);
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Everything of the file but the segments' contents. */
static int read_headers(const struct kernel_file *file, struct elf_image *image, struct err *err)
{
	GElf_Ehdr ehdr;
	Elf *elf;
	int ret;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return err_set(err, ENOSYS, "libelf is older than its header");
	elf = elf_begin(file->fd, ELF_C_READ, NULL);
	if (elf == NULL)
		return damaged(err);
	if (elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &ehdr) == NULL) {
		ret = err_set(err, ENOEXEC, "damaged ELF file: its header makes no sense");
	} else {
		ret = check_header(&ehdr, err);
		image->entry = ehdr.e_entry;
		image->dynamic = ehdr.e_type == ET_DYN;
	}
	if (ret == 0)
		ret = read_phdrs(elf, &ehdr, file, image, err);
	elf_end(elf);
	return ret;
}

/* Is there RAM for every segment, and is no segment put over another? */
static int check_loads(const struct gmem *mem, const struct elf_image *image, struct err *err)
{
	if (image->user_program && !image->has_pvh)
		return err_set(err, ENOEXEC,
			       "is a user-space program, not a kernel; give a bzImage or vmlinux");
	if (image->nloads == 0)
		return err_set(err, ENOEXEC, "has nothing to load (no PT_LOAD segment)");
	for (unsigned i = 0; i < image->nloads; i++) {
		const struct elf_segment *s = &image->load[i];

		if (s->paddr < MAP_HIGH_RAM && image->dynamic)
			return err_set(err, ENOEXEC,
				       "is a shared library or user-space program, not a kernel; "
				       "give a bzImage or vmlinux");
		if (s->paddr < MAP_HIGH_RAM)
			return err_set(err, ENOEXEC,
				       "wants a segment at 0x%" PRIx64 ", below 1 MiB, where the "
				       "monitor's tables are; give a kernel, or link it higher",
				       s->paddr);
		if (gmem_ptr(mem, s->paddr, s->memsz) == NULL)
			return kernel_no_ram(mem, s->paddr, s->memsz, err);
		for (unsigned j = 0; j < i; j++) {
			const struct elf_segment *t = &image->load[j];

			if (s->paddr < t->paddr + t->memsz && t->paddr < s->paddr + s->memsz)
				return err_set(err, ENOEXEC,
					       "damaged ELF file: segments at 0x%" PRIx64
					       " and 0x%" PRIx64 " overlap",
					       t->paddr, s->paddr);
		}
	}
	return 0;
}

/* Does @addr hold an instruction out of the file? Anything else ends in a triple fault. */
static bool is_loaded(const struct elf_image *image, uint64_t addr)
{
	for (unsigned i = 0; i < image->nloads; i++) {
		const struct elf_segment *s = &image->load[i];

		if (addr >= s->paddr && addr - s->paddr < s->filesz)
			return true;
	}
	return false;
}

static int choose_entry(const struct elf_image *elf, enum kernel_entry want,
			struct kernel_image *image, struct err *err)
{
	if (want == KERNEL_ENTRY_AUTO)
		want = elf->has_pvh ? KERNEL_ENTRY_PVH : KERNEL_ENTRY_LINUX64;
	if (want == KERNEL_ENTRY_PVH && !elf->has_pvh)
		return err_set(err, ENOEXEC,
			       "has no PVH note; build the kernel with CONFIG_PVH=y, or use "
			       "--entry linux64");
	image->entry_kind = want;
	image->entry = want == KERNEL_ENTRY_PVH ? elf->pvh_entry : elf->entry;
	if (!is_loaded(elf, image->entry))
		return err_set(err, ENOEXEC,
			       "its %s entry point 0x%" PRIx64 " lies in no segment it loads",
			       want == KERNEL_ENTRY_PVH ? "PVH" : "64-bit", image->entry);
	/* PVH is entered without paging, Linux with page tables that end at 4 GiB. */
	if (image->entry >= MAP_4G)
		return err_set(err, ENOEXEC,
			       "its entry point 0x%" PRIx64 " lies above 4 GiB; link it lower",
			       image->entry);
	return 0;
}

static int load_segments(struct gmem *mem, const struct kernel_file *file,
			 const struct elf_image *image, struct err *err)
{
	for (unsigned i = 0; i < image->nloads; i++) {
		const struct elf_segment *s = &image->load[i];
		int ret = 0;

		if (s->filesz > 0)
			ret = gmem_load_file(mem, s->paddr, file->fd, s->offset, s->filesz, err);
		if (ret < 0)
			return ret;
		/* RAM is zero at first, but the kernel may be loaded again, over a used one. */
		if (s->memsz > s->filesz &&
		    gmem_zero(mem, s->paddr + s->filesz, s->memsz - s->filesz) < 0)
			return kernel_no_ram(mem, s->paddr, s->memsz, err);
	}
	return 0;
}

int elf_load(struct gmem *mem, const struct kernel_file *file, enum kernel_entry want,
	     struct kernel_image *image, struct err *err)
{
	struct elf_image elf = { 0 };
	int ret;

	if (file->size < sizeof(Elf64_Ehdr))
		return err_set(err, ENOEXEC,
			       "truncated ELF file: %" PRIu64 " bytes are too few for its header",
			       file->size);
	ret = read_headers(file, &elf, err);
	if (ret < 0)
		return ret;
	ret = check_loads(mem, &elf, err);
	if (ret < 0)
		return ret;
	ret = choose_entry(&elf, want, image, err);
	if (ret < 0)
		return ret;
	ret = load_segments(mem, file, &elf, err);
	if (ret < 0)
		return ret;

	image->start = UINT64_MAX;
	for (unsigned i = 0; i < elf.nloads; i++) {
		const struct elf_segment *s = &elf.load[i];

		if (s->paddr < image->start)
			image->start = s->paddr;
		if (s->paddr + s->memsz > image->end)
			image->end = s->paddr + s->memsz;
	}
	/* The start info of PVH has 64 bits for it, but Linux keeps only the lower 32. */
	image->initrd_max = image->entry_kind == KERNEL_ENTRY_PVH ? UINT32_MAX : UINT64_MAX;
	image->cmdline_max = LINUX_COMMAND_LINE_SIZE - 1;
	return 0;
}
