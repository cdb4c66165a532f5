// SPDX-License-Identifier: Apache-2.0
/*
 * Option tables and the command line: see opt.h. The other faces of a table are in
 * opt_json.c and opt_print.c.
 *
 * What is a value and what is the next option, when they are separate words
 * (`--name value`, `-n value`): a word that begins with '-' is taken for an option, so
 * that `--kernel --mem 1G` is an error and not a kernel called "--mem". The exceptions
 * are "-" alone and '-' followed by a digit, which no option looks like. The rule does
 * not depend on the option or on what other options there are, so a script does not
 * change its meaning with the next version; `--name=-value` and `-n-value` take
 * anything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/opt_impl.h"

static bool takes_no_value(const struct opt *opt)
{
	return opt->plain && opt->keys[0].type == OPT_BOOL;
}

/* What help and errors call the value of @opt. */
static const char *value_name(const struct opt *opt)
{
	return opt->keys[0].arg != NULL ? opt->keys[0].arg : "VALUE";
}

static bool same(const char *word, const char *name, size_t len)
{
	return word != NULL && strncmp(word, name, len) == 0 && word[len] == '\0';
}

static const struct opt *find_exact(const struct opt *table, const char *name, size_t len)
{
	for (const struct opt *opt = table; opt->name != NULL; opt++) {
		if (same(opt->name, name, len) || same(opt->alias, name, len))
			return opt;
	}
	return NULL;
}

/* The option called @name, also as the "no-" form of a flag, or NULL. */
static const struct opt *find(const struct opt *table, const char *name, size_t len, bool *negated)
{
	const struct opt *opt = find_exact(table, name, len);

	*negated = false;
	if (opt == NULL && len > 3 && strncmp(name, "no-", 3) == 0) {
		opt = find_exact(table, name + 3, len - 3);
		if (opt != NULL && !takes_no_value(opt))
			return NULL;
		*negated = true;
	}
	return opt;
}

static const struct opt *find_letter(const struct opt *table, char letter)
{
	for (const struct opt *opt = table; opt->name != NULL; opt++) {
		if (opt->letter == letter)
			return opt;
	}
	return NULL;
}

const struct opt_key *opt_find_key(const struct opt *opt, const char *name, size_t len)
{
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		if (same(key->name, name, len))
			return key;
	}
	return NULL;
}

int opt_unknown_key(const struct opt *opt, const char *name, struct err *err)
{
	const char *words[OPT_KEYS_MAX + 1];
	size_t n = 0;

	for (const struct opt_key *key = opt->keys; key->name != NULL && n < OPT_KEYS_MAX; key++)
		words[n++] = key->name;
	words[n] = NULL;
	return opt_unknown("key", name, words, err);
}

/* The name nearest to @word of all options, or of those that can be negated. */
static const char *nearest_option(const struct opt *table, const char *word, bool flags_only)
{
	const char *words[2 * OPT_TABLE_MAX + 1];
	size_t n = 0;

	for (const struct opt *opt = table; opt->name != NULL && n < 2 * OPT_TABLE_MAX; opt++) {
		if (flags_only && !takes_no_value(opt))
			continue;
		words[n++] = opt->name;
		if (opt->alias != NULL)
			words[n++] = opt->alias;
	}
	words[n] = NULL;
	return opt_nearest(word, words);
}

/* @name without dashes. */
static int unknown_option(const struct opt *table, const char *name, size_t len, struct err *err)
{
	const char *nearest, *no = "";
	char word[OPT_TEXT_MAX + 1];

	snprintf(word, sizeof(word), "%.*s", (int)(len < OPT_TEXT_MAX ? len : OPT_TEXT_MAX), name);
	nearest = nearest_option(table, word, false);
	if (nearest == NULL && strncmp(word, "no-", 3) == 0) {
		nearest = nearest_option(table, word + 3, true);
		no = "no-";
	}
	if (nearest == NULL)
		return err_set(err, EINVAL, "unknown option --%s", word);
	return err_set(err, EINVAL, "unknown option --%s (did you mean --%s%s?)", word, no,
		       nearest);
}

static void free_strings(const struct opt *opt, void *base)
{
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		char **string = opt_member(key, base);

		if (key->type != OPT_STR)
			continue;
		free(*string);
		*string = NULL;
	}
}

