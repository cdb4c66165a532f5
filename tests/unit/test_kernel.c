// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel images: good ones of each kind, and every way we know in which one can be wrong,
 * with the exact sentence. Images are built here, byte by byte, in files without a name.
 *
 * The guest has 64 MiB from 0, or what a test asks for; images are a few KiB.
 */
#include <asm/bootparam.h>
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "arch/x86_64/kernel.h"
#include "tests/unit/test_run.h"

#define MIB   (1ULL << 20)
#define GIB   (1ULL << 30)
#define SETUP (5 * 512) /* of the bzImage built here */
#define CODE  4096

/* A file under construction, without a name but for @path. */
struct image {
	int fd;
	char path[64];
	uint8_t bytes[16384] __attribute__((aligned(8)));
	size_t size;
};

static struct gmem mem;
static struct kernel_image kernel;
static struct err err;
static struct image img;

static void memory(uint64_t low, uint64_t high_at, uint64_t high)
{
	struct gmem_config cfg = { .size = low + high };

	gmem_fini(&mem);
	ck_assert_int_eq(gmem_init(&mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, 0, low, &err), 0);
	if (high > 0)
		ck_assert_int_eq(gmem_add_region(&mem, high_at, high, &err), 0);
}

static void setup(void)
{
	struct gmem_config cfg = { .size = 64 * MIB };

	memset(&err, 0, sizeof(err));
	memset(&img, 0, sizeof(img));
	ck_assert_int_eq(gmem_init(&mem, &cfg, &err), 0);
	ck_assert_int_eq(gmem_add_region(&mem, 0, cfg.size, &err), 0);
	img.fd = memfd_create("image", MFD_CLOEXEC);
	ck_assert_int_ge(img.fd, 0);
	snprintf(img.path, sizeof(img.path), "/proc/self/fd/%d", img.fd);
}

static void teardown(void)
{
	close(img.fd);
	gmem_fini(&mem);
}

/* Write out what was built and load it. */
static int load(enum kernel_entry want)
{
	ck_assert_int_eq(ftruncate(img.fd, 0), 0);
	ck_assert_int_eq(pwrite(img.fd, img.bytes, img.size, 0), (ssize_t)img.size);
	return kernel_load(&mem, img.path, -1, want, &kernel, &err);
}

/* Loading fails with exactly this after "kernel PATH: ". */
static void refused_as(enum kernel_entry want, const char *sentence)
{
	char text[ERR_MSG_MAX];

	snprintf(text, sizeof(text), "kernel %s: %s", img.path, sentence);
	ck_assert_int_lt(load(want), 0);
	ck_assert_str_eq(err.msg, text);
	ck_assert_int_gt(err.code, 0);
}

static void refused(const char *sentence)
{
	refused_as(KERNEL_ENTRY_AUTO, sentence);
}

/* bzImage */

static struct setup_header *bz_header(void)
{
	return (struct setup_header *)(img.bytes + KERNEL_SETUP_HEADER);
}

/* A bzImage as Linux 5.5 and later make them, with CODE bytes of code. */
static void bz_build(void)
{
	struct setup_header *h = bz_header();

	memset(img.bytes, 0, sizeof(img.bytes));
	memcpy(img.bytes, "MZ", 2); /* EFI stub */
	h->setup_sects = SETUP / 512 - 1;
	h->syssize = CODE / 16;
	h->boot_flag = 0xaa55;
	h->jump = 0x6aeb; /* over the header, to 0x26c */
	h->header = 0x53726448;
	h->version = 0x20f;
	h->loadflags = LOADED_HIGH;
	h->code32_start = 0x100000;
	h->initrd_addr_max = 0x7fffffff;
	h->kernel_alignment = 0x200000;
	h->relocatable_kernel = 1;
	h->min_alignment = 21;
	h->xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
	h->cmdline_size = 2047;
	h->payload_offset = 0x2cc;
	h->payload_length = 1024;
	h->pref_address = 16 * MIB;
	h->init_size = 8 * MIB;
	for (unsigned i = 0; i < CODE; i++)
		img.bytes[SETUP + i] = (uint8_t)(i * 7);
	img.size = SETUP + CODE;
}

