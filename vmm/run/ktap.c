// SPDX-License-Identifier: Apache-2.0
/*
 * A parser of test results: the Test Anything Protocol, versions 13 and 14 (testanything.org), and
 * the kernel's variant, KTAP versions 1 and 2 (Documentation/dev-tools/ktap.rst), as printed by
 * KUnit and kselftest.
 *
 * Theory of operation. A version line ("KTAP version 1", "TAP version 13") opens a level at its
 * indentation; results and plans ("1..4") count only at the indentation of a level that is open,
 * so that other text cannot be taken for a result, and hides none. A result closes all levels that
 * are deeper: their results are its children, which therefore come before it. "# Subtest: NAME"
 * names the level, or announces one, as TAP 14 does, which has no version line there. kselftest's
 * runner puts "# " before what a test prints, instead of indenting it: it counts as such when a
 * version line came that way. Any other line is kept as the next result's diagnostics.
 *
 * A level that ends without all results that its plan announced, or without its parent's result
 * (the kernel died, the test program did), gets a result KTAP_MISSING in their place. The
 * whole is complete when as many results as planned came at the outermost level; the next
 * version line begins another, as each KUnit module does that is loaded.
 *
 * The text comes from a guest: results, depth, the length of lines and of what is kept are bounded,
 * and each line takes time in proportion to its length.
 *
 * Limits: results without a number, which TAP allows, are taken under a TAP version line only.
 *
 * #syscalls: none
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "vmm/run/ktap.h"

#define NAME_MAX_ 256
#define NO_PLAN	  UINT64_MAX

const char *const ktap_result_names[KTAP_RESULTS + 1] = { "pass", "fail", "skip", "xfail",
							  "missing" };

/* Results that belong together, of the same indentation. */
struct level {
	size_t indent;
	size_t first; /* index of the first result below its parent */
	bool kernel;  /* KTAP, not TAP */
	bool hashed;  /* indented by "# " */
	uint64_t plan, seen, last;
	uint64_t failed; /* results in it, or deeper, that count as failed */
	char *name;
};

struct ktap {
	enum ktap_source source;
	struct ktap_test *test;
	size_t n, size;
	size_t text_len; /* of all diagnostics */
	struct ktap_sum sum;
	size_t first_failed; /* index, or SIZE_MAX */

	struct level level[KTAP_DEPTH_MAX];
	unsigned depth;	   /* levels that are open */
	char *announced;   /* "# Subtest: NAME" before its level */
	bool after_result; /* the line before was one */
	bool yaml;	   /* within a block of it */
	size_t yaml_indent;

	char line[KTAP_LINE_MAX];
	size_t len;
	char diag[KTAP_DIAG_MAX];
	size_t diag_len;
};

struct ktap *ktap_new(enum ktap_source source)
{
	struct ktap *k = calloc(1, sizeof(*k));

	if (k != NULL) {
		k->source = source;
		k->first_failed = SIZE_MAX;
	}
	return k;
}

void ktap_free(struct ktap *k)
{
	if (k == NULL)
		return;
	for (size_t i = 0; i < k->n; i++) {
		free(k->test[i].name);
		free(k->test[i].why);
		free(k->test[i].diag);
	}
	for (unsigned i = 0; i < k->depth; i++)
		free(k->level[i].name);
	free(k->announced);
	free(k->test);
	free(k);
}

/* --- Results --- */

