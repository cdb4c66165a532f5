// SPDX-License-Identifier: Apache-2.0
/*
 * The control API without a VM: which requests there are, what bodies they take, and what options
 * become of them. What needs a VM is in tests/boot/api.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/api/impl.h"

static struct api api;
static char dir[] = "/tmp/vmm-api-XXXXXX";
static char words[8][64];
static char *argv[8];

static void running(struct vm *vm)
{
	(void)vm;
}

static void touch(const char *name, off_t size)
{
	FILE *f = fopen(name, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(ftruncate(fileno(f), size), 0);
	fclose(f);
}

/* Begin with a command line of @n words. */
static void begin(int n)
{
	struct err err = ERR_INIT;

	memset(&api, 0, sizeof(api));
	for (int i = 0; i < n; i++)
		argv[i] = words[i];
	api.argc = n;
	api.argv = argv;
	api.running = running;
	ck_assert_msg(api_init(&api, &err) == 0, "%s", err.msg);
}

static void setup(void)
{
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	touch("kernel", 100);
	touch("disk", 1 << 20);
	touch("pmem", 2 << 20);
	strcpy(words[0], "--api=s.sock");
	begin(1);
}

static void teardown(void)
{
	api_fini(&api);
	unlink("kernel");
	unlink("disk");
	unlink("pmem");
	ck_assert_int_eq(chdir("/"), 0);
	rmdir(dir);
}

static char said[ERR_MSG_MAX];