static void bz_check_code(uint64_t at)
{
	ck_assert_ptr_nonnull(gmem_ptr(&mem, at, CODE));
	ck_assert_mem_eq(gmem_ptr(&mem, at, CODE), img.bytes + SETUP, CODE);
}

START_TEST(bz_good)
{
	struct setup_header got;

	bz_build();
	memset(img.bytes + img.size, 0xcc, 100); /* a signature is not loaded */
	img.size += 100;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_int_eq(kernel.entry_kind, KERNEL_ENTRY_LINUX64);
	ck_assert_uint_eq(kernel.start, 16 * MIB);
	ck_assert_uint_eq(kernel.end, 24 * MIB);
	ck_assert_uint_eq(kernel.entry, 16 * MIB + 0x200);
	ck_assert_uint_eq(kernel.initrd_max, UINT64_MAX);
	ck_assert_uint_eq(kernel.cmdline_max, 2047);
	ck_assert_uint_eq(kernel.setup_header_size, 0x26c - 0x1f1);
	memcpy(&got, kernel.setup_header, sizeof(got));
	ck_assert_uint_eq(got.header, 0x53726448);
	ck_assert_uint_eq(got.code32_start, 16 * MIB);
	bz_check_code(16 * MIB);
	ck_assert_uint_eq(*(const uint8_t *)gmem_ptr(&mem, 16 * MIB + CODE, 1), 0);
	ck_assert_int_eq(load(KERNEL_ENTRY_LINUX64), 0);
}
END_TEST

START_TEST(bz_header_variants)
{
	/* setup_sects 0 means 4, which is what SETUP is. */
	bz_build();
	bz_header()->setup_sects = 0;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	bz_check_code(16 * MIB);

	/* Without the flag the initrd has a limit. */
	bz_build();
	bz_header()->xloadflags = XLF_KERNEL_64;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.initrd_max, 0x7fffffff);

	/* Nobody reserves 4 GiB for a command line. */
	bz_build();
	bz_header()->cmdline_size = UINT32_MAX;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.cmdline_max, 65535);

	/* 2.12: its header ends before kernel_info_offset, what follows is code. */
	bz_build();
	bz_header()->version = 0x20c;
	bz_header()->jump = 0x66eb;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.setup_header_size, 0x268 - 0x1f1);
	ck_assert_uint_eq(kernel.setup_header[0x268 - 0x1f1], 0);

	/* A header of the future ends where the zero page has other fields. */
	bz_build();
	bz_header()->jump = 0xffeb;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.setup_header_size, 0x290 - 0x1f1);

	/* init_size smaller than the code is no less than the code. */
	bz_build();
	bz_header()->init_size = 0;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.end, 16 * MIB + CODE);
}
END_TEST

START_TEST(bz_placement)
{
	/* No preference. */
	bz_build();
	bz_header()->pref_address = 0;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.start, MIB);

	/* Low memory is the monitor's; the next aligned address above is taken. */
	bz_build();
	bz_header()->pref_address = 0x10000;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.start, 2 * MIB);
	bz_check_code(2 * MIB);

	/* The preferred place reaches over the end of the first RAM: to the second. */
	memory(20 * MIB, 63 * MIB, 32 * MIB);
	bz_build();
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.start, 64 * MIB);
	bz_check_code(64 * MIB);
	/* ... unless it cannot be moved, */
	bz_build();
	bz_header()->relocatable_kernel = 0;
	refused("needs memory from 0x1000000 to 0x1800000, where the guest has none");
	/* ... or its alignment leaves no place, or makes no sense. */
	bz_build();
	bz_header()->kernel_alignment = 0x80000000;
	refused("needs memory from 0x1000000 to 0x1800000, where the guest has none");
	bz_build();
	bz_header()->kernel_alignment = 0x1234;
	refused("damaged bzImage: kernel_alignment 0x1234 is no power of two");
	bz_build();
	bz_header()->kernel_alignment = 0;
	refused("damaged bzImage: kernel_alignment 0x0 is no power of two");
	bz_build();
	bz_header()->pref_address = UINT64_MAX;
	refused("needs memory from 0xffffffffffffffff to 0xffffffffffffffff, where the guest "
		"has none");

	/* Not above 4 GiB, even if the kernel could. */
	memory(20 * MIB, 4 * GIB, 32 * MIB);
	bz_build();
	refused("needs memory from 0x1000000 to 0x1800000, where the guest has none");
	bz_build();
	bz_header()->pref_address = 4 * GIB;
	refused("needs memory from 0x100000000 to 0x100800000, where the guest has none");
}
END_TEST

