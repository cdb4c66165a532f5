// SPDX-License-Identifier: Apache-2.0
/*
 * virtio devices in the x86 machine, on a real KVM: where they go, how many, what the kernel's
 * command line says, reset; eventfds and routes as KVM takes them. Exit status 77 where there
 * is no KVM.
 */
#include <elf.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <unistd.h>
#include "arch/x86_64/machine.h"
#include "arch/x86_64/map.h"
#include "tests/unit/transport_util.h"
#include "vmm/base/log.h"

#define SKIPPED 77

static struct machine_config cfg;
static struct machine m;
static struct driver d; /* for its loop and memory: the devices' */
static struct fake_virtio fakes[MACHINE_VIRTIO_MAX + 1];
static unsigned nfakes;
static struct err err;

static void machine_up(unsigned devices)
{
	cfg.mem.size = 8 << 20;
	cfg.cpus.count = 1;
	cfg.nvirtio = devices;
	m = (struct machine){ .cfg = &cfg, .loop = d.loop, .kvm = { .fd = -1, .vm_fd = -1 } };
	bus_init(&m.mmio);
	bus_init(&m.pio);
	ck_assert_msg(arch_check_config(&cfg, &err) == 0, "%s", err.msg);
	ck_assert_msg(kvm_open(&m.kvm, "/dev/kvm", &err) == 0, "%s", err.msg);
	ck_assert_msg(kvm_create_vm(&m.kvm, 0, &err) == 0, "%s", err.msg);
	ck_assert_msg(gmem_init(&m.mem, &cfg.mem, &err) == 0, "%s", err.msg);
	ck_assert_msg(arch_init_memory(&m, &err) == 0, "%s", err.msg);
	ck_assert_msg(arch_init_devices(&m, &err) == 0, "%s", err.msg);
	for (nfakes = 0; nfakes < devices; nfakes++) {
		fake_virtio_init(&fakes[nfakes], &d, FAKE_QUEUES);
		ck_assert_msg(arch_add_virtio(&m, &fakes[nfakes].vdev, &err) == 0, "%s", err.msg);
	}
}

static void setup(void)
{
	cfg = (struct machine_config){ .acpi = true };
	err = (struct err)ERR_INIT;
	driver_init(&d);
}

static void teardown(void)
{
	arch_fini(&m);
	for (unsigned i = 0; i < nfakes; i++) {
		ck_assert_ptr_null(fakes[i].vdev.transport);
		virtio_fini(&fakes[i].vdev);
	}
	gmem_fini(&m.mem);
	kvm_close(&m.kvm);
	bus_fini(&m.pio);
	bus_fini(&m.mmio);
	driver_fini(&d);
}

static uint64_t ecam(unsigned n, unsigned reg)
{
	return MAP_ECAM + ((uint64_t)(n % 31 + 1) << 15) + (n / 31 << 12) + reg;
}

/* The register page of device @n, usable. */
static uint64_t registers(unsigned n)
{
	if (virtio_on_mmio(&cfg))
		return MAP_VIRTIO_MMIO + n * 0x1000;
	bus_put(&m.mmio, ecam(n, PCI_COMMAND), 6, 2);
	return bus_get(&m.mmio, ecam(n, PCI_BASE_ADDRESS_0), 4) & ~0xfULL;
}

static bool answers(unsigned n)
{
	uint64_t at = registers(n);

	if (virtio_on_mmio(&cfg))
		return bus_get(&m.mmio, at, 4) == 0x74726976;
	return bus_get(&m.mmio, at + VIRTIO_PCI_COMMON_NUMQ, 2) == FAKE_QUEUES;
}

START_TEST(as_many_as_can_be)
{
	static const struct {
		int transport;
		bool acpi, pit;
		unsigned n;
	} kinds[] = {
		{ TRANSPORT_AUTO, true, false, 64 },  { TRANSPORT_MMIO, true, false, 64 },
		{ TRANSPORT_AUTO, false, false, 64 }, { TRANSPORT_AUTO, false, true, 8 },
		{ TRANSPORT_PCI, true, true, 64 },
	};
	struct fake_virtio *one_more;

	cfg.transport = kinds[_i].transport;
	cfg.acpi = kinds[_i].acpi;
	cfg.pit = kinds[_i].pit;
	machine_up(kinds[_i].n);
	for (unsigned i = 0; i < nfakes; i++)
		ck_assert_msg(answers(i), "device %u", i);
	one_more = &fakes[nfakes];
	fake_virtio_init(one_more, &d, 1);
	ck_assert_int_eq(arch_add_virtio(&m, &one_more->vdev, &err), -ENOSPC);
	virtio_fini(&one_more->vdev);

	cfg.nvirtio++;
	ck_assert_int_eq(arch_check_config(&cfg, &err), -ENOSPC);
}
END_TEST

