// SPDX-License-Identifier: Apache-2.0
/*
 * Option tables, single values: text to number and back, ranges, nearest words.
 *
 * Everything is parsed by hand, digit by digit, because strtoull() also takes blanks,
 * signs and whatever the locale adds: "--mem -1" would be 16 EiB.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/base/opt_impl.h"

struct unit {
	const char *name;
	uint64_t ns;
};

/* Largest first. */
static const struct unit time_units[] = {
	{ "h", 3600000000000ULL }, { "m", 60000000000ULL }, { "s", 1000000000ULL },
	{ "ms", 1000000ULL },	   { "us", 1000ULL },	    { "ns", 1ULL },
};

#define NS_PER_S 1000000000ULL

/* Read decimal digits at *@text. -EINVAL when there are none, -ERANGE above 64 bits. */
static int parse_digits(const char **text, uint64_t *value)
{
	const char *p = *text;
	int rc = 0;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (*value = 0; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(*value, 10, value) ||
		    __builtin_add_overflow(*value, (uint64_t)(*p - '0'), value))
			rc = -ERANGE;
	}
	*text = p;
	return rc;
}

static int parse_uint(const char *text, uint64_t *value)
{
	int rc;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
		const char *p = text + 2;

		*value = 0;
		for (; isxdigit((unsigned char)*p); p++) {
			unsigned digit = *p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10;

			if (*value >> 60 != 0)
				return -ERANGE;
			*value = *value << 4 | digit;
		}
		return p > text + 2 && *p == '\0' ? 0 : -EINVAL;
	}
	rc = parse_digits(&text, value);
	return *text == '\0' ? rc : -EINVAL;
}

static int parse_size(const char *text, uint64_t unit, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	int rc = parse_digits(&text, bytes);

	if (rc == -EINVAL)
		return rc;
	if (*text != '\0') {
		suffix = strchr(suffixes, toupper((unsigned char)*text));
		if (suffix == NULL || text[1] != '\0')
			return -EINVAL;
		unit = 1024ULL << 10 * (suffix - suffixes);
	} else if (unit == 0) {
		unit = 1;
	}
	/* At most INT64_MAX, as off_t and the integers of JSON. */
	if (rc < 0 || __builtin_mul_overflow(*bytes, unit, bytes) || *bytes > INT64_MAX)
		return -ERANGE;
	return 0;
}

static int parse_time(const char *text, uint64_t *ns)
{
	const char *p = text;
	uint64_t whole, unit = NS_PER_S, frac = 0, scale = 1;
	unsigned __int128 sum;
	int rc = parse_digits(&p, &whole);

	if (rc == -EINVAL)
		return rc;
	if (*p == '.') {
		p++;
		if (*p < '0' || *p > '9')
			return -EINVAL;
		for (; *p >= '0' && *p <= '9'; p++) {
			/* Eighteen digits fit; finer than that is refused below anyway. */
			if (scale < 1000000000000000000ULL) {
				frac = frac * 10 + (uint64_t)(*p - '0');
				scale *= 10;
			} else if (*p != '0') {
				return -EDOM;
			}
		}
	}
	if (*p != '\0') {
		size_t i = 0;

		while (strcmp(p, time_units[i].name) != 0) {
			if (++i == sizeof(time_units) / sizeof(time_units[0]))
				return -EINVAL;
		}
		unit = time_units[i].ns;
	}
	/* "0.1ns" must not become 0, which means never. */
	if ((unsigned __int128)frac * unit % scale != 0)
		return -EDOM;
	sum = (unsigned __int128)whole * unit + (unsigned __int128)frac * unit / scale;
	if (rc < 0 || sum > UINT64_MAX)
		return -ERANGE;
	*ns = (uint64_t)sum;
	return 0;
}

static int parse_milli(const char *text, uint64_t *thousandths)
{
	uint64_t digit = 100;
	int rc = parse_digits(&text, thousandths);

	if (rc == 0 && __builtin_mul_overflow(*thousandths, 1000, thousandths))
		rc = -ERANGE;
	if (*text == '.' && text[1] != '\0') {
		for (text++; *text >= '0' && *text <= '9'; text++, digit /= 10) {
			if (digit == 0 && *text != '0')
				return -EDOM;
			if (__builtin_add_overflow(*thousandths, digit * (uint64_t)(*text - '0'),
						   thousandths))
				rc = -ERANGE;
		}
	}
	return *text == '\0' ? rc : -EINVAL;
}

/*
 * The sentence for what @rc says about number @text of type @type. @who is the key's
 * name and a blank, or nothing.
 */
static int number_error(int rc, enum opt_type type, const char *who, const char *text,
			struct err *err)
{
	static const char *const syntax[] = {
		[OPT_UINT] = "a number (decimal, or hexadecimal after 0x)",
		[OPT_SIZE] = "a size (digits and K, M, G or T)",
		[OPT_TIME] = "a duration (a number and ns, us, ms, s, m or h)",
		[OPT_MILLI] = "a number (digits, and a point for a fraction)",
	};

