// SPDX-License-Identifier: Apache-2.0
/*
 * A VM from a snapshot: what the recipe in vm.c does instead of loading a kernel.
 *
 * The machine is built from the configuration in the snapshot, as if it were to boot; then all of
 * its state is loaded over that. RAM is the memory file, mapped privately: nothing is read before
 * the guest looks at it, and any number of VMs share what none of them has written to. What
 * lies above it in diffs is read. With `copy`, or where RAM is in huge pages, everything is read
 * instead.
 *
 * The guest learns that it was restored: by a new generation id (which makes Linux seed its random
 * numbers anew), by devices that announce themselves or reset connections, and by the clock.
 *
 * #syscalls: mmap pread64
 */
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include "vmm/base/log.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/vm_impl.h"

int vm_restore_memory(struct vm *vm, struct err *err)
{
	const struct gmem_config *cfg = &vm->m.cfg->mem;
	const struct snapshot *s = vm->cfg->snapshot;
	bool pool = cfg->huge == GMEM_HUGE_2M || cfg->huge == GMEM_HUGE_1G;
	struct gmem *mem = &vm->m.mem;
	int r;

	if (s->head.ram != cfg->size)
		return err_set(
			err, EINVAL, "snapshot %s: %llu bytes of RAM, its configuration says %llu",
			s->path, (unsigned long long)s->head.ram, (unsigned long long)cfg->size);
	if (vm->cfg->restore.copy || pool)
		r = snapshot_read(s, cfg, mem, err);
	else
		r = snapshot_map(s, cfg, mem, err);
	if (r < 0)
		return -err->code;
	if (vm->cfg->restore.prefetch)
		gmem_prefetch(mem);
	return 0;
}

int vm_restore_cpus(struct vm *vm, struct err *err)
{
	const struct snapshot *s = vm->cfg->snapshot;
	struct utsname uts;
	const void *none;
	size_t len;

	uname(&uts);
	if (strcmp(s->head.arch, uts.machine) != 0)
		return err_set(err, ENOTSUP, "snapshot %s: of a %s machine, this one is %s",
			       s->path, s->head.arch, uts.machine);
	if (arch_cpu_state(&vm->m, s->st) == 0)
		return 0;
	state_finish(s->st, &none, &len, err);
	return err_context(err, "snapshot %s", s->path);
}

int vm_restore_state(struct vm *vm, struct err *err)
{
	const struct snapshot *s = vm->cfg->snapshot;
	struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX];
	const void *none;
	size_t len;

	vcpus_suspend(&vm->cpus);
	vm_all_vcpus(vm, vcpus);
	arch_clock_state(&vm->m, vcpus, vm->cpus.n, vm->cfg->restore.clock == RESTORE_CLOCK_SAVED,
			 s->st);
	for (unsigned i = 0; i < vm->cpus.n; i++)
		arch_vcpu_state(&vm->m, i, vcpus[i], s->st);
	arch_device_state(&vm->m, s->st);
	if (state_finish(s->st, &none, &len, err) < 0)
		return err_context(err, "snapshot %s", s->path);
	/* Of what is loaded, all is quiesced; now those devices are that were made afresh. */
	vm_devices_quiesce(&vm->devices, NULL);
	vm->paused = true;
	if (arch_new_generation(&vm->m, err) < 0 ||
	    vm_snapshot_is(&vm->last, s->path, s->head.id, err) < 0)
		return -err->code;
	if (!vm->m.mem.mapped)
		return 0;
	return vm_snapshot_is(&vm->origin, s->path, s->head.id, err);
}