START_TEST(bz_refused)
{
	bz_build();
	refused_as(KERNEL_ENTRY_PVH, "a bzImage has no PVH entry; give the vmlinux it was made "
				     "of, or use --entry linux64");
	bz_build();
	bz_header()->loadflags = 0;
	refused("is a zImage, which is loaded below 1 MiB; build a bzImage");
	bz_build();
	bz_header()->version = 0x20b;
	refused("boot protocol 2.11 is too old; 2.12 (Linux 3.8) or later is needed");
	bz_build();
	bz_header()->xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
	refused("is a 32-bit kernel (no 64-bit entry point); give one built for x86-64");
	bz_build();
	img.size = 0x250;
	refused("truncated bzImage: 592 bytes are too few for its header");
	bz_build();
	bz_header()->jump = 0x30eb;
	refused("damaged bzImage: its setup header ends at 0x232, before init_size");
	bz_build();
	img.size -= 1;
	refused("truncated bzImage: 6655 bytes, but its header says 6656; copy or download it "
		"again");
	bz_build();
	bz_header()->syssize = UINT32_MAX;
	refused("truncated bzImage: 6656 bytes, but its header says 68719479280; copy or "
		"download it again");
	bz_build();
	bz_header()->syssize = 0x20;
	refused("damaged bzImage: 512 bytes of code do not reach its entry point");
	bz_build();
	bz_header()->payload_offset = UINT32_MAX;
	refused("damaged bzImage: its payload (1024 bytes at 4294967295) reaches over its end");
	bz_build();
	bz_header()->init_size = 64 * MIB;
	refused("needs memory up to 0x5000000, but the guest has 64 MiB; give it more than "
		"--mem 80M");
	bz_build();
	bz_header()->init_size = UINT32_MAX;
	refused("needs memory from 0x1000000 to 0x100ffffff, where the guest has none");
}
END_TEST

/* ELF */

#define TEXT_OFF 4096
#define PHDRS	 5

static Elf64_Ehdr *elf_header(void)
{
	return (Elf64_Ehdr *)img.bytes;
}

static Elf64_Phdr *elf_phdr(unsigned i)
{
	return (Elf64_Phdr *)(img.bytes + sizeof(Elf64_Ehdr)) + i;
}

/* A note "Xen" of @type with @len bytes of value, at the end of the file. */
static void elf_add_note(uint32_t type, const char *owner, const void *value, uint32_t len)
{
	Elf64_Nhdr nhdr = { .n_namesz = 4, .n_descsz = len, .n_type = type };
	uint8_t *p = img.bytes + img.size;

	memcpy(p, &nhdr, sizeof(nhdr));
	memcpy(p + sizeof(nhdr), owner, 4);
	memcpy(p + sizeof(nhdr) + 4, value, len);
	if (elf_phdr(2)->p_type != PT_NOTE)
		elf_phdr(2)->p_offset = img.size;
	img.size += sizeof(nhdr) + 4 + ((len + 3) & ~3U);
	elf_phdr(2)->p_type = PT_NOTE;
	elf_phdr(2)->p_align = 4;
	elf_phdr(2)->p_filesz = img.size - elf_phdr(2)->p_offset;
}

