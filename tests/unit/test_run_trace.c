// SPDX-License-Identifier: Apache-2.0
/*
 * Files and lines for a trace, from a vmlinux of four functions that is compiled here. Without a
 * compiler or addr2line nothing is known, and nothing is changed.
 */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/unit/test_run.h"
#include "vmm/run/trace.h"

static char dir[64];
static bool tools;

/* Line numbers matter: crash is at 4 to 7. Sizes are what the next symbol's address makes them. */
static const char source[] =
	"const char linux_banner[] = \"Linux version 6.9.1-test (me@here) #1\";\n"
	"volatile int sink;\n"
	"\n"
	"__attribute__((noinline)) void crash(int n)\n"
	"{\n"
	"	sink = n;\n"
	"}\n"
	"__attribute__((noinline)) void caller(void) { crash(1); sink++; }\n"
	"void start_kernel(void) { caller(); for (;;) ; }\n"
	"void last(void) { }\n";

static void setup(void)
{
	FILE *file;

	strcpy(dir, "/tmp/test_run_trace.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(system("mkdir -p init arch/x86/boot && touch arch/x86/boot/bzImage"), 0);
	file = fopen("init/main.c", "w");
	fputs(source, file);
	fclose(file);
	tools = system("cc -g -O1 -fno-reorder-functions -fno-toplevel-reorder -nostdlib -static "
		       "-Wl,-e,start_kernel -o vmlinux $PWD/init/main.c 2>/dev/null && "
		       "addr2line --version >/dev/null") == 0;
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(system(command), 0);
}

/* The size of a symbol, as the kernel prints it. */
static unsigned long size_of(const char *name)
{
	char command[256];
	unsigned long begin = 0, end = 0;
	FILE *pipe;

	snprintf(command, sizeof(command),
		 "nm -n vmlinux | grep -A1 -w %s | awk '{ print \"0x\" $1 }'", name);
	pipe = popen(command, "r");
	ck_assert_int_eq(fscanf(pipe, "%lx %lx", &begin, &end), 2);
	pclose(pipe);
	return end - begin;
}

static struct run_tracer tracer; /* without a broker */

START_TEST(test_decode)
{
	char *lines[7];

	if (!tools)
		return;
	ck_assert_int_ge(
		asprintf(&lines[0], "[    1.0] RIP: 0010:crash+0x0/0x%lx", size_of("crash")), 0);
	ck_assert_int_ge(asprintf(&lines[1], "[    1.0]  ? caller+0x5/0x%lx", size_of("caller")),
			 0);
	lines[2] = strdup("[    1.0] Call Trace:");
	ck_assert_int_ge(asprintf(&lines[3], " crash+0x0/0x%lx", size_of("crash") + 16), 0);
	ck_assert_int_ge(asprintf(&lines[4], " crash+0x1/0x%lx [module]", size_of("crash")), 0);
	ck_assert_int_ge(asprintf(&lines[5], " crash+0x1000/0x%lx", size_of("crash")), 0);
	lines[6] = strdup(" +0x1/0x2 unknown+0x1/0x2 a+0x");

	run_trace_decode("arch/x86/boot/bzImage", "6.9.1-test", lines, 7, &tracer);
	ck_assert_ptr_nonnull(strstr(lines[0], " (init/main.c:"));
	ck_assert_ptr_nonnull(strstr(lines[1], " (init/main.c:8)"));
	/* Of another size, in a module, out of it, unknown: as it was. */
	for (unsigned i = 2; i < 7; i++)
		ck_assert_ptr_null(strstr(lines[i], "main.c"));
	for (unsigned i = 0; i < 7; i++)
		free(lines[i]);
}
END_TEST

START_TEST(test_not_this_kernel)
{
	char *lines[1];

	if (!tools)
		return;
	ck_assert_int_ge(asprintf(&lines[0], "crash+0x0/0x%lx", size_of("crash")), 0);
	run_trace_decode("arch/x86/boot/bzImage", "6.9.1", lines, 1, &tracer);
	run_trace_decode("arch/x86/boot/bzImage", "", lines, 1, &tracer);
	run_trace_decode("no/such/image", "6.9.1-test", lines, 1, &tracer);
	ck_assert_ptr_null(strstr(lines[0], "main.c"));
	/* No ELF file, or a broken one. */
	ck_assert_int_eq(system("mv vmlinux whole && head -c 9000 whole >vmlinux"), 0);
	run_trace_decode("arch/x86/boot/bzImage", "6.9.1-test", lines, 1, &tracer);
	ck_assert_int_eq(system("echo text >vmlinux"), 0);
	run_trace_decode("arch/x86/boot/bzImage", "6.9.1-test", lines, 1, &tracer);
	ck_assert_int_eq(system("rm vmlinux && mkfifo vmlinux"), 0);
	run_trace_decode("arch/x86/boot/bzImage", "6.9.1-test", lines, 1, &tracer);
	ck_assert_ptr_null(strstr(lines[0], "main.c"));
	/* Beside the image, or the image itself. */
	ck_assert_int_eq(system("rm vmlinux && cp whole arch/x86/boot/vmlinux-6.9.1-test"), 0);
	run_trace_decode("arch/x86/boot/bzImage", "6.9.1-test", lines, 1, &tracer);
	ck_assert_ptr_nonnull(strstr(lines[0], " (init/main.c:"));
	free(lines[0]);
	lines[0] = strdup("crash+0x0/0x9999");
	run_trace_decode("whole", "6.9.1-test", lines, 1, &tracer);
	ck_assert_str_eq(lines[0], "crash+0x0/0x9999");
	free(lines[0]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("run_trace");
	TCase *tc = tcase_create("run_trace");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_decode);
	tcase_add_test(tc, test_not_this_kernel);
	suite_add_tcase(s, tc);
	return test_run(s);
}