/* The text without blanks around it; NULL when nothing is left. */
static char *trimmed(const char *text, size_t len)
{
	while (len > 0 && isspace((unsigned char)*text)) {
		text++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	return len == 0 ? NULL : strndup(text, len < NAME_MAX_ ? len : NAME_MAX_);
}

/* Diagnostics wait for their result; when there are too many, the oldest go. */
static void keep_diag(struct ktap *k, const char *line)
{
	size_t len = strlen(line);

	while (k->diag_len > 0 && k->diag_len + len + 1 > sizeof(k->diag)) {
		char *end = memchr(k->diag, '\n', k->diag_len);
		size_t old = end != NULL ? (size_t)(end - k->diag) + 1 : k->diag_len;

		k->diag_len -= old;
		memmove(k->diag, k->diag + old, k->diag_len);
	}
	memcpy(k->diag + k->diag_len, line, len);
	k->diag_len += len;
	k->diag[k->diag_len++] = '\n';
}

/* What was kept belongs to @test. */
static void take_diag(struct ktap *k, struct ktap_test *test)
{
	const char *before = test->diag != NULL ? test->diag : "";
	char *text;

	if (test->result != KTAP_PASS && k->diag_len > 0 &&
	    k->text_len + k->diag_len <= KTAP_TEXT_MAX && strlen(before) < KTAP_DIAG_MAX &&
	    asprintf(&text, "%s%.*s", before, (int)k->diag_len, k->diag) >= 0) {
		free(test->diag);
		test->diag = text;
		k->text_len += k->diag_len;
	}
	k->diag_len = 0;
}

static bool is_failure(enum ktap_result result)
{
	return result == KTAP_FAIL || result == KTAP_MISSING;
}

static void count(struct ktap *k, enum ktap_result result)
{
	k->sum.results[result]++;
	k->sum.total++;
	k->sum.failed += is_failure(result);
}

/*
 * One result more at depth @depth, whose children are what came from @first on, @failed of
 * which failed. Takes @name and @why.
 */
static void add(struct ktap *k, unsigned depth, size_t first, uint64_t failed,
		enum ktap_result result, char *name, char *why)
{
	bool counts = first == k->n || (is_failure(result) && failed == 0);
	struct ktap_test *test;

	if (counts) {
		count(k, result);
		if (depth < k->depth)
			k->level[depth].failed += is_failure(result);
	}
	if (k->n == k->size && k->size < KTAP_TESTS_MAX) {
		size_t size = k->size == 0 ? 64 : k->size * 2;

		size = size < KTAP_TESTS_MAX ? size : KTAP_TESTS_MAX;
		test = realloc(k->test, size * sizeof(*test));
		if (test != NULL) {
			k->test = test;
			k->size = size;
		}
	}
	if (k->n == k->size || name == NULL) {
		k->sum.dropped++;
		k->diag_len = 0;
		free(name);
		free(why);
		return;
	}
	for (size_t i = first; i < k->n; i++)
		if (k->test[i].depth == depth + 1 && k->test[i].parent == KTAP_NO_PARENT)
			k->test[i].parent = k->n;
	test = &k->test[k->n];
	*test = (struct ktap_test){ .name = name,
				    .why = why,
				    .result = result,
				    .depth = depth,
				    .parent = KTAP_NO_PARENT,
				    .counts = counts };
	take_diag(k, test);
	if (counts && is_failure(result) && k->first_failed == SIZE_MAX)
		k->first_failed = k->n;
	k->n++;
}

/* --- Levels --- */

static bool open_level(struct ktap *k, size_t indent, bool kernel, bool hashed)
{
	if (k->depth == KTAP_DEPTH_MAX)
		return false;
	k->level[k->depth] = (struct level){ .indent = indent,
					     .first = k->n,
					     .kernel = kernel,
					     .hashed = hashed,
					     .plan = NO_PLAN,
					     .name = k->announced };
	k->announced = NULL;
	k->depth++;
	return true;
}

/* Say what the innermost level lacks. */
static void check_plan(struct ktap *k)
{
	struct level *level = &k->level[k->depth - 1];
	uint64_t lacks = level->plan != NO_PLAN ? level->plan - level->seen : 0;
	char text[80];

	if (level->plan != NO_PLAN && level->seen > level->plan) {
		k->sum.wrong_numbers++;
		return;
	}
	if (level->plan == NO_PLAN && level->seen == 0)
		snprintf(text, sizeof(text), "no results");
	else if (lacks > 0)
		snprintf(text, sizeof(text), "%llu of %llu results are missing",
			 (unsigned long long)lacks, (unsigned long long)level->plan);
	else
		return;
	add(k, k->depth - 1, k->n, 0, KTAP_MISSING, strdup(text), NULL);
}

/* Close the innermost level; its failures are the outer one's, too. Returns them. */
static uint64_t close_level(struct ktap *k, size_t *first)
{
	struct level *level = &k->level[k->depth - 1];
	uint64_t failed;

	check_plan(k);
	failed = level->failed;
	*first = level->first;
	free(level->name);
	k->depth--;
	if (k->depth > 0)
		k->level[k->depth - 1].failed += failed;
	return failed;
}

/* Close the levels above @depth, none of which got its parent's result. */
static void end_levels(struct ktap *k, unsigned depth)
{
	while (k->depth > depth) {
		char *name = k->level[k->depth - 1].name;
		uint64_t failed;
		size_t first;

		k->level[k->depth - 1].name = NULL;
		failed = close_level(k, &first);
		if (k->depth == 0) {
			free(name);
			break;
		}
		add(k, k->depth - 1, first, failed, KTAP_MISSING,
		    name != NULL ? name : strdup("(no name)"), strdup("it has no result"));
		k->level[k->depth - 1].seen++;
		k->level[k->depth - 1].last++;
	}
	if (k->depth == 0) {
		free(k->announced);
		k->announced = NULL;
		k->diag_len = 0;
		k->yaml = false;
	}
}

/* The depth (from 1) of the open level with this indentation; 0: there is none. */
static unsigned level_at(const struct ktap *k, size_t indent, bool hashed)
{
	for (unsigned i = k->depth; i > 0; i--)
		if (k->level[i - 1].indent == indent && k->level[i - 1].hashed == hashed)
			return i;
	return 0;
}

/* The level for a plan or a result; one that was only announced opens. 0: there is none. */
static unsigned level_for(struct ktap *k, size_t indent, bool hashed)
{
	unsigned at = level_at(k, indent, hashed);

	if (at == 0 && k->announced != NULL && k->depth > 0 && !hashed &&
	    indent > k->level[k->depth - 1].indent && open_level(k, indent, false, false))
		at = k->depth;
	return at;
}

/* --- Lines --- */

/* "KTAP version 1", "TAP version 14": which? */
static bool is_version(const char *text, bool *kernel)
{
	*kernel = *text == 'K';
	text += *kernel;
	if (strncmp(text, "TAP version ", 12) != 0 || !isdigit((unsigned char)text[12]))
		return false;
	text += 12;
	text += strspn(text, "0123456789");
	return text[strspn(text, " \t")] == '\0';
}

static bool version(struct ktap *k, const char *text, size_t indent, bool hashed)
{
	unsigned at = level_at(k, indent, hashed);
	bool kernel;

	if (!is_version(text, &kernel))
		return false;
	if (at > 0 && at == k->depth && k->level[at - 1].seen == 0 &&
	    k->level[at - 1].plan == NO_PLAN) {
		k->level[at - 1].kernel = kernel; /* its name came first, or this line twice */
		return true;
	}
	/* It begins anew at this place, or further out. */
	while (k->depth > 0 && k->level[k->depth - 1].indent >= indent)
		end_levels(k, k->depth - 1);
	if (!open_level(k, indent, kernel, hashed))
		return false;
	if (k->depth == 1)
		k->diag_len = 0;
	return true;
}

static bool number(const char **text, uint64_t *value)
{
	const char *p = *text;
	uint64_t v = 0;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		v = v < UINT32_MAX ? v * 10 + (uint64_t)(*p - '0') : v;
	*text = p;
	*value = v;
	return true;
}

/* What the word behind '#' makes of a result; *@text is moved behind it. */
static enum ktap_result directive(const char **text, bool ok)
{
	static const struct {
		const char *word;
		bool loose; /* TAP's: in any case, also "skipped" */
		enum ktap_result pass, fail;
	} directives[] = {
		{ "SKIP", true, KTAP_SKIP, KTAP_SKIP },
		{ "TODO", true, KTAP_PASS, KTAP_XFAIL },
		{ "XFAIL", false, KTAP_XFAIL, KTAP_XFAIL },
		{ "TIMEOUT", false, KTAP_FAIL, KTAP_FAIL },
		{ "ERROR", false, KTAP_FAIL, KTAP_FAIL },
	};
	const char *p = *text + strspn(*text, " \t");

	*text = p;
	for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++) {
		const char *word = directives[i].word;
		size_t len = strlen(word);
		bool same = directives[i].loose ? strncasecmp(p, word, len) == 0
						: strncmp(p, word, len) == 0;

		while (same && directives[i].loose && isalpha((unsigned char)p[len]))
			len++;
		len += same && p[len] == ':';
		if (!same || (p[len] != '\0' && !isspace((unsigned char)p[len])))
			continue;
		*text = p + len;
		return ok ? directives[i].pass : directives[i].fail;
	}
	return ok ? KTAP_PASS : KTAP_FAIL;
}

