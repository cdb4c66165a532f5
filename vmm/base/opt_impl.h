/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the option tables share: opt.c (tables, command line),
 * opt_value.c (single values), opt_json.c (JSON), opt_print.c (help, manual).
 * Everybody else includes opt.h.
 */
#ifndef VMM_BASE_OPT_IMPL_H
#define VMM_BASE_OPT_IMPL_H

#include "vmm/base/opt.h"

#define OPT_TABLE_MAX 128 /* options in a table: the bits of struct opt_seen */
#define OPT_KEYS_MAX  64  /* keys of an option: the bits of opt_use.given */
#define OPT_TEXT_MAX  64  /* bytes for a formatted value or range */

/* How much of a text that is not ours an error sentence repeats. */
#define OPT_QUOTE "%.100s"

static inline bool opt_repeatable(const struct opt *opt)
{
	return opt->max > 1;
}

/* Does it fill a list? One that is not repeatable may, too: was it given at all? */
static inline bool opt_is_list(const struct opt *opt)
{
	return opt->max > 1 || opt->size > 0;
}

/* The key's variable in its option's structure. */
static inline void *opt_member(const struct opt_key *key, const void *base)
{
	return (char *)base + key->offset;
}

/*
 * Set the variable of @key in @base from @text, in command line syntax. The sentence
 * begins with the key's name, but for a plain option, whose key has no name to the user.
 */
int opt_set_text(const struct opt *opt, const struct opt_key *key, void *base, const char *text,
		 struct err *err);
/* The same from a number, which @text shows in the sentence. Not for strings and words. */
int opt_set_number(const struct opt *opt, const struct opt_key *key, void *base, uint64_t value,
		   const char *text, struct err *err);
/* Back to the default; frees a string. */
int opt_set_default(const struct opt *opt, const struct opt_key *key, void *base, struct err *err);

/* A value as the command line takes it, exact, in the largest fitting unit. */
void opt_size_text(uint64_t bytes, char buf[OPT_TEXT_MAX]);
void opt_time_text(uint64_t ns, char buf[OPT_TEXT_MAX]);
void opt_milli_text(uint64_t thousandths, char buf[OPT_TEXT_MAX]);
/* Does the variable hold a number, within a range? */
bool opt_is_number(const struct opt_key *key);
/* "1 to 255", "at least 1M", or "" where any number will do. */
void opt_range_text(const struct opt_key *key, char buf[OPT_TEXT_MAX]);
/* "a, b, c", cut with "..." when @buf is too small. */
void opt_list_text(const char *const *words, char *buf, size_t size);

/* "unknown WHAT 'WORD' (valid: ...; did you mean 'X'?)"; @words as for opt_nearest(). */
int opt_unknown(const char *what, const char *word, const char *const *words, struct err *err);

/* One use of an option, while its keys are being set. */
struct opt_use {
	const struct opt *opt;
	struct opt_list *list; /* repeatable: where the element goes, else NULL */
	void *base;	       /* the structure being filled */
	uint64_t given;	       /* keys set so far, by index */
};

/*
 * Begin: everything at its default, in place or in a new element. Then opt_use_key()
 * for each key before it is set; opt_use_end() checks that nothing is missing.
 * Whatever fails, opt_use_abort() follows.
 */
int opt_use_begin(struct opt_use *use, const struct opt *opt, void *config, struct err *err);
int opt_use_key(struct opt_use *use, const struct opt_key *key, struct err *err);
int opt_use_end(struct opt_use *use, const struct opt *table, void *config, struct err *err);
void opt_use_abort(struct opt_use *use);

/* The key of @opt called @name[0..len), or NULL. */
const struct opt_key *opt_find_key(const struct opt *opt, const char *name, size_t len);
/* "unknown key 'x' (valid: ...)" */
int opt_unknown_key(const struct opt *opt, const char *name, struct err *err);

#endif
