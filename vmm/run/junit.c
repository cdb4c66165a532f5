// SPDX-License-Identifier: Apache-2.0
/*
 * Reports of `vmm run` in the XML that JUnit made and CI systems read.
 *
 * There is no standard; what is written here is what GitLab, Jenkins and the viewers for GitHub
 * have in common: one <testsuite> for each run with a <testcase> for each result of TAP or KTAP.
 * Without such results, or when the run failed otherwise, there is a <testcase> for the command,
 * named by its words. What the guest did wrong is a <failure>, what kept it from the end (a panic,
 * a hang ...), or a result that is missing, an <error>.
 *
 * XML 1.0 has no way to write most control characters: they become U+FFFD.
 *
 * #syscalls spawn: write
 */
#include <string.h>
#include "vmm/run/report.h"

void run_junit_text(FILE *file, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '&')
			fputs("&amp;", file);
		else if (c == '<')
			fputs("&lt;", file);
		else if (c == '>')
			fputs("&gt;", file);
		else if (c == '"')
			fputs("&quot;", file);
		else if (c == '\r')
			fputs("&#13;", file);
		else if ((c < 0x20 && c != '\t' && c != '\n') ||
			 strncmp(text, "\xef\xbf\xbe", 3) == 0 ||
			 strncmp(text, "\xef\xbf\xbf", 3) == 0) {
			fputs("\xef\xbf\xbd", file);
			text += c >= 0x20 ? 2 : 0; /* U+FFFE and U+FFFF are no characters either */
		} else {
			fputc(c, file);
		}
	}
}

static const char *get(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text != NULL ? text : "";
}

/* In an attribute a line end would be read as a blank, so it becomes one. */
static void attribute(FILE *file, const char *name, const char *text)
{
	fprintf(file, " %s=\"", name);
	for (; *text != '\0'; text++) {
		char one[5] = { *text };

		/* Whole characters, for those of several bytes that are replaced. */
		for (unsigned i = 1; i < 4 && ((unsigned char)text[1] & 0xc0) == 0x80; i++)
			one[i] = *++text;
		if (strchr("\t\r\n", one[0]) != NULL)
			one[0] = ' ';
		run_junit_text(file, one);
	}
	fputc('"', file);
}

static void element(FILE *file, const char *name, const char *text)
{
	if (*text == '\0')
		return;
	fprintf(file, "    <%s>", name);
	run_junit_text(file, text);
	fprintf(file, "</%s>\n", name);
}

/* --- The command's own case --- */

static void words(const json_t *run, char *text, size_t size)
{
	const json_t *word;
	size_t i, len = 0;

	*text = '\0';
	json_array_foreach(json_object_get(run, "command"), i, word) {
		int n = snprintf(text + len, size - len, "%s%s", i > 0 ? " " : "",
				 json_string_value(word));

		len += n > 0 ? (size_t)n : 0;
		if (len >= size) {
			/* Not within a character. */
			len = size - 1;
			while (len > 0 && ((unsigned char)text[len - 1] & 0xc0) == 0x80)
				len--;
			text[len > 0 ? len - 1 : 0] = '\0';
			return;
		}
	}
	if (*text == '\0')
		snprintf(text, size, "shell");
}

static bool is_failure(const char *how)
{
	return strcmp(how, "exited") == 0 || strcmp(how, "signal") == 0 ||
	       strcmp(how, "complained") == 0;
}

/* Does the command need a case of its own? */
static bool has_command(const json_t *run)
{
	return json_object_get(run, "tests") == NULL ||
	       (json_integer_value(json_object_get(run, "status")) != 0 &&
		strcmp(get(run, "how"), "tests-failed") != 0);
}

static double seconds(const json_t *run, const char *phase)
{
	return json_number_value(json_object_get(json_object_get(run, "times_ms"), phase)) / 1000;
}