int opt_use_begin(struct opt_use *use, const struct opt *opt, void *config, struct err *err)
{
	void *items;

	use->opt = opt;
	use->given = 0;
	use->list = NULL;
	use->base = (char *)config + opt->offset;
	if (opt_is_list(opt)) {
		struct opt_list *list = use->base;

		if (!opt_repeatable(opt) && list->n == 1) {
			free_strings(opt, list->items);
			list->n = 0;
		}
		if (list->n >= opt->max && list->n > 0)
			return err_set(err, EINVAL, "given more than %u times", opt->max);
		items = realloc(list->items, (list->n + 1) * opt->size);
		if (items == NULL)
			return err_sys(err, ENOMEM, "value");
		/* The element counts from opt_use_end() on. */
		list->items = items;
		use->list = list;
		use->base = (char *)items + list->n * opt->size;
		memset(use->base, 0, opt->size);
	}
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		int rc = opt_set_default(opt, key, use->base, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

int opt_use_key(struct opt_use *use, const struct opt_key *key, struct err *err)
{
	uint64_t bit = 1ULL << (key - use->opt->keys);

	if (use->given & bit)
		return err_set(err, EINVAL, "key '%s' given twice", key->name);
	use->given |= bit;
	return 0;
}

int opt_use_end(struct opt_use *use, const struct opt *table, void *config, struct err *err)
{
	struct opt_seen *seen = config;
	size_t index = (size_t)(use->opt - table);

	for (const struct opt_key *key = use->opt->keys; key->name != NULL; key++) {
		if (key->required && !(use->given & 1ULL << (key - use->opt->keys)))
			return err_set(err, EINVAL, "key '%s' is missing", key->name);
	}
	if (use->list != NULL)
		use->list->n++;
	seen->bits[index / 64] |= 1ULL << index % 64;
	return 0;
}

void opt_use_abort(struct opt_use *use)
{
	/* An element that never counted; anything else opt_free() will find. */
	if (use->list != NULL)
		free_strings(use->opt, use->base);
}

/*
 * Cut the next item off *@pos, up to a comma that is not written "\,", and unescape it
 * in place. *@pos becomes NULL after the last.
 */
static char *next_item(char **pos)
{
	char *item = *pos, *in = item, *out = item;

	while (*in != '\0' && *in != ',') {
		if (in[0] == '\\' && in[1] == ',')
			in++;
		*out++ = *in++;
	}
	*pos = *in == ',' ? in + 1 : NULL;
	*out = '\0';
	return item;
}

static int set_item(struct opt_use *use, char *item, bool first, struct err *err)
{
	const struct opt *opt = use->opt;
	const char *value = strchr(item, '=');
	size_t len = value != NULL ? (size_t)(value - item) : strlen(item);
	const struct opt_key *key = opt_find_key(opt, item, len);
	int rc;

	if (item[0] == '\0')
		return err_set(err, EINVAL, "a key is missing beside a comma");
	if (value != NULL) {
		value++;
	} else if (key != NULL && (key->type == OPT_BOOL || key->bare)) {
		value = "on";
	} else if (first) {
		key = &opt->keys[0];
		value = item;
	} else if (key != NULL) {
		return err_set(err, EINVAL, "key '%s' needs a value (%s)", key->name,
			       key->arg != NULL ? key->arg : "VALUE");
	}
	if (key == NULL) {
		item[len] = '\0';
		return opt_unknown_key(opt, item, err);
	}
	rc = opt_use_key(use, key, err);
	return rc < 0 ? rc : opt_set_text(opt, key, use->base, value, err);
}

static int set_items(struct opt_use *use, const char *text, struct err *err)
{
	char *copy, *pos;
	int rc = 0;

	if (text[0] == '\0')
		return err_set(err, EINVAL, "needs a value (%s)", value_name(use->opt));
	pos = copy = strdup(text);
	if (copy == NULL)
		return err_sys(err, ENOMEM, "value");
	for (bool first = true; pos != NULL && rc == 0; first = false)
		rc = set_item(use, next_item(&pos), first, err);
	free(copy);
	return rc;
}

/* Apply one use of @opt; @text NULL only for one that stands alone. */
static int apply(const struct opt *table, void *config, const struct opt *opt, const char *text,
		 struct err *err)
{
	struct opt_use use;
	int rc = opt_use_begin(&use, opt, config, err);

	if (rc == 0 && opt->plain) {
		rc = opt_use_key(&use, &opt->keys[0], err);
		if (rc == 0)
			rc = opt_set_text(opt, &opt->keys[0], use.base, text, err);
	} else if (rc == 0 && text != NULL) {
		rc = set_items(&use, text, err);
	}
	if (rc == 0)
		rc = opt_use_end(&use, table, config, err);
	if (rc == 0)
		return 0;
	opt_use_abort(&use);
	return err_context(err, "--%s", opt->name);
}

/* The same with the value optional for flags and forbidden for negated ones. */
static int apply_maybe(const struct opt *table, void *config, const struct opt *opt, bool negated,
		       const char *text, struct err *err)
{
	if (negated && text != NULL)
		return err_set(err, EINVAL, "--no-%s: takes no value (found '" OPT_QUOTE "')",
			       opt->name, text);
	if (text == NULL && takes_no_value(opt))
		text = negated ? "off" : "on";
	if (text == NULL && !opt->stands_alone)
		return err_set(err, EINVAL, "--%s: needs a value (%s)", opt->name, value_name(opt));
	return apply(table, config, opt, text, err);
}

int opt_apply(const struct opt *table, void *config, const char *name, const char *value,
	      struct err *err)
{
	bool negated;
	const struct opt *opt = find(table, name, strlen(name), &negated);

	if (opt == NULL)
		return unknown_option(table, name, strlen(name), err);
	return apply_maybe(table, config, opt, negated, value, err);
}

/* May @word, which follows an option, be its value? See the top of this file. */
static bool is_value(const char *word)
{
	return word[0] != '-' || word[1] == '\0' || (word[1] >= '0' && word[1] <= '9');
}

/* argv[*@i] is an option: find it and its value, and leave *@i at the last word used. */
static int parse_one(const struct opt *table, void *config, int argc, char *const *argv, int *i,
		     struct opt_seen *once, struct err *err)
{
	const char *word = argv[*i], *value = NULL;
	const struct opt *opt;
	bool negated = false;
	size_t index;

	if (word[1] == '-') {
		const char *name = word + 2;
		size_t len = strcspn(name, "=");

		opt = find(table, name, len, &negated);
		if (opt == NULL)
			return unknown_option(table, name, len, err);
		if (name[len] == '=')
			value = name + len + 1;
	} else {
		opt = find_letter(table, word[1]);
		if (opt == NULL)
			return err_set(err, EINVAL, "unknown option -%c", word[1]);
		if (word[2] != '\0')
			value = word + 2;
		if (value != NULL && takes_no_value(opt))
			return err_set(err, EINVAL, "-%c: takes no value (found '" OPT_QUOTE "')",
				       word[1], value);
	}

	index = (size_t)(opt - table);
	if (!opt_repeatable(opt) && once->bits[index / 64] & 1ULL << index % 64)
		return err_set(err, EINVAL, "--%s given twice", opt->name);
	once->bits[index / 64] |= 1ULL << index % 64;

	if (value == NULL && !takes_no_value(opt) && *i + 1 < argc) {
		const char *next = argv[*i + 1];

		if (is_value(next)) {
			value = next;
			++*i;
		} else if (next[1] != '-' && !opt->stands_alone) {
			return err_set(err, EINVAL,
				       "--%s: needs a value (%s); one that begins with '-' is "
				       "written --%s=" OPT_QUOTE,
				       opt->name, value_name(opt), opt->name, next);
		}
	}
	return apply_maybe(table, config, opt, negated, value, err);
}

int opt_parse(const struct opt *table, void *config, int argc, char *const *argv, bool stop_at_word,
	      int *used, struct err *err)
{
	struct opt_seen once = { { 0 } };
	int i;

	for (i = 0; i < argc; i++) {
		int rc;

		if (strcmp(argv[i], "--") == 0) {
			i++;
			break;
		}
		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			if (stop_at_word)
				break;
			return err_set(err, EINVAL, "unexpected argument '" OPT_QUOTE "'", argv[i]);
		}
		rc = parse_one(table, config, argc, argv, &i, &once, err);
		if (rc < 0)
			return rc;
	}
	*used = i;
	return 0;
}

/* What would make the rest of this file read or write where it must not. */
static const char *table_mistake(const struct opt *opt)
{
	size_t n = 0;

	if (opt->keys == NULL || opt->keys[0].name == NULL)
		return "no keys";
	for (; opt->keys[n].name != NULL; n++) {
		if (opt->keys[n].type == OPT_ENUM && opt->keys[n].values == NULL)
			return "a key without its values";
		if (opt->keys[n].bare && opt->keys[n].type != OPT_STR)
			return "a bare key that is no string";
	}
	if (n > OPT_KEYS_MAX)
		return "too many keys";
	if (opt->plain && n != 1)
		return "a plain option has one key";
	if (opt_repeatable(opt) && opt->size == 0)
		return "elements without a size";
	if (opt->stands_alone && opt->plain)
		return "a plain option that stands alone";
	return NULL;
}

int opt_defaults(const struct opt *table, void *config, struct err *err)
{
	for (const struct opt *opt = table; opt->name != NULL; opt++) {
		const char *mistake = table_mistake(opt);

		if (opt - table >= OPT_TABLE_MAX)
			mistake = "too many options";
		if (mistake != NULL)
			return err_set(err, EINVAL, "--%s: mistake in the table: %s", opt->name,
				       mistake);
		if (opt_is_list(opt))
			continue;
		for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
			if (opt_set_default(opt, key, (char *)config + opt->offset, err) < 0)
				return err_context(err, "--%s: default", opt->name);
		}
	}
	return 0;
}

