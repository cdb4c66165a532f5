// SPDX-License-Identifier: Apache-2.0
/*
 * Metrics of a VM.
 *
 * Whoever counts has fields of its own, which it alone writes (a vCPU's thread its exits, a
 * device, under its lock, its requests); they only go up. Here they are read and made into an
 * object of objects. Where Firecracker counts the same, they have its names. Its lines hold
 * what was counted since the line before: the totals of then are kept and taken off.
 *
 * What the VM's control group uses is among them; memory and processes of it are what they are now.
 *
 * Latencies are histograms: element i counts what took at least 2^i and less than 2^(i+1)
 * microseconds, the first one also what took less. Every virtio device has one, of what it was
 * asked for; see virtio.c. Buffers that wait for what is received are not in it, and it stays empty
 * where the host's kernel or another process serves the device (vhost, vhost-user).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "vmm/base/util.h"
#include "vmm/api/metrics.h"
#include "vmm/vm_impl.h"

#define INTERVAL_NS (60 * 1000000000ULL)

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)(value & INT64_MAX));
}

static uint64_t read_once(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* --- Totals --- */

static json_t *of_vcpu(const struct vcpu *v)
{
	static const char *const names[VCPU_REASONS] = {
		[KVM_EXIT_UNKNOWN] = "unknown",
		[KVM_EXIT_EXCEPTION] = "exception",
		[KVM_EXIT_IO] = "io",
		[KVM_EXIT_HYPERCALL] = "hypercall",
		[KVM_EXIT_DEBUG] = "debug",
		[KVM_EXIT_HLT] = "hlt",
		[KVM_EXIT_MMIO] = "mmio",
		[KVM_EXIT_IRQ_WINDOW_OPEN] = "irq_window_open",
		[KVM_EXIT_SHUTDOWN] = "shutdown",
		[KVM_EXIT_FAIL_ENTRY] = "fail_entry",
		[KVM_EXIT_INTR] = "intr",
		[KVM_EXIT_SET_TPR] = "set_tpr",
		[KVM_EXIT_TPR_ACCESS] = "tpr_access",
		[KVM_EXIT_NMI] = "nmi",
		[KVM_EXIT_INTERNAL_ERROR] = "internal_error",
		[KVM_EXIT_SYSTEM_EVENT] = "system_event",
		[KVM_EXIT_IOAPIC_EOI] = "ioapic_eoi",
		[KVM_EXIT_X86_RDMSR] = "rdmsr",
		[KVM_EXIT_X86_WRMSR] = "wrmsr",
		[VCPU_REASONS - 1] = "other",
	};
	json_t *json = json_object();

	for (unsigned i = 0; i < VCPU_REASONS; i++) {
		uint64_t n = read_once(&v->exits_by[i]);
		char key[40];

		if (names[i] == NULL)
			continue;
		snprintf(key, sizeof(key), "exit_%s", names[i]);
		json_object_set_new(json, key, number(n));
	}
	json_object_set_new(json, "exits", number(read_once(&v->exits)));
	json_object_set_new(json, "exit_io_in", number(read_once(&v->io_in)));
	json_object_set_new(json, "exit_io_out", number(read_once(&v->io_out)));
	json_object_set_new(json, "exit_mmio_read", number(read_once(&v->mmio_read)));
	json_object_set_new(json, "exit_mmio_write", number(read_once(&v->mmio_write)));
	return json;
}

/* @into += @from, member by member. */
static void add(json_t *into, json_t *from)
{
	const char *key;
	json_t *value;

	json_object_foreach(from, key, value)
		if (json_is_integer(value))
			json_object_set_new(
				into, key,
				json_integer(json_integer_value(json_object_get(into, key)) +
					     json_integer_value(value)));
}

static void of_vcpus(struct vm *vm, json_t *totals)
{
	json_t *all = json_object();
	char key[32];

	for (unsigned i = 0; i < vm->cpus.n; i++) {
		json_t *one = of_vcpu(&vm->cpus.vcpu[i]);

		add(all, one);
		snprintf(key, sizeof(key), "vcpu_%u", i);
		json_object_set_new(totals, key, one);
	}
	json_object_set_new(totals, "vcpu", all);
}

/* What a device's requests are called: by Firecracker, where it has such a device. */
struct device_names {
	uint16_t id;
	const char *group;
	/* Bytes from the driver, and to it; chains. */
	const char *out_bytes, *in_bytes, *chains;
};

static const struct device_names device_names[] = {
	{ VIRTIO_ID_BLOCK, "block", "write_bytes", "read_bytes", "requests" },
	{ VIRTIO_ID_NET, "net", "tx_bytes_count", "rx_bytes_count", "buffers" },
	{ VIRTIO_ID_CONSOLE, "console", "tx_bytes", "rx_bytes", "buffers" },
	{ VIRTIO_ID_RNG, "entropy", "out_bytes", "entropy_bytes", "entropy_event_count" },
	{ VIRTIO_ID_VSOCK, "vsock", "tx_bytes_count", "rx_bytes_count", "buffers" },
	{ VIRTIO_ID_BALLOON, "balloon", "out_bytes", "in_bytes", "buffers" },
	{ VIRTIO_ID_FS, "share", "out_bytes", "in_bytes", "requests" },
	{ VIRTIO_ID_PMEM, "pmem", "out_bytes", "in_bytes", "requests" },
	{ 0, "device", "out_bytes", "in_bytes", "buffers" },
};