/* A vmlinux: text at 16 MiB, data with bss at 18 MiB, 64-bit entry, no PVH note. */
static void elf_build(void)
{
	Elf64_Ehdr *e = elf_header();

	memset(img.bytes, 0, sizeof(img.bytes));
	memcpy(e->e_ident, ELFMAG, SELFMAG);
	e->e_ident[EI_CLASS] = ELFCLASS64;
	e->e_ident[EI_DATA] = ELFDATA2LSB;
	e->e_ident[EI_VERSION] = EV_CURRENT;
	e->e_type = ET_EXEC;
	e->e_machine = EM_X86_64;
	e->e_version = EV_CURRENT;
	e->e_entry = 16 * MIB + 16;
	e->e_ehsize = sizeof(*e);
	e->e_phoff = sizeof(*e);
	e->e_phentsize = sizeof(Elf64_Phdr);
	e->e_phnum = PHDRS;
	*elf_phdr(0) = (Elf64_Phdr){ .p_type = PT_LOAD,
				     .p_offset = TEXT_OFF,
				     .p_vaddr = 0xffffffff81000000,
				     .p_paddr = 16 * MIB,
				     .p_filesz = 1024,
				     .p_memsz = 1024 };
	*elf_phdr(1) = (Elf64_Phdr){ .p_type = PT_LOAD,
				     .p_offset = TEXT_OFF + 1024,
				     .p_paddr = 18 * MIB,
				     .p_filesz = 1024,
				     .p_memsz = 3 * MIB };
	for (unsigned i = 0; i < 2048; i++)
		img.bytes[TEXT_OFF + i] = (uint8_t)(i * 5 + 1);
	img.size = TEXT_OFF + 2048;
}

static void elf_build_pvh(void)
{
	uint64_t entry = 16 * MIB + 32;

	elf_build();
	elf_add_note(18, "Xen", &entry, 8);
}

START_TEST(elf_good)
{
	static const uint8_t junk[4096] = { [0 ... 4095] = 0xff };

	/* bss is zeroed also where an earlier kernel left something. */
	ck_assert_int_eq(gmem_write(&mem, 19 * MIB, junk, sizeof(junk)), 0);
	elf_build();
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_int_eq(kernel.entry_kind, KERNEL_ENTRY_LINUX64);
	ck_assert_uint_eq(kernel.entry, 16 * MIB + 16);
	ck_assert_uint_eq(kernel.start, 16 * MIB);
	ck_assert_uint_eq(kernel.end, 21 * MIB);
	ck_assert_uint_eq(kernel.initrd_max, UINT64_MAX);
	ck_assert_uint_eq(kernel.cmdline_max, 2047);
	ck_assert_uint_eq(kernel.setup_header_size, 0);
	ck_assert_mem_eq(gmem_ptr(&mem, 16 * MIB, 1024), img.bytes + TEXT_OFF, 1024);
	ck_assert_mem_eq(gmem_ptr(&mem, 18 * MIB, 1024), img.bytes + TEXT_OFF + 1024, 1024);
	ck_assert_uint_eq(*(const uint8_t *)gmem_ptr(&mem, 18 * MIB + 1024, 1), 0);
	ck_assert_uint_eq(*(const uint8_t *)gmem_ptr(&mem, 19 * MIB + 100, 1), 0);

	/* Position-independent, but with addresses a machine has. */
	elf_header()->e_type = ET_DYN;
	ck_assert_int_eq(load(KERNEL_ENTRY_LINUX64), 0);

	/* RAM that ends where the segment ends. */
	elf_build();
	elf_phdr(1)->p_paddr = 64 * MIB - 1024;
	elf_phdr(1)->p_memsz = 1024;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_uint_eq(kernel.end, 64 * MIB);
}
END_TEST

