/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Test results in a stream of text: TAP 13 and 14, and KTAP 1 and 2. See run/ktap.c.
 */
#ifndef VMM_KTAP_H
#define VMM_KTAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KTAP_TESTS_MAX 20000	  /* results kept; more are counted */
#define KTAP_DEPTH_MAX 16	  /* levels; deeper ones are text */
#define KTAP_LINE_MAX  1024	  /* bytes; the rest of a line is cut */
#define KTAP_DIAG_MAX  4096	  /* bytes of text kept with one result */
#define KTAP_TEXT_MAX  (1u << 20) /* bytes of such text in all */

enum ktap_source {
	KTAP_OUTPUT,  /* what a program printed */
	KTAP_CONSOLE, /* a kernel's console: lines begin with "[    1.234567] " */
	KTAP_KMSG,    /* records of /dev/kmsg */
};

enum ktap_result {
	KTAP_PASS,
	KTAP_FAIL,
	KTAP_SKIP,
	KTAP_XFAIL,   /* it failed as expected: TODO or XFAIL */
	KTAP_MISSING, /* it was announced, and no result came */
};
#define KTAP_RESULTS 5

extern const char *const ktap_result_names[KTAP_RESULTS + 1];

#define KTAP_NO_PARENT SIZE_MAX

struct ktap_test {
	char *name;
	char *why;  /* behind the directive; NULL: nothing */
	char *diag; /* lines that came before its result (of passed ones none are kept); or NULL */
	enum ktap_result result;
	unsigned depth;
	size_t parent; /* index; a parent comes after its children */
	/*
	 * It counts: it has no results below it, or failed while none of them did. Only those
	 * are in the sums.
	 */
	bool counts;
};

/* What the stream had. */
struct ktap_sum {
	uint64_t results[KTAP_RESULTS];
	uint64_t failed;	/* KTAP_FAIL and KTAP_MISSING */
	uint64_t total;		/* all of them */
	uint64_t dropped;	/* results that were more than KTAP_TESTS_MAX, counted above */
	uint64_t wrong_numbers; /* results out of order, plans that were exceeded */
};

struct ktap;

/* NULL when out of memory. */
struct ktap *ktap_new(enum ktap_source source);
void ktap_free(struct ktap *k);

/* The stream's next bytes, cut anywhere. Whatever they are, that is no error. */
void ktap_feed(struct ktap *k, const void *data, size_t len);
/* There will be no more: what has no result is missing. Once. */
void ktap_end(struct ktap *k);

/* After ktap_end(). */
size_t ktap_ntests(const struct ktap *k);
const struct ktap_test *ktap_test(const struct ktap *k, size_t i);
const struct ktap_sum *ktap_sum(const struct ktap *k);
/* The name with those above it, "suite.test", cut to @size. Returns @text. */
const char *ktap_path(const struct ktap *k, const struct ktap_test *test, char *text, size_t size);
/* The first that failed, or NULL. */
const struct ktap_test *ktap_first_failed(const struct ktap *k);

#endif
