// SPDX-License-Identifier: Apache-2.0
/*
 * The bzImage: Linux's Documentation/arch/x86/boot.rst, protocol 2.12 (Linux 3.8, 2013) or
 * later, entered by the "64-bit boot protocol" at load address + 0x200.
 *
 *	file	0 ........ real-mode setup code, (setup_sects + 1) * 512 bytes: not used but
 *		           for the setup header in it, from 0x1f1 on
 *		...  ..... protected-mode code, syssize * 16 bytes: what is loaded; it
 *		           decompresses the kernel proper, in the guest
 *		...  ..... anything (a signature): ignored
 *
 * Where it goes. The kernel runs at the load address, but never below pref_address, and
 * needs init_size bytes from there, for decompression, bss and early page tables. So it is
 * loaded at pref_address, or, when that is not RAM and the kernel is relocatable, at the
 * lowest aligned address above with init_size bytes of RAM.
 *
 * Limits: no 32-bit or real-mode entry, no zImage, nothing below 1 MiB, nor above 4 GiB:
 * the page tables a kernel is entered with end there.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include "arch/x86_64/kernel_file.h"
#include "arch/x86_64/map.h"

#define SECTOR	   512
#define ENTRY_64   0x200 /* from the load address */
#define PROTO_2_12 0x20c

_Static_assert(KERNEL_SETUP_HEADER + KERNEL_SETUP_HEADER_MAX <=
		       sizeof(((struct kernel_file *)NULL)->head),
	       "the head of the file holds the largest setup header");
_Static_assert(sizeof(struct setup_header) <= KERNEL_SETUP_HEADER_MAX,
	       "the setup header we know is no larger than the zero page has room for");