/* "1..N", and why there are none behind "1..0 # SKIP". */
static bool plan(struct ktap *k, const char *text, size_t indent, bool hashed)
{
	struct level *level;
	uint64_t n;
	unsigned at;

	if (strncmp(text, "1..", 3) != 0)
		return false;
	text += 3;
	if (!number(&text, &n))
		return false;
	text += strspn(text, " \t");
	if (*text != '\0' && *text != '#')
		return false;
	at = level_for(k, indent, hashed);
	if (at == 0)
		return false;
	end_levels(k, at);
	level = &k->level[at - 1];
	if (level->plan != NO_PLAN) {
		k->sum.wrong_numbers++;
		return true;
	}
	level->plan = n;
	if (n == 0 && at == 1 && *text == '#') {
		text++;
		(void)directive(&text, true); /* it is SKIP */
		add(k, 0, k->n, 0, KTAP_SKIP, strdup("all"), trimmed(text, strlen(text)));
	}
	if (at == 1 && level->seen >= n)
		end_levels(k, 0);
	return true;
}

/* Where the description ends: a '#' that is not escaped and has a blank before it. */
static size_t description_len(const char *text)
{
	size_t i;

	for (i = 0; text[i] != '\0'; i++)
		if (text[i] == '#' && (i == 0 || isspace((unsigned char)text[i - 1])))
			break;
	return i;
}

