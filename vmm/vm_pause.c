// SPDX-License-Identifier: Apache-2.0
/*
 * Pause and resume of a whole VM.
 *
 * Pausing stops the vCPUs first, as only they make work for devices, then the devices: each
 * finishes what is in flight, and pushes and interrupts while it does. What comes from outside
 * (a packet, a key) waits. So a paused VM is one whose state is all in memory, in KVM
 * and in the devices' fields, and it stays as it is until it is resumed or saved.
 *
 * Clocks. All that the guest can read (TSC, KVM clock, RTC) goes on during a pause: they agree with
 * each other and with the world afterwards, and timers that would have fired do so at once. What
 * a guest could not explain is that it did nothing for so long; KVM_KVMCLOCK_CTRL tells it
 * that it was stopped, and Linux lets its watchdogs start afresh.
 *
 * A paused guest neither hangs nor ages: --timeout counts the time that it was not paused,
 * --hang-timeout begins again. SIGTERM still ends it: the power button is pressed, but nobody is
 * there to react, so --stop-timeout decides.
 *
 * #syscalls: ioctl futex
 */
#include "vmm/base/log.h"
#include "vmm/vm_impl.h"

void vm_start_limits(struct vm *vm)
{
	if (vm->cfg->timeout_ns > 0)
		vm->timeout_at = loop_now_ns() + vm->cfg->timeout_ns;
	vm->timeout_left = vm->cfg->timeout_ns;
	if (vm->paused)
		return;
	if (vm->cfg->timeout_ns > 0)
		loop_arm(vm->loop, &vm->timeout, vm->cfg->timeout_ns);
	if (vm->cfg->hang_timeout_ns > 0)
		loop_arm(vm->loop, &vm->hang, vm->cfg->hang_timeout_ns);
}

static void stop_limits(struct vm *vm)
{
	uint64_t now = loop_now_ns();

	vm->timeout_left = vm->timeout_at > now ? vm->timeout_at - now : 0;
	loop_disarm(&vm->timeout);
	loop_disarm(&vm->hang);
	panic_watch_hold(&vm->panic);
}

static void restart_limits(struct vm *vm)
{
	if (vm->timeout_at != 0) {
		vm->timeout_at = loop_now_ns() + vm->timeout_left;
		loop_arm(vm->loop, &vm->timeout, vm->timeout_left);
	}
	if (vm->cfg->hang_timeout_ns > 0) {
		vm->signs++; /* it begins again */
		loop_arm(vm->loop, &vm->hang, vm->cfg->hang_timeout_ns);
	}
	panic_watch_go_on(&vm->panic);
}

int vm_pause(struct vm *vm, struct err *err)
{
	(void)err;
	if (vm->paused)
		return 0;
	vcpus_suspend(&vm->cpus);
	/* A guest that asked for a reset is saved as it is after it: it asks once only. */
	vm_settle(vm);
	vm_devices_quiesce(&vm->devices, vm->loop);
	stop_limits(vm);
	vm->paused = true;
	vm_tell(vm, VM_PAUSED);
	log_info("the guest is paused");
	return 0;
}

int vm_resume(struct vm *vm, struct err *err)
{
	(void)err;
	if (!vm->paused)
		return 0;
	vm->paused = false;
	vm_devices_resume(&vm->devices, vm->loop);
	for (unsigned i = 0; i < vm->cpus.n; i++)
		arch_tell_paused(&vm->cpus.vcpu[i].kvm);
	restart_limits(vm);
	vcpus_continue(&vm->cpus);
	vm_tell(vm, VM_RESUMED);
	log_info("the guest goes on");
	return 0;
}

bool vm_paused(const struct vm *vm)
{
	return vm->paused;
}
