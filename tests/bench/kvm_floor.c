// SPDX-License-Identifier: Apache-2.0
/*
 * kvm_floor: the least a program can do to run a guest. What it takes is KVM's own price;
 * no monitor can be faster than this.
 *
 *	kvm_floor [-s] [-c CPUS] [-m MIB] [-p EXITS | -w EXITS]
 *
 * Makes a VM with MIB of memory (128), KVM's local APICs and CPUS vCPUs (1), of which the
 * first runs a loop of one `out` in real mode until that has left the guest EXITS times (1);
 * -w: a write to MMIO instead. Then it prints one byte and exits with status 42; -s: stays.
 *
 * Without the local APICs it would be slower: KVM patches its own code for such VMs.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE	    0x1000
#define STATUS	    42
#define IOAPIC_PINS 24

static int call(int fd, unsigned long request, const char *name, void *arg)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		err(125, "%s", name);
	return r;
}
#define CALL(fd, request, arg) call(fd, request, #request, (void *)(uintptr_t)(arg))

/* 16-bit code: out %al, $0x80, or mov %al, 0xff00 in a segment at 3 GiB; and again. */
static const uint8_t pio_loop[] = { 0xe6, 0x80, 0xeb, 0xfc };
static const uint8_t mmio_loop[] = { 0xa2, 0x00, 0xff, 0xeb, 0xfb };

int main(int argc, char **argv)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { IOAPIC_PINS } };
	struct kvm_userspace_memory_region slot = { .memory_size = 128ULL << 20 };
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	unsigned long exits = 1, cpus = 1;
	bool mmio = false, stays = false;
	struct kvm_sregs sregs;
	struct kvm_run *run;
	int kvm, vm, vcpu = -1, opt;
	size_t run_size;
	uint8_t *ram;

	while ((opt = getopt(argc, argv, "c:m:p:sw:")) != -1) {
		switch (opt) {
		case 'c':
			cpus = strtoul(optarg, NULL, 0);
			break;
		case 'm':
			slot.memory_size = strtoull(optarg, NULL, 0) << 20;
			break;
		case 's':
			stays = true;
			break;
		case 'w':
			mmio = true;
			/* fall through */
		case 'p':
			exits = strtoul(optarg, NULL, 0);
			break;
		default:
			return 125;
		}
	}

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(125, "/dev/kvm");
	run_size = (size_t)CALL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm = CALL(kvm, KVM_CREATE_VM, 0);
	CALL(vm, KVM_ENABLE_CAP, &split);
	ram = mmap(NULL, slot.memory_size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED)
		err(125, "mmap");
	if (mmio)
		memcpy(ram + CODE, mmio_loop, sizeof(mmio_loop));
	else
		memcpy(ram + CODE, pio_loop, sizeof(pio_loop));
	slot.userspace_addr = (uintptr_t)ram;
	CALL(vm, KVM_SET_USER_MEMORY_REGION, &slot);
	while (cpus-- > 0) /* the last one made is number 0 */
		vcpu = CALL(vm, KVM_CREATE_VCPU, cpus);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(125, "mmap of the vCPU");
	CALL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	if (mmio)
		sregs.ds.base = 0xc0000000;
	CALL(vcpu, KVM_SET_SREGS, &sregs);
	CALL(vcpu, KVM_SET_REGS, &regs);

	while (exits-- > 0) {
		CALL(vcpu, KVM_RUN, 0);
		if (run->exit_reason != (mmio ? KVM_EXIT_MMIO : KVM_EXIT_IO))
			errx(125, "exit reason %u", run->exit_reason);
	}
	if (write(STDOUT_FILENO, "x", 1) != 1)
		err(125, "standard output");
	if (stays)
		pause();
	return STATUS;
}
