// SPDX-License-Identifier: Apache-2.0
/*
 * Option tables as JSON: see opt.h.
 *
 * What opt_to_json() writes opt_from_json() reads back to the very same values: a size
 * that is no multiple of 1024 is a number of bytes, a number JSON's integers do not
 * reach is a string, and a value that cannot be given (an option or key never given,
 * whose zero is outside its range) is left out.
 */
#include <errno.h>
#include <string.h>
#include "vmm/base/opt_impl.h"

#define NS_PER_S    1000000000ULL
#define MILLI_PER_1 1000ULL

static const char *type_name(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	default:
		return "null";
	}
}

static json_t *value_to_json(const struct opt_key *key, const void *base)
{
	const void *member = opt_member(key, base);
	char text[OPT_TEXT_MAX];
	uint64_t number;

	switch (key->type) {
	case OPT_BOOL:
		return json_boolean(*(const bool *)member);
	case OPT_STR:
		return json_string(*(char *const *)member);
	case OPT_ENUM:
		return json_string(key->values[*(const int *)member]);
	default:
		break;
	}
	number = *(const uint64_t *)member;
	if (key->type == OPT_TIME) {
		opt_time_text(number, text);
		return json_string(text);
	}
	if (key->type == OPT_MILLI) {
		opt_milli_text(number, text);
		if (number % MILLI_PER_1 != 0)
			return json_string(text);
		number /= MILLI_PER_1;
	}
	if (key->type == OPT_SIZE && number != 0 && number % 1024 == 0) {
		opt_size_text(number, text);
		return json_string(text);
	}
	if (number <= INT64_MAX)
		return json_integer((json_int_t)number);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	return json_string(text);
}

/* Is there nothing to write: a string not given, a number that could not be read back? */
static bool is_absent(const struct opt_key *key, const void *base)
{
	const void *member = opt_member(key, base);

	if (key->type == OPT_STR)
		return *(char *const *)member == NULL;
	if (key->type == OPT_BOOL || key->type == OPT_ENUM)
		return false;
	return *(const uint64_t *)member == 0 && key->def == NULL && key->min > 0;
}

