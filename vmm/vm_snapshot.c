// SPDX-License-Identifier: Apache-2.0
/*
 * Saving a paused VM.
 *
 * The state is collected first, as a device may refuse, and is small; then
 * memory is written, straight from the guest's pages. snapshot/snapshot.c has the files and the
 * order in which they take the place of those before them.
 *
 * Diffs. Which pages changed is known from KVM's dirty log and from the monitor's own marks
 * (gmem.h) when --mem track is on: both begin with the VM, and what they say is collected in
 * vm->dirty until a snapshot is complete, so that one that failed loses nothing. Without it, a VM
 * that was restored still knows which of its pages are no longer the snapshot's, for the host's
 * page tables do: so there may be diffs to what it was restored from, and only to that.
 *
 * #syscalls: ioctl uname
 * #ioctls: KVM_GET_DIRTY_LOG
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include "vmm/base/log.h"
#include "vmm/snapshot/snapshot.h"
#include "vmm/vm_impl.h"

/* --- What changed --- */

/* Add what changed in RAM since last asked to vm->dirty. */
static int fetch_dirty(struct vm *vm, struct err *err)
{
	struct gmem *mem = &vm->m.mem;

	if (vm->dirty == NULL)
		vm->dirty = calloc(gmem_words(mem), sizeof(*vm->dirty));
	if (vm->dirty == NULL)
		return err_sys(err, ENOMEM, "what changed");
	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct gmem_region *r = &mem->regions[i];
		size_t words = (size_t)((r->size >> GMEM_PAGE_SHIFT) + 63) / 64;
		uint64_t *bits = r->ram ? calloc(words, sizeof(*bits)) : NULL;
		struct kvm_dirty_log log = { .slot = i, .dirty_bitmap = bits };
		/* Regions are cut at multiples of 64 pages: the hole, and the end of RAM. */
		uint64_t *to = vm->dirty + (r->offset >> GMEM_PAGE_SHIFT) / 64;
		int e;

		if (!r->ram)
			continue;
		if (bits == NULL)
			return err_sys(err, ENOMEM, "what changed");
		e = kvm_ioctl(vm->m.kvm.vm_fd, KVM_GET_DIRTY_LOG, &log);
		for (size_t w = 0; w < words && e == 0; w++)
			to[w] |= bits[w];
		gmem_dirty_fetch(mem, i, bits);
		for (size_t w = 0; w < words; w++)
			to[w] |= bits[w];
		free(bits);
		if (e < 0)
			return err_sys(err, -e, "KVM does not say what changed");
	}
	return 0;
}

/* What a snapshot has to be the difference to, if anything. */
static const struct vm_snapshot_ref *base_of(struct vm *vm)
{
	if (vm->m.mem.track)
		return vm->last.id != 0 ? &vm->last : NULL;
	return vm->origin.id != 0 ? &vm->origin : NULL;
}

/* The pages that go into the snapshot; *base is NULL if that is all of RAM. */
static int pick_pages(struct vm *vm, bool diff, uint64_t *bits, const struct vm_snapshot_ref **base,
		      struct err *err)
{
	struct gmem *mem = &vm->m.mem;

	*base = diff ? base_of(vm) : NULL;
	if (diff && *base == NULL && !mem->track)
		return err_set(
			err, EINVAL,
			"what changed in memory is not known: --mem track has it logged, or leave "
			"diff out");
	if (mem->track && fetch_dirty(vm, err) < 0)
		return -err->code;
	if (*base == NULL)
		return gmem_data(mem, bits, err);
	if (!mem->track)
		return gmem_changed(mem, bits, err);
	memcpy(bits, vm->dirty, gmem_words(mem) * sizeof(*bits));
	return 0;
}

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

/* A diff must not take the place of something that it needs. */
static int check_places(const char *state, const char *memory, const struct vm_snapshot_ref *base,
			struct err *err)
{
	struct snapshot *below = snapshot_open(base->state, NULL, err);
	int r = below == NULL ? -err->code : 0;

	if (below != NULL && below->head.id != base->id)
		r = err_set(
			err, ESTALE,
			"snapshot %s, to which this one would be a difference, is another one by now",
			base->state);
	for (struct snapshot *s = below; s != NULL && r == 0; s = s->below) {
		char *name = snapshot_path(s->path, s->head.memory);

		if (same_file(state, s->path) || name == NULL || same_file(memory, name))
			r = err_set(
				err, EEXIST,
				"%s: the new one is a difference to it, and cannot take its place",
				s->path);
		free(name);
	}
	snapshot_close(below);
	return r;
}

/* --- State --- */