bool opt_given(const struct opt *table, const void *config, const char *name)
{
	const struct opt *opt = find_exact(table, name, strlen(name));
	const struct opt_seen *seen = config;
	size_t index;

	if (opt == NULL)
		return false;
	index = (size_t)(opt - table);
	return seen->bits[index / 64] >> index % 64 & 1;
}

/* Does an earlier use in @list have the value of @key that use @i has? */
static const char *earlier(const struct opt *opt, const struct opt_key *key,
			   const struct opt_list *list, size_t i)
{
	const char *items = list->items;
	const char *value = *(char *const *)opt_member(key, items + i * opt->size);

	for (size_t k = 0; value != NULL && k < i; k++) {
		const char *other = *(char *const *)opt_member(key, items + k * opt->size);

		if (other != NULL && strcmp(value, other) == 0)
			return value;
	}
	return NULL;
}

int opt_check_unique(const struct opt *opt, const struct opt_list *list, struct err *err)
{
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		for (size_t i = 1; key->unique && i < list->n; i++) {
			const char *value = earlier(opt, key, list, i);

			if (value != NULL)
				return err_set(err, EEXIST,
					       "two of them have %s=%s; give one another",
					       key->name, value);
		}
	}
	return 0;
}

int opt_set_use(const struct opt *table, void *config, const char *name, size_t index,
		const char *key, const char *value, struct err *err)
{
	const struct opt *opt = find_exact(table, name, strlen(name));
	const struct opt_key *k = opt != NULL ? opt_find_key(opt, key, strlen(key)) : NULL;
	struct opt_list *list;

	if (k == NULL || !opt_is_list(opt))
		return err_set(err, EINVAL, "no option %s has %s", name, key);
	list = (struct opt_list *)((char *)config + opt->offset);
	if (index >= list->n)
		return err_set(err, EINVAL, "%s was given %zu times", name, list->n);
	return opt_set_text(opt, k, (char *)list->items + index * opt->size, value, err);
}

void opt_clear(const struct opt *table, void *config, const char *name)
{
	const struct opt *opt = find_exact(table, name, strlen(name));
	struct opt_list *list;

	if (opt == NULL || !opt_is_list(opt))
		return;
	list = (struct opt_list *)((char *)config + opt->offset);
	for (size_t i = 0; i < list->n; i++)
		free_strings(opt, (char *)list->items + i * opt->size);
	list->n = 0;
}

void opt_free(const struct opt *table, void *config)
{
	for (const struct opt *opt = table; opt->name != NULL; opt++) {
		void *base = (char *)config + opt->offset;
		struct opt_list *list = base;

		if (!opt_is_list(opt)) {
			free_strings(opt, base);
			continue;
		}
		for (size_t i = 0; i < list->n; i++)
			free_strings(opt, (char *)list->items + i * opt->size);
		free(list->items);
		list->items = NULL;
		list->n = 0;
	}
}
