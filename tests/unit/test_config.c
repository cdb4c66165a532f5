// SPDX-License-Identifier: Apache-2.0
/*
 * The configuration of `vmm boot`: defaults, what goes over what, JSON there and back, and
 * every rule that ties options together, with its exact sentence. The option parser itself
 * has its own test.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/config.h"

#define MIB    (1ULL << 20)
#define SECOND 1000000000ULL

static struct vm_config cfg;
static struct err err;
static char path[64]; /* of the file that write_file() makes */
static char sentence[ERR_MSG_MAX];

static void setup(void)
{
	memset(&cfg, 0, sizeof(cfg));
	err = (struct err)ERR_INIT;
	path[0] = '\0';
}

static void teardown(void)
{
	vm_config_free(&cfg);
	if (path[0] != '\0')
		unlink(path);
}

/* Parse a command line, words separated by single spaces; "%" stands for the file's path. */
static int parse(const char *line)
{
	char *argv[32], *copy = strdup(line), *rest = copy, *word;
	int argc = 0, r;

	vm_config_free(&cfg);
	err = (struct err)ERR_INIT;
	while ((word = strsep(&rest, " ")) != NULL && *line != '\0') {
		ck_assert_int_lt(argc, 31);
		argv[argc++] = strcmp(word, "%") == 0 ? path : word;
	}
	argv[argc] = NULL;
	r = vm_config_parse(&cfg, argc, argv, &err);
	free(copy);
	return r;
}

