// SPDX-License-Identifier: Apache-2.0
/*
 * The "zero page" of the x86 Linux boot protocol: Documentation/arch/x86/boot.rst ("The
 * Real-Mode Kernel Header", "64-bit Boot Protocol") and zero-page.rst; its layout is the
 * kernel's own <asm/bootparam.h>.
 *
 * For a bzImage the setup header is the image's, with the fields a boot loader must
 * write. An ELF vmlinux has none, so it gets one which says as much as is needed to be
 * taken for one.
 *
 * Limits: made for the 64-bit entry, where real-mode code does not run (so no heap, no
 * segments to keep); at most 128 memory ranges, no SETUP_E820_EXT.
 */
#include <errno.h>
#include <string.h>
#include <asm/bootparam.h>
#include "firmware/bootparams.h"

_Static_assert(sizeof(struct boot_params) == BOOT_PARAMS_SIZE, "zero-page.rst");
_Static_assert(offsetof(struct boot_params, hdr) == 0x1f1, "boot.rst");
_Static_assert(offsetof(struct boot_params, e820_table) == 0x2d0, "zero-page.rst");

#define BOOT_FLAG	  0xaa55
#define HEADER_MAGIC	  0x53726448 /* "HdrS" */
#define LOADER_UNDEFINED  0xff	     /* without an assigned id */
#define VIDEO_MODE_NORMAL 0xffff
#define PROTOCOL_2_12	  0x020c /* the first with 64-bit entry and ext_ fields */
#define PROTOCOL_2_15	  0x020f
#define ELF_ALIGNMENT	  (2U << 20)

#define HEADER_START 0x1f1
#define HEADER_LIMIT 0x290 /* the zero page goes on with other things here */
#define HEADER_MIN   offsetof(struct setup_header, handover_offset) /* protocol 2.10 */

/*
 * The image's header ends where the jump at 0x200, a short one, leads to: its second byte
 * is the distance from 0x202. What lies behind is code and must not get into the zero
 * page; a header longer than the one known here is copied in full.
 */
static int copy_setup_header(struct boot_params *params, const struct boot_desc *desc,
			     struct err *err)
{
	const struct setup_header *hdr = desc->setup_header;
	size_t len;

	if (desc->setup_header_size < HEADER_MIN)
		return err_set(err, EINVAL, "boot parameters: setup header cut off after %zu bytes",
			       desc->setup_header_size);
	if (hdr->boot_flag != BOOT_FLAG || hdr->header != HEADER_MAGIC)
		return err_set(err, EINVAL, "boot parameters: that is not a setup header");
	if (hdr->version < PROTOCOL_2_12)
		return err_set(err, EINVAL,
			       "boot parameters: boot protocol %u.%02u, needs 2.12 or later",
			       hdr->version >> 8, hdr->version & 0xff);
	len = 0x202 + (hdr->jump >> 8) - HEADER_START;
	if (len > desc->setup_header_size)
		len = desc->setup_header_size;
	if (len > HEADER_LIMIT - HEADER_START)
		len = HEADER_LIMIT - HEADER_START;
	if (len < HEADER_MIN)
		return err_set(err, EINVAL, "boot parameters: setup header ends after %zu bytes",
			       len);
	memcpy((uint8_t *)params + HEADER_START, hdr, len);
	return 0;
}

static void make_setup_header(struct setup_header *hdr)
{
	hdr->boot_flag = BOOT_FLAG;
	hdr->header = HEADER_MAGIC;
	hdr->version = PROTOCOL_2_15;
	hdr->kernel_alignment = ELF_ALIGNMENT;
	hdr->xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G;
}

/* What boot.rst calls "write" and "modify (obligatory)". */
static void fill_setup_header(struct boot_params *params, const struct boot_desc *desc)
{
	struct setup_header *hdr = &params->hdr;

	hdr->vid_mode = VIDEO_MODE_NORMAL;
	hdr->type_of_loader = LOADER_UNDEFINED;
	hdr->ext_loader_ver = 0;
	hdr->ext_loader_type = 0;
	/* Both are about the real-mode and 32-bit entries, which are not taken. */
	hdr->loadflags &= ~(CAN_USE_HEAP | KEEP_SEGMENTS);
	hdr->loadflags |= LOADED_HIGH;
	hdr->heap_end_ptr = 0;
	hdr->setup_data = 0;

	hdr->cmd_line_ptr = desc->cmdline;
	params->ext_cmd_line_ptr = desc->cmdline >> 32;
	hdr->ramdisk_image = 0;
	hdr->ramdisk_size = 0;
	if (desc->initrd_size != 0) {
		hdr->ramdisk_image = desc->initrd;
		hdr->ramdisk_size = desc->initrd_size;
		params->ext_ramdisk_image = desc->initrd >> 32;
		params->ext_ramdisk_size = desc->initrd_size >> 32;
	}
}

int bootparams_build(const struct boot_desc *desc, struct gmem *mem, uint64_t base, struct err *err)
{
	struct boot_params params = { 0 };
	int ret;

	if (desc->ne820 > E820_MAX_ENTRIES_ZEROPAGE)
		return err_set(err, E2BIG, "boot parameters: %u memory ranges, at most %u fit",
			       desc->ne820, E820_MAX_ENTRIES_ZEROPAGE);
	if (desc->setup_header != NULL) {
		ret = copy_setup_header(&params, desc, err);
		if (ret != 0)
			return ret;
	} else {
		make_setup_header(&params.hdr);
	}
	fill_setup_header(&params, desc);

	params.acpi_rsdp_addr = desc->rsdp;
	params.e820_entries = desc->ne820;
	for (unsigned i = 0; i < desc->ne820; i++)
		params.e820_table[i] = (struct boot_e820_entry){
			.addr = desc->e820[i].base,
			.size = desc->e820[i].size,
			.type = desc->e820[i].type,
		};

	ret = gmem_write(mem, base, &params, sizeof(params));
	if (ret != 0)
		return err_set(err, -ret, "boot parameters: 0x%llx to 0x%llx is not RAM",
			       (unsigned long long)base,
			       (unsigned long long)(base + sizeof(params) - 1));
	return 0;
}