/* The number is where it should be? */
static void check_number(struct ktap *k, struct level *level, bool numbered, uint64_t n)
{
	level->seen++;
	if (numbered && n != level->last + 1)
		k->sum.wrong_numbers++;
	level->last = numbered ? n : level->last + 1;
}

/* "ok 1 name # SKIP why" */
static bool result(struct ktap *k, const char *text, size_t indent, bool hashed)
{
	bool ok = strncmp(text, "ok", 2) == 0, numbered;
	enum ktap_result is;
	char *name, *why = NULL, *known = NULL;
	uint64_t n = 0, failed = 0;
	size_t first, len;
	unsigned at;

	if (!ok && strncmp(text, "not ok", 6) != 0)
		return false;
	text += ok ? 2 : 6;
	if (*text != '\0' && *text != ' ')
		return false;
	text += strspn(text, " ");
	numbered = number(&text, &n);
	if (numbered && *text != '\0' && !isspace((unsigned char)*text))
		return false;
	at = level_for(k, indent, hashed);
	if (at == 0 || (!numbered && k->level[at - 1].kernel))
		return false;
	text += strspn(text, " \t");
	if (strncmp(text, "- ", 2) == 0)
		text += 2;
	len = description_len(text);
	name = trimmed(text, len);
	text += len + (text[len] == '#');
	is = directive(&text, ok);
	why = trimmed(text, strlen(text));
	/* Without a description the text behind the directive has to do. */
	if (name == NULL && why != NULL) {
		name = why;
		why = NULL;
	}

	end_levels(k, at + 1);
	first = k->n;
	if (k->depth > at) {
		known = k->level[at].name;
		k->level[at].name = NULL;
		failed = close_level(k, &first);
	}
	if (name == NULL)
		name = known != NULL ? known : strdup("(no name)");
	if (name != known)
		free(known);
	check_number(k, &k->level[at - 1], numbered, n);
	add(k, at - 1, first, failed, is, name, why);
	free(k->announced);
	k->announced = NULL;
	k->after_result = true;
	return true;
}

static bool subtest(struct ktap *k, const char *text, size_t indent)
{
	unsigned at;
	char *name;

	if (k->depth == 0 || strncmp(text, "# Subtest:", 10) != 0)
		return false;
	name = trimmed(text + 10, strlen(text + 10));
	at = level_at(k, indent, false);
	if (at > 1 && at == k->depth && k->level[at - 1].seen == 0) {
		free(k->level[at - 1].name);
		k->level[at - 1].name = name; /* KUnit: within the level */
		return true;
	}
	free(k->announced);
	k->announced = name;
	if (at == 0 && name != NULL && indent > k->level[k->depth - 1].indent)
		(void)open_level(k, indent, false, false);
	return true;
}

/* "Bail out! why": the test program gave up. */
static bool bail_out(struct ktap *k, const char *text, size_t indent, bool hashed)
{
	unsigned at = hashed ? level_at(k, indent, true) : 1;

	if (k->depth == 0 || at == 0 || strncasecmp(text, "Bail out!", 9) != 0)
		return false;
	end_levels(k, at);
	add(k, at - 1, k->n, 0, KTAP_FAIL, strdup("Bail out!"),
	    trimmed(text + 9, strlen(text + 9)));
	k->level[at - 1].plan = NO_PLAN; /* enough is said */
	k->level[at - 1].seen++;
	if (at == 1)
		end_levels(k, 0);
	return true;
}

/*
 * The YAML behind a result, deeper than that: it is about it. True: the line is part of it. It
 * ends with less indentation, so that a block without end hides no results.
 */