START_TEST(elf_pvh)
{
	uint32_t entry32 = 16 * MIB + 48;

	elf_build_pvh();
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_int_eq(kernel.entry_kind, KERNEL_ENTRY_PVH);
	ck_assert_uint_eq(kernel.entry, 16 * MIB + 32);
	ck_assert_uint_eq(kernel.initrd_max, UINT32_MAX);
	ck_assert_int_eq(load(KERNEL_ENTRY_PVH), 0);
	ck_assert_int_eq(load(KERNEL_ENTRY_LINUX64), 0);
	ck_assert_int_eq(kernel.entry_kind, KERNEL_ENTRY_LINUX64);
	ck_assert_uint_eq(kernel.entry, 16 * MIB + 16);

	/* Behind other notes, with four bytes. */
	elf_build();
	elf_add_note(6, "Xen", "linux", 6);
	elf_add_note(18, "GNU", "abcd", 4);
	elf_add_note(18, "Xen", &entry32, 4);
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	ck_assert_int_eq(kernel.entry_kind, KERNEL_ENTRY_PVH);
	ck_assert_uint_eq(kernel.entry, entry32);

	/* A PVH kernel may be a program otherwise; and need no entry point. */
	elf_add_note(NT_GNU_ABI_TAG, "GNU", "\0\0\0\0\3\0\0\0\2\0\0\0\0\0\0", 16);
	elf_header()->e_entry = 0;
	ck_assert_int_eq(load(KERNEL_ENTRY_AUTO), 0);
	refused_as(KERNEL_ENTRY_LINUX64, "its 64-bit entry point 0x0 lies in no segment it loads");
}
END_TEST

START_TEST(elf_refused_header)
{
	elf_build();
	img.size = 40;
	refused("truncated ELF file: 40 bytes are too few for its header");
	elf_build();
	elf_header()->e_ident[EI_CLASS] = 7;
	refused("damaged ELF file: its header makes no sense");
	elf_build();
	elf_header()->e_machine = EM_386;
	elf_header()->e_ident[EI_CLASS] = ELFCLASS32;
	refused("is a 32-bit kernel (ELF for i386); give one built for x86-64");
	elf_build();
	elf_header()->e_ident[EI_CLASS] = ELFCLASS32;
	refused("is a 32-bit ELF file (x32); give a kernel built for x86-64");
	elf_build();
	elf_header()->e_machine = EM_AARCH64;
	refused("is an ELF file for arm64, but this is an x86-64 machine; give one built for "
		"x86-64");
	elf_build();
	elf_header()->e_machine = EM_RISCV;
	refused("is an ELF file for riscv, but this is an x86-64 machine; give one built for "
		"x86-64");
	elf_build();
	elf_header()->e_machine = EM_S390;
	refused("is an ELF file for another architecture, but this is an x86-64 machine; give "
		"one built for x86-64");
	elf_build();
	elf_header()->e_type = ET_REL;
	refused("is an object file or kernel module, not a linked kernel; give a bzImage or "
		"vmlinux");
	elf_build();
	elf_header()->e_type = ET_CORE;
	refused("is a core dump; give a bzImage or vmlinux");
	elf_build();
	elf_header()->e_type = 99;
	refused("is an ELF file of unknown type 99");
	elf_build();
	elf_header()->e_phnum = 100;
	refused("damaged ELF file: 100 program headers, at most 64 are expected");
	elf_build();
	elf_header()->e_phoff = 1 * GIB;
	refused("truncated ELF file: its program headers lie beyond its end; copy or build it "
		"again");
	elf_build();
	elf_phdr(0)->p_type = PT_NULL;
	elf_phdr(1)->p_type = PT_NULL;
	refused("has nothing to load (no PT_LOAD segment)");
	elf_build();
	elf_phdr(3)->p_type = PT_INTERP;
	refused("is a user-space program, not a kernel; give a bzImage or vmlinux");
	elf_build();
	elf_add_note(NT_GNU_ABI_TAG, "GNU", "\0\0\0\0\3\0\0\0\2\0\0\0\0\0\0", 16);
	refused("is a user-space program, not a kernel; give a bzImage or vmlinux");
}
END_TEST