static void write_file(const char *text)
{
	FILE *file;
	int fd;

	strcpy(path, "/tmp/test_config.XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	file = fdopen(fd, "w");
	fputs(text, file);
	ck_assert_int_eq(fclose(file), 0);
}

/* The last parse() failed with this sentence, in which "%" stands for the file's path. */
static void said(const char *text)
{
	const char *mark = strchr(text, '%');

	if (mark != NULL)
		snprintf(sentence, sizeof(sentence), "%.*s%s%s", (int)(mark - text), text, path,
			 mark + 1);
	ck_assert_str_eq(err.msg, mark != NULL ? sentence : text);
	ck_assert_int_ne(err.code, 0);
}

START_TEST(defaults)
{
	ck_assert_int_eq(parse("-k vmlinux"), 0);
	ck_assert_str_eq(cfg.machine.kernel, "vmlinux");
	ck_assert_ptr_null(cfg.machine.initrd);
	ck_assert_ptr_null(cfg.machine.cmdline);
	ck_assert_ptr_null(cfg.config_path);
	ck_assert_int_eq(cfg.machine.entry, 0);
	ck_assert_uint_eq(cfg.machine.mem.size, 512 * MIB);
	ck_assert_int_eq(cfg.machine.mem.huge, GMEM_HUGE_OFF);
	ck_assert(!cfg.machine.mem.prefault && !cfg.machine.mem.merge);
	ck_assert_uint_eq(cfg.machine.cpus.count, 1);
	ck_assert_uint_eq(cfg.machine.cpus.sockets, 0);
	ck_assert_uint_eq(cfg.machine.cpus.cores, 0);
	ck_assert_uint_eq(cfg.machine.cpus.threads, 0);
	ck_assert(cfg.machine.acpi && cfg.machine.serial && cfg.reboot);
	ck_assert(!cfg.machine.pit && !cfg.machine.debug_exit && !cfg.machine.boot_timer);
	ck_assert(!cfg.verbose && !cfg.dry_run && !cfg.help);
	ck_assert_int_eq(cfg.serial.to, CHARDEV_STDIO);
	ck_assert_ptr_null(cfg.serial.path);
	ck_assert_uint_eq(cfg.timeout_ns, 0);
	ck_assert_uint_eq(cfg.hang_timeout_ns, 0);
	ck_assert_uint_eq(cfg.stop_timeout_ns, 10 * SECOND);
}
END_TEST

START_TEST(every_option)
{
	ck_assert_int_eq(parse("--kernel=k --initrd i --append a=b,c --entry pvh "
			       "--mem 2G,hugepages=2M,prefault,merge --cpus 8,2,threads=2 "
			       "--serial file,path=log --no-acpi --pit --debug-exit"),
			 -EINVAL); /* keys after the first need names */
	ck_assert_int_eq(parse("--kernel=k --initrd i --append a=b,c --entry pvh "
			       "--mem 2G,hugepages=2M,prefault,merge --cpus 8,sockets=2,threads=2 "
			       "--serial file,path=log --no-acpi --pit --debug-exit --boot-timer"),
			 0);
	ck_assert_str_eq(cfg.machine.initrd, "i");
	ck_assert_str_eq(cfg.machine.cmdline, "a=b,c");
	ck_assert_int_eq(cfg.machine.entry, 2);
	ck_assert_uint_eq(cfg.machine.mem.size, 2048 * MIB);
	ck_assert_int_eq(cfg.machine.mem.huge, GMEM_HUGE_2M);
	ck_assert(cfg.machine.mem.prefault && cfg.machine.mem.merge);
	ck_assert_uint_eq(cfg.machine.cpus.count, 8);
	ck_assert_uint_eq(cfg.machine.cpus.sockets, 2);
	ck_assert_uint_eq(cfg.machine.cpus.threads, 2);
	ck_assert_int_eq(cfg.serial.to, CHARDEV_FILE);
	ck_assert_str_eq(cfg.serial.path, "log");
	ck_assert(!cfg.machine.acpi && cfg.machine.pit && cfg.machine.debug_exit);
	ck_assert(cfg.machine.boot_timer);

	ck_assert_int_eq(parse("-k k -i i -a a -m 64 -c 2 -v --no-reboot --timeout 1.5 "
			       "--hang-timeout 200ms --stop-timeout 2m --serial off"),
			 0);
	ck_assert_uint_eq(cfg.machine.mem.size, 64 * MIB);
	ck_assert_uint_eq(cfg.timeout_ns, 3 * SECOND / 2);
	ck_assert_uint_eq(cfg.hang_timeout_ns, SECOND / 5);
	ck_assert_uint_eq(cfg.stop_timeout_ns, 120 * SECOND);
	ck_assert(cfg.verbose && !cfg.reboot && !cfg.machine.serial);
}
END_TEST

START_TEST(resources)
{
	ck_assert_int_eq(parse("-k k -c 1.5 --cgroup vms/a,memory-max=1G,pids-max=40"), 0);
	ck_assert_uint_eq(cfg.machine.cpus.count, 2);
	ck_assert_uint_eq(cfg.machine.cpus.share, 1500);
	ck_assert_str_eq(cfg.cgroup.parent, "vms/a");
	ck_assert_uint_eq(cfg.cgroup.memory_max, 1024 * MIB);
	ck_assert_uint_eq(cfg.cgroup.pids_max, 40);
	ck_assert(!cfg.core_sched);
	ck_assert_int_eq(parse("-k k -c 0.01"), 0);
	ck_assert_uint_eq(cfg.machine.cpus.count, 1);
	ck_assert_int_eq(
		parse("-k k -c 4,threads=2 --core-sched --cgroup cpu-max=2.5,cpuset=0\\,2-3"), 0);
	ck_assert_uint_eq(cfg.machine.cpus.count, 4);
	ck_assert_uint_eq(cfg.cgroup.cpu_max, 2500);
	ck_assert_str_eq(cfg.cgroup.cpuset, "0,2-3");
	ck_assert(cfg.core_sched);
}
END_TEST

START_TEST(help_needs_no_kernel)
{
	ck_assert_int_eq(parse("--help"), 0);
	ck_assert(cfg.help);
	ck_assert_int_eq(parse("-m 3M,hugepages=2M -h"), 0);
}
END_TEST

/* --- Files --- */

START_TEST(command_line_goes_over_file)
{
	write_file(
		"{ \"kernel\": \"from-file\", \"initrd\": \"i\", \"reboot\": false,\n"
		"  \"mem\": { \"size\": \"1G\", \"prefault\": true }, \"cpus\": { \"count\": 4 } }");
	/* Wherever --config stands. */
	ck_assert_int_eq(parse("--mem 256 --config % --cmdline quiet"), 0);
	ck_assert_str_eq(cfg.machine.kernel, "from-file");
	ck_assert_str_eq(cfg.machine.initrd, "i");
	ck_assert_str_eq(cfg.machine.cmdline, "quiet");
	ck_assert_uint_eq(cfg.machine.cpus.count, 4);
	ck_assert(!cfg.reboot);
	/* An option replaces the file's as a whole. */
	ck_assert_uint_eq(cfg.machine.mem.size, 256 * MIB);
	ck_assert(!cfg.machine.mem.prefault);

	ck_assert_int_eq(parse("--config % -k mine --reboot"), 0);
	ck_assert_str_eq(cfg.machine.kernel, "mine");
	ck_assert(cfg.reboot);
	ck_assert_uint_eq(cfg.machine.mem.size, 1024 * MIB);
	ck_assert(cfg.machine.mem.prefault);
}
END_TEST

START_TEST(rules_hold_for_files)
{
	write_file("{ \"kernel\": \"k\", \"serial\": { \"to\": \"off\" } }");
	ck_assert_int_eq(parse("--config %"), 0);
	ck_assert(!cfg.machine.serial);
	ck_assert_int_eq(parse("--config % --serial file"), -EINVAL);
	said("--serial: to=file needs path=PATH");
}
END_TEST

static const struct {
	const char *text, *said;
} bad_files[] = {
	{ "", "config %: line 1: '[' or '{' expected near end of file" },
	{ "{\n\"kernel\" \"k\" }", "config %: line 2: ':' expected near '\"k\"'" },
	{ "{ \"kernel\": \"a\",\n \"kernel\": \"b\" }",
	  "config %: line 2: duplicate object key near '\"kernel\"'" },
};

START_TEST(bad_file)
{
	write_file(bad_files[_i].text);
	ck_assert_int_eq(parse("--config %"), -EINVAL);
	said(bad_files[_i].said);
}
END_TEST

START_TEST(unknown_member)
{
	write_file("{ \"kernel\": \"k\", \"memory\": 512 }");
	ck_assert_int_eq(parse("--config %"), -EINVAL);
	ck_assert_msg(strstr(err.msg, path) != NULL && strstr(err.msg, "memory") != NULL, "%s",
		      err.msg);
}
END_TEST

START_TEST(no_file)
{
	ck_assert_int_eq(parse("--config /nonexistent/file"), -ENOENT);
	said("config /nonexistent/file: cannot open: No such file or directory");
	ck_assert_int_eq(parse("--config /tmp"), -EISDIR);
	said("config /tmp: is a directory; name the file in it");
}
END_TEST

static const char *const trips[] = {
	"-k vmlinux",
	"-k k -i i -a console=hvc0,\"quiet\" --entry linux64 -m 2G,hugepages=thp,prefault -c 6,cores=3",
	"-k k --serial file,path=a\\,b --no-acpi --pit --debug-exit --no-reboot -v",
	"-k k --serial off --timeout 1500ms --hang-timeout 1ns --stop-timeout 0",
	"-k k -c 1.5 --cgroup p/q,cpu-weight=5,memory-max=1G,memory-high=3000001,pids-max=7,cpuset=0 "
	"--core-sched",
	"-k k -c 3 --cgroup cpu-max=0.1,io-weight=3",
};

START_TEST(json_there_and_back)
{
	char *json, *again;

	ck_assert_int_eq(parse(trips[_i]), 0);
	json = vm_config_json(&cfg);
	ck_assert_ptr_nonnull(json);
	write_file(json);
	ck_assert_int_eq(parse("--config %"), 0);
	again = vm_config_json(&cfg);
	ck_assert_str_eq(again, json);
	/* What is not part of a machine stays out. */
	ck_assert_ptr_null(strstr(json, "dry-run"));
	ck_assert_ptr_null(strstr(json, "config"));
	ck_assert_ptr_null(strstr(json, "help"));
	free(json);
	free(again);
}
END_TEST

/* --- Rules --- */

static const struct {
	const char *line, *said;
} wrong[] = {
	{ "", "no kernel given: --kernel PATH is needed" },
	{ "-m 1G", "no kernel given: --kernel PATH is needed" },
	{ "--kernel=", "--kernel: the path is empty; name a file" },
	{ "-k k --initrd=", "--initrd: the path is empty; name a file" },
	{ "-k k --serial file,path=", "--serial: the path is empty; name a file" },
	{ "-k k --serial file", "--serial: to=file needs path=PATH" },
	{ "-k k --serial path=log", "--serial: path= is only for to=file and to=socket" },
	{ "-k k --serial pty,path=log", "--serial: path= is only for to=file and to=socket" },
	{ "-k k -m 2049K",
	  "--mem: size of 2098176 bytes is not a multiple of the page size, 4K; round it up" },
	{ "-k k -m 3M,hugepages=2M",
	  "--mem: size of 3145728 bytes is not a multiple of the page size, 2M; round it up" },
	{ "-k k -m 1536M,hugepages=1G",
	  "--mem: size of 1610612736 bytes is not a multiple of the page size, 1G; round it up" },
	{ "-k k -c 8,sockets=3",
	  "--cpus: sockets=3 times cores=2 times threads=1 is not the count, 8" },
	{ "-k k -c 1.5,sockets=3",
	  "--cpus: sockets=3 times cores=1 times threads=1 is not the count, 2" },
	{ "-k k -c 1.5 --cgroup cpu-max=1",
	  "--cpus with a fraction and --cgroup cpu-max exclude each other" },
	{ "-k k --cgroup parent=x",
	  "--cgroup: there is a parent, but no limit; give one, such as cpu-max=1" },
	{ "-k k --cgroup /x,cpu-max=1",
	  "--cgroup: parent: '/x' is not a relative path without . and .." },
	{ "-k k --cgroup x/../y,cpu-max=1",
	  "--cgroup: parent: 'x/../y' is not a relative path without . and .." },
	{ "-k k --cgroup cpuset=all",
	  "--cgroup: cpuset: 'all' is not a list of CPUs, such as 0-3" },
	{ "-k k --cgroup io-max=8:0",
	  "--cgroup: io-max: '8:0' is not MAJOR:MINOR and rbps=, wbps=, riops= or wiops=, such as "
	  "8:0 rbps=1048576" },
	{ "-k k --no-acpi -c 255,sockets=85,cores=3",
	  "--cpus: this topology needs APIC IDs above 254, which the MP table of --no-acpi cannot "
	  "name" },
};

START_TEST(rules)
{
	ck_assert_int_eq(parse(wrong[_i].line), -EINVAL);
	said(wrong[_i].said);
}
END_TEST

START_TEST(limits_that_are_met)
{
	ck_assert_int_eq(parse("-k k -m 4M,hugepages=2M"), 0);
	ck_assert_int_eq(parse("-k k -m 1536M,hugepages=thp"), 0);
	ck_assert_int_eq(parse("-k k --no-acpi -c 255"), 0);
	ck_assert_int_eq(parse("-k k -c 255,sockets=85,cores=3"), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("config");
	TCase *tc = tcase_create("config");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, every_option);
	tcase_add_test(tc, resources);
	tcase_add_test(tc, help_needs_no_kernel);
	tcase_add_test(tc, command_line_goes_over_file);
	tcase_add_test(tc, rules_hold_for_files);
	tcase_add_loop_test(tc, bad_file, 0, sizeof(bad_files) / sizeof(bad_files[0]));
	tcase_add_test(tc, unknown_member);
	tcase_add_test(tc, no_file);
	tcase_add_loop_test(tc, json_there_and_back, 0, sizeof(trips) / sizeof(trips[0]));
	tcase_add_loop_test(tc, rules, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_test(tc, limits_that_are_met);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