/* Quotes are ' in @body, for reading. The status; the sentence is in said[]. */
static int ask(const char *method, const char *path, const char *body, json_t **reply)
{
	struct err err = ERR_INIT;
	struct api_call call;
	char *text = body != NULL ? strdup(body) : NULL;
	json_t *json = NULL;
	int status;

	for (char *p = text; p != NULL && *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	if (text != NULL) {
		json = json_loads(text, JSON_DECODE_ANY, NULL);
		ck_assert_msg(json != NULL, "%s", text);
	}
	free(text);
	status = api_do(&api, method, path, json, &call, &err);
	strcpy(said, err.msg);
	ck_assert_int_eq(status >= 400, err.msg[0] != '\0');
	if (reply != NULL)
		*reply = call.reply;
	else
		json_decref(call.reply);
	free(call.text);
	json_decref(json);
	return status;
}

static void ok(const char *method, const char *path, const char *body)
{
	int status = ask(method, path, body, NULL);

	ck_assert_msg(status == 204, "%s %s: %d: %s", method, path, status, said);
}

static void wrong(const char *method, const char *path, const char *body, const char *sentence)
{
	int status = ask(method, path, body, NULL);

	ck_assert_msg(status == 400, "%s %s %s: %d", method, path, body, status);
	ck_assert_msg(strstr(said, sentence) != NULL, "%s %s: '%s' is not in '%s'", method, path,
		      sentence, said);
}

/* The options made so far: of @path a '/'-separated way, as text. */
static const char *option(const char *name)
{
	static char text[512];
	struct vm_config cfg = { 0 };
	struct err err = ERR_INIT;
	json_t *all, *value;
	char *dump;

	ck_assert_msg(api_make_config(&api, &cfg, &err) == 0, "%s", err.msg);
	all = opt_to_json(cfg.options, &cfg);
	value = json_object_get(all, name);
	dump = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("");
	snprintf(text, sizeof(text), "%s", dump);
	free(dump);
	json_decref(all);
	vm_config_free(&cfg);
	return text;
}

static void has(const char *name, const char *part)
{
	const char *text = option(name);

	ck_assert_msg(strstr(text, part) != NULL, "%s: '%s' is not in %s", name, part, text);
}

#define BOOT "{'kernel_image_path': 'kernel', 'boot_args': 'a b'}"

START_TEST(router)
{
	json_t *reply;

	ck_assert_int_eq(ask("GET", "/", NULL, &reply), 200);
	ck_assert_str_eq(json_string_value(json_object_get(reply, "state")), "Not started");
	json_decref(reply);
	ck_assert_int_eq(ask("GET", "/version", NULL, NULL), 200);
	ck_assert_int_eq(ask("GET", "/vm/config", NULL, NULL), 200);
	ck_assert_int_eq(ask("GET", "/options", NULL, NULL), 200);
	wrong("GET", "/nothing", NULL, "there is no resource /nothing");
	wrong("GET", "//", NULL, "no resource");
	wrong("GET", "", NULL, "no resource");
	wrong("DELETE", "/vm", NULL, "DELETE is not for /vm (valid: PATCH)");
	wrong("GET", "/drives/x", NULL, "valid: PUT, PATCH");
	wrong("PUT", "/drives/", "{}", "without an id");
	wrong("PUT", "/drives/a/b", "{}", "no resource");
	wrong("PUT", "/drives/a%20b", "{}", "letters");
	wrong("PUT", "/drives/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	      "{}", "at most 64");
	wrong("GET", "/", "{}", "takes no body");
	wrong("PUT", "/boot-source", NULL, "needs a body");
	/* Before the VM has started. */
	wrong("PATCH", "/vm", "{'state': 'Paused'}", "before the VM has started");
	wrong("PATCH", "/drives/x", "{'drive_id': 'x'}", "before the VM has started");
	wrong("PATCH", "/balloon", "{'amount_mib': 1}", "before the VM has started");
	wrong("PUT", "/snapshot/create", "{'snapshot_path': 'a', 'mem_file_path': 'b'}", "before");
	wrong("PUT", "/actions", "{'action_type': 'SendCtrlAltDel'}", "before the VM has started");
	wrong("PUT", "/actions", "{'action_type': 'FlushMetrics'}", "before the VM has started");
	wrong("PUT", "/actions", "{'action_type': 'InstanceStart'}", "no kernel yet");
	wrong("PUT", "/actions", "{'action_type': 'Dance'}", "unknown value 'Dance'");
	wrong("GET", "/mmds", NULL, "no metadata service");
	wrong("PUT", "/hotplug/memory", "{'total_size_mib': 1024}", "cannot be added");
}
END_TEST

START_TEST(bodies)
{
	wrong("PUT", "/boot-source", "[]", "must be an object, not an array");
	wrong("PUT", "/boot-source", "1", "must be an object, not an integer");
	wrong("PUT", "/boot-source", "null", "must be an object, not null");
	wrong("PUT", "/boot-source", "{}", "'kernel_image_path' is missing");
	wrong("PUT", "/boot-source", "{'kernel_image_path': 1}",
	      "must be a string, not an integer");
	wrong("PUT", "/boot-source", "{'kernel_image_path': null}", "must be a string, not null");
	wrong("PUT", "/boot-source", "{'kernel_image_path': 'kernel', 'boot_arg': ''}",
	      "unknown field 'boot_arg' (did you mean 'boot_args'?)");
	wrong("PUT", "/boot-source", "{'kernel_image_path': 'no'}", "kernel no: cannot open");
	wrong("PUT", "/boot-source", "{'kernel_image_path': '.'}", "is a directory");
	ok("PUT", "/boot-source", "{'kernel_image_path': 'kernel', 'initrd_path': null}");
	wrong("PUT", "/machine-config", "{'vcpu_count': 1.5, 'mem_size_mib': 1}", "not a fraction");
	wrong("PUT", "/machine-config", "{'vcpu_count': 0, 'mem_size_mib': 1}", "out of range");
	wrong("PUT", "/machine-config", "{'vcpu_count': 256, 'mem_size_mib': 1}", "out of range");
	wrong("PUT", "/machine-config", "{'vcpu_count': -1, 'mem_size_mib': 1}", "out of range");
	wrong("PUT", "/machine-config", "{'vcpu_count': 1, 'mem_size_mib': 1}", "2M");
	wrong("PUT", "/machine-config", "{'vcpu_count': 3, 'mem_size_mib': 64, 'smt': true}",
	      "even");
	wrong("PUT", "/machine-config", "{'vcpu_count': 1}", "'mem_size_mib' is missing");
	wrong("PUT", "/machine-config", "{'vcpu_count': 1, 'mem_size_mib': 64, 'smt': 1}",
	      "true or false");
	wrong("PUT", "/machine-config",
	      "{'vcpu_count': 1, 'mem_size_mib': 64, 'cpu_template': 'T2'}", "unknown value 'T2'");
	wrong("PATCH", "/machine-config", "{}", "no field");
}
END_TEST

START_TEST(machine)
{
	json_t *reply;

	/* What Firecracker's VMs have. */
	has("mem", "\"128M\"");
	ok("PUT", "/machine-config",
	   "{'vcpu_count': 4, 'mem_size_mib': 256, 'smt': true, 'huge_pages': 'Transparent'}");
	has("mem", "\"256M\"");
	has("mem", "\"thp\"");
	has("cpus", "\"count\":4");
	has("cpus", "\"threads\":2");
	ok("PATCH", "/machine-config", "{'mem_size_mib': 512}");
	has("mem", "\"512M\"");
	has("cpus", "\"count\":4");
	/* What is wrong changes nothing. */
	wrong("PATCH", "/machine-config", "{'mem_size_mib': 1}", "2M");
	has("mem", "\"512M\"");
	ok("PUT", "/machine-config", "{'vcpu_count': 1, 'mem_size_mib': 64}");
	ck_assert_int_eq(ask("GET", "/machine-config", NULL, &reply), 200);
	ck_assert_int_eq(json_integer_value(json_object_get(reply, "mem_size_mib")), 64);
	ck_assert(json_is_false(json_object_get(reply, "smt")));
	ck_assert_uint_eq(json_object_size(reply), 5);
	json_decref(reply);
	ok("PUT", "/cpu-config", "{}");
	wrong("PUT", "/cpu-config", "{'cpuid_modifiers': [1]}", "cannot be changed");
}
END_TEST

START_TEST(boot)
{
	ok("PUT", "/boot-source", BOOT);
	ck_assert_str_eq(option("cmdline"), "\"a b\"");
	ck_assert_str_eq(option("kernel"), "\"kernel\"");
	/* A guest that reboots is done, as with Firecracker. */
	ck_assert_str_eq(option("reboot"), "false");
	ok("PUT", "/drives/data",
	   "{'drive_id': 'data', 'path_on_host': 'disk', 'is_root_device': false}");
	ok("PUT", "/drives/root",
	   "{'drive_id': 'root', 'path_on_host': 'disk', 'is_root_device': true, "
	   "'is_read_only': true}");
	ck_assert_str_eq(option("cmdline"), "\"a b root=/dev/vda ro\"");
	has("disk", "[{\"path\":\"disk\",\"format\":\"auto\",\"backing\":false,\"ro\":true");
	ok("PUT", "/drives/root",
	   "{'drive_id': 'root', 'path_on_host': 'disk', 'is_root_device': true, "
	   "'is_read_only': false, 'partuuid': '0eaa91a0-01'}");
	ck_assert_str_eq(option("cmdline"), "\"a b root=PARTUUID=0eaa91a0-01 rw\"");
	wrong("PUT", "/drives/other",
	      "{'drive_id': 'other', 'path_on_host': 'disk', 'is_root_device': true}",
	      "root is the root device already");
	wrong("PUT", "/pmem/p", "{'id': 'p', 'path_on_host': 'pmem', 'root_device': true}",
	      "root is the root device already");
}
END_TEST

START_TEST(devices)
{
	static const char limiter[] =
		"{'drive_id': 'd', 'path_on_host': 'disk', 'is_root_device': false, 'rate_limiter': "
		"{'bandwidth': {'size': 1000, 'refill_time': 100, 'one_time_burst': 5}, 'ops': null}}";

	wrong("PUT", "/drives/a", "{'drive_id': 'b', 'is_root_device': false}", "in the path");
	wrong("PUT", "/drives/a", "{'drive_id': 'a', 'is_root_device': false}",
	      "either path_on_host or socket");
	wrong("PUT", "/drives/a",
	      "{'drive_id': 'a', 'is_root_device': false, 'path_on_host': 'no'}",
	      "drive no: cannot open");
	wrong("PUT", "/drives/a",
	      "{'drive_id': 'a', 'is_root_device': false, 'socket': 's', 'is_read_only': true}",
	      "do not go with socket");
	wrong("PUT", "/drives/a",
	      "{'drive_id': 'a', 'is_root_device': false, 'path_on_host': 'disk', 'cache_type': 'x'}",
	      "valid: Unsafe, Writeback");
	wrong("PUT", "/drives/d",
	      "{'drive_id': 'd', 'path_on_host': 'disk', 'is_root_device': false, 'rate_limiter': "
	      "{'bandwidth': {'size': 1}}}",
	      "rate_limiter: bandwidth: field 'refill_time' is missing");
	ok("PUT", "/drives/d", limiter);
	has("disk", "\"id\":\"d\"");
	ok("PUT", "/network-interfaces/eth0",
	   "{'iface_id': 'eth0', 'host_dev_name': 'tap0', 'guest_mac': '06:00:ac:10:00:02'}");
	has("net", "\"tap\":\"tap0\"");
	has("net", "\"mac\":\"06:00:ac:10:00:02\"");
	has("net", "\"vhost\":\"auto\"");
	wrong("PUT", "/network-interfaces/eth1", "{'iface_id': 'eth1', 'host_dev_name': 'tap0'}",
	      "eth0 has the tap tap0 already");
	wrong("PUT", "/network-interfaces/eth1",
	      "{'iface_id': 'eth1', 'host_dev_name': 'tap1', 'guest_mac': 'x'}", "mac");
	ok("PUT", "/network-interfaces/eth0",
	   "{'iface_id': 'eth0', 'host_dev_name': 'tap0', 'tx_rate_limiter': {}}");
	has("net", "\"vhost\":\"off\"");
	ok("PUT", "/vsock", "{'guest_cid': 3, 'uds_path': 'v.sock', 'vsock_id': 'x'}");
	has("vsock", "[{\"cid\":3,\"path\":\"v.sock\"");
	wrong("PUT", "/vsock", "{'guest_cid': 2, 'uds_path': 'v.sock'}", "out of range");
	ok("PUT", "/balloon",
	   "{'amount_mib': 16, 'deflate_on_oom': true, 'stats_polling_interval_s': 2}");
	has("balloon", "\"size\":\"16M\",\"deflate-on-oom\":true");
	has("balloon", "\"stats\":\"2s\"");
	wrong("PUT", "/balloon", "{'amount_mib': -1, 'deflate_on_oom': true}", "out of range");
	ok("PUT", "/entropy", "{}");
	ok("PUT", "/entropy",
	   "{'rate_limiter': {'bandwidth': {'size': 1000, 'refill_time': 100}}}");
	has("rng", "\"bw\":10000");
	wrong("PUT", "/entropy", "{'rate_limiter': {'ops': {'size': 1, 'refill_time': 1}}}",
	      "only the bandwidth");
	ok("PUT", "/pmem/p", "{'id': 'p', 'path_on_host': 'pmem', 'read_only': true}");
	has("pmem", "\"ro\":true");
	ok("PUT", "/serial", "{'serial_out_path': 'out'}");
	has("serial", "\"to\":\"file\"");
}
END_TEST

START_TEST(own_options)
{
	ok("PUT", "/options/share", "[{'path': '/', 'tag': 'root', 'ro': true}]");
	has("share", "\"tag\":\"root\"");
	ok("PUT", "/options/timeout", "'10s'");
	ck_assert_str_eq(option("timeout"), "\"10s\"");
	wrong("PUT", "/options/share", "[{'path': '/'}]", "'tag' is missing");
	has("share", "\"tag\":\"root\"");
	wrong("PUT", "/options/nothing", "1", "unknown member 'nothing'");
	wrong("PUT", "/options/mem", "{}", "its resource is /machine-config");
	wrong("PUT", "/options/api", "{}", "only on the command line");
	wrong("PUT", "/snapshot/load", "{'snapshot_path': 'a', 'mem_file_path': 'b'}",
	      "after something was configured");
}
END_TEST

START_TEST(limits)
{
	struct err err = ERR_INIT;
	struct api_limits l;
	json_t *json = json_pack("{s{si si si} s{si si}}", "bandwidth", "size", 1000, "refill_time",
				 100, "one_time_burst", 7, "ops", "size", 1, "refill_time", 10000);

	ck_assert_int_eq(api_limits(json, &l, &err), 0);
	ck_assert(l.has_bytes && l.has_ops);
	ck_assert_uint_eq(l.bytes.rate, 10000);
	ck_assert_uint_eq(l.bytes.burst, 1000);
	ck_assert_uint_eq(l.bytes.once, 7);
	ck_assert_uint_eq(l.ops.rate, 1); /* not 0: that is none */
	json_decref(json);
	json = json_pack("{s{sI sI}}", "ops", "size", (json_int_t)INT64_MAX, "refill_time",
			 (json_int_t)1);
	ck_assert_int_eq(api_limits(json, &l, &err), 0);
	ck_assert_uint_eq(l.ops.rate, INT64_MAX);
	json_decref(json);
	json = json_pack("{s{si si}}", "ops", "size", 0, "refill_time", 5);
	ck_assert_int_eq(api_limits(json, &l, &err), 0);
	ck_assert(l.has_ops);
	ck_assert_uint_eq(l.ops.rate, 0);
	json_decref(json);
}
END_TEST

/* What the command line says is shown, and not forgotten. */
START_TEST(command_line)
{
	json_t *reply;

	api_fini(&api);
	strcpy(words[1], "--mem=64M");
	strcpy(words[2], "--cpus=2");
	strcpy(words[3], "--disk=disk");
	strcpy(words[4], "--id=me");
	strcpy(words[5], "--reboot");
	begin(6);
	ck_assert_int_eq(ask("GET", "/vm/config", NULL, &reply), 200);
	ck_assert_str_eq(json_string_value(json_object_get(
				 json_array_get(json_object_get(reply, "drives"), 0), "drive_id")),
			 "disk0");
	json_decref(reply);
	ok("PUT", "/boot-source", BOOT);
	ok("PUT", "/drives/r", "{'drive_id': 'r', 'path_on_host': 'disk', 'is_root_device': true}");
	has("mem", "\"64M\"");
	has("cpus", "\"count\":2");
	ck_assert_str_eq(option("cmdline"), "\"a b root=/dev/vdb rw\"");
	ck_assert_str_eq(option("reboot"), "true");
	ok("PUT", "/machine-config", "{'vcpu_count': 1, 'mem_size_mib': 32}");
	has("mem", "\"32M\"");
	ck_assert_int_eq(ask("GET", "/", NULL, &reply), 200);
	ck_assert_str_eq(json_string_value(json_object_get(reply, "id")), "me");
	json_decref(reply);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api");
	TCase *tc = tcase_create("api");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, router);
	tcase_add_test(tc, bodies);
	tcase_add_test(tc, machine);
	tcase_add_test(tc, boot);
	tcase_add_test(tc, devices);
	tcase_add_test(tc, own_options);
	tcase_add_test(tc, limits);
	tcase_add_test(tc, command_line);
	suite_add_tcase(s, tc);
	return test_run(s);
}