START_TEST(elf_refused_segments)
{
	elf_build();
	elf_phdr(0)->p_filesz = 2048;
	refused("damaged ELF file: a segment of 2048 bytes has only 1024 in memory");
	elf_build();
	elf_phdr(1)->p_offset = UINT64_MAX - 100;
	refused("truncated ELF file: a segment of 1024 bytes at 18446744073709551515 ends beyond "
		"the file's 6144; copy or build it again");
	elf_build();
	img.size -= 1;
	refused("truncated ELF file: a segment of 1024 bytes at 5120 ends beyond the file's "
		"6143; copy or build it again");
	elf_build();
	elf_phdr(1)->p_paddr = UINT64_MAX - 100;
	refused("damaged ELF file: segment at 0xffffffffffffff9b reaches over the end of the "
		"address space");
	elf_build();
	elf_phdr(0)->p_paddr = 0;
	refused("wants a segment at 0x0, below 1 MiB, where the monitor's tables are; give a "
		"kernel, or link it higher");
	elf_header()->e_type = ET_DYN;
	refused("is a shared library or user-space program, not a kernel; give a bzImage or "
		"vmlinux");
	elf_build();
	elf_phdr(1)->p_paddr = 62 * MIB;
	refused("needs memory up to 0x4100000, but the guest has 64 MiB; give it more than "
		"--mem 65M");
	elf_build();
	elf_phdr(0)->p_paddr = 0xffffffff81000000;
	refused("needs memory from 0xffffffff81000000 to 0xffffffff81000400, where the guest "
		"has none");
	elf_build();
	elf_phdr(0)->p_paddr = 20 * MIB;
	refused("damaged ELF file: segments at 0x1400000 and 0x1200000 overlap");
}
END_TEST

START_TEST(elf_refused_entry)
{
	uint64_t entry = 24 * MIB;

	elf_build();
	elf_header()->e_entry = 0xffffffff81000000;
	refused("its 64-bit entry point 0xffffffff81000000 lies in no segment it loads");
	/* In the bss there are only zeroes. */
	elf_build();
	elf_header()->e_entry = 19 * MIB;
	refused("its 64-bit entry point 0x1300000 lies in no segment it loads");
	elf_build();
	refused_as(KERNEL_ENTRY_PVH,
		   "has no PVH note; build the kernel with CONFIG_PVH=y, or use --entry linux64");
	elf_build();
	elf_add_note(18, "Xen", &entry, 8);
	refused("its PVH entry point 0x1800000 lies in no segment it loads");
	elf_build();
	elf_add_note(18, "Xen", &entry, 2);
	refused("damaged ELF file: its PVH note has 2 bytes instead of 4 or 8");
	elf_build_pvh();
	elf_phdr(2)->p_filesz = 1 * MIB;
	refused("damaged ELF file: 1048576 bytes of notes");
	elf_build_pvh();
	elf_phdr(2)->p_offset = 1 * MIB;
	ck_assert_int_lt(load(KERNEL_ENTRY_AUTO), 0);

	/* Above 4 GiB there is RAM, but no CPU starts there. */
	memory(64 * MIB, 4 * GIB, 64 * MIB);
	entry = 4 * GIB + 16;
	elf_build();
	elf_phdr(0)->p_paddr = 4 * GIB;
	elf_header()->e_entry = entry;
	refused("its entry point 0x100000010 lies above 4 GiB; link it lower");
	elf_add_note(18, "Xen", &entry, 8);
	refused("its entry point 0x100000010 lies above 4 GiB; link it lower");
}
END_TEST

/* What is no kernel. */

static void stranger(size_t offset, const char *magic, size_t len, const char *sentence)
{
	memset(img.bytes, 0, sizeof(img.bytes));
	memcpy(img.bytes + offset, magic, len);
	img.size = 4096;
	refused(sentence);
}

