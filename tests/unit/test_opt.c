// SPDX-License-Identifier: Apache-2.0
/* Option tables: values, command lines, JSON there and back, help and manual. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "tests/unit/test_run.h"
#include "vmm/base/opt.h"

/* ---- a table with one of everything ---- */

struct mem {
	uint64_t size;
	int huge;
	bool prefault, merge;
};

struct disk {
	char *path, *serial, *overlay;
	bool ro;
	uint64_t rate;
	int format;
};

struct vsock {
	uint64_t cid;
	char *path;
};

struct config {
	struct opt_seen seen;
	char *kernel, *cmdline;
	struct mem mem;
	struct opt_list disks, shares;
	struct vsock vsock;
	uint64_t cpus, timeout, seed;
	int transport;
	bool acpi, pit, reboot, help;
};

static const char *const huge_values[] = { "off", "thp", "2M", "1G", NULL };
static const char *const format_values[] = { "auto", "raw", "qcow2", NULL };
static const char *const transport_values[] = { "pci", "mmio", NULL };

#define MiB (1ULL << 20)

static const struct opt_key kernel_keys[] = { { "path", OPT_STR, 0, .arg = "PATH" }, { NULL } };
static const struct opt_key cmdline_keys[] = {
	{ "text", OPT_STR, 0, .arg = "TEXT", .def = "quiet" }, { NULL }
};
static const struct opt_key mem_keys[] = {
	{ "size", OPT_SIZE, offsetof(struct mem, size), "SIZE", "256M", "memory of the guest",
	  .min = MiB, .max = 1024 * 1024 * MiB, .unit = MiB },
	{ "hugepages", OPT_ENUM, offsetof(struct mem, huge), .help = "pages to back it with",
	  .values = huge_values, .def = "off" },
	{ "prefault", OPT_BOOL, offsetof(struct mem, prefault),
	  .help = "allocate all of it first" },
	{ "merge", OPT_BOOL, offsetof(struct mem, merge), .def = "on", .help = "offer it to KSM" },
	{ NULL }
};
static const struct opt_key disk_keys[] = {
	{ "path", OPT_STR, offsetof(struct disk, path), "PATH", .required = true, .unique = true,
	  .help = "image, or a block device" },
	{ "ro", OPT_BOOL, offsetof(struct disk, ro), .help = "refuse writes" },
	{ "serial", OPT_STR, offsetof(struct disk, serial), "TEXT", "none",
	  .help = "serial number" },
	{ "rate", OPT_SIZE, offsetof(struct disk, rate), "SIZE", .help = "bytes per second" },
	{ "format", OPT_ENUM, offsetof(struct disk, format), .values = format_values },
	{ "overlay", OPT_STR, offsetof(struct disk, overlay), "FILE", .bare = true,
	  .help = "keep writes apart" },
	{ NULL }
};
static const struct opt_key share_keys[] = { { "dir", OPT_STR, .arg = "DIR" }, { NULL } };
static const struct opt_key vsock_keys[] = {
	{ "cid", OPT_UINT, offsetof(struct vsock, cid), "CID", .min = 3, .max = UINT32_MAX,
	  .required = true, .help = "address of the guest" },
	{ "path", OPT_STR, offsetof(struct vsock, path), "PATH", .help = "socket on the host" },
	{ NULL }
};
static const struct opt_key cpus_keys[] = {
	{ "count", OPT_UINT, 0, "COUNT", "1", "number of vCPUs", .min = 1, .max = 255 }, { NULL }
};
static const struct opt_key timeout_keys[] = {
	{ "time", OPT_TIME, 0, "TIME", .max = 86400000000000ULL }, { NULL }
};
static const struct opt_key seed_keys[] = { { "n", OPT_UINT, .arg = "N" }, { NULL } };
static const struct opt_key transport_keys[] = {
	{ "kind", OPT_ENUM, 0, .values = transport_values }, { NULL }
};
static const struct opt_key on_keys[] = { { "on", OPT_BOOL, 0, .def = "on" }, { NULL } };
static const struct opt_key off_keys[] = { { "on", .type = OPT_BOOL }, { NULL } };

#define AT(member) .offset = offsetof(struct config, member)

static const struct opt table[] = {
	{ "kernel", 'k', NULL, kernel_keys, AT(kernel), .plain = true, .section = "Guest",
	  .help = "The kernel: a bzImage or an ELF file with a PVH note. It is read once, at the "
		  "start, and may be replaced on disk while the guest runs." },
	{ "append", 'a', "cmdline", cmdline_keys, AT(cmdline), .plain = true,
	  .help = ".starts with a dot and has a \\ in it, so it's dangerous" },
	{ "mem", 'm', NULL, mem_keys, AT(mem), .help = "Memory of the guest." },
	{ "cpus", 'c', NULL, cpus_keys, AT(cpus), .help = "Virtual CPUs." },
	{ "disk", 'd', NULL, disk_keys, AT(disks), sizeof(struct disk), .max = 4,
	  .section = "Devices", .help = "A disk." },
	{ "share", 0, NULL, share_keys, AT(shares), sizeof(char *), .max = 300, .plain = true },
	{ "vsock", 0, NULL, vsock_keys, AT(vsock), .help = "Sockets between guest and host." },
	{ "transport", 0, NULL, transport_keys, AT(transport), .plain = true },
	{ "acpi", 0, NULL, on_keys, AT(acpi), .plain = true, .help = "ACPI tables." },
	{ "pit", 0, "timer-i8254", off_keys, AT(pit), .plain = true, .help = "The old timer." },
	{ "no-reboot", 0, NULL, off_keys, AT(reboot), .plain = true },
	{ "timeout", 't', NULL, timeout_keys, AT(timeout), .plain = true, .section = "Monitor",
	  .help = "End the guest after this time." },
	{ "seed", 0, NULL, seed_keys, AT(seed), .plain = true },
	{ "help", 'h', NULL, off_keys, AT(help), .plain = true, .hidden = true },
	{ NULL }
};

static struct config config;
static struct err err;
static int used;

static void setup(void)
{
	memset(&config, 0, sizeof(config));
	memset(&err, 0, sizeof(err));
	used = -1;
	ck_assert_msg(opt_defaults(table, &config, &err) == 0, "%s", err.msg);
}

static void teardown(void)
{
	opt_free(table, &config);
}

static void again(void)
{
	teardown();
	setup();
}

/* A command line of words separated by '|'. */
static int parse_line(const struct opt *options, void *to, const char *line, bool stop)
{
	char *words[64], *copy = strdup(line);
	int n = 0, rc;

	for (char *p = copy; *line != '\0' && p != NULL;)
		words[n++] = strsep(&p, "|");
	rc = opt_parse(options, to, n, words, stop, &used, &err);
	free(copy);
	return rc;
}

