// SPDX-License-Identifier: Apache-2.0
/*
 * Option tables fed with arbitrary command lines and JSON.
 *
 * The first byte says which: even, the rest is words separated by newlines; odd, it is
 * JSON. Whatever is accepted must survive the way to JSON and back.
 */
#include <string.h>
#include "tests/fuzz/fuzz.h"
#include "vmm/base/opt.h"

#define MAX_WORDS 32

struct disk {
	char *path, *serial;
	bool ro;
	uint64_t rate;
	int format;
};

struct config {
	struct opt_seen seen;
	char *kernel;
	uint64_t mem, cid, timeout, seed, cpus;
	int huge;
	bool prefault, acpi;
	struct opt_list disks, shares;
};

static const char *const huge_values[] = { "off", "thp", "2M", "1G", NULL };
static const char *const format_values[] = { "auto", "raw", "qcow2", NULL };

static const struct opt_key kernel_keys[] = { { "path", .type = OPT_STR, .def = "k" },
					      { .name = NULL } };
static const struct opt_key mem_keys[] = {
	{ "size", OPT_SIZE, offsetof(struct config, mem), .def = "256M", .min = 1 << 20,
	  .unit = 1 << 20 },
	{ "hugepages", OPT_ENUM, offsetof(struct config, huge), .values = huge_values },
	{ "prefault", OPT_BOOL, offsetof(struct config, prefault), .def = "on" },
	{ .name = NULL }
};
static const struct opt_key disk_keys[] = {
	{ "path", OPT_STR, offsetof(struct disk, path), .required = true },
	{ "ro", OPT_BOOL, offsetof(struct disk, ro), .help = "" },
	{ "serial", OPT_STR, offsetof(struct disk, serial), .def = "none" },
	{ "rate", OPT_SIZE, offsetof(struct disk, rate), .help = "" },
	{ "format", OPT_ENUM, offsetof(struct disk, format), .values = format_values },
	{ .name = NULL }
};
static const struct opt_key dir_keys[] = { { "dir", .type = OPT_STR }, { .name = NULL } };
static const struct opt_key vsock_keys[] = {
	{ "cid", OPT_UINT, 0, .min = 3, .max = UINT32_MAX, .required = true }, { .name = NULL }
};
static const struct opt_key time_keys[] = { { "time", .type = OPT_TIME }, { .name = NULL } };
static const struct opt_key seed_keys[] = { { "n", .type = OPT_UINT }, { .name = NULL } };
static const struct opt_key cpus_keys[] = {
	{ "count", OPT_MILLI, .def = "1", .min = 10, .max = 255000 }, { .name = NULL }
};
static const struct opt_key on_keys[] = { { "on", .type = OPT_BOOL, .def = "on" },
					  { .name = NULL } };

#define AT(member) .offset = offsetof(struct config, member)

static const struct opt table[] = {
	{ "kernel", 'k', "image", kernel_keys, AT(kernel), .plain = true },
	{ "mem", .letter = 'm', .keys = mem_keys },
	{ "disk", 'd', NULL, disk_keys, AT(disks), sizeof(struct disk), .max = 4 },
	{ "share", 's', NULL, dir_keys, AT(shares), sizeof(char *), .max = 3, .plain = true },
	{ "vsock", 0, NULL, vsock_keys, AT(cid) },
	{ "timeout", 't', NULL, time_keys, AT(timeout), .plain = true },
	{ "seed", 0, NULL, seed_keys, AT(seed), .plain = true },
	{ "cpus", 'c', NULL, cpus_keys, AT(cpus) },
	{ "acpi", 'a', NULL, on_keys, AT(acpi), .plain = true },
	{ .name = NULL }
};

static char *to_text(const struct config *config)
{
	json_t *json = opt_to_json(table, config);
	char *text = json_dumps(json, 0);

	CHECK(text != NULL);
	json_decref(json);
	return text;
}

/* An accepted configuration is the same after a round trip. */
static void check(const struct config *config)
{
	struct config other = { 0 };
	struct err err;
	char *text = to_text(config), *again;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	CHECK(json != NULL && opt_defaults(table, &other, &err) == 0);
	CHECK(opt_from_json(table, &other, json, &err) == 0);
	again = to_text(&other);
	CHECK(strcmp(text, again) == 0);
	json_decref(json);
	free(text);
	free(again);
	opt_free(table, &other);
}

static int parse_words(struct config *config, char *text, struct err *err)
{
	char *argv[MAX_WORDS];
	int argc = 0, used = 0, rc;

	for (char *p = text; p != NULL && argc < MAX_WORDS;)
		argv[argc++] = strsep(&p, "\n");
	rc = opt_parse(table, config, argc, argv, text[0] == '-', &used, err);
	CHECK(rc != 0 || (used >= 0 && used <= argc));
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config = { 0 };
	struct err err = ERR_INIT;
	json_t *json;
	char *text;
	int rc = -1;

	if (size == 0)
		return 0;
	text = malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	CHECK(opt_defaults(table, &config, &err) == 0);
	if (data[0] % 2 == 0) {
		rc = parse_words(&config, text, &err);
	} else {
		json = json_loadb(text, size - 1, JSON_ALLOW_NUL, NULL);
		if (json != NULL)
			rc = opt_from_json(table, &config, json, &err);
		json_decref(json);
	}
	if (rc == 0)
		check(&config);
	else
		CHECK(err.code == 0 || err.msg[0] != '\0');
	opt_free(table, &config);
	free(text);
	return 0;
}