static bool power_of_two(uint64_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/*
 * Copy the header out of the file's head. It ends where the jump over it, at 0x200, leads
 * to; what lies behind is code, so fields there count as zero.
 */
static int read_setup_header(const struct kernel_file *file, struct setup_header *hdr, size_t *size,
			     struct err *err)
{
	/* A two-byte jump at 0x200: its displacement counts from 0x202. */
	size_t end = 0x202 + file->head[0x201];

	if (end < KERNEL_SETUP_HEADER + offsetof(struct setup_header, handover_offset))
		return err_set(err, ENOEXEC,
			       "damaged bzImage: its setup header ends at 0x%zx, before init_size",
			       end);
	/* A longer one would run over other fields of the zero page. */
	if (end > KERNEL_SETUP_HEADER + KERNEL_SETUP_HEADER_MAX)
		end = KERNEL_SETUP_HEADER + KERNEL_SETUP_HEADER_MAX;
	*size = end - KERNEL_SETUP_HEADER;
	memset(hdr, 0, sizeof(*hdr));
	memcpy(hdr, file->head + KERNEL_SETUP_HEADER, *size < sizeof(*hdr) ? *size : sizeof(*hdr));
	return 0;
}

static int check_kind(const struct setup_header *hdr, enum kernel_entry want, struct err *err)
{
	if (want == KERNEL_ENTRY_PVH)
		return err_set(err, ENOEXEC,
			       "a bzImage has no PVH entry; give the vmlinux it was made of, or "
			       "use --entry linux64");
	/* In the order of history: an old image is told its age, not the bits it lacks. */
	if (!(hdr->loadflags & LOADED_HIGH))
		return err_set(err, ENOEXEC,
			       "is a zImage, which is loaded below 1 MiB; build a bzImage");
	if (hdr->version < PROTO_2_12)
		return err_set(err, ENOEXEC,
			       "boot protocol %u.%02u is too old; 2.12 (Linux 3.8) or later is "
			       "needed",
			       hdr->version >> 8, hdr->version & 0xff);
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return err_set(err, ENOEXEC,
			       "is a 32-bit kernel (no 64-bit entry point); give one built for "
			       "x86-64");
	return 0;
}

/* Are the sizes in the header true of the file? *@offset and *@size: what is to be loaded. */
static int check_sizes(const struct kernel_file *file, const struct setup_header *hdr,
		       uint64_t *offset, uint64_t *size, struct err *err)
{
	unsigned sects = hdr->setup_sects != 0 ? hdr->setup_sects : 4;

	*offset = (sects + 1) * SECTOR;
	*size = (uint64_t)hdr->syssize * 16;
	if (*size <= ENTRY_64)
		return err_set(err, ENOEXEC,
			       "damaged bzImage: %" PRIu64 " bytes of code do not reach its entry "
			       "point",
			       *size);
	if (file->size < *offset + *size)
		return err_set(err, ENOEXEC,
			       "truncated bzImage: %" PRIu64 " bytes, but its header says %" PRIu64
			       "; copy or download it again",
			       file->size, *offset + *size);
	if ((uint64_t)hdr->payload_offset + hdr->payload_length > *size)
		return err_set(err, ENOEXEC,
			       "damaged bzImage: its payload (%u bytes at %u) reaches over its end",
			       hdr->payload_length, hdr->payload_offset);
	return 0;
}

static bool is_free(const struct gmem *mem, uint64_t addr, uint64_t size)
{
	return addr >= MAP_HIGH_RAM && gmem_ptr(mem, addr, size) != NULL && addr + size <= MAP_4G;
}

/* Choose the load address of @size bytes that grow to @need. See the top of the file. */
static int choose_address(const struct gmem *mem, const struct setup_header *hdr, uint64_t need,
			  uint64_t *addr, struct err *err)
{
	/* Without a preference: where bzImages have always been loaded. */
	uint64_t pref = hdr->pref_address != 0 ? hdr->pref_address : MAP_HIGH_RAM;
	uint64_t align = hdr->kernel_alignment;

	if (is_free(mem, pref, need)) {
		*addr = pref;
		return 0;
	}
	if (!hdr->relocatable_kernel)
		return kernel_no_ram(mem, pref, need, err);
	if (!power_of_two(align))
		return err_set(err, ENOEXEC,
			       "damaged bzImage: kernel_alignment 0x%" PRIx64 " is no power of two",
			       align);
	if (pref < MAP_HIGH_RAM)
		pref = MAP_HIGH_RAM;
	for (unsigned i = 0; i < mem->nregions; i++) {
		uint64_t from = mem->regions[i].gpa > pref ? mem->regions[i].gpa : pref;

		/* Rounding up may wrap to 0, which is not above pref: no place either. */
		from = (from + align - 1) & ~(align - 1);
		if (mem->regions[i].ram && from >= pref && is_free(mem, from, need)) {
			*addr = from;
			return 0;
		}
	}
	return kernel_no_ram(mem, pref, need, err);
}

int bzimage_load(struct gmem *mem, const struct kernel_file *file, enum kernel_entry want,
		 struct kernel_image *image, struct err *err)
{
	uint64_t offset = 0, size = 0, need, addr = 0;
	struct setup_header hdr;
	size_t hdr_size = 0;
	int ret;

	if (file->size < KERNEL_SETUP_HEADER + sizeof(hdr))
		return err_set(err, ENOEXEC,
			       "truncated bzImage: %" PRIu64 " bytes are too few for its header",
			       file->size);
	/* The kind first: the header of an old image is short, and that is no damage. */
	memcpy(&hdr, file->head + KERNEL_SETUP_HEADER, sizeof(hdr));
	ret = check_kind(&hdr, want, err);
	if (ret < 0)
		return ret;
	ret = read_setup_header(file, &hdr, &hdr_size, err);
	if (ret < 0)
		return ret;
	ret = check_sizes(file, &hdr, &offset, &size, err);
	if (ret < 0)
		return ret;
	need = hdr.init_size > size ? hdr.init_size : size;
	ret = choose_address(mem, &hdr, need, &addr, err);
	if (ret < 0)
		return ret;
	ret = gmem_load_file(mem, addr, file->fd, offset, size, err);
	if (ret < 0)
		return ret;

	image->entry_kind = KERNEL_ENTRY_LINUX64;
	image->entry = addr + ENTRY_64;
	image->start = addr;
	image->end = addr + need;
	/* Where all may be above 4 GiB, initrd_addr_max speaks only of the older entries. */
	image->initrd_max =
		hdr.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G ? UINT64_MAX : hdr.initrd_addr_max;
	/* The caller makes room for a line this long: a damaged header must not set its price. */
	image->cmdline_max =
		hdr.cmdline_size < MAP_CMDLINE_MAX ? hdr.cmdline_size : MAP_CMDLINE_MAX - 1;
	/* Required of loaders that choose another address than the header says. */
	hdr.code32_start = (uint32_t)addr;
	memcpy(image->setup_header, file->head + KERNEL_SETUP_HEADER, hdr_size);
	memcpy(image->setup_header, &hdr, hdr_size < sizeof(hdr) ? hdr_size : sizeof(hdr));
	image->setup_header_size = hdr_size;
	return 0;
}