static int parse(const char *line, bool stop)
{
	return parse_line(table, &config, line, stop);
}

static struct disk *disk(size_t i)
{
	ck_assert_uint_lt(i, config.disks.n);
	return (struct disk *)config.disks.items + i;
}

/* ---- values ---- */

static const struct {
	const char *text;
	uint64_t unit, value;
	int rc;
} sizes[] = {
	{ "0", 0, 0, 0 },
	{ "512", 0, 512, 0 },
	{ "512", MiB, 512 * MiB, 0 },
	{ "512k", MiB, 512 * 1024, 0 },
	{ "7M", 0, 7 * MiB, 0 },
	{ "3G", 0, 3072 * MiB, 0 },
	{ "2t", 1, 2048 * 1024 * MiB, 0 },
	{ "010", 0, 10, 0 },
	{ "9223372036854775807", 0, INT64_MAX, 0 },
	{ "9223372036854775808", 0, 0, -ERANGE },
	{ "8388608T", 0, 0, -ERANGE },
	{ "18446744073709551616", 0, 0, -ERANGE },
	{ "99999999999999999999999999999999K", 0, 0, -ERANGE },
	{ "99999999999999999999999999999999X", 0, 0, -EINVAL },
	{ "17592186044416", MiB, 0, -ERANGE },
	{ "", 0, 0, -EINVAL },
	{ "K", 0, 0, -EINVAL },
	{ "-1", 0, 0, -EINVAL },
	{ "+1", 0, 0, -EINVAL },
	{ " 1", 0, 0, -EINVAL },
	{ "1 ", 0, 0, -EINVAL },
	{ "1 K", 0, 0, -EINVAL },
	{ "1KB", 0, 0, -EINVAL },
	{ "1KK", 0, 0, -EINVAL },
	{ "1.5G", 0, 0, -EINVAL },
	{ "0x10", 0, 0, -EINVAL },
	{ "5X", 0, 0, -EINVAL },
	{ "1\n", 0, 0, -EINVAL },
};

START_TEST(test_size)
{
	uint64_t value = 77;

	ck_assert_int_eq(opt_parse_size(sizes[_i].text, sizes[_i].unit, &value, &err),
			 sizes[_i].rc);
	ck_assert_uint_eq(value, sizes[_i].rc == 0 ? sizes[_i].value : 77);
}
END_TEST

static const struct {
	const char *text;
	uint64_t ns;
	int rc;
} times[] = {
	{ "0", 0, 0 },
	{ "5", 5000000000, 0 },
	{ "1.5s", 1500000000, 0 },
	{ "200ms", 200000000, 0 },
	{ "3us", 3000, 0 },
	{ "1ns", 1, 0 },
	{ "2m", 120000000000, 0 },
	{ "0.5h", 1800000000000, 0 },
	{ "0.000000001", 1, 0 },
	{ "0.0000000010000000000000000000000", 1, 0 },
	{ "0.1000000000000000000000000000001", 0, -EINVAL },
	{ "18446744073.709551615", UINT64_MAX, 0 },
	{ "18446744073.709551616", 0, -ERANGE },
	{ "18446744073709551615ns", UINT64_MAX, 0 },
	{ "18446744073709551616ns", 0, -ERANGE },
	{ "18446744073709551615h", 0, -ERANGE },
	{ "0.1ns", 0, -EINVAL },
	{ "0.0000000001", 0, -EINVAL },
	{ "", 0, -EINVAL },
	{ ".5", 0, -EINVAL },
	{ "5.", 0, -EINVAL },
	{ "5.s", 0, -EINVAL },
	{ "1.5.5", 0, -EINVAL },
	{ "-1", 0, -EINVAL },
	{ "1e3", 0, -EINVAL },
	{ "1d", 0, -EINVAL },
	{ "1 s", 0, -EINVAL },
	{ "nan", 0, -EINVAL },
};

START_TEST(test_time)
{
	uint64_t ns = 77;

	ck_assert_int_eq(opt_parse_time(times[_i].text, &ns, &err), times[_i].rc);
	ck_assert_uint_eq(ns, times[_i].rc == 0 ? times[_i].ns : 77);
}
END_TEST

START_TEST(test_nearest)
{
	static const char *const words[] = { "mem", "kernel", "hugepages", "cpus", "x", NULL };
	static char long_word[1000];

	ck_assert_str_eq(opt_nearest("memm", words), "mem");
	ck_assert_str_eq(opt_nearest("men", words), "mem");
	ck_assert_str_eq(opt_nearest("kenrel", words), "kernel");
	ck_assert_str_eq(opt_nearest("KERNEL", words), "kernel");
	ck_assert_str_eq(opt_nearest("huge", words), "hugepages");
	ck_assert_str_eq(opt_nearest("cpu", words), "cpus");
	ck_assert_ptr_null(opt_nearest("frob", words));
	ck_assert_ptr_null(opt_nearest("", words));
	ck_assert_ptr_null(opt_nearest("y", words));
	memset(long_word, 'm', sizeof(long_word) - 1);
	ck_assert_ptr_null(opt_nearest(long_word, words));
	ck_assert_ptr_null(opt_nearest("mem", words + 5));
}
END_TEST

/* ---- command lines ---- */

START_TEST(test_defaults)
{
	ck_assert_ptr_null(config.kernel);
	ck_assert_str_eq(config.cmdline, "quiet");
	ck_assert_uint_eq(config.mem.size, 256 * MiB);
	ck_assert(config.mem.merge && !config.mem.prefault && config.acpi && !config.pit);
	ck_assert_uint_eq(config.cpus, 1);
	ck_assert(!opt_given(table, &config, "mem"));
	ck_assert(!opt_given(table, &config, "nonsense"));
}
END_TEST

START_TEST(test_forms)
{
	static const char *const lines[] = { "--mem=512M", "--mem|512M", "-m|512M",
					     "-m512M",	   "-m|512",	 "--mem=size=512M",
					     "-m|size=512" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		again();
		ck_assert_msg(parse(lines[i], false) == 0, "%s", err.msg);
		ck_assert_uint_eq(config.mem.size, 512 * MiB);
		ck_assert(opt_given(table, &config, "mem"));
		ck_assert(!opt_given(table, &config, "cpus"));
	}
}
END_TEST