static json_t *use_to_json(const struct opt *opt, const void *base)
{
	json_t *json;

	if (opt->plain)
		return value_to_json(&opt->keys[0], base);
	json = json_object();
	for (const struct opt_key *key = opt->keys; json != NULL && key->name != NULL; key++) {
		if (is_absent(key, base))
			continue;
		if (json_object_set_new(json, key->name, value_to_json(key, base)) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

static json_t *list_to_json(const struct opt *opt, const struct opt_list *list)
{
	json_t *json = json_array();

	for (size_t i = 0; json != NULL && i < list->n; i++) {
		const char *base = (const char *)list->items + i * opt->size;

		if (json_array_append_new(json, use_to_json(opt, base)) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

/* Is @opt something that was not given and has no default to show? */
static bool is_left_out(const struct opt *table, const void *config, const struct opt *opt)
{
	const void *base = (const char *)config + opt->offset;

	if (opt->hidden)
		return true;
	if (opt_is_list(opt))
		return false;
	if (opt->plain && is_absent(&opt->keys[0], base))
		return true;
	for (const struct opt_key *key = opt->keys; key->name != NULL; key++) {
		if (key->required && !opt_given(table, config, opt->name))
			return true;
	}
	return false;
}

json_t *opt_to_json(const struct opt *table, const void *config)
{
	json_t *json = json_object();

	for (const struct opt *opt = table; json != NULL && opt->name != NULL; opt++) {
		const char *base = (const char *)config + opt->offset;
		json_t *value;

		if (is_left_out(table, config, opt))
			continue;
		if (opt_is_list(opt))
			value = list_to_json(opt, (const struct opt_list *)base);
		else
			value = use_to_json(opt, base);
		if (json_object_set_new(json, opt->name, value) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

/* Seconds that may have a fraction. */
static int set_seconds(const struct opt *opt, const struct opt_key *key, void *base, double seconds,
		       struct err *err)
{
	const char *name = opt->plain ? "value" : key->name;
	char text[OPT_TEXT_MAX];
	double ns = seconds * 1e9 + 0.5;

	snprintf(text, sizeof(text), "%.17g", seconds);
	/* The comparisons are false for what has no place in 64 bits. */
	if (!(seconds >= 0 && ns < 18446744073709551615.0))
		return err_set(err, ERANGE, "%s %s is not a number of seconds in range", name,
			       text);
	/* As "0.1ns" on the command line: it must not become 0, which means never. */
	if (seconds > 0 && (uint64_t)ns == 0)
		return err_set(err, EINVAL, "%s %s is finer than a nanosecond", name, text);
	return opt_set_number(opt, key, base, (uint64_t)ns, text, err);
}

static int set_integer(const struct opt *opt, const struct opt_key *key, void *base,
		       json_int_t number, struct err *err)
{
	char text[OPT_TEXT_MAX], range[OPT_TEXT_MAX];
	uint64_t value = (uint64_t)number, unit = 1;

	if (key->type == OPT_TIME || key->type == OPT_MILLI)
		unit = key->type == OPT_TIME ? NS_PER_S : MILLI_PER_1;
	snprintf(text, sizeof(text), "%lld", (long long)number);
	if (number < 0 || __builtin_mul_overflow(value, unit, &value)) {
		opt_range_text(key, range);
		return err_set(err, ERANGE, "%s %s is out of range (%s)",
			       opt->plain ? "value" : key->name, text,
			       range[0] != '\0' ? range : "0 or more, in 64 bits");
	}
	return opt_set_number(opt, key, base, value, text, err);
}

static int set_value(struct opt_use *use, const struct opt_key *key, const json_t *json,
		     struct err *err)
{
	static const char *const expected[] = {
		[OPT_BOOL] = "true or false",
		[OPT_UINT] = "an integer",
		[OPT_SIZE] = "a number of bytes or a string like \"512M\"",
		[OPT_TIME] = "a number of seconds or a string like \"200ms\"",
		[OPT_MILLI] = "a number or a string like \"1.5\"",
		[OPT_STR] = "a string",
		[OPT_ENUM] = "a string",
	};
	const struct opt *opt = use->opt;
	int rc = opt_use_key(use, key, err);

	if (rc < 0)
		return rc;
	if (key->type == OPT_BOOL && json_is_boolean(json)) {
		*(bool *)opt_member(key, use->base) = json_is_true(json);
		return 0;
	}
	if (key->bare && json_is_boolean(json))
		return opt_set_text(opt, key, use->base, json_is_true(json) ? "on" : "off", err);
	if (opt_is_number(key) && json_is_integer(json))
		return set_integer(opt, key, use->base, json_integer_value(json), err);
	if (key->type == OPT_TIME && json_is_real(json))
		return set_seconds(opt, key, use->base, json_real_value(json), err);
	if (key->type == OPT_MILLI && json_is_real(json)) {
		char text[OPT_TEXT_MAX];

		/* As it was written: 0.1 is no sum of powers of two, and 15 digits do not show it.
		 */
		snprintf(text, sizeof(text), "%.15g", json_real_value(json));
		return opt_set_text(opt, key, use->base, text, err);
	}
	if (key->type != OPT_BOOL && json_is_string(json)) {
		const char *text = json_string_value(json);

		/* A path must not mean one thing here and a shorter one to the kernel. */
		if (strlen(text) != json_string_length(json))
			return err_set(err, EINVAL, "%s has a NUL byte in it",
				       opt->plain ? "value" : key->name);
		return opt_set_text(opt, key, use->base, text, err);
	}
	return err_set(err, EINVAL, "%s must be %s, not %s", opt->plain ? "value" : key->name,
		       expected[key->type], type_name(json));
}

static int set_keys(struct opt_use *use, const json_t *json, struct err *err)
{
	json_t *object = (json_t *)json; /* read only; the iterators want it so */

	if (!json_is_object(json))
		return err_set(err, EINVAL, "must be an object, not %s", type_name(json));
	for (void *it = json_object_iter(object); it != NULL;
	     it = json_object_iter_next(object, it)) {
		const char *name = json_object_iter_key(it);
		const struct opt_key *key = opt_find_key(use->opt, name, strlen(name));
		int rc;

		if (key == NULL)
			return opt_unknown_key(use->opt, name, err);
		rc = set_value(use, key, json_object_iter_value(it), err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int use_from_json(const struct opt *table, void *config, const struct opt *opt,
			 const json_t *json, struct err *err)
{
	struct opt_use use;
	int rc = opt_use_begin(&use, opt, config, err);

	if (rc == 0)
		rc = opt->plain ? set_value(&use, &opt->keys[0], json, err)
				: set_keys(&use, json, err);
	if (rc == 0)
		rc = opt_use_end(&use, table, config, err);
	if (rc < 0)
		opt_use_abort(&use);
	return rc;
}

static int list_from_json(const struct opt *table, void *config, const struct opt *opt,
			  const json_t *json, struct err *err)
{
	if (!json_is_array(json)) {
		err_set(err, EINVAL, "must be an array, not %s", type_name(json));
		return err_context(err, "%s", opt->name);
	}
	if (!opt_repeatable(opt) && json_array_size(json) > 1) {
		err_set(err, EINVAL, "has %zu elements, but there can be one only",
			json_array_size(json));
		return err_context(err, "%s", opt->name);
	}
	for (size_t i = 0; i < json_array_size(json); i++) {
		if (use_from_json(table, config, opt, json_array_get(json, i), err) < 0)
			return err_context(err, "%s[%zu]", opt->name, i);
	}
	return 0;
}

int opt_from_json(const struct opt *table, void *config, const json_t *json, struct err *err)
{
	const char *words[OPT_TABLE_MAX + 1];
	json_t *object = (json_t *)json; /* read only; the iterators want it so */
	size_t n = 0;

	if (!json_is_object(json))
		return err_set(err, EINVAL, "must be an object, not %s", type_name(json));
	for (const struct opt *opt = table; opt->name != NULL && n < OPT_TABLE_MAX; opt++) {
		if (!opt->hidden)
			words[n++] = opt->name;
	}
	words[n] = NULL;

	for (void *it = json_object_iter(object); it != NULL;
	     it = json_object_iter_next(object, it)) {
		const char *name = json_object_iter_key(it);
		const json_t *value = json_object_iter_value(it);
		const struct opt *opt = table;
		int rc;

		while (opt->name != NULL && (opt->hidden || strcmp(opt->name, name) != 0))
			opt++;
		if (opt->name == NULL)
			return opt_unknown("member", name, words, err);
		if (opt_is_list(opt)) {
			rc = list_from_json(table, config, opt, value, err);
		} else {
			rc = use_from_json(table, config, opt, value, err);
			if (rc < 0)
				err_context(err, "%s", opt->name);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}
