// SPDX-License-Identifier: Apache-2.0
/*
 * The KVM API: see kvm.h. Section numbers are those of api.rst.
 *
 * #syscalls main vcpu io share: ioctl
 * #ioctls main vcpu io share: KVM_IOEVENTFD KVM_SIGNAL_MSI
 * #ioctls main vcpu: KVM_IRQFD KVM_SET_GSI_ROUTING
 * #ioctls: KVM_CHECK_EXTENSION
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/base/kvm.h"

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int r;

	do {
		r = ioctl(fd, request, arg);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

int kvm_open(struct kvm *kvm, const char *path, struct err *err)
{
	int version, size;

	*kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
	kvm->fd = open(path, O_RDWR | O_CLOEXEC);
	if (kvm->fd < 0) {
		switch (errno) {
		case ENOENT:
			return err_set(err, ENOENT,
				       "%s does not exist: load the module kvm_intel or kvm_amd, "
				       "and see that virtualisation is on in the firmware",
				       path);
		case EACCES:
		case EPERM:
			return err_set(err, EACCES,
				       "%s: permission denied: join the group kvm, or be root",
				       path);
		case ENODEV:
		case ENXIO:
			return err_set(err, ENODEV, "%s: this host has no KVM support", path);
		default:
			return err_sys(err, errno, "%s: cannot open", path);
		}
	}
	version = kvm_ioctl(kvm->fd, KVM_GET_API_VERSION, NULL); /* 4.1 */
	if (version < 0)
		return err_set(err, ENODEV, "%s is not a KVM device", path);
	if (version != KVM_API_VERSION)
		return err_set(err, ENOTSUP, "%s: API version %d found, %d needed", path, version,
			       KVM_API_VERSION);
	size = kvm_ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, NULL); /* 4.5 */
	if (size < (int)sizeof(struct kvm_run))
		return err_set(err, ENOTSUP, "%s: vCPU area of %d bytes is too small", path, size);
	kvm->run_size = (size_t)size;
	return 0;
}

int kvm_create_vm(struct kvm *kvm, unsigned long type, struct err *err)
{
	kvm->vm_fd = kvm_ioctl(kvm->fd, KVM_CREATE_VM, (void *)type); /* 4.2 */
	if (kvm->vm_fd < 0) {
		int code = -kvm->vm_fd;

		kvm->vm_fd = -1;
		return err_sys(err, code, "KVM cannot make a VM");
	}
	fcntl(kvm->vm_fd, F_SETFD, FD_CLOEXEC);
	return 0;
}

void kvm_close(struct kvm *kvm)
{
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->fd >= 0)
		close(kvm->fd);
	*kvm = (struct kvm){ .fd = -1, .vm_fd = -1 };
}

int kvm_cap(const struct kvm *kvm, long cap)
{
	int r = kvm_ioctl(kvm->vm_fd >= 0 ? kvm->vm_fd : kvm->fd, KVM_CHECK_EXTENSION, (void *)cap);

	return r < 0 ? 0 : r;
}

int kvm_enable_cap(const struct kvm *kvm, unsigned cap, uint64_t arg0, uint64_t arg1)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg0, arg1 } };

	return kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &enable);
}

int kvm_set_memory(const struct kvm *kvm, unsigned slot, uint32_t flags, uint64_t gpa,
		   uint64_t size, void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region); /* 4.35 */
}

int kvm_create_vcpu(struct kvm *kvm, unsigned id, struct kvm_vcpu *vcpu, struct err *err)
{
	*vcpu = (struct kvm_vcpu){ .fd = -1, .id = id };
	vcpu->fd = kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id); /* 4.7 */
	if (vcpu->fd < 0) {
		int code = -vcpu->fd;

		vcpu->fd = -1;
		return err_sys(err, code, "KVM cannot make vCPU %u", id);
	}
	fcntl(vcpu->fd, F_SETFD, FD_CLOEXEC);
	vcpu->run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		vcpu->run = NULL;
		return err_sys(err, errno, "cannot map vCPU %u", id);
	}
	/* What is in it we believe, as only KVM and we write it. */
	if (madvise(vcpu->run, kvm->run_size, MADV_DONTFORK) < 0)
		return err_sys(err, errno, "cannot keep vCPU %u to ourselves", id);
	return 0;
}

void kvm_close_vcpu(const struct kvm *kvm, struct kvm_vcpu *vcpu)
{
	if (vcpu->run != NULL)
		munmap(vcpu->run, kvm->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	*vcpu = (struct kvm_vcpu){ .fd = -1 };
}

int kvm_ioeventfd(const struct kvm *kvm, int fd, uint64_t addr, unsigned len, bool pio,
		  const uint64_t *match, bool assign)
{
	struct kvm_ioeventfd ioeventfd = {
		.datamatch = match != NULL ? *match : 0,
		.addr = addr,
		.len = len,
		.fd = fd,
		.flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (match != NULL ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &ioeventfd); /* 4.59 */
}

int kvm_irqfd(const struct kvm *kvm, int fd, uint32_t gsi, bool assign)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd); /* 4.75 */
}

int kvm_signal_msi(const struct kvm *kvm, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = data,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi); /* 4.70 */
}

int kvm_routes_init(struct kvm_routes *routes, struct err *err)
{
	routes->n = 0;
	routes->entry = calloc(KVM_ROUTES_MAX, sizeof(*routes->entry));
	if (routes->entry == NULL)
		return err_set(err, ENOMEM, "no memory for interrupt routes");
	return 0;
}

void kvm_routes_fini(struct kvm_routes *routes)
{
	free(routes->entry);
	*routes = (struct kvm_routes){ 0 };
}

static struct kvm_irq_routing_entry *route_slot(struct kvm_routes *routes, uint32_t gsi)
{
	if (gsi >= KVM_ROUTES_MAX)
		return NULL;
	if (gsi >= routes->n)
		routes->n = gsi + 1;
	return &routes->entry[gsi];
}

void kvm_routes_set_msi(struct kvm_routes *routes, uint32_t gsi, uint64_t addr, uint32_t data)
{
	struct kvm_irq_routing_entry *e = route_slot(routes, gsi);

	if (e == NULL)
		return;
	*e = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = (uint32_t)addr,
			   .address_hi = (uint32_t)(addr >> 32),
			   .data = data },
	};
}

void kvm_routes_set_irqchip(struct kvm_routes *routes, uint32_t gsi, unsigned chip, unsigned pin)
{
	struct kvm_irq_routing_entry *e = route_slot(routes, gsi);

	if (e == NULL)
		return;
	*e = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

void kvm_routes_clear(struct kvm_routes *routes, uint32_t gsi)
{
	if (gsi < routes->n)
		routes->entry[gsi] = (struct kvm_irq_routing_entry){ 0 };
}

int kvm_routes_commit(const struct kvm *kvm, const struct kvm_routes *routes)
{
	struct kvm_irq_routing *table;
	int r;

	table = calloc(1, sizeof(*table) + routes->n * sizeof(table->entries[0]));
	if (table == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < routes->n; i++)
		if (routes->entry[i].type != 0)
			table->entries[table->nr++] = routes->entry[i];
	r = kvm_ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table); /* 4.52 */
	free(table);
	return r;
}