START_TEST(test_groups)
{
	ck_assert_int_eq(parse("-m|1G,hugepages=2M,prefault,merge=off", false), 0);
	ck_assert_uint_eq(config.mem.size, 1024 * MiB);
	ck_assert_int_eq(config.mem.huge, 2);
	ck_assert(config.mem.prefault && !config.mem.merge);
	again();
	ck_assert_int_eq(parse("-m|prefault,size=1G", false), 0);
	ck_assert(config.mem.prefault);
	again();
	ck_assert_int_eq(parse("-d|a\\,b.img,ro|--disk|path=x=y,serial=\\,\\,|-d|c\\d\\", false),
			 0);
	ck_assert_uint_eq(config.disks.n, 3);
	ck_assert_str_eq(disk(0)->path, "a,b.img");
	ck_assert(disk(0)->ro);
	ck_assert_str_eq(disk(0)->serial, "none");
	ck_assert_str_eq(disk(1)->path, "x=y");
	ck_assert_str_eq(disk(1)->serial, ",,");
	ck_assert_str_eq(disk(2)->path, "c\\d\\");
	ck_assert(opt_given(table, &config, "disk"));
}
END_TEST

/* A string key that may stand alone. */
START_TEST(test_bare)
{
	ck_assert_int_eq(parse("-d|a,overlay,ro|-d|overlay,path=b|-d|c,overlay=d|-d|e", false), 0);
	ck_assert_str_eq(disk(0)->overlay, "on");
	ck_assert(disk(0)->ro);
	ck_assert_str_eq(disk(1)->overlay, "on");
	ck_assert_str_eq(disk(1)->path, "b");
	ck_assert_str_eq(disk(2)->overlay, "d");
	ck_assert_ptr_null(disk(3)->overlay);
	again();
	ck_assert_int_lt(parse("-d|a,overlay,overlay=b", false), 0);
	ck_assert_str_eq(err.msg, "--disk: key 'overlay' given twice");
}
END_TEST

START_TEST(test_unique)
{
	const struct opt disks = { "disk", 'd', NULL, disk_keys, .size = sizeof(struct disk) };

	ck_assert_int_eq(opt_check_unique(&disks, &config.disks, &err), 0);
	ck_assert_int_eq(parse("-d|a,overlay=c|-d|b,overlay=c", false), 0);
	ck_assert_int_eq(opt_check_unique(&disks, &config.disks, &err), 0);
	again();
	ck_assert_int_eq(parse("-d|a|-d|b|-d|b", false), 0);
	ck_assert_int_eq(opt_check_unique(&disks, &config.disks, &err), -EEXIST);
	ck_assert_str_eq(err.msg, "two of them have path=b; give one another");
}
END_TEST

/* Options that need no value; a list of at most one, which is replaced and not added to. */
struct alone {
	struct opt_seen seen;
	struct opt_list rngs, consoles;
};
static const struct opt alone_table[] = {
	{ "rng", .keys = disk_keys + 2, .offset = offsetof(struct alone, rngs),
	  .size = sizeof(struct disk), .max = 1, .stands_alone = true, .help = "Numbers." },
	{ "console", 'C', .keys = disk_keys + 2, .offset = offsetof(struct alone, consoles),
	  .size = sizeof(struct disk), .max = 3, .stands_alone = true },
	{ NULL }
};

static int parse_alone(struct alone *a, const char *line)
{
	opt_free(alone_table, a);
	memset(a, 0, sizeof(*a));
	ck_assert_int_eq(opt_defaults(alone_table, a, &err), 0);
	return parse_line(alone_table, a, line, false);
}

START_TEST(test_alone)
{
	struct alone a = { 0 };
	json_t *json;

	ck_assert_int_eq(parse_alone(&a, "--console|--rng|-C|format=raw|-C|--|x"), 0);
	ck_assert_int_eq(used, 6);
	ck_assert_uint_eq(a.rngs.n, 1);
	ck_assert_str_eq(((struct disk *)a.rngs.items)->serial, "none");
	ck_assert_uint_eq(a.consoles.n, 3);
	ck_assert_int_eq(((struct disk *)a.consoles.items)[1].format, 1);
	ck_assert_int_eq(opt_apply(alone_table, &a, "rng", "rate=7", &err), 0);
	ck_assert_uint_eq(a.rngs.n, 1);
	ck_assert_uint_eq(((struct disk *)a.rngs.items)->rate, 7);
	json = opt_to_json(alone_table, &a);
	ck_assert_uint_eq(json_array_size(json_object_get(json, "rng")), 1);
	opt_free(alone_table, &a);
	ck_assert_int_eq(opt_from_json(alone_table, &a, json, &err), 0);
	ck_assert_uint_eq(a.rngs.n, 1);
	ck_assert_uint_eq(a.consoles.n, 3);
	json_array_append_new(json_object_get(json, "rng"), json_object());
	ck_assert_int_eq(opt_from_json(alone_table, &a, json, &err), -EINVAL);
	ck_assert_str_eq(err.msg, "rng: has 2 elements, but there can be one only");
	json_decref(json);
	ck_assert_int_eq(parse_alone(&a, "--rng|--rng"), -EINVAL);
	ck_assert_str_eq(err.msg, "--rng given twice");
	ck_assert_int_eq(parse_alone(&a, "-C|-C|-C|-C"), -EINVAL);
	ck_assert_int_eq(parse_alone(&a, "--rng="), -EINVAL);
	ck_assert_str_eq(err.msg, "--rng: needs a value (TEXT)");
	opt_free(alone_table, &a);
}
END_TEST

START_TEST(test_plain)
{
	ck_assert_int_eq(parse("-k|a,b=c\\,d|--append|x=1,y|--transport=mmio|-t1.5", false), 0);
	ck_assert_str_eq(config.kernel, "a,b=c\\,d");
	ck_assert_str_eq(config.cmdline, "x=1,y");
	ck_assert_int_eq(config.transport, 1);
	ck_assert_uint_eq(config.timeout, 1500000000);
	again();
	ck_assert_int_eq(parse("--cmdline=|--seed|0xFFFFFFFFFFFFFFFF", false), 0);
	ck_assert_str_eq(config.cmdline, "");
	ck_assert(opt_given(table, &config, "append") && opt_given(table, &config, "cmdline"));
	ck_assert_uint_eq(config.seed, UINT64_MAX);
	again();
	ck_assert_int_eq(parse("--share|a|--share=b", false), 0);
	ck_assert_uint_eq(config.shares.n, 2);
	ck_assert_str_eq(((char **)config.shares.items)[1], "b");
}
END_TEST

START_TEST(test_flags)
{
	ck_assert_int_eq(parse("--pit|--no-acpi|--no-reboot|-h", false), 0);
	ck_assert(config.pit && !config.acpi && config.reboot && config.help);
	again();
	ck_assert_int_eq(parse("--pit=on|--acpi=off|--no-no-reboot", false), 0);
	ck_assert(config.pit && !config.acpi && !config.reboot);
	again();
	ck_assert_int_eq(parse("--no-timer-i8254", false), 0);
	ck_assert(!config.pit && opt_given(table, &config, "pit"));
}
END_TEST

