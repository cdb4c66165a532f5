/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option tables: each option is described once, and command line, JSON, --help
 * and the manual page all come from that description.
 *
 * An option (`struct opt`) is a group of keys that fill one C structure:
 *
 *	--mem 512M,hugepages=2M,prefault	keys size, hugepages, prefault
 *
 * The first key's name may be left out (a value that has '=' in it or is the name of a
 * flag key needs it: path=a=b), a flag key alone means "=on", "\," is a comma inside a
 * value; a backslash before anything else is itself. A string key that is `bare` may stand
 * alone like a flag: its value is then "on" (in JSON also true, and false is "off"). A `plain`
 * option takes its whole argument as the value of its only key, commas and all (paths, kernel
 * command lines). A plain option whose key is OPT_BOOL may stand alone (`--pit`) or negated
 * (`--no-acpi`); its value, if given, needs '=' (`--pit=off`). An option that `stands_alone`
 * needs no value either (`--rng`): all keys have their defaults then. A `max` above 1 makes the
 * option repeatable: each use adds an element to a `struct opt_list`. Giving an option
 * that is not repeatable twice on one command line, or a key twice, is an error. Nothing
 * is ignored.
 *
 * The command line may be parsed over a configuration that came from JSON: an option
 * that is not repeatable then replaces what was there as a whole, keys not given fall
 * back to their defaults; a repeatable one adds.
 *
 * `--name=value`, `--name value`, `-n value` and `-nvalue` are the same. As a word of
 * its own a value must not begin with '-', unless it is "-" or '-' and a digit:
 * `--kernel --mem 1G` is a mistake, `--cmdline=-v` is not. Names are not abbreviated.
 * Strings are UTF-8 (they end up in JSON); anything else is an error.
 *
 * In JSON an option is an object of its keys (a plain option: the bare value;
 * a repeatable one: an array of objects). Sizes and durations may be numbers
 * (bytes, seconds) or the strings the command line takes, and so may fractions. Load it with
 * JSON_REJECT_DUPLICATES: jansson otherwise drops all but the last of two members.
 */
#ifndef VMM_BASE_OPT_H
#define VMM_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <jansson.h>
#include "vmm/base/err.h"

enum opt_type {
	OPT_BOOL,  /* bool:     on|off */
	OPT_UINT,  /* uint64_t: decimal or 0x, within min..max */
	OPT_SIZE,  /* uint64_t: bytes, at most INT64_MAX; K M G T; bare: times .unit */
	OPT_TIME,  /* uint64_t: nanoseconds; ns us ms s m h; bare = seconds; 0 = never */
	OPT_MILLI, /* uint64_t: thousandths, in which min and max count; "1.5", "2" */
	OPT_STR,   /* char *:   malloc'ed, NULL when not given */
	OPT_ENUM,  /* int:      index into .values */
};

struct opt_key {
	const char *name;
	enum opt_type type;
	size_t offset;		   /* in the option's structure */
	const char *arg;	   /* what help calls the value: "SIZE", "PATH" */
	const char *def;	   /* default in command line syntax; NULL: zero/none */
	const char *help;	   /* one line, lower case, no full stop */
	uint64_t min, max;	   /* of numbers, inclusive; max 0: no limit */
	uint64_t unit;		   /* OPT_SIZE: what a bare number counts; 0 means 1 */
	const char *const *values; /* OPT_ENUM: NULL-terminated */
	bool required;		   /* whenever its option is given */
	bool bare;		   /* OPT_STR: the key alone means "=on" */
	bool unique;		   /* OPT_STR: no two uses of the option share a value */
};

struct opt {
	const char *name;	    /* without dashes */
	char letter;		    /* short name, or 0 */
	const char *alias;	    /* second long name, or NULL */
	const struct opt_key *keys; /* ends with name == NULL; at most 64 */
	size_t offset;		    /* of the structure (or opt_list) in the config */
	size_t size;		    /* size of an element, when a list is filled */
	unsigned max;		    /* of the elements; 0 or 1: not repeatable, a list or not */
	bool plain;
	bool stands_alone;
	bool hidden;	     /* not part of the JSON (--config, --dry-run, --help) */
	const char *help;    /* one or more sentences for help and manual */
	const char *section; /* heading in help and manual; NULL: as the one before */
};

/* First member of every config structure: which options were given, by table index. */
struct opt_seen {
	uint64_t bits[2]; /* so a table has at most 128 options */
};

/* What a repeatable option fills: @n elements of opt.size bytes at @items. */
struct opt_list {
	void *items;
	size_t n;
};

/* All functions take the table as an array that ends with name == NULL. */

/* Set every default in @config (zeroed by the caller). Fails only on a bad table. */
int opt_defaults(const struct opt *table, void *config, struct err *err);

/*
 * Parse argv[0..argc) over @config. Stops at "--" or, when @stop_at_word, at the
 * first argument that is not an option; *@used says how many were consumed ("--"
 * included). Without @stop_at_word a stray word is an error. Errors are EINVAL (or
 * ERANGE for a number, ENOMEM) and name the option, the value found, what is valid, and
 * the nearest match. After an error @config is good for opt_free() only.
 */
int opt_parse(const struct opt *table, void *config, int argc, char *const *argv, bool stop_at_word,
	      int *used, struct err *err);

/*
 * Apply one option written as on the command line: name "mem", value "512M"; or a flag,
 * "acpi" or "no-acpi", value NULL. Replaces an earlier use, or adds when repeatable.
 */
int opt_apply(const struct opt *table, void *config, const char *name, const char *value,
	      struct err *err);

/* Set @key of use @index of the repeatable option @name anew, from @value as on the command line.
 */
int opt_set_use(const struct opt *table, void *config, const char *name, size_t index,
		const char *key, const char *value, struct err *err);
/* Forget all uses of the repeatable option @name. */
void opt_clear(const struct opt *table, void *config, const char *name);

/*
 * The whole config as a new JSON object, or NULL when out of memory. Left out are hidden
 * options, strings that are NULL, options not given that have a required key, and numbers
 * whose zero is below their minimum: what is there can be read back to the same values.
 */
json_t *opt_to_json(const struct opt *table, const void *config);
/* Apply a JSON object over @config; unknown members are errors that name them. */
int opt_from_json(const struct opt *table, void *config, const json_t *json, struct err *err);

/*
 * Was the option given (on the command line or in JSON) or left at its default?
 * A config structure begins with a `struct opt_seen`, in which this is kept. What
 * opt_to_json() wrote counts as given once it is read back, also where it is a default.
 */
bool opt_given(const struct opt *table, const void *config, const char *name);

/* Do two uses in @list share what is unique of @opt? The error names the value. */
int opt_check_unique(const struct opt *opt, const struct opt_list *list, struct err *err);

/* Free every string and list in @config. */
void opt_free(const struct opt *table, void *config);

/* For people: the table as --help text, and as the OPTIONS part of a man(7) page. */
void opt_print_help(const struct opt *table, FILE *out);
void opt_print_man(const struct opt *table, FILE *out);

/* "512M" -> bytes; a bare number counts @unit (0: 1). 0 or -EINVAL/-ERANGE with a sentence. */
int opt_parse_size(const char *text, uint64_t unit, uint64_t *bytes, struct err *err);
/* "1.5s", "200ms", "5" -> nanoseconds, exactly: "0.1ns" is an error. */
int opt_parse_time(const char *text, uint64_t *ns, struct err *err);
/*
 * The word of the NULL-terminated @words that @word abbreviates or, with at most one
 * letter in three wrong, is nearest to; NULL when there is none.
 */
const char *opt_nearest(const char *word, const char *const *words);

#endif