START_TEST(refused)
{
	machine_up(0);
	cfg.transport = TRANSPORT_PCI;
	cfg.acpi = false;
	ck_assert_int_eq(arch_check_config(&cfg, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "ACPI"));
}
END_TEST

/* Eventfds and irqfds are such that KVM takes them, and move with the BAR. */
START_TEST(kvm_takes_them)
{
	const struct virtio_transport_ops *ops;
	struct virtio_transport *t;
	uint64_t at;
	int fd[2];

	cfg.pit = _i & 1;
	cfg.transport = _i & 2 ? TRANSPORT_MMIO : TRANSPORT_PCI;
	machine_up(2);
	t = fakes[1].vdev.transport;
	ops = t->ops;
	at = registers(1);
	for (unsigned q = 0; q < 2; q++) {
		fd[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ck_assert_int_eq(ops->ioeventfd(t, q, fd[q], true), 0);
	}
	/* KVM knows them: the same again is one too many. */
	ck_assert_int_eq(m.arch->irqchip.ioeventfd.set(
				 &m.arch->irqchip.ioeventfd, fd[0],
				 at + (_i & 2 ? VIRTIO_MMIO_QUEUE_NOTIFY : 0x3000), _i & 2 ? 4 : 0,
				 _i & 2 ? &(uint64_t){ 0 } : NULL, true),
			 -EEXIST);
	if (_i & 2) {
		ck_assert_int_eq(ops->irqfd(t, 0, fd[0], true), -EOPNOTSUPP);
	} else {
		bus_put(&m.mmio, ecam(1, PCI_BASE_ADDRESS_0), 0xd0000000, 4);
		at = registers(1);
		ck_assert_uint_eq(at, 0xd0000000);
		for (unsigned v = 0; v < 3; v++) {
			bus_put(&m.mmio, at + 0x4000 + v * 16, 0xfee00000, 8);
			bus_put(&m.mmio, at + 0x4008 + v * 16, 0x30 + v, 8);
		}
		bus_put(&m.mmio, ecam(1, 0x42), PCI_MSIX_FLAGS_ENABLE, 2);
		for (unsigned q = 0; q < 2; q++) {
			bus_put(&m.mmio, at + VIRTIO_PCI_COMMON_Q_SELECT, q, 2);
			bus_put(&m.mmio, at + VIRTIO_PCI_COMMON_Q_MSIX, 1 + q, 2);
			ck_assert_int_eq(ops->irqfd(t, q, fd[q], true), 0);
		}
		/* Messages change, and are masked, under a connected irqfd. */
		bus_put(&m.mmio, at + 0x4008 + 16, 0x41, 4);
		bus_put(&m.mmio, at + 0x400c + 16, 1, 4);
		bus_put(&m.mmio, at + 0x400c + 16, 0, 4);
		ck_assert_int_eq(ops->irqfd(t, 0, fd[0], false), 0);
		ck_assert_int_eq(ops->irqfd(t, 0, fd[0], true), 0);
		pthread_mutex_lock(&fakes[1].vdev.lock);
		ck_assert_uint_eq(fakes[1].vdev.status, 0); /* not broken */
		pthread_mutex_unlock(&fakes[1].vdev.lock);
		for (unsigned q = 0; q < 2; q++)
			ck_assert_int_eq(ops->irqfd(t, q, fd[q], false), 0);
	}
	for (unsigned q = 0; q < 2; q++) {
		ck_assert_int_eq(ops->ioeventfd(t, q, fd[q], false), 0);
		close(fd[q]);
	}
}
END_TEST

/* Reset of the machine resets devices and puts BARs back. */
START_TEST(reset)
{
	cfg.transport = _i ? TRANSPORT_MMIO : TRANSPORT_PCI;
	machine_up(3);
	if (!_i) {
		bus_put(&m.mmio, ecam(2, PCI_BASE_ADDRESS_0), 0xd0000000, 4);
		ck_assert_uint_eq(registers(2), 0xd0000000);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_mutex_lock(&fakes[i].vdev.lock);
		virtio_set_status(&fakes[i].vdev, 1);
		pthread_mutex_unlock(&fakes[i].vdev.lock);
	}
	ck_assert_msg(arch_reset(&m, NULL, 0, &err) == 0, "%s", err.msg);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(fakes[i].vdev.status, 0);
		ck_assert_uint_eq(fakes[i].resets, 1);
		if (!_i)
			ck_assert_uint_eq(bus_get(&m.mmio, ecam(i, PCI_COMMAND), 2), 0);
		ck_assert(answers(i));
	}
	if (!_i)
		ck_assert_uint_eq(registers(2), MAP_MMIO32 + 2 * 0x8000);
}
END_TEST

