// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel images: open the file, recognise what it is, hand it to bzimage.c or elf.c; and
 * place the initrd.
 *
 * Two kinds of files boot here: the bzImage (Linux's Documentation/arch/x86/boot.rst) and
 * the ELF vmlinux. Most files given by mistake are something well known, so they are
 * recognised too, only to say what they are and how to make a bootable one of them.
 *
 * Files are untrusted and may change while they are read. They are never mapped from here:
 * a file truncated under a mapping would raise SIGBUS in the monitor. What is checked is
 * what was read once; contents go to guest memory through gmem_load_file() alone.
 *
 * Limits: nothing is decompressed here (a bzImage decompresses itself in the guest, behind
 * the guest's walls); pipes and devices are refused, since images are read by offset.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "arch/x86_64/kernel_file.h"
#include "arch/x86_64/map.h"

/* What people give instead of a kernel: recognised by @len bytes at @offset. */
struct stranger {
	unsigned offset, len;
	const char *magic;
	const char *sentence;
};

#define OTHER_ISA " kernel, but this is an x86-64 machine; give one built for x86-64"

static const struct stranger strangers[] = {
	{ 0x38, 4, "ARM\x64", "is an arm64" OTHER_ISA },
	{ 0x30, 5, "RISCV", "is a riscv" OTHER_ISA },
	{ 0x38, 4, "RSC\x05", "is a riscv" OTHER_ISA },
	{ 0x24, 4, "\x18\x28\x6f\x01", "is a 32-bit ARM" OTHER_ISA },
	{ 0, 2, "\x1f\x8b", "is compressed with gzip; decompress it first: gzip -dc" },
	{ 0, 6, "\xfd\x37zXZ\0", "is compressed with xz; decompress it first: xz -dc" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "is compressed with zstd; decompress it first: zstd -dc" },
	{ 0, 4, "\x02\x21\x4c\x18", "is compressed with lz4; decompress it first: lz4 -dc" },
	{ 0, 4, "\x04\x22\x4d\x18", "is compressed with lz4; decompress it first: lz4 -dc" },
	{ 0, 3, "BZh", "is compressed with bzip2; decompress it first: bzip2 -dc" },
	{ 0, 3, "\x5d\0\0", "is compressed with lzma; decompress it first: xz -dc" },
	{ 0, 4, "\x89LZO", "is compressed with lzop; decompress it first: lzop -dc" },
	{ 0, 4, "\x27\x05\x19\x56",
	  "is a U-Boot image; give the bzImage or vmlinux it was made of" },
	{ 0, 4, "\xd0\x0d\xfe\xed",
	  "is a device tree or FIT image; give the bzImage or vmlinux it was made of" },
	{ 0, 5, "07070", "is a cpio archive, as initrds are; give it with --initrd" },
	{ 0, 2, "MZ",
	  "is an EFI program without a Linux boot header; if it is a unified kernel image, "
	  "take the kernel out first: objcopy -O binary --only-section=.linux" },
};

int kernel_open(const char *path)
{
	/* O_NONBLOCK: opening a FIFO that nobody writes to must not hang the monitor. */
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/*
 * Open @path, unless *fd is open already, which must be a regular file with something in it. The
 * caller closes *fd.
 */
static int open_regular(const char *path, int *fd, uint64_t *size, struct err *err)
{
	struct stat st;

	if (*fd < 0)
		*fd = kernel_open(path);
	if (*fd < 0)
		return err_sys(err, errno, "cannot open");
	if (fstat(*fd, &st) < 0)
		return err_sys(err, errno, "cannot stat");
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "is a directory; name the file in it");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "is not a regular file; copy the image into one");
	if (st.st_size == 0)
		return err_set(err, EINVAL, "the file is empty");
	*size = (uint64_t)st.st_size;
	return 0;
}

static int read_head(struct kernel_file *file, struct err *err)
{
	size_t done = 0;
	ssize_t n;

	memset(file->head, 0, sizeof(file->head));
	while (done < sizeof(file->head)) {
		n = pread(file->fd, file->head + done, sizeof(file->head) - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "cannot read");
		if (n == 0)
			break;
		done += (size_t)n;
	}
	if (done < sizeof(file->head) && done < file->size)
		return err_set(err, EIO, "the file shrank while it was read");
	return 0;
}

static int refuse_stranger(const struct kernel_file *file, struct err *err)
{
	for (size_t i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
		const struct stranger *s = &strangers[i];

		if (memcmp(file->head + s->offset, s->magic, s->len) == 0)
			return err_set(err, ENOEXEC, "%s", s->sentence);
	}
	return err_set(err, ENOEXEC,
		       "is not a kernel image: neither a bzImage nor an ELF file (vmlinux)");
}

static int load_file(struct gmem *mem, struct kernel_file *file, enum kernel_entry want,
		     struct kernel_image *image, struct err *err)
{
	int ret = read_head(file, err);

	if (ret < 0)
		return ret;
	if (memcmp(file->head, "\177ELF", 4) == 0)
		return elf_load(mem, file, want, image, err);
	/* Before the strangers: with an EFI stub a bzImage also begins with "MZ". */
	if (memcmp(file->head + 0x202, "HdrS", 4) == 0)
		return bzimage_load(mem, file, want, image, err);
	return refuse_stranger(file, err);
}

int kernel_load(struct gmem *mem, const char *path, int fd, enum kernel_entry want,
		struct kernel_image *image, struct err *err)
{
	struct kernel_file file = { .fd = fd };
	int ret;

	memset(image, 0, sizeof(*image));
	ret = open_regular(path, &file.fd, &file.size, err);
	if (ret == 0)
		ret = load_file(mem, &file, want, image, err);
	if (fd < 0 && file.fd >= 0)
		close(file.fd);
	return ret < 0 ? err_context(err, "kernel %s", path) : 0;
}

int kernel_no_ram(const struct gmem *mem, uint64_t start, uint64_t size, struct err *err)
{
	uint64_t end;

	if (__builtin_add_overflow(start, size, &end))
		end = UINT64_MAX;
	/* RAM has no hole below MAP_HOLE, so more of it reaches there. */
	if (end > mem->size && end <= MAP_HOLE)
		return err_set(err, ENOMEM,
			       "needs memory up to 0x%" PRIx64 ", but the guest has %" PRIu64
			       " MiB; give it more than --mem %" PRIu64 "M",
			       end, mem->size >> 20, (end + 0xfffff) >> 20);
	return err_set(err, ENOMEM,
		       "needs memory from 0x%" PRIx64 " to 0x%" PRIx64 ", where the guest has none",
		       start, end);
}

/* The highest page-aligned place for @size bytes in RAM below @limit, beside the kernel. */
static bool initrd_place(const struct gmem *mem, const struct kernel_image *image, uint64_t limit,
			 uint64_t size, uint64_t *addr)
{
	for (unsigned i = mem->nregions; i-- > 0;) {
		const struct gmem_region *r = &mem->regions[i];
		uint64_t lo = r->gpa > MAP_HIGH_RAM ? r->gpa : MAP_HIGH_RAM;
		uint64_t hi = r->gpa + r->size < limit ? r->gpa + r->size : limit;
		/* The part of the region above the kernel, and the part below. */
		const uint64_t gap[2][2] = {
			{ lo > image->end ? lo : image->end, hi },
			{ lo, hi < image->start ? hi : image->start },
		};

		for (unsigned g = 0; r->ram && g < 2; g++) {
			if (gap[g][1] < gap[g][0] || gap[g][1] - gap[g][0] < size)
				continue;
			*addr = (gap[g][1] - size) & ~(GMEM_PAGE_SIZE - 1);
			if (*addr >= gap[g][0])
				return true;
		}
	}
	return false;
}

static int place_and_load(struct gmem *mem, int fd, const struct kernel_image *image,
			  uint64_t *addr, uint64_t size, struct err *err)
{
	uint64_t limit = image->initrd_max == UINT64_MAX ? UINT64_MAX : image->initrd_max + 1;

	/*
	 * Below 4 GiB first, where every kernel can reach it. The size is only compared,
	 * never added to: it comes from the file system, which may lie (FUSE).
	 */
	if (!initrd_place(mem, image, limit < MAP_4G ? limit : MAP_4G, size, addr) &&
	    !initrd_place(mem, image, limit, size, addr))
		return err_set(err, ENOMEM,
			       "%" PRIu64
			       " bytes do not fit beside the kernel into the guest's %" PRIu64
			       " MiB; give it more memory (--mem) or make the initrd smaller",
			       size, mem->size >> 20);
	return gmem_load_file(mem, *addr, fd, 0, size, err);
}

int initrd_load(struct gmem *mem, const char *path, int fd, const struct kernel_image *image,
		uint64_t *addr, uint64_t *size, struct err *err)
{
	int file = fd, ret;

	ret = open_regular(path, &file, size, err);
	if (ret == 0)
		ret = place_and_load(mem, file, image, addr, *size, err);
	if (fd < 0 && file >= 0)
		close(file);
	return ret < 0 ? err_context(err, "initrd %s", path) : 0;
}

int initrd_load_fd(struct gmem *mem, int fd, const struct kernel_image *image, uint64_t *addr,
		   uint64_t *size, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "initrd");
	*size = (uint64_t)st.st_size;
	if (place_and_load(mem, fd, image, addr, *size, err) < 0)
		return err_context(err, "initrd");
	return 0;
}