/* What a word of its own that begins with '-' means. */
START_TEST(test_dash_values)
{
	ck_assert_int_eq(parse("--kernel|-|--append|-1", false), 0);
	ck_assert_str_eq(config.kernel, "-");
	ck_assert_str_eq(config.cmdline, "-1");
	again();
	ck_assert_int_eq(parse("--kernel=--mem|--append=-v", false), 0);
	ck_assert_str_eq(config.kernel, "--mem");
	ck_assert_str_eq(config.cmdline, "-v");
	again();
	ck_assert_int_eq(parse("-a-v|-k-m", false), 0);
	ck_assert_str_eq(config.cmdline, "-v");
	ck_assert_str_eq(config.kernel, "-m");
}
END_TEST

START_TEST(test_used)
{
	ck_assert_int_eq(parse("", false), 0);
	ck_assert_int_eq(used, 0);
	ck_assert_int_eq(parse("--pit|--|--mem", false), 0);
	ck_assert_int_eq(used, 2);
	again();
	ck_assert_int_eq(parse("--pit|-k|x|make|--mem", true), 0);
	ck_assert_int_eq(used, 3);
	again();
	ck_assert_int_eq(parse("--pit|-", true), 0);
	ck_assert_int_eq(used, 1);
	again();
	ck_assert_int_eq(parse("--pit||x", true), 0);
	ck_assert_int_eq(used, 1);
}
END_TEST

static const struct {
	const char *line, *sentence;
} mistakes[] = {
	{ "--memm|1", "unknown option --memm (did you mean --mem?)" },
	{ "--memm=1", "unknown option --memm (did you mean --mem?)" },
	{ "--frobnicate", "unknown option --frobnicate" },
	{ "--ker=x", "unknown option --ker (did you mean --kernel?)" }, /* not abbreviated */
	{ "--cmdlin=x", "unknown option --cmdlin (did you mean --cmdline?)" },
	{ "--no-acpy", "unknown option --no-acpy (did you mean --no-acpi?)" },
	{ "--no-rebot", "unknown option --no-rebot (did you mean --no-reboot?)" },
	{ "--no-mem", "unknown option --no-mem" },
	{ "--no-", "unknown option --no- (did you mean --no-reboot?)" },
	{ "--=x", "unknown option --" },
	{ "---mem", "unknown option ---mem (did you mean --mem?)" },
	{ "-z", "unknown option -z" },
	{ "-=", "unknown option -=" },
	{ "foo", "unexpected argument 'foo'" },
	{ "-", "unexpected argument '-'" },
	{ "--pit|on", "unexpected argument 'on'" },
	{ "--mem|5X", "--mem: size '5X' is not a size (digits and K, M, G or T)" },
	{ "-m99999999999999T", "--mem: size '99999999999999T' is too large" },
	{ "--mem|1K", "--mem: size 1K is out of range (1M to 1T)" },
	{ "--mem=1,hugepage=2M",
	  "--mem: unknown key 'hugepage' (valid: size, hugepages, prefault, merge; "
	  "did you mean 'hugepages'?)" },
	{ "--mem=1,zzz", "--mem: unknown key 'zzz' (valid: size, hugepages, prefault, merge)" },
	{ "--mem=1,=2", "--mem: unknown key '' (valid: size, hugepages, prefault, merge)" },
	{ "--mem=a=b", "--mem: unknown key 'a' (valid: size, hugepages, prefault, merge)" },
	{ "--mem=1,hugepages=3M",
	  "--mem: hugepages: unknown value '3M' (valid: off, thp, 2M, 1G)" },
	{ "--mem=1,hugepages=2m",
	  "--mem: hugepages: unknown value '2m' (valid: off, thp, 2M, 1G; did you mean '2M'?)" },
	{ "--mem=1,prefault=yes", "--mem: prefault 'yes' is not on or off" },
	{ "--mem=1,size=2", "--mem: key 'size' given twice" },
	{ "--mem=1,prefault,prefault", "--mem: key 'prefault' given twice" },
	{ "--mem=1,hugepages", "--mem: key 'hugepages' needs a value (VALUE)" },
	{ "--mem=1,", "--mem: a key is missing beside a comma" },
	{ "--mem=,prefault", "--mem: a key is missing beside a comma" },
	{ "--mem=1,,prefault", "--mem: a key is missing beside a comma" },
	{ "--mem=", "--mem: needs a value (SIZE)" },
	{ "--mem", "--mem: needs a value (SIZE)" },
	{ "-m", "--mem: needs a value (SIZE)" },
	{ "--mem|1|--mem|1", "--mem given twice" },
	{ "--append|x|--cmdline|x", "--append given twice" },
	{ "--pit|--no-pit", "--pit given twice" },
	{ "--cpus|300", "--cpus: count 300 is out of range (1 to 255)" },
	{ "--cpus|0", "--cpus: count 0 is out of range (1 to 255)" },
	{ "--cpus=-1", "--cpus: count '-1' is not a number (decimal, or hexadecimal after 0x)" },
	{ "--cpus|0x", "--cpus: count '0x' is not a number (decimal, or hexadecimal after 0x)" },
	{ "--cpus|0x10000000000000000", "--cpus: count '0x10000000000000000' is too large" },
	{ "--kernel", "--kernel: needs a value (PATH)" },
	{ "--kernel|--mem|1", "--kernel: needs a value (PATH)" },
	{ "--kernel|--", "--kernel: needs a value (PATH)" },
	{ "--append|-v",
	  "--append: needs a value (TEXT); one that begins with '-' is written --append=-v" },
	{ "-k|-m",
	  "--kernel: needs a value (PATH); one that begins with '-' is written --kernel=-m" },
	{ "--kernel=a\377b", "--kernel: 'a\377b' is not valid UTF-8" },
	{ "--disk=serial=\300\200", "--disk: serial '\300\200' is not valid UTF-8" },
	{ "--transport=isa", "--transport: unknown value 'isa' (valid: pci, mmio)" },
	{ "--timeout=soon",
	  "--timeout: 'soon' is not a duration (a number and ns, us, ms, s, m or h)" },
	{ "--timeout=0.1ns", "--timeout: '0.1ns' is finer than a nanosecond" },
	{ "--timeout=25h", "--timeout: 25h is out of range (0 to 24h)" },
	{ "--pit=", "--pit: '' is not on or off" },
	{ "--pit=1", "--pit: '1' is not on or off" },
	{ "--no-pit=off", "--no-pit: takes no value (found 'off')" },
	{ "-hx", "-h: takes no value (found 'x')" },
	{ "--disk=ro", "--disk: key 'path' is missing" },
	{ "-d|a|-d|b|-d|c|-d|d|-d|e", "--disk: given more than 4 times" },
	{ "--vsock=path=x", "--vsock: key 'cid' is missing" },
	{ "--vsock=2", "--vsock: cid 2 is out of range (3 to 4294967295)" },
};