/* --- The command line --- */

/* A kernel as far as the loader can tell. */
static void write_kernel(char *path)
{
	struct {
		Elf64_Ehdr ehdr;
		Elf64_Phdr phdr;
		uint8_t code[64];
	} file = {
		.ehdr = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				       EV_CURRENT },
			  .e_type = ET_EXEC,
			  .e_machine = EM_X86_64,
			  .e_version = EV_CURRENT,
			  .e_entry = 0x200000,
			  .e_phoff = sizeof(Elf64_Ehdr),
			  .e_ehsize = sizeof(Elf64_Ehdr),
			  .e_phentsize = sizeof(Elf64_Phdr),
			  .e_phnum = 1 },
		.phdr = { .p_type = PT_LOAD,
			  .p_flags = PF_R | PF_X,
			  .p_offset = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr),
			  .p_vaddr = 0x200000,
			  .p_paddr = 0x200000,
			  .p_filesz = 64,
			  .p_memsz = 64 },
	};
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, &file, sizeof(file)), sizeof(file));
	close(fd);
}

START_TEST(cmdline)
{
#define V0 "virtio_mmio.device=4K@0xe8100000:16"
#define V1 "virtio_mmio.device=4K@0xe8101000:17"
	static const struct {
		const char *user, *seen;
	} cases[] = {
		{ NULL, V0 " " V1 },
		{ "", V0 " " V1 },
		{ "quiet", "quiet " V0 " " V1 },
		{ "quiet ", "quiet " V0 " " V1 },
		{ "quiet -- a b", "quiet " V0 " " V1 " -- a b" },
		{ "quiet --", "quiet " V0 " " V1 " --" },
		{ "-- a", V0 " " V1 " -- a" },
		{ "a=--b --c d--", "a=--b --c d-- " V0 " " V1 },
		{ "a=\"x -- y\" z", "a=\"x -- y\" z " V0 " " V1 },
		{ "a -- b -- c", "a " V0 " " V1 " -- b -- c" },
	};
	char path[] = "/tmp/test-kernel-XXXXXX";
	char seen[4096];
	int r;

	write_kernel(path);
	cfg.kernel = path;
	cfg.acpi = false;
	machine_up(2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cfg.cmdline = (char *)(uintptr_t)cases[i].user;
		r = arch_load(&m, false, &err);
		ck_assert_msg(r == 0, "%s", err.msg);
		ck_assert_int_eq(gmem_read(&m.mem, MAP_CMDLINE, seen, sizeof(seen)), 0);
		ck_assert_str_eq(seen, cases[i].seen);
	}
	/* With ACPI nothing is put in. */
	cfg.acpi = true;
	cfg.transport = TRANSPORT_MMIO;
	cfg.cmdline = (char *)(uintptr_t) "quiet -- a";
	r = arch_load(&m, false, &err);
	ck_assert_msg(r == 0, "%s", err.msg);
	ck_assert_int_eq(gmem_read(&m.mem, MAP_CMDLINE, seen, sizeof(seen)), 0);
	ck_assert_str_eq(seen, "quiet -- a");
	unlink(path);
}
END_TEST

/* 64 devices are more than fits; the sentence says whose words those are. */
START_TEST(cmdline_too_long)
{
	char path[] = "/tmp/test-kernel-XXXXXX";
	int r;

	write_kernel(path);
	cfg.kernel = path;
	cfg.acpi = false;
	machine_up(64);
	r = arch_load(&m, false, &err);
	unlink(path);
	ck_assert_int_eq(r, -E2BIG);
	ck_assert_ptr_nonnull(strstr(err.msg, "with the devices in it"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("x86_virtio");
	TCase *tc = tcase_create("x86_virtio");

	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		printf("x86_virtio: skipped, there is no /dev/kvm\n");
		return SKIPPED;
	}
	log_set_level(LOG_ERROR);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, as_many_as_can_be, 0, 5);
	tcase_add_test(tc, refused);
	tcase_add_loop_test(tc, kvm_takes_them, 0, 4);
	tcase_add_loop_test(tc, reset, 0, 2);
	tcase_add_test(tc, cmdline);
	tcase_add_test(tc, cmdline_too_long);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
