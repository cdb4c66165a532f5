// SPDX-License-Identifier: Apache-2.0
/*
 * Start info of the PVH boot protocol, version 1: Xen's docs/misc/pvh.pandoc and
 * include/public/arch-x86/hvm/start_info.h. The entry point gets its address in EBX.
 *
 * Layout: start info, then the list of modules (the initrd or nothing), then the memory
 * map, all 8-byte-aligned when the base is.
 *
 * Limits: everything lies below 4 GiB. The fields are 64 bits wide, but Linux copies them
 * into 32-bit ones. At most 128 memory ranges: Linux copies them into its zero page and
 * does not count.
 */
#include <errno.h>
#include <string.h>
#include "firmware/bootparams.h"

struct pvh_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_paddr;
	uint64_t cmdline_paddr;
	uint64_t rsdp_paddr;
	uint64_t memmap_paddr;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct pvh_module {
	uint64_t paddr;
	uint64_t size;
	uint64_t cmdline_paddr;
	uint64_t reserved;
};

struct pvh_memmap_entry {
	uint64_t addr;
	uint64_t size;
	uint32_t type; /* the same numbers as enum e820_type */
	uint32_t reserved;
};

_Static_assert(sizeof(struct pvh_start_info) == 56, "start_info.h");
_Static_assert(sizeof(struct pvh_module) == 32, "start_info.h");
_Static_assert(sizeof(struct pvh_memmap_entry) == 24, "start_info.h");

#define PVH_MAGIC      0x336ec578 /* "xEn3", the E with its highest bit set */
#define PVH_VERSION    1
#define PVH_RANGES_MAX 128
#define FOUR_GIB       (1ULL << 32)

static int check_low(const char *what, uint64_t base, uint64_t size, struct err *err)
{
	if (base > FOUR_GIB || size > FOUR_GIB - base)
		return err_set(err, EINVAL,
			       "PVH start info: the %s at 0x%llx does not end below 4 GiB", what,
			       (unsigned long long)base);
	return 0;
}

int pvh_build(const struct boot_desc *desc, struct gmem *mem, uint64_t base, uint64_t size,
	      struct err *err)
{
	struct pvh_start_info info = {
		.magic = PVH_MAGIC,
		.version = PVH_VERSION,
		.cmdline_paddr = desc->cmdline,
		.rsdp_paddr = desc->rsdp,
		.memmap_entries = desc->ne820,
	};
	uint64_t modlist = base + sizeof(info);
	uint64_t memmap = modlist + (desc->initrd_size != 0 ? sizeof(struct pvh_module) : 0);
	uint64_t need = memmap + desc->ne820 * sizeof(struct pvh_memmap_entry) - base;
	uint8_t *out;
	int ret;

	if (desc->ne820 > PVH_RANGES_MAX)
		return err_set(err, E2BIG, "PVH start info: %u memory ranges, at most %u fit",
			       desc->ne820, PVH_RANGES_MAX);
	ret = check_low("start info", base, need, err);
	if (ret == 0)
		ret = check_low("command line", desc->cmdline, desc->cmdline_size, err);
	if (ret == 0 && desc->initrd_size != 0)
		ret = check_low("initrd", desc->initrd, desc->initrd_size, err);
	if (ret != 0)
		return ret;
	if (need > size)
		return err_set(err, ENOSPC, "PVH start info: %llu bytes do not fit into %llu",
			       (unsigned long long)need, (unsigned long long)size);
	out = gmem_wptr(mem, base, need);
	if (out == NULL)
		return err_set(err, EFAULT, "PVH start info: 0x%llx to 0x%llx is not RAM",
			       (unsigned long long)base, (unsigned long long)(base + need - 1));

	if (desc->initrd_size != 0) {
		struct pvh_module module = { .paddr = desc->initrd, .size = desc->initrd_size };

		info.nr_modules = 1;
		info.modlist_paddr = modlist;
		memcpy(out + (modlist - base), &module, sizeof(module));
	}
	if (desc->ne820 != 0)
		info.memmap_paddr = memmap;
	for (unsigned i = 0; i < desc->ne820; i++) {
		struct pvh_memmap_entry entry = {
			.addr = desc->e820[i].base,
			.size = desc->e820[i].size,
			.type = desc->e820[i].type,
		};

		memcpy(out + (memmap - base) + i * sizeof(entry), &entry, sizeof(entry));
	}
	memcpy(out, &info, sizeof(info));
	return 0;
}