START_TEST(test_mistakes)
{
	ck_assert_int_lt(parse(mistakes[_i].line, false), 0);
	ck_assert_str_eq(err.msg, mistakes[_i].sentence);
}
END_TEST

/* Long nonsense makes a sentence that still says what is valid. */
START_TEST(test_long)
{
	static char word[100000];
	char *argv[] = { word };

	memset(word, 'a', sizeof(word) - 1);
	memcpy(word, "--", 2);
	ck_assert_int_eq(opt_parse(table, &config, 1, argv, false, &used, &err), -EINVAL);
	memcpy(word, "--mem=1,hugepages=", 18);
	ck_assert_int_eq(opt_parse(table, &config, 1, argv, false, &used, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "(valid: off, thp, 2M, 1G)"));
	memcpy(word, "--kernel=aaaaaaaaaa", 18);
	ck_assert_int_eq(opt_parse(table, &config, 1, argv, false, &used, &err), 0);
	ck_assert_uint_eq(strlen(config.kernel), sizeof(word) - 1 - 9);
	for (int i = 0; i < 300; i++)
		ck_assert_int_eq(opt_apply(table, &config, "share", "x", &err), 0);
	ck_assert_int_eq(opt_apply(table, &config, "share", "x", &err), -EINVAL);
	ck_assert_uint_eq(config.shares.n, 300);
}
END_TEST

/* A later source replaces as a whole; lists grow. */
START_TEST(test_apply)
{
	ck_assert_int_eq(opt_apply(table, &config, "mem", "1G,prefault", &err), 0);
	ck_assert_int_eq(opt_apply(table, &config, "mem", "2G", &err), 0);
	ck_assert(!config.mem.prefault);
	ck_assert_uint_eq(config.mem.size, 2048 * MiB);
	ck_assert_int_eq(opt_apply(table, &config, "cmdline", "a", &err), 0);
	ck_assert_int_eq(opt_apply(table, &config, "append", "b", &err), 0);
	ck_assert_str_eq(config.cmdline, "b");
	ck_assert_int_eq(opt_apply(table, &config, "no-acpi", NULL, &err), 0);
	ck_assert(!config.acpi);
	ck_assert_int_eq(opt_apply(table, &config, "mem", NULL, &err), -EINVAL);
	ck_assert_str_eq(err.msg, "--mem: needs a value (SIZE)");
	ck_assert_int_eq(opt_apply(table, &config, "me", "1", &err), -EINVAL);
	ck_assert_int_eq(opt_apply(table, &config, "disk", "a", &err), 0);
	ck_assert_int_eq(parse("--mem|3G|-d|b", false), 0);
	ck_assert_uint_eq(config.mem.size, 3072 * MiB);
	ck_assert_uint_eq(config.disks.n, 2);
}
END_TEST

/* Mistakes in tables are found before they can do harm. */
START_TEST(test_bad_tables)
{
	static const struct opt_key none[] = { { NULL } };
	static const struct opt_key no_values[] = { { "x", .type = OPT_ENUM }, { NULL } };
	static const struct opt_key bare_flag[] = { { "x", OPT_BOOL, .bare = true }, { NULL } };
	static const struct opt_key bad_def[] = { { "x", OPT_UINT, .def = "y" }, { NULL } };
	static const struct opt tables[][2] = {
		{ { "a", .keys = none } },
		{ { .name = "a" } },
		{ { "a", .keys = no_values } },
		{ { "a", .keys = bare_flag } },
		{ { "a", .keys = bad_def, .offset = 64 } },
		{ { "a", .keys = disk_keys, .plain = true } },
		{ { "a", .keys = seed_keys, .max = 2 } },
	};
	static struct opt many[130];
	uint64_t space[1024];

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		memset(space, 0, sizeof(space));
		ck_assert_int_eq(opt_defaults(tables[i], space, &err), -EINVAL);
		ck_assert(strncmp(err.msg, "--a: ", 5) == 0);
	}
	memset(space, 0, sizeof(space));
	for (int i = 0; i < 129; i++)
		many[i] = (struct opt){ "n", .keys = seed_keys, .offset = 64 };
	ck_assert_int_eq(opt_defaults(many, space, &err), -EINVAL);
	many[128].name = NULL;
	ck_assert_int_eq(opt_defaults(many, space, &err), 0);
}
END_TEST

/* ---- JSON ---- */

static int from_text(const char *text)
{
	json_error_t where;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
	int rc;

	ck_assert_msg(json != NULL, "%s", where.text);
	rc = opt_from_json(table, &config, json, &err);
	json_decref(json);
	return rc;
}

static char *to_text(const void *from)
{
	json_t *json = opt_to_json(table, from);
	char *text = json_dumps(json, JSON_COMPACT);

	ck_assert_ptr_nonnull(text);
	json_decref(json);
	return text;
}

static void assert_string_eq(const char *a, const char *b)
{
	ck_assert((a == NULL) == (b == NULL));
	if (a != NULL)
		ck_assert_str_eq(a, b);
}

static void assert_same(const struct config *a, const struct config *b)
{
	assert_string_eq(a->kernel, b->kernel);
	assert_string_eq(a->cmdline, b->cmdline);
	ck_assert_uint_eq(a->mem.size, b->mem.size);
	ck_assert_int_eq(a->mem.huge, b->mem.huge);
	ck_assert(a->mem.prefault == b->mem.prefault && a->mem.merge == b->mem.merge);
	ck_assert_uint_eq(a->cpus, b->cpus);
	ck_assert_uint_eq(a->timeout, b->timeout);
	ck_assert_uint_eq(a->seed, b->seed);
	ck_assert_int_eq(a->transport, b->transport);
	ck_assert(a->acpi == b->acpi && a->pit == b->pit && a->reboot == b->reboot);
	ck_assert_uint_eq(a->vsock.cid, b->vsock.cid);
	assert_string_eq(a->vsock.path, b->vsock.path);
	ck_assert_uint_eq(a->shares.n, b->shares.n);
	for (size_t i = 0; i < a->shares.n; i++)
		assert_string_eq(((char **)a->shares.items)[i], ((char **)b->shares.items)[i]);
	ck_assert_uint_eq(a->disks.n, b->disks.n);
	for (size_t i = 0; i < a->disks.n; i++) {
		const struct disk *x = (struct disk *)a->disks.items + i;
		const struct disk *y = (struct disk *)b->disks.items + i;

		assert_string_eq(x->path, y->path);
		assert_string_eq(x->serial, y->serial);
		ck_assert(x->ro == y->ro && x->rate == y->rate && x->format == y->format);
	}
}