static json_t *of_histogram(const uint64_t *buckets)
{
	json_t *json = json_array();
	unsigned n = VIRTIO_BUCKETS;

	while (n > 0 && buckets[n - 1] == 0)
		n--;
	for (unsigned i = 0; i < n; i++)
		json_array_append_new(json, number(buckets[i]));
	return json;
}

static json_t *of_device(struct virtio_device *vdev, const struct device_names *names)
{
	struct virtio_counters c;
	uint64_t exits = 0;
	json_t *json = json_object();

	pthread_mutex_lock(&vdev->lock);
	c = *vdev->counters;
	for (unsigned q = 0; q < vdev->nqueues; q++)
		exits += atomic_load_explicit(&vdev->queue[q].exits, memory_order_relaxed);
	pthread_mutex_unlock(&vdev->lock);
	json_object_set_new(json, "queue_event_count", number(c.kicks));
	json_object_set_new(json, "notifications_by_exit", number(exits));
	json_object_set_new(json, "interrupts", number(c.interrupts));
	json_object_set_new(json, names->chains, number(c.chains));
	json_object_set_new(json, names->out_bytes, number(c.out_bytes));
	json_object_set_new(json, names->in_bytes, number(c.in_bytes));
	if (names->id == VIRTIO_ID_BLOCK) {
		json_object_set_new(json, "read_count", number(c.reads));
		json_object_set_new(json, "write_count", number(c.writes));
		json_object_set_new(json, "flush_count", number(c.flushes));
		json_object_set_new(json, "execute_fails", number(c.failures));
		json_object_set_new(json, "rate_limiter_throttled_events", number(c.throttled));
	}
	json_object_set_new(json, "latency_us_log2", of_histogram(c.latency));
	return json;
}

static void of_devices(struct vm *vm, json_t *totals)
{
	unsigned seen[sizeof(device_names) / sizeof(device_names[0])] = { 0 };

	for (unsigned i = 0; i < vm->devices.n; i++) {
		struct virtio_device *vdev = vm->devices.vdev[i];
		size_t n = 0;
		json_t *one, *group;
		char key[48];

		while (device_names[n].id != 0 && device_names[n].id != vdev->ops->id)
			n++;
		one = of_device(vdev, &device_names[n]);
		group = json_object_get(totals, device_names[n].group);
		if (group == NULL) {
			group = json_object();
			json_object_set_new(totals, device_names[n].group, group);
		}
		add(group, one);
		snprintf(key, sizeof(key), "%s_%u", device_names[n].group, seen[n]++);
		json_object_set_new(one, "device", json_string(vdev->name));
		json_object_set_new(totals, key, one);
	}
}

static void of_cgroup(struct vm *vm, json_t *totals)
{
	struct vm_cgroup_count counts[VM_CGROUP_COUNTS];
	unsigned n = vm_cgroup_usage(vm->cgroup, counts);
	json_t *json = n > 0 ? json_object() : NULL;

	for (unsigned i = 0; i < n; i++)
		json_object_set_new(json, counts[i].name, number(counts[i].value));
	if (json != NULL)
		json_object_set_new(totals, "cgroup", json);
}

json_t *metrics_of_vm(struct vm *vm)
{
	json_t *totals = json_object();

	if (totals == NULL)
		return NULL;
	of_vcpus(vm, totals);
	of_devices(vm, totals);
	of_cgroup(vm, totals);
	json_object_set_new(
		totals, "uart",
		json_pack("{sI}", "write_count", (json_int_t)(vm->printed & INT64_MAX)));
	return totals;
}

/* --- Lines --- */

/* What was counted between @last and @now, in place of @now. */
static void take_off(json_t *now, const json_t *last)
{
	const char *key;
	json_t *value;
	void *next;
	size_t i;

	json_object_foreach_safe(now, next, key, value) {
		const json_t *before = json_object_get(last, key);

		if (vm_cgroup_gauge(key))
			continue;
		if (json_is_integer(value))
			json_integer_set(value,
					 json_integer_value(value) - json_integer_value(before));
		else
			take_off(value, before);
	}
	json_array_foreach(now, i, value)
		json_integer_set(value, json_integer_value(value) -
						json_integer_value(json_array_get(last, i)));
}

static int write_line(struct metrics *m, const char *text, size_t len, struct err *err)
{
	ssize_t n = write(m->fd, text, len);

	if (n == (ssize_t)len)
		return 1;
	/* Nobody reads, or too slowly. A part of a line would spoil the next: end it. */
	if (n < 0 && errno != EAGAIN && errno != EPIPE)
		return err_sys(err, errno, "cannot write metrics");
	if (n > 0)
		(void)!write(m->fd, "\n", 1);
	m->missed++;
	return 0;
}