static void command_case(FILE *file, const json_t *run, const char *class, const char *name)
{
	const json_t *log = json_object_get(run, "log"), *line;
	int status = (int)json_integer_value(json_object_get(run, "status"));
	const char *kind = is_failure(get(run, "how")) ? "failure" : "error";
	char text[64];
	size_t i;

	fputs("    <testcase", file);
	attribute(file, "classname", class);
	attribute(file, "name", name);
	fprintf(file, " time=\"%.3f\"", seconds(run, "command"));
	if (status == 0) {
		fputs("/>\n", file);
		return;
	}
	fprintf(file, ">\n    <%s", kind);
	attribute(file, "type", get(run, "how"));
	snprintf(text, sizeof(text), "status %d", status);
	attribute(file, "message", *get(run, "sentence") != '\0' ? get(run, "sentence") : text);
	fprintf(file, ">%s (%s)\n", text, get(run, "how"));
	if (*get(json_object_get(log, "complaint"), "line") != '\0') {
		run_junit_text(file, get(json_object_get(log, "complaint"), "line"));
		fputc('\n', file);
	}
	if (*get(log, "panic") != '\0') {
		run_junit_text(file, get(log, "panic"));
		fputc('\n', file);
	}
	json_array_foreach(json_object_get(log, "tail"), i, line) {
		run_junit_text(file, json_string_value(line));
		fputc('\n', file);
	}
	fprintf(file, "</%s>\n    </testcase>\n", kind);
}

/* --- Results of tests --- */

/* The element for a result that is not a pass; NULL for one. */
static const char *element_of(const char *result)
{
	if (strcmp(result, "pass") == 0)
		return NULL;
	if (strcmp(result, "fail") == 0)
		return "failure";
	return strcmp(result, "missing") == 0 ? "error" : "skipped";
}

static void result_case(FILE *file, const json_t *result)
{
	const char *is = get(result, "result"), *what = element_of(is), *why = get(result, "why");

	fputs("    <testcase", file);
	attribute(file, "classname",
		  *get(result, "suite") != '\0' ? get(result, "suite") : get(result, "from"));
	attribute(file, "name", get(result, "name"));
	if (what == NULL) {
		fputs("/>\n", file);
		return;
	}
	fprintf(file, ">\n    <%s", what);
	if (strcmp(what, "skipped") != 0)
		attribute(file, "type", is);
	attribute(file, "message", *why != '\0' ? why : is);
	fputc('>', file);
	run_junit_text(file, get(result, "text"));
	fprintf(file, "</%s>\n    </testcase>\n", what);
}

static void property(FILE *file, const char *name, const char *value)
{
	if (*value == '\0')
		return;
	fputs("      <property", file);
	attribute(file, "name", name);
	attribute(file, "value", value);
	fputs("/>\n", file);
}

void run_junit_suite(FILE *file, const json_t *run)
{
	const json_t *kernel = json_object_get(run, "kernel"), *result;
	const json_t *results = json_object_get(json_object_get(run, "tests"), "results");
	unsigned n = 0, failures = 0, errors = 0, skipped = 0;
	bool command = has_command(run);
	char name[512];
	const char *release = get(kernel, "release");
	size_t i;

	if (*release == '\0')
		release = *get(kernel, "path") != '\0' ? get(kernel, "path") : "kernel";
	json_array_foreach(results, i, result) {
		const char *what = element_of(get(result, "result"));

		n++;
		failures += what != NULL && strcmp(what, "failure") == 0;
		errors += what != NULL && strcmp(what, "error") == 0;
		skipped += what != NULL && strcmp(what, "skipped") == 0;
	}
	n += command;
	if (command && json_integer_value(json_object_get(run, "status")) != 0) {
		failures += is_failure(get(run, "how"));
		errors += !is_failure(get(run, "how"));
	}
	words(run, name, sizeof(name));
	fputs("  <testsuite", file);
	attribute(file, "name", name);
	attribute(file, "package", release);
	fprintf(file, " tests=\"%u\" failures=\"%u\" errors=\"%u\" skipped=\"%u\" time=\"%.3f\">\n",
		n, failures, errors, skipped, seconds(run, "total"));
	fputs("    <properties>\n", file);
	property(file, "kernel", get(kernel, "path"));
	property(file, "release", get(kernel, "release"));
	property(file, "how", get(run, "how"));
	property(file, "sentence", get(run, "sentence"));
	property(file, "artifacts", get(run, "artifacts"));
	fputs("    </properties>\n", file);
	json_array_foreach(results, i, result)
		result_case(file, result);
	if (command)
		command_case(file, run, release, name);
	element(file, "system-out", get(json_object_get(run, "output"), "stdout"));
	element(file, "system-err", get(json_object_get(run, "output"), "stderr"));
	fputs("  </testsuite>\n", file);
}