/* What --dry-run prints, --config reads: the same values, and then the same text. */
static void round_trip(void)
{
	struct config before = config;
	char *text = to_text(&config), *text2;

	memset(&config, 0, sizeof(config));
	ck_assert_int_eq(opt_defaults(table, &config, &err), 0);
	ck_assert_msg(from_text(text) == 0, "%s: %s", err.msg, text);
	assert_same(&before, &config);
	text2 = to_text(&config);
	ck_assert_str_eq(text, text2);
	free(text);
	free(text2);
	opt_free(table, &before);
}

START_TEST(test_json_round_trip)
{
	static const char *const lines[] = {
		"",
		"-h",
		"-k|x|-a|a \"b\" \\ \303\274|-m|1G,hugepages=1G,prefault,merge=off|-c|255",
		"-d|a,ro,serial=,rate=1000|-d|b,format=qcow2,rate=5T|--share|x|--share|",
		"--vsock|3|--no-acpi|--pit|--no-reboot|--transport|mmio|--seed|18446744073709551615",
		"--vsock|4294967295,path=/x|-t|1.000000001|--seed|9223372036854775807",
		"-t|24h|-m|size=1049601K|-d|x,rate=9223372036854775807",
		"-t|0.000001|-m|1048577|--seed|9223372036854775808",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		again();
		/* "1048577" MiB is out of range, which leaves a half-filled config. */
		parse(lines[i], false);
		round_trip();
	}
}
END_TEST

static uint64_t rng = 88172645463325252ULL;

static uint64_t rnd(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % below;
}

/* The same over values drawn at random, of all magnitudes. */
START_TEST(test_json_property)
{
	for (int i = 0; i < 3000; i++) {
		char text[256];

		again();
		snprintf(text, sizeof(text), "size=%lluK,prefault=%s",
			 1024 + (unsigned long long)rnd(1ULL << rnd(31)), rnd(2) ? "on" : "off");
		ck_assert_int_eq(opt_apply(table, &config, "mem", text, &err), 0);
		snprintf(text, sizeof(text), "%lluns",
			 (unsigned long long)rnd(1 + (86400000000000ULL >> rnd(46))));
		ck_assert_int_eq(opt_apply(table, &config, "timeout", text, &err), 0);
		snprintf(text, sizeof(text), "%llu", (unsigned long long)rng >> rnd(64));
		ck_assert_int_eq(opt_apply(table, &config, "seed", text, &err), 0);
		for (uint64_t n = rnd(5); n > 0; n--) {
			snprintf(text, sizeof(text), "p%llu\\,,rate=%llu,format=%s",
				 (unsigned long long)rng, (unsigned long long)rng >> (1 + rnd(63)),
				 format_values[rnd(3)]);
			ck_assert_msg(opt_apply(table, &config, "disk", text, &err) == 0, "%s",
				      err.msg);
		}
		round_trip();
	}
}
END_TEST

START_TEST(test_json_values)
{
	ck_assert_int_eq(from_text("{\"mem\":{\"size\":2097152},\"timeout\":1.5,"
				   "\"disk\":[{\"path\":\"a\",\"rate\":\"1K\"}],"
				   "\"share\":[\"x\",\"y\"],\"acpi\":false,\"seed\":\"0x10\"}"),
			 0);
	ck_assert_uint_eq(config.mem.size, 2 * MiB); /* bytes, whatever the unit */
	ck_assert_uint_eq(config.timeout, 1500000000);
	ck_assert_uint_eq(disk(0)->rate, 1024);
	ck_assert_uint_eq(config.shares.n, 2);
	ck_assert_uint_eq(config.seed, 16);
	ck_assert(!config.acpi && opt_given(table, &config, "acpi"));
	ck_assert(!opt_given(table, &config, "pit"));
	ck_assert_int_eq(from_text("{\"mem\":{\"size\":\"512\"},\"timeout\":0.0,\"disk\":[]}"), 0);
	ck_assert_uint_eq(config.mem.size, 512 * MiB);
	ck_assert_uint_eq(config.timeout, 0);
	ck_assert_uint_eq(config.disks.n, 1);
	ck_assert_int_eq(from_text("{\"disk\":[{\"path\":\"b\",\"overlay\":true},"
				   "{\"path\":\"c\",\"overlay\":false},"
				   "{\"path\":\"d\",\"overlay\":\"on\"}]}"),
			 0);
	ck_assert_str_eq(disk(1)->overlay, "on");
	ck_assert_str_eq(disk(2)->overlay, "off");
	ck_assert_str_eq(disk(3)->overlay, "on");
}
END_TEST

START_TEST(test_json_text)
{
	char *text;

	parse("-k|bz|-m|1G|-d|a|-t|90|-h", false);
	text = to_text(&config);
	ck_assert_str_eq(text, "{\"kernel\":\"bz\",\"append\":\"quiet\",\"mem\":{\"size\":\"1G\","
			       "\"hugepages\":\"off\",\"prefault\":false,\"merge\":true},"
			       "\"cpus\":{\"count\":1},\"disk\":[{\"path\":\"a\",\"ro\":false,"
			       "\"serial\":\"none\",\"rate\":0,\"format\":\"auto\"}],\"share\":[],"
			       "\"transport\":\"pci\",\"acpi\":true,\"pit\":false,"
			       "\"no-reboot\":false,\"timeout\":\"90s\",\"seed\":0}");
	free(text);
}
END_TEST