int metrics_flush(struct metrics *m, struct err *err)
{
	json_t *totals = m->collect(m), *line = json_deep_copy(totals);
	struct timespec now;
	char *text;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	take_off(line, m->last);
	json_object_set_new(line, "utc_timestamp_ms",
			    json_integer((json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000));
	json_object_set_new(line, "logger",
			    json_pack("{sI}", "missed_metrics_count", (json_int_t)m->missed));
	text = json_dumps(line, JSON_COMPACT);
	json_decref(line);
	if (text == NULL) {
		json_decref(totals);
		return err_set(err, ENOMEM, "no memory for the metrics");
	}
	r = (int)strlen(text);
	text[r] = '\n'; /* in place of its end: the length says where that is */
	r = write_line(m, text, (size_t)r + 1, err);
	free(text);
	if (r <= 0) {
		json_decref(totals);
		return r;
	}
	json_decref(m->last);
	m->last = totals;
	return 0;
}

static void flush_now(struct loop_timer *timer)
{
	struct metrics *m = container_of(timer, struct metrics, timer);
	struct err err = ERR_INIT;

	(void)metrics_flush(m, &err);
	loop_arm(m->loop, timer, INTERVAL_NS);
}

int metrics_open(struct metrics *m, const char *path, struct err *err)
{
	/* Both ways, so that a pipe can be opened before its reader. */
	m->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
	if (m->fd < 0)
		return err_sys(err, errno, "metrics %.200s: cannot open", path);
	m->timer.fn = flush_now;
	loop_arm(m->loop, &m->timer, INTERVAL_NS);
	return 0;
}

void metrics_close(struct metrics *m)
{
	loop_disarm(&m->timer);
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
	json_decref(m->last);
	m->last = NULL;
}

/* --- Prometheus --- */

/* Is it "vcpu_0", the first of several? *len: of "vcpu". */
static bool is_first(const char *key, int *len)
{
	*len = (int)strlen(key) - 2;
	return *len > 0 && strcmp(key + *len, "_0") == 0;
}

static void print_histogram(FILE *out, const char *label, int len, const char *group,
			    const json_t *buckets)
{
	json_int_t sum = 0;

	/* 2 << i, less one: a bucket's bound belongs to it. */
	for (size_t i = 0; i < json_array_size(buckets); i++) {
		sum += json_integer_value(json_array_get(buckets, i));
		fprintf(out, "vmm_%.*s_latency_us_bucket{%s,le=\"%llu\"} %lld\n", len, group, label,
			(2ULL << i) - 1, (long long)sum);
	}
	fprintf(out, "vmm_%.*s_latency_us_bucket{%s,le=\"+Inf\"} %lld\n", len, group, label,
		(long long)sum);
	fprintf(out, "vmm_%.*s_latency_us_count{%s} %lld\n", len, group, label, (long long)sum);
}

/* Counter or histogram @name of vcpu_0, vcpu_1 ... ("vcpu": the first @len bytes of @key). */
static void print_all(FILE *out, json_t *totals, const char *key, int len, const char *name,
		      bool histogram)
{
	char label[32], member[64];
	json_t *group;

	if (histogram)
		fprintf(out, "# TYPE vmm_%.*s_latency_us histogram\n", len, key);
	else
		fprintf(out, "# TYPE vmm_%.*s_%s_total counter\n", len, key, name);
	for (unsigned n = 0;; n++) {
		snprintf(member, sizeof(member), "%.*s_%u", len, key, n);
		group = json_object_get(totals, member);
		if (group == NULL)
			return;
		snprintf(label, sizeof(label), "index=\"%u\"", n);
		if (histogram)
			print_histogram(out, label, len, key, json_object_get(group, name));
		else
			fprintf(out, "vmm_%.*s_%s_total{%s} %lld\n", len, key, name, label,
				(long long)json_integer_value(json_object_get(group, name)));
	}
}

/* There is one of it, and some of its numbers go down, too. */
static void print_cgroup(FILE *out, json_t *cgroup)
{
	const char *name;
	json_t *value;

	json_object_foreach(cgroup, name, value) {
		const char *kind = vm_cgroup_gauge(name) ? "gauge" : "counter";
		const char *end = vm_cgroup_gauge(name) ? "" : "_total";

		fprintf(out, "# TYPE vmm_cgroup_%s%s %s\nvmm_cgroup_%s%s %lld\n", name, end, kind,
			name, end, (long long)json_integer_value(value));
	}
}

char *metrics_prometheus(const json_t *totals)
{
	json_t *object = (json_t *)totals, *group, *value; /* read only */
	const char *key, *name;
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return NULL;
	json_object_foreach(object, key, group) {
		int len;

		/* All of a name together, as the format wants it: beginning at the first one. */
		if (!is_first(key, &len))
			continue;
		json_object_foreach(group, name, value) {
			if (!json_is_string(value))
				print_all(out, object, key, len, name, json_is_array(value));
		}
	}
	print_cgroup(out, json_object_get(object, "cgroup"));
	if (fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