	if (rc == -ERANGE)
		return err_set(err, ERANGE, "%s'" OPT_QUOTE "' is too large", who, text);
	if (rc == -EDOM)
		return err_set(err, EINVAL, "%s'" OPT_QUOTE "' is finer than a %s", who, text,
			       type == OPT_TIME ? "nanosecond" : "thousandth");
	return err_set(err, EINVAL, "%s'" OPT_QUOTE "' is not %s", who, text, syntax[type]);
}

int opt_parse_size(const char *text, uint64_t unit, uint64_t *bytes, struct err *err)
{
	uint64_t value;
	int rc = parse_size(text, unit, &value);

	if (rc < 0)
		return number_error(rc, OPT_SIZE, "", text, err);
	*bytes = value;
	return 0;
}

int opt_parse_time(const char *text, uint64_t *ns, struct err *err)
{
	uint64_t value;
	int rc = parse_time(text, &value);

	if (rc < 0)
		return number_error(rc, OPT_TIME, "", text, err);
	*ns = value;
	return 0;
}

void opt_size_text(uint64_t bytes, char buf[OPT_TEXT_MAX])
{
	static const char *const suffix[] = { "", "K", "M", "G", "T" };
	unsigned i = 0;

	for (; bytes != 0 && bytes % 1024 == 0 && i < 4; i++)
		bytes /= 1024;
	snprintf(buf, OPT_TEXT_MAX, "%llu%s", (unsigned long long)bytes, suffix[i]);
}

void opt_time_text(uint64_t ns, char buf[OPT_TEXT_MAX])
{
	const struct unit *unit = time_units;

	if (ns == 0) {
		strcpy(buf, "0");
		return;
	}
	while (ns % unit->ns != 0)
		unit++;
	snprintf(buf, OPT_TEXT_MAX, "%llu%s", (unsigned long long)(ns / unit->ns), unit->name);
}

void opt_milli_text(uint64_t thousandths, char buf[OPT_TEXT_MAX])
{
	int n = snprintf(buf, OPT_TEXT_MAX, "%llu.%03llu", (unsigned long long)(thousandths / 1000),
			 (unsigned long long)(thousandths % 1000));

	while (buf[n - 1] == '0')
		buf[--n] = '\0';
	if (buf[n - 1] == '.')
		buf[n - 1] = '\0';
}

bool opt_is_number(const struct opt_key *key)
{
	return key->type == OPT_UINT || key->type == OPT_SIZE || key->type == OPT_TIME ||
	       key->type == OPT_MILLI;
}

static void number_text(enum opt_type type, uint64_t value, char buf[OPT_TEXT_MAX])
{
	if (type == OPT_SIZE)
		opt_size_text(value, buf);
	else if (type == OPT_TIME)
		opt_time_text(value, buf);
	else if (type == OPT_MILLI)
		opt_milli_text(value, buf);
	else
		snprintf(buf, OPT_TEXT_MAX, "%llu", (unsigned long long)value);
}

void opt_range_text(const struct opt_key *key, char buf[OPT_TEXT_MAX])
{
	char min[OPT_TEXT_MAX], max[OPT_TEXT_MAX];

	buf[0] = '\0';
	if (!opt_is_number(key))
		return;
	number_text(key->type, key->min, min);
	number_text(key->type, key->max, max);
	/* Numbers have 21 characters at most; the precision tells the compiler so. */
	if (key->max != 0)
		snprintf(buf, OPT_TEXT_MAX, "%.24s to %.24s", min, max);
	else if (key->min != 0)
		snprintf(buf, OPT_TEXT_MAX, "at least %.24s", min);
}

void opt_list_text(const char *const *words, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (; *words != NULL; words++) {
		const char *comma = len > 0 ? ", " : "";

		/* Room for this word and for the dots that may have to follow it. */
		if (len + strlen(comma) + strlen(*words) + sizeof(", ...") > size) {
			snprintf(buf + len, size - len, "%s...", comma);
			return;
		}
		len += (size_t)snprintf(buf + len, size - len, "%s%s", comma, *words);
	}
}

#define NEAREST_MAX 64

/*
 * Letters to insert, delete, replace or swap to make @a into @b (the optimal string
 * alignment distance). Upper and lower case count as the same.
 */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned rows[3][NEAREST_MAX + 1];
	unsigned *before = rows[0], *above = rows[1], *row = rows[2];

	for (size_t j = 0; j <= b_len; j++)
		above[j] = (unsigned)j;
	for (size_t i = 1; i <= a_len; i++) {
		unsigned *spare = before;

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_len; j++) {
			int x = tolower((unsigned char)a[i - 1]);
			int y = tolower((unsigned char)b[j - 1]);
			unsigned best = above[j - 1] + (x != y);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
			    y == tolower((unsigned char)a[i - 2]) && before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
		before = above;
		above = row;
		row = spare;
	}
	return above[b_len];
}