static const struct {
	const char *json, *sentence;
} json_mistakes[] = {
	{ "[]", "must be an object, not an array" },
	{ "{\"memm\":1}",
	  "unknown member 'memm' (valid: kernel, append, mem, cpus, disk, share, vsock, transport, "
	  "acpi, pit, no-reboot, timeout, seed; did you mean 'mem'?)" },
	{ "{\"no-acpi\":true}", "unknown member 'no-acpi' (valid: kernel, append, mem, cpus, disk, "
				"share, vsock, transport, acpi, pit, no-reboot, timeout, seed)" },
	{ "{\"help\":true}", "unknown member 'help' (valid: kernel, append, mem, cpus, disk, "
			     "share, vsock, transport, acpi, pit, no-reboot, timeout, seed)" },
	{ "{\"mem\":\"1G\"}", "mem: must be an object, not a string" },
	{ "{\"mem\":{\"hugepage\":1}}",
	  "mem: unknown key 'hugepage' (valid: size, hugepages, prefault, merge; "
	  "did you mean 'hugepages'?)" },
	{ "{\"mem\":{\"size\":true}}",
	  "mem: size must be a number of bytes or a string like \"512M\", not a boolean" },
	{ "{\"mem\":{\"size\":1.5e9}}",
	  "mem: size must be a number of bytes or a string like \"512M\", not a fraction" },
	{ "{\"mem\":{\"size\":-1}}", "mem: size -1 is out of range (1M to 1T)" },
	{ "{\"mem\":{\"size\":1}}", "mem: size 1 is out of range (1M to 1T)" },
	{ "{\"mem\":{\"size\":null}}",
	  "mem: size must be a number of bytes or a string like \"512M\", not null" },
	{ "{\"mem\":{\"prefault\":\"on\"}}", "mem: prefault must be true or false, not a string" },
	{ "{\"mem\":{\"hugepages\":1}}", "mem: hugepages must be a string, not an integer" },
	{ "{\"seed\":-1}", "seed: value -1 is out of range (0 or more, in 64 bits)" },
	{ "{\"seed\":[]}", "seed: value must be an integer, not an array" },
	{ "{\"kernel\":\"a\\u0000b\"}", "kernel: value has a NUL byte in it" },
	{ "{\"kernel\":{}}", "kernel: value must be a string, not an object" },
	{ "{\"timeout\":-0.5}", "timeout: value -0.5 is not a number of seconds in range" },
	{ "{\"timeout\":1e300}",
	  "timeout: value 1.0000000000000001e+300 is not a number of seconds in range" },
	{ "{\"timeout\":1e-12}",
	  "timeout: value 9.9999999999999998e-13 is finer than a nanosecond" },
	{ "{\"timeout\":9223372036854775807}",
	  "timeout: value 9223372036854775807 is out of range (0 to 24h)" },
	{ "{\"timeout\":86401}", "timeout: 86401 is out of range (0 to 24h)" },
	{ "{\"disk\":{\"path\":\"a\"}}", "disk: must be an array, not an object" },
	{ "{\"disk\":[{\"path\":\"a\"},{\"serial\":\"b\"}]}", "disk[1]: key 'path' is missing" },
	{ "{\"disk\":[{\"path\":\"a\",\"serial\":7}]}",
	  "disk[0]: serial must be a string, not an integer" },
	{ "{\"disk\":[{\"path\":\"a\",\"serial\":true}]}",
	  "disk[0]: serial must be a string, not a boolean" },
	{ "{\"disk\":[3]}", "disk[0]: must be an object, not an integer" },
	{ "{\"share\":[\"a\",3]}", "share[1]: value must be a string, not an integer" },
	{ "{\"disk\":[{\"path\":\"a\"},{\"path\":\"a\"},{\"path\":\"a\"},{\"path\":\"a\"},"
	  "{\"path\":\"a\"}]}",
	  "disk[4]: given more than 4 times" },
};

START_TEST(test_json_mistakes)
{
	ck_assert_int_lt(from_text(json_mistakes[_i].json), 0);
	ck_assert_str_eq(err.msg, json_mistakes[_i].sentence);
}
END_TEST

/* ---- help and manual ---- */

static char *printed(void (*print)(const struct opt *, FILE *))
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	print(table, out);
	fclose(out);
	return text;
}

START_TEST(test_help)
{
	static const char *const wanted[] = {
		"Guest:\n",
		"\nDevices:\n",
		"\nMonitor:\n",
		"  -k, --kernel PATH       The kernel: a bzImage",
		"  -a, --append, --cmdline TEXT\n",
		"(default quiet)\n",
		"  -m, --mem SIZE[,KEY=VALUE...]\n",
		"        size=SIZE         memory of the guest (1M to 1T, default 256M)\n",
		"        hugepages=off|thp|2M|1G\n",
		"        prefault[=on|off]\n                          allocate all of it first (default off)\n",
		"        merge[=on|off]    offer it to KSM (default on)\n",
		"        path=PATH         image, or a block device (required)\n",
		"        overlay[=FILE]    keep writes apart\n",
		"(may be given up to 4 times)\n",
		"      --transport pci|mmio\n                          (default pci)\n",
		"      --acpi, --no-acpi   ACPI tables. (default on)\n",
		"      --pit, --timer-i8254\n",
		"  -t, --timeout TIME      End the guest after this time. (0 to 24h)\n",
	};
	char *text = printed(opt_print_help), *line;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		ck_assert_msg(strstr(text, wanted[i]) != NULL, "no '%s' in\n%s", wanted[i], text);
	for (char *p = text; (line = strsep(&p, "\n")) != NULL;) {
		ck_assert_msg(strlen(line) <= 79, "too long: %s", line);
		ck_assert_msg(*line == '\0' || line[strlen(line) - 1] != ' ', "blank: '%s'", line);
	}
	free(text);
}
END_TEST