static int fill_head(struct vm *vm, struct snapshot_head *head, const char *state,
		     const char *memory, const struct vm_snapshot_ref *base, struct err *err)
{
	struct utsname uts;
	struct timespec now;

	uname(&uts);
	clock_gettime(CLOCK_REALTIME, &now);
	head->version = strdup(VMM_VERSION);
	head->arch = strdup(uts.machine);
	head->config = vm_config_json(vm->cfg);
	head->time = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	head->ram = vm->m.mem.size;
	head->memory = snapshot_name(state, memory);
	head->below = base != NULL ? snapshot_name(state, base->state) : strdup("");
	head->parent = base != NULL ? base->id : 0;
	if (head->version == NULL || head->arch == NULL || head->config == NULL ||
	    head->memory == NULL || head->below == NULL)
		return err_set(err, ENOENT, "%s: its folder is not there", state);
	return snapshot_new_id(&head->id, err);
}

/* All sections in the order in which they are loaded; see vm_restore.c. */
static int collect(struct vm *vm, struct snapshot_head *head, struct state *st, const void **data,
		   size_t *len, struct err *err)
{
	struct kvm_vcpu *vcpus[MACHINE_CPUS_MAX];

	vm_all_vcpus(vm, vcpus);
	snapshot_head_state(head, st);
	arch_cpu_state(&vm->m, st);
	arch_clock_state(&vm->m, vcpus, vm->cpus.n, false, st);
	for (unsigned i = 0; i < vm->cpus.n; i++)
		arch_vcpu_state(&vm->m, i, vcpus[i], st);
	arch_device_state(&vm->m, st);
	return state_finish(st, data, len, err);
}

static int save(struct vm *vm, const char *state, const char *memory, bool diff, struct err *err)
{
	struct snapshot_files files = { .fd = -1 };
	struct snapshot_head head = { 0 };
	const struct vm_snapshot_ref *base = NULL;
	struct gmem *mem = &vm->m.mem;
	uint64_t *bits = calloc(gmem_words(mem), sizeof(*bits));
	struct state *st = state_new_save();
	const void *data;
	size_t len;
	int r;

	r = bits == NULL || st == NULL ? err_sys(err, ENOMEM, "state")
				       : pick_pages(vm, diff, bits, &base, err);
	if (r == 0 && base != NULL)
		r = check_places(state, memory, base, err);
	if (r == 0)
		r = fill_head(vm, &head, state, memory, base, err);
	if (r == 0 && base != NULL)
		r = snapshot_extents(bits, mem->size >> GMEM_PAGE_SHIFT, &head.extents,
				     &head.nextents, err);
	if (r == 0)
		r = collect(vm, &head, st, &data, &len, err);
	if (r == 0)
		r = snapshot_files_begin(&files, state, memory, head.id, head.ram, err);
	if (r == 0 && snapshot_write_pages(files.fd, mem, bits, err) < 0)
		r = err_context(err, "%s", files.memory_tmp);
	if (r == 0)
		r = snapshot_files_commit(&files, data, len, head.id, head.ram, err);
	snapshot_files_drop(&files);
	if (r == 0)
		r = vm_snapshot_is(&vm->last, state, head.id, err);
	if (r == 0 && vm->dirty != NULL)
		memset(vm->dirty, 0, gmem_words(mem) * sizeof(*vm->dirty));
	snapshot_head_free(&head);
	state_free(st);
	free(bits);
	return r;
}

int vm_snapshot_is(struct vm_snapshot_ref *ref, const char *state, uint64_t id, struct err *err)
{
	char *full = realpath(state, NULL);

	if (full == NULL)
		return err_sys(err, errno, "%s", state);
	free(ref->state);
	*ref = (struct vm_snapshot_ref){ .id = id, .state = full };
	return 0;
}

int vm_snapshot(struct vm *vm, const struct snapshot_config *cfg, struct err *err)
{
	uint64_t begin = loop_now_ns();
	bool dead = vm->dead;
	char *memory;
	int r;

	if (!vm->paused)
		return err_set(err, EINVAL, "snapshot: the guest is not paused");
	for (unsigned i = 0; i < vm->cpus.n; i++)
		dead |= vm->cpus.vcpu[i].end != VCPU_END_NONE;
	if (vm->ended)
		return err_set(err, EINVAL, "snapshot: the guest has ended");
	if (dead)
		return err_set(err, EINVAL, "snapshot: the guest is dead");
	if (gdb_attached(vm->gdb))
		return err_set(
			err, EBUSY,
			"snapshot: a debugger is attached, whose breakpoints may be in memory");
	if (cfg->memory != NULL)
		memory = strdup(cfg->memory);
	else if (asprintf(&memory, "%s.mem", cfg->state) < 0)
		memory = NULL;
	if (memory == NULL)
		return err_sys(err, ENOMEM, "snapshot");
	/* What the guest printed is out, and is not printed once more by who is restored. */
	chardevs_flush(&vm->chardevs);
	r = save(vm, cfg->state, memory, cfg->diff, err);
	free(memory);
	if (r < 0)
		return err_context(err, "snapshot");
	log_info("the guest is saved to %s, in %.1f ms", cfg->state,
		 (double)(loop_now_ns() - begin) / 1e6);
	return 0;
}