START_TEST(strangers)
{
#define OTHER_ISA " kernel, but this is an x86-64 machine; give one built for x86-64"
	stranger(0x38, "ARM\x64", 4, "is an arm64" OTHER_ISA);
	stranger(0x30, "RISCV\0\0\0RSC\x05", 12, "is a riscv" OTHER_ISA);
	stranger(0x24, "\x18\x28\x6f\x01", 4, "is a 32-bit ARM" OTHER_ISA);
	stranger(0, "\x1f\x8b\x08", 3, "is compressed with gzip; decompress it first: gzip -dc");
	stranger(0, "\xfd\x37zXZ\0", 6, "is compressed with xz; decompress it first: xz -dc");
	stranger(0, "\x28\xb5\x2f\xfd", 4,
		 "is compressed with zstd; decompress it first: zstd -dc");
	stranger(0, "BZh9", 4, "is compressed with bzip2; decompress it first: bzip2 -dc");
	stranger(0, "\x5d\0\0\x80", 4, "is compressed with lzma; decompress it first: xz -dc");
	stranger(0, "\x04\x22\x4d\x18", 4, "is compressed with lz4; decompress it first: lz4 -dc");
	stranger(0, "\x89LZO", 4, "is compressed with lzop; decompress it first: lzop -dc");
	stranger(0, "070701", 6, "is a cpio archive, as initrds are; give it with --initrd");
	stranger(0, "\x27\x05\x19\x56", 4,
		 "is a U-Boot image; give the bzImage or vmlinux it was made of");
	stranger(0, "MZ\x90", 3,
		 "is an EFI program without a Linux boot header; if it is a unified kernel "
		 "image, take the kernel out first: objcopy -O binary --only-section=.linux");
	stranger(0, "#!/bin/sh\n", 10,
		 "is not a kernel image: neither a bzImage nor an ELF file (vmlinux)");
	img.size = 1;
	refused("is not a kernel image: neither a bzImage nor an ELF file (vmlinux)");
	img.size = 0;
	refused("the file is empty");
}
END_TEST

static void path_refused(const char *path, const char *text)
{
	ck_assert_int_lt(kernel_load(&mem, path, -1, KERNEL_ENTRY_AUTO, &kernel, &err), 0);
	ck_assert_str_eq(err.msg, text);
}

START_TEST(not_files)
{
	char dir[] = "/tmp/test_kernel.XXXXXX", fifo[64], text[256];

	path_refused("/nonexistent/bzImage",
		     "kernel /nonexistent/bzImage: cannot open: No such file or directory");
	path_refused("/usr", "kernel /usr: is a directory; name the file in it");
	path_refused("/dev/null",
		     "kernel /dev/null: is not a regular file; copy the image into one");
	/* Nobody writes to it: opening must not wait for one. */
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	snprintf(text, sizeof(text), "kernel %s: is not a regular file; copy the image into one",
		 fifo);
	path_refused(fifo, text);
	unlink(fifo);
	rmdir(dir);
}
END_TEST

/* initrd */

static uint64_t initrd_addr, initrd_size;

static int initrd(uint64_t size)
{
	ck_assert_int_eq(ftruncate(img.fd, (off_t)size), 0);
	if (size > 0)
		ck_assert_int_eq(pwrite(img.fd, "initrd", size < 6 ? size : 6, 0),
				 (ssize_t)(size < 6 ? size : 6));
	return initrd_load(&mem, img.path, -1, &kernel, &initrd_addr, &initrd_size, &err);
}

static void initrd_refused(uint64_t size, const char *sentence)
{
	char text[ERR_MSG_MAX];

	snprintf(text, sizeof(text), "initrd %s: %s", img.path, sentence);
	ck_assert_int_lt(initrd(size), 0);
	ck_assert_str_eq(err.msg, text);
}

