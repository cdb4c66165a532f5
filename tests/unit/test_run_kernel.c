// SPDX-License-Identifier: Apache-2.0
/* Modules for the guest of `vmm run`: found, unpacked, in order; and the archive they go into. */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "guest/agent.h"
#include "tests/unit/device_util.h"
#include "vmm/run/kernel.h"

static char dir[] = "/tmp/test_run_kernel.XXXXXX";
static char kernel[64];
static struct err err;

static void put(const char *name, const void *data, size_t len)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(data, 1, len, file), len);
	fclose(file);
}

static void put_text(const char *name, const char *text)
{
	put(name, text, strlen(text));
}

static void make_folder(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

/* As little of a module as there can be. */
static void put_module(const char *name, const char *info, size_t info_len)
{
	static const char names[] = "\0.modinfo\0.shstrtab";
	struct {
		Elf64_Ehdr head;
		Elf64_Shdr section[3];
		char names[32], info[128];
	} file = { 0 };

	ck_assert_uint_lt(info_len, sizeof(file.info));
	memcpy(file.head.e_ident, ELFMAG, SELFMAG);
	file.head.e_ident[EI_CLASS] = ELFCLASS64;
	file.head.e_ident[EI_DATA] = ELFDATA2LSB;
	file.head.e_ident[EI_VERSION] = EV_CURRENT;
	file.head.e_type = ET_REL;
	file.head.e_machine = EM_X86_64;
	file.head.e_version = EV_CURRENT;
	file.head.e_shoff = sizeof(file.head);
	file.head.e_ehsize = sizeof(file.head);
	file.head.e_shentsize = sizeof(Elf64_Shdr);
	file.head.e_shnum = 3;
	file.head.e_shstrndx = 2;
	memcpy(file.names, names, sizeof(names));
	memcpy(file.info, info, info_len);
	file.section[1] = (Elf64_Shdr){ .sh_name = 1,
					.sh_type = SHT_PROGBITS,
					.sh_offset = offsetof(typeof(file), info),
					.sh_size = info_len };
	file.section[2] = (Elf64_Shdr){ .sh_name = 10,
					.sh_type = SHT_STRTAB,
					.sh_offset = offsetof(typeof(file), names),
					.sh_size = sizeof(names) };
	put(name, &file, sizeof(file));
}

#define MODULE(name, info) put_module(name, info, sizeof(info))

static void setup(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(kernel, sizeof(kernel), "%s/vmlinux", dir);
	put_text("vmlinux", "....Linux version %s.....Linux version 6.1-test (a@b) ...");
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* The names in the archive, each with a blank. */
static const char *listing(struct cpio *cpio)
{
	static char names[1024];
	char header[110 + 1] = "";
	off_t at = 0;

	*names = '\0';
	ck_assert_int_eq(cpio_end(cpio, &err), 0);
	while (pread(cpio->fd, header, 110, at) == 110) {
		char name[128] = "", field[9] = "";
		size_t size, name_size;

		ck_assert(memcmp(header, "070701", 6) == 0);
		size = strtoul(memcpy(field, header + 54, 8), NULL, 16);
		name_size = strtoul(memcpy(field, header + 94, 8), NULL, 16);
		ck_assert_uint_lt(name_size, sizeof(name));
		ck_assert_int_eq(pread(cpio->fd, name, name_size, at + 110), name_size);
		ck_assert_uint_eq(strlen(name), name_size - 1);
		strcat(strcat(names, name), " ");
		at = (at + 110 + (off_t)name_size + 3) / 4 * 4;
		at = (at + (off_t)size + 3) / 4 * 4;
	}
	ck_assert_uint_eq((uint64_t)at, cpio->size);
	return names;
}

static const struct run_want blk_and_fs[] = { { "virtio_blk", "VIRTIO_BLK", "virtio disks" },
					      { "virtiofs", "VIRTIO_FS", "shared folders" },
					      { 0 } };

static int add(const char *modules, const struct run_want *wants, struct cpio *cpio)
{
	struct run_kernel k;
	int r;

	err = (struct err)ERR_INIT;
	ck_assert_int_eq(cpio_init(cpio, &err), 0);
	r = run_kernel_init(&k, kernel, modules, &err);
	if (r == 0) {
		ck_assert_str_eq(k.release, "6.1-test");
		r = run_kernel_add_modules(&k, wants, cpio, &err);
	}
	run_kernel_fini(&k);
	return r;
}

/* What a module needs comes before it, once. '-' and '_' are the same. */
START_TEST(modules_in_order)
{
	struct cpio cpio;

	put_text("modules.dep", "fs/virtiofs.ko: fs/fuse.ko\nblk/virtio-blk.ko:\nfs/fuse.ko:\n"
				"a/virtio_ring.ko:\na/virtio.ko:\n");
	make_folder("fs");
	make_folder("a");
	make_folder("blk");
	MODULE("fs/virtiofs.ko", "license=GPL\0depends=fuse,virtio-ring");
	MODULE("fs/fuse.ko", "depends=");
	MODULE("blk/virtio-blk.ko", "depends=virtio_ring,virtio");
	MODULE("a/virtio_ring.ko", "depends=virtio");
	MODULE("a/virtio.ko", "license=GPL");
	ck_assert_msg(add(dir, blk_and_fs, &cpio) == 0, "%s", err.msg);
	ck_assert_str_eq(listing(&cpio),
			 "modules modules/000-virtio.ko modules/001-virtio_ring.ko "
			 "modules/002-virtio_blk.ko modules/003-fuse.ko modules/004-virtiofs.ko "
			 "TRAILER!!! ");
	cpio_fini(&cpio);
}
END_TEST

START_TEST(built_in_or_missing)
{
	struct cpio cpio;

	put_text("modules.builtin", "kernel/drivers/block/virtio_blk.ko\nkernel/fs/virtiofs.ko\n");
	ck_assert_msg(add(dir, blk_and_fs, &cpio) == 0, "%s", err.msg);
	ck_assert_str_eq(listing(&cpio), "modules TRAILER!!! ");
	cpio_fini(&cpio);

	put_text("modules.builtin", "kernel/drivers/block/virtio_blk.ko\n");
	ck_assert_int_lt(add(dir, blk_and_fs, &cpio), 0);
	ck_assert_str_eq(err.msg,
			 "kernel 6.1-test has no shared folders: it needs CONFIG_VIRTIO_FS");
	cpio_fini(&cpio);
}
END_TEST

/* A configuration beside the image is believed; without one nobody knows. */
START_TEST(configurations)
{
	struct cpio cpio;

	ck_assert_msg(add(NULL, blk_and_fs, &cpio) == 0, "%s", err.msg);
	cpio_fini(&cpio);
	put_text("config-6.1-test", "#\nCONFIG_VIRTIO_BLK=y\n# CONFIG_VIRTIO_FS is not set\n");
	ck_assert_int_lt(add(NULL, blk_and_fs, &cpio), 0);
	ck_assert_str_eq(err.msg,
			 "kernel 6.1-test has no shared folders: it needs CONFIG_VIRTIO_FS");
	cpio_fini(&cpio);
	put_text("config-6.1-test", "#\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_FS=m\n");
	ck_assert_int_lt(add(NULL, blk_and_fs, &cpio), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "name the folder by --modules"));
	cpio_fini(&cpio);
	put_text("config-6.1-test", "#\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_FS=y\n");
	ck_assert_msg(add(NULL, blk_and_fs, &cpio) == 0, "%s", err.msg);
	cpio_fini(&cpio);
}
END_TEST

static void damaged(const char *what, const void *data, size_t len)
{
	static const struct run_want want[] = { { "bad", "BAD", "bad things" }, { 0 } };
	struct cpio cpio;

	put_text("modules.dep", "bad.ko:\n");
	put("bad.ko", data, len);
	(void)add(dir, want, &cpio); /* an error or not: it is the kernel that refuses it */
	ck_assert_msg(cpio.size < 100000, "%s", what);
	cpio_fini(&cpio);
}

/* Files that lie. */
START_TEST(damaged_modules)
{
	static const struct run_want want[] = { { "self", "SELF", "itself" }, { 0 } };
	struct cpio cpio;
	char path[256];
	uint8_t file[600];
	int fd;

	damaged("empty", "", 0);
	damaged("text", "no module", 9);
	damaged("xz", "\xfd\x37zXZ\0 and then nothing", 20);
	damaged("zstd", "\x28\xb5\x2f\xfd....", 8);
	MODULE("good.ko", "depends=x");
	snprintf(path, sizeof(path), "%s/good.ko", dir);
	fd = open(path, O_RDONLY);
	ck_assert_int_gt(read(fd, file, sizeof(file)), 300);
	close(fd);
	for (size_t i = 0; i < 300; i++) {
		uint8_t was = file[i];

		file[i] ^= 0xff;
		damaged("a byte", file, sizeof(file) - 100);
		file[i] = was;
		damaged("cut", file, i);
	}
	/* One that needs itself, and a path that leads away. */
	put_text("modules.dep", "self.ko:\n/etc/passwd.ko:\n");
	MODULE("self.ko", "depends=self");
	ck_assert_int_lt(add(dir, want, &cpio), 0);
	cpio_fini(&cpio);
	ck_assert_int_lt(add(dir, (struct run_want[]){ { "passwd", "X", "x" }, { 0 } }, &cpio), 0);
	cpio_fini(&cpio);
	ck_assert_int_lt(add("/nonexistent", want, &cpio), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "--modules /nonexistent: there is neither"));
	cpio_fini(&cpio);
}
END_TEST

START_TEST(archives)
{
	struct cpio cpio;
	char text[512] = "";

	ck_assert_int_eq(cpio_init(&cpio, &err), 0);
	ck_assert_int_eq(cpio_add(&cpio, "d", S_IFDIR | 0755, 0, NULL, 0, &err), 0);
	ck_assert_int_eq(cpio_add(&cpio, "d/c", S_IFCHR | 0600, makedev(5, 1), NULL, 0, &err), 0);
	ck_assert_int_eq(cpio_add(&cpio, "f", S_IFREG | 0644, 0, "hello", 5, &err), 0);
	ck_assert_str_eq(listing(&cpio), "d d/c f TRAILER!!! ");
	ck_assert_int_gt(pread(cpio.fd, text, sizeof(text) - 1, 0), 0);
	ck_assert(memcmp(text, "07070100000001000041ED", 22) == 0);
	cpio_fini(&cpio);
	ck_assert_int_eq(cpio.fd, -1);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("run_kernel");
	TCase *tc = tcase_create("run_kernel");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, modules_in_order);
	tcase_add_test(tc, built_in_or_missing);
	tcase_add_test(tc, configurations);
	tcase_add_test(tc, damaged_modules);
	tcase_add_test(tc, archives);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
