// SPDX-License-Identifier: Apache-2.0
/*
 * Fuzz target: any bytes as a kernel file and as an initrd, with each kind of entry.
 *
 * Checks what the rest of the monitor relies on after success: the entry lies in the image,
 * the image and the initrd in RAM above the first MiB and not over each other. The seeds
 * (corpus/kernel) are small images of each kind that load here; build with
 * -fsanitize=fuzzer,address,undefined.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/map.h"
#include "tests/fuzz/fuzz.h"

#define LOW_SIZE  (4ULL << 20)
#define HIGH_SIZE (2ULL << 20)

static void check_sentence(const struct err *err, const char *prefix)
{
	CHECK(err->code > 0 && strncmp(err->msg, prefix, strlen(prefix)) == 0);
}

static void try_initrd(struct gmem *mem, const char *path, const struct kernel_image *image)
{
	struct err err = ERR_INIT;
	uint64_t addr, len;

	if (initrd_load(mem, path, -1, image, &addr, &len, &err) < 0) {
		check_sentence(&err, "initrd ");
		return;
	}
	CHECK(addr >= MAP_HIGH_RAM && addr + len - 1 <= image->initrd_max);
	CHECK(gmem_ptr(mem, addr, len) != NULL);
	CHECK(addr >= image->end || addr + len <= image->start);
}

static void try_kernel(struct gmem *mem, const char *path, enum kernel_entry want)
{
	struct kernel_image image;
	struct err err = ERR_INIT;

	if (kernel_load(mem, path, -1, want, &image, &err) < 0) {
		check_sentence(&err, "kernel ");
		return;
	}
	CHECK(image.entry_kind == KERNEL_ENTRY_LINUX64 || image.entry_kind == KERNEL_ENTRY_PVH);
	CHECK(want == KERNEL_ENTRY_AUTO || image.entry_kind == want);
	CHECK(image.start >= MAP_HIGH_RAM && image.start < image.end);
	CHECK(image.entry >= image.start && image.entry < image.end);
	CHECK(gmem_ptr(mem, image.entry, 1) != NULL && gmem_ptr(mem, image.end - 1, 1) != NULL);
	CHECK(image.setup_header_size <= sizeof(image.setup_header));
	CHECK(image.cmdline_max < MAP_CMDLINE_MAX);
	try_initrd(mem, path, &image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gmem_config cfg = { .size = LOW_SIZE + HIGH_SIZE };
	struct err err = ERR_INIT;
	struct gmem mem;
	char path[32];
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(gmem_init(&mem, &cfg, &err) == 0);
	CHECK(gmem_add_region(&mem, 0, LOW_SIZE, &err) == 0);
	CHECK(gmem_add_region(&mem, MAP_4G, HIGH_SIZE, &err) == 0);
	try_kernel(&mem, path, KERNEL_ENTRY_AUTO);
	try_kernel(&mem, path, KERNEL_ENTRY_LINUX64);
	try_kernel(&mem, path, KERNEL_ENTRY_PVH);
	gmem_fini(&mem);
	close(fd);
	return 0;
}