const char *opt_nearest(const char *word, const char *const *words)
{
	const char *nearest = NULL;
	unsigned smallest = 0;
	size_t len = strnlen(word, NEAREST_MAX + 1);

	if (len == 0 || len > NEAREST_MAX)
		return NULL;
	for (; *words != NULL; words++) {
		size_t other = strlen(*words);
		bool abbreviates = len >= 2 && strncasecmp(word, *words, len) == 0;
		unsigned d;

		if (other > NEAREST_MAX)
			continue;
		/* Near: one letter in three may be wrong. More would be guessing. */
		d = distance(word, len, *words, other);
		if (!abbreviates && d * 3 > (len > other ? len : other))
			continue;
		if (nearest == NULL || d < smallest) {
			nearest = *words;
			smallest = d;
		}
	}
	return nearest;
}

int opt_unknown(const char *what, const char *word, const char *const *words, struct err *err)
{
	const char *nearest = opt_nearest(word, words);
	char valid[400];

	opt_list_text(words, valid, sizeof(valid));
	if (nearest == NULL)
		return err_set(err, EINVAL, "unknown %s '" OPT_QUOTE "' (valid: %s)", what, word,
			       valid);
	return err_set(err, EINVAL, "unknown %s '" OPT_QUOTE "' (valid: %s; did you mean '%s'?)",
		       what, word, valid, nearest);
}

/* What a sentence about @key begins with. */
static void key_prefix(const struct opt *opt, const struct opt_key *key, char buf[OPT_TEXT_MAX])
{
	snprintf(buf, OPT_TEXT_MAX, "%s%s", opt->plain ? "" : key->name, opt->plain ? "" : " ");
}

int opt_set_number(const struct opt *opt, const struct opt_key *key, void *base, uint64_t value,
		   const char *text, struct err *err)
{
	char who[OPT_TEXT_MAX], range[OPT_TEXT_MAX];

	if (value < key->min || (key->max != 0 && value > key->max)) {
		key_prefix(opt, key, who);
		opt_range_text(key, range);
		return err_set(err, ERANGE, "%s" OPT_QUOTE " is out of range (%s)", who, text,
			       range);
	}
	*(uint64_t *)opt_member(key, base) = value;
	return 0;
}

static int set_string(const struct opt_key *key, void *base, const char *who, const char *text,
		      struct err *err)
{
	char **string = opt_member(key, base);
	json_t *json = json_string(text);
	char *copy;

	/*
	 * Every string of a configuration ends up in JSON (--dry-run, the API), which is
	 * UTF-8, and jansson refuses anything else.
	 */
	if (json == NULL)
		return err_set(err, EINVAL, "%s'" OPT_QUOTE "' is not valid UTF-8", who, text);
	json_decref(json);
	copy = strdup(text);
	if (copy == NULL)
		return err_sys(err, ENOMEM, "%svalue", who);
	free(*string);
	*string = copy;
	return 0;
}

static int set_enum(const struct opt *opt, const struct opt_key *key, void *base, const char *text,
		    struct err *err)
{
	int rc;

	for (int i = 0; key->values[i] != NULL; i++) {
		if (strcmp(key->values[i], text) == 0) {
			*(int *)opt_member(key, base) = i;
			return 0;
		}
	}
	rc = opt_unknown("value", text, key->values, err);
	return opt->plain ? rc : err_context(err, "%s", key->name);
}

int opt_set_text(const struct opt *opt, const struct opt_key *key, void *base, const char *text,
		 struct err *err)
{
	char who[OPT_TEXT_MAX];
	uint64_t value = 0;
	int rc;

	key_prefix(opt, key, who);
	switch (key->type) {
	case OPT_BOOL:
		if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
			return err_set(err, EINVAL, "%s'" OPT_QUOTE "' is not on or off", who,
				       text);
		*(bool *)opt_member(key, base) = text[1] == 'n';
		return 0;
	case OPT_UINT:
		rc = parse_uint(text, &value);
		break;
	case OPT_SIZE:
		rc = parse_size(text, key->unit, &value);
		break;
	case OPT_TIME:
		rc = parse_time(text, &value);
		break;
	case OPT_MILLI:
		rc = parse_milli(text, &value);
		break;
	case OPT_STR:
		return set_string(key, base, who, text, err);
	case OPT_ENUM:
		return set_enum(opt, key, base, text, err);
	default:
		return err_set(err, EINVAL, "%shas no type: a mistake in the table", who);
	}
	if (rc < 0)
		return number_error(rc, key->type, who, text, err);
	return opt_set_number(opt, key, base, value, text, err);
}

int opt_set_default(const struct opt *opt, const struct opt_key *key, void *base, struct err *err)
{
	void *member = opt_member(key, base);

	switch (key->type) {
	case OPT_BOOL:
		*(bool *)member = false;
		break;
	case OPT_ENUM:
		*(int *)member = 0;
		break;
	case OPT_STR:
		free(*(char **)member);
		*(char **)member = NULL;
		break;
	default:
		*(uint64_t *)member = 0;
	}
	return key->def == NULL ? 0 : opt_set_text(opt, key, base, key->def, err);
}