START_TEST(initrd_places)
{
	kernel = (struct kernel_image){ .start = 16 * MIB,
					.end = 24 * MIB,
					.initrd_max = UINT64_MAX };
	/* As high as RAM goes. */
	ck_assert_int_eq(initrd(5000), 0);
	ck_assert_uint_eq(initrd_size, 5000);
	ck_assert_uint_eq(initrd_addr, 64 * MIB - 8192);
	ck_assert_mem_eq(gmem_ptr(&mem, initrd_addr, 6), "initrd", 6);
	/* All of the RAM above the kernel, and one byte more: below it. */
	kernel.end = 60 * MIB;
	ck_assert_int_eq(initrd(4 * MIB), 0);
	ck_assert_uint_eq(initrd_addr, 60 * MIB);
	ck_assert_int_eq(initrd(4 * MIB + 1), 0);
	ck_assert_uint_eq(initrd_addr, 12 * MIB - 4096);
	/* All of the RAM below, not the first MiB. */
	ck_assert_int_eq(initrd(15 * MIB), 0);
	ck_assert_uint_eq(initrd_addr, MIB);
	initrd_refused(15 * MIB + 1,
		       "15728641 bytes do not fit beside the kernel into the guest's 64 MiB; give "
		       "it more memory (--mem) or make the initrd smaller");
	/* A kernel with a limit: the last byte lies at most there. */
	kernel.end = 24 * MIB;
	kernel.initrd_max = 40 * MIB - 1;
	ck_assert_int_eq(initrd(4096), 0);
	ck_assert_uint_eq(initrd_addr, 40 * MIB - 4096);
	kernel.initrd_max = 40 * MIB - 2;
	ck_assert_int_eq(initrd(4096), 0);
	ck_assert_uint_eq(initrd_addr, 40 * MIB - 8192);
}
END_TEST

START_TEST(initrd_above_4g)
{
	memory(64 * MIB, 4 * GIB, 128 * MIB);
	kernel = (struct kernel_image){ .start = 16 * MIB,
					.end = 24 * MIB,
					.initrd_max = UINT64_MAX };
	/* Low as long as that is possible. */
	ck_assert_int_eq(initrd(40 * MIB), 0);
	ck_assert_uint_eq(initrd_addr, 24 * MIB);
	ck_assert_int_eq(initrd(41 * MIB), 0);
	ck_assert_uint_eq(initrd_addr, 4 * GIB + 87 * MIB);
	kernel.initrd_max = UINT32_MAX;
	initrd_refused(41 * MIB,
		       "42991616 bytes do not fit beside the kernel into the guest's 192 MiB; give "
		       "it more memory (--mem) or make the initrd smaller");
}
END_TEST

START_TEST(initrd_wrong)
{
	kernel = (struct kernel_image){ .start = 16 * MIB,
					.end = 24 * MIB,
					.initrd_max = UINT64_MAX };
	initrd_refused(0, "the file is empty");
	initrd_refused(1ULL << 40,
		       "1099511627776 bytes do not fit beside the kernel into the guest's 64 MiB; "
		       "give it more memory (--mem) or make the initrd smaller");
	ck_assert_int_lt(
		initrd_load(&mem, "/nonexistent", -1, &kernel, &initrd_addr, &initrd_size, &err),
		0);
	ck_assert_str_eq(err.msg, "initrd /nonexistent: cannot open: No such file or directory");
	ck_assert_int_lt(initrd_load(&mem, "/usr", -1, &kernel, &initrd_addr, &initrd_size, &err),
			 0);
	ck_assert_str_eq(err.msg, "initrd /usr: is a directory; name the file in it");
	/* A kernel that lets no initrd be anywhere. */
	kernel.initrd_max = 0;
	ck_assert_int_lt(initrd(1), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("kernel");
	TCase *tc = tcase_create("kernel");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, bz_good);
	tcase_add_test(tc, bz_header_variants);
	tcase_add_test(tc, bz_placement);
	tcase_add_test(tc, bz_refused);
	tcase_add_test(tc, elf_good);
	tcase_add_test(tc, elf_pvh);
	tcase_add_test(tc, elf_refused_header);
	tcase_add_test(tc, elf_refused_segments);
	tcase_add_test(tc, elf_refused_entry);
	tcase_add_test(tc, strangers);
	tcase_add_test(tc, not_files);
	tcase_add_test(tc, initrd_places);
	tcase_add_test(tc, initrd_above_4g);
	tcase_add_test(tc, initrd_wrong);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