START_TEST(test_man)
{
	static const char *const wanted[] = {
		".SH OPTIONS\n.SS Guest\n.TP\n\\fB\\-k\\fR, \\fB\\-\\-kernel\\fR \\fIPATH\\fR\n",
		"\n\\&.starts with a dot and has a \\e in it, so it\\(aqs dangerous\n"
		"(default quiet)\n",
		"\\fB\\-\\-mem\\fR \\fISIZE\\fR[,\\fIKEY\\fR=\\fIVALUE\\fR...]\n",
		".RS\n.TP\n\\fBsize\\fR=\\fISIZE\\fR\nmemory of the guest\n",
		"\\fBprefault\\fR[=\\fIon|off\\fR]\n",
		"\\fBoverlay\\fR[=\\fIFILE\\fR]\nkeep writes apart\n",
		"\\fB\\-\\-acpi\\fR, \\fB\\-\\-no\\-acpi\\fR\n",
	};
	char *text = printed(opt_print_man), *line;
	int depth = 0;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		ck_assert_msg(strstr(text, wanted[i]) != NULL, "no '%s' in\n%s", wanted[i], text);
	/* No line is a request that is not ours. */
	for (char *p = text; (line = strsep(&p, "\n")) != NULL;) {
		ck_assert(line[0] != '\'');
		ck_assert(line[0] != '.' || strcmp(line, ".TP") == 0 || strcmp(line, ".RS") == 0 ||
			  strcmp(line, ".RE") == 0 || strncmp(line, ".SS ", 4) == 0 ||
			  strcmp(line, ".SH OPTIONS") == 0);
		depth += (strcmp(line, ".RS") == 0) - (strcmp(line, ".RE") == 0);
		ck_assert_int_ge(depth, 0);
	}
	ck_assert_int_eq(depth, 0);
	free(text);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* --- Fractions --- */

struct fractions {
	struct opt_seen seen;
	uint64_t cpus;
};

static const struct opt_key fraction_keys[] = {
	{ "count", OPT_MILLI, 0, "N", "1", .min = 10, .max = 255000 }, { NULL }
};
static const struct opt fraction_table[] = {
	{ "cpus", .keys = fraction_keys, .offset = offsetof(struct fractions, cpus) }, { NULL }
};

static const struct {
	const char *text, *json; /* what it becomes there; NULL: it is wrong */
	uint64_t value;
	const char *said;
} fractions[] = {
	{ "1", "1", 1000, NULL },
	{ "255", "255", 255000, NULL },
	{ "0.5", "\"0.5\"", 500, NULL },
	{ "1.50", "\"1.5\"", 1500, NULL },
	{ "0.010", "\"0.01\"", 10, NULL },
	{ "2.1250000", "\"2.125\"", 2125, NULL },
	{ "3.0", "3", 3000, NULL },
	{ "0.009", NULL, 0, "--cpus: count 0.009 is out of range (0.01 to 255)" },
	{ "0", NULL, 0, "--cpus: count 0 is out of range (0.01 to 255)" },
	{ "255.001", NULL, 0, "--cpus: count 255.001 is out of range (0.01 to 255)" },
	{ "1.0005", NULL, 0, "--cpus: count '1.0005' is finer than a thousandth" },
	{ "18446744073709551616", NULL, 0, "--cpus: count '18446744073709551616' is too large" },
	{ "18446744073709552", NULL, 0, "--cpus: count '18446744073709552' is too large" },
	{ "18446744073709551.616", NULL, 0, "--cpus: count '18446744073709551.616' is too large" },
	{ "1.", NULL, 0,
	  "--cpus: count '1.' is not a number (digits, and a point for a fraction)" },
	{ ".5", NULL, 0,
	  "--cpus: count '.5' is not a number (digits, and a point for a fraction)" },
	{ "1.5x", NULL, 0,
	  "--cpus: count '1.5x' is not a number (digits, and a point for a fraction)" },
	{ "1,5", NULL, 0, "--cpus: unknown key '5' (valid: count)" },
};

START_TEST(test_fractions)
{
	struct fractions f = { .cpus = 0 };
	struct err e = ERR_INIT;
	json_t *json, *cpus;
	char *text;
	int r;

	ck_assert_int_eq(opt_defaults(fraction_table, &f, &e), 0);
	ck_assert_uint_eq(f.cpus, 1000);
	r = opt_apply(fraction_table, &f, "cpus", fractions[_i].text, &e);
	if (fractions[_i].json == NULL) {
		ck_assert_int_lt(r, 0);
		ck_assert_str_eq(e.msg, fractions[_i].said);
		return;
	}
	ck_assert_int_eq(r, 0);
	ck_assert_uint_eq(f.cpus, fractions[_i].value);
	json = opt_to_json(fraction_table, &f);
	cpus = json_object_get(json_object_get(json, "cpus"), "count");
	text = json_dumps(cpus, JSON_ENCODE_ANY);
	ck_assert_str_eq(text, fractions[_i].json);
	free(text);
	f.cpus = 0;
	ck_assert_int_eq(opt_from_json(fraction_table, &f, json, &e), 0);
	ck_assert_uint_eq(f.cpus, fractions[_i].value);
	/* A number is as good. */
	json_object_set_new(json_object_get(json, "cpus"), "count",
			    json_real((double)fractions[_i].value / 1000));
	f.cpus = 0;
	ck_assert_int_eq(opt_from_json(fraction_table, &f, json, &e), 0);
	ck_assert_uint_eq(f.cpus, fractions[_i].value);
	json_decref(json);
}
END_TEST

START_TEST(test_fractions_of_json)
{
	static const struct {
		const char *json, *said;
	} bad[] = {
		{ "1e300", "cpus: count '1e+300' is not a number (digits, and a point for a "
			   "fraction)" },
		{ "0.0001", "cpus: count '0.0001' is finer than a thousandth" },
		{ "-1", "cpus: count -1 is out of range (0.01 to 255)" },
		{ "256", "cpus: count 256 is out of range (0.01 to 255)" },
		{ "9223372036854775807",
		  "cpus: count 9223372036854775807 is out of range (0.01 to 255)" },
		{ "true", "cpus: count must be a number or a string like \"1.5\", not a boolean" },
	};

	for (size_t i = 0; i < COUNT(bad); i++) {
		struct fractions f = { .cpus = 0 };
		struct err e = ERR_INIT;
		char text[64];
		json_t *json;

		snprintf(text, sizeof(text), "{\"cpus\": {\"count\": %s}}", bad[i].json);
		json = json_loads(text, 0, NULL);
		ck_assert_ptr_nonnull(json);
		ck_assert_int_lt(opt_from_json(fraction_table, &f, json, &e), 0);
		ck_assert_str_eq(e.msg, bad[i].said);
		json_decref(json);
	}
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("opt");
	TCase *tc = tcase_create("opt");

	/* For the eye: "test_opt help", "test_opt man | man -l -". */
	if (argc > 1) {
		(strcmp(argv[1], "man") == 0 ? opt_print_man : opt_print_help)(table, stdout);
		return EXIT_SUCCESS;
	}
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_size, 0, COUNT(sizes));
	tcase_add_loop_test(tc, test_time, 0, COUNT(times));
	tcase_add_test(tc, test_nearest);
	tcase_add_test(tc, test_defaults);
	tcase_add_test(tc, test_forms);
	tcase_add_test(tc, test_groups);
	tcase_add_test(tc, test_bare);
	tcase_add_test(tc, test_unique);
	tcase_add_test(tc, test_alone);
	tcase_add_test(tc, test_plain);
	tcase_add_test(tc, test_flags);
	tcase_add_test(tc, test_dash_values);
	tcase_add_test(tc, test_used);
	tcase_add_loop_test(tc, test_mistakes, 0, COUNT(mistakes));
	tcase_add_test(tc, test_long);
	tcase_add_test(tc, test_apply);
	tcase_add_test(tc, test_bad_tables);
	tcase_add_test(tc, test_json_round_trip);
	tcase_add_test(tc, test_json_property);
	tcase_add_test(tc, test_json_values);
	tcase_add_test(tc, test_json_text);
	tcase_add_loop_test(tc, test_json_mistakes, 0, COUNT(json_mistakes));
	tcase_add_test(tc, test_help);
	tcase_add_test(tc, test_man);
	tcase_add_loop_test(tc, test_fractions, 0, COUNT(fractions));
	tcase_add_test(tc, test_fractions_of_json);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