static bool yaml(struct ktap *k, const char *text, size_t indent, const char *whole)
{
	if (!k->yaml) {
		k->yaml = k->after_result && strcmp(text, "---") == 0 &&
			  indent > k->level[k->depth - 1].indent;
		k->yaml_indent = indent;
		return k->yaml;
	}
	if (indent >= k->yaml_indent && strcmp(text, "...") != 0) {
		keep_diag(k, whole);
		return true;
	}
	k->yaml = false;
	if (k->n > 0)
		take_diag(k, &k->test[k->n - 1]);
	return indent >= k->yaml_indent;
}

/* All results of the outermost level are there, and this line is no more about them. */
static bool complete(const struct ktap *k)
{
	return k->depth == 1 && k->level[0].plan != NO_PLAN && k->level[0].seen >= k->level[0].plan;
}

/* A line without its prefix. */
static void line(struct ktap *k, const char *text)
{
	size_t indent = strspn(text, " \t"), hashed;
	const char *rest = text + indent;

	if (k->depth > 0 && yaml(k, rest, indent, text))
		return;
	k->after_result = false;
	if (version(k, rest, indent, false) || k->depth == 0 || plan(k, rest, indent, false) ||
	    result(k, rest, indent, false) || subtest(k, rest, indent) ||
	    bail_out(k, rest, indent, false))
		return;
	for (hashed = indent; *rest == ' ' || strncmp(rest, "# ", 2) == 0; rest = text + hashed)
		hashed += *rest == ' ' ? 1 : 2;
	if (hashed > indent && (version(k, rest, hashed, true) || plan(k, rest, hashed, true) ||
				result(k, rest, hashed, true) || bail_out(k, rest, hashed, true)))
		return;
	if (!complete(k))
		keep_diag(k, text);
}

/* Behind a time in brackets, and the thread or CPU there may be after it: "[    1.234567][   T1] ".
 */
static const char *behind_time(const char *text)
{
	const char *p = text;

	while (*p == '[') {
		size_t len = strcspn(p, "]");

		if (p[len] == '\0' || len > 32)
			break;
		p += len + 1;
	}
	return p != text && *p == ' ' ? p + 1 : text;
}

static void whole_line(struct ktap *k)
{
	const char *text = k->line;

	while (k->len > 0 && k->line[k->len - 1] == '\r')
		k->len--;
	k->line[k->len] = '\0';
	k->len = 0;
	if (k->source == KTAP_KMSG) {
		text = *text != ' ' ? strchr(text, ';') : NULL; /* ' ': a record's dictionary */
		if (text != NULL)
			line(k, text + 1);
		return;
	}
	line(k, k->source == KTAP_CONSOLE ? behind_time(text) : text);
}

void ktap_feed(struct ktap *k, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		const char *end = memchr(p, '\n', len);
		size_t n = end != NULL ? (size_t)(end - p) : len;

		for (size_t i = 0; i < n && k->len < sizeof(k->line) - 1; i++)
			k->line[k->len++] = p[i] != '\0' ? p[i] : '?';
		if (end != NULL) {
			whole_line(k);
			n++;
		}
		p += n;
		len -= n;
	}
}

void ktap_end(struct ktap *k)
{
	if (k->len > 0)
		whole_line(k);
	end_levels(k, 0);
}

/* --- What came of it --- */

size_t ktap_ntests(const struct ktap *k)
{
	return k->n;
}

const struct ktap_test *ktap_test(const struct ktap *k, size_t i)
{
	return &k->test[i];
}

const struct ktap_sum *ktap_sum(const struct ktap *k)
{
	return &k->sum;
}

const char *ktap_path(const struct ktap *k, const struct ktap_test *test, char *text, size_t size)
{
	const struct ktap_test *chain[KTAP_DEPTH_MAX];
	unsigned n = 0;
	size_t len = 0;

	for (; n < KTAP_DEPTH_MAX; test = &k->test[test->parent]) {
		chain[n++] = test;
		if (test->parent == KTAP_NO_PARENT)
			break;
	}
	*text = '\0';
	while (n > 0 && len < size) {
		int r = snprintf(text + len, size - len, "%s%s", len > 0 ? "." : "",
				 chain[--n]->name);

		len += r > 0 ? (size_t)r : 0;
	}
	return text;
}

const struct ktap_test *ktap_first_failed(const struct ktap *k)
{
	return k->first_failed != SIZE_MAX ? &k->test[k->first_failed] : NULL;
}
