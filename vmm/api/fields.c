// SPDX-License-Identifier: Apache-2.0
/*
 * The control API: what bodies of requests look like. Each is an object of known fields; one that
 * is unknown, missing, of a wrong type or out of range is an error that names it.
 */
#include <errno.h>
#include <string.h>
#include "vmm/api/impl.h"

#define MS_PER_S 1000U

static const char *type_name(const json_t *json)
{
	static const char *const names[] = {
		[JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",
		[JSON_STRING] = "a string",  [JSON_INTEGER] = "an integer",
		[JSON_REAL] = "a fraction",  [JSON_TRUE] = "a boolean",
		[JSON_FALSE] = "a boolean",  [JSON_NULL] = "null",
	};

	return names[json_typeof(json)];
}

static int check_word(const struct api_field *field, const char *word, struct err *err)
{
	char valid[200];
	size_t len = 0;

	valid[0] = '\0';
	for (const char *const *v = field->values; *v != NULL; v++) {
		if (strcmp(*v, word) == 0)
			return 0;
		if (len < sizeof(valid))
			len += (size_t)snprintf(valid + len, sizeof(valid) - len, "%s%s",
						len > 0 ? ", " : "", *v);
	}
	return err_set(err, EINVAL, "%s: unknown value '%.100s' (valid: %s)", field->name, word,
		       valid);
}

static int check_integer(const struct api_field *field, json_int_t value, struct err *err)
{
	if (value >= field->min && (field->max == 0 || value <= field->max))
		return 0;
	if (field->max == 0)
		return err_set(err, ERANGE, "%s: %lld is out of range (at least %lld)", field->name,
			       (long long)value, (long long)field->min);
	return err_set(err, ERANGE, "%s: %lld is out of range (%lld to %lld)", field->name,
		       (long long)value, (long long)field->min, (long long)field->max);
}

static int check_value(const struct api_field *field, const json_t *value, struct err *err)
{
	static const char *const expected[] = {
		[API_STR] = "a string",	 [API_BOOL] = "true or false", [API_INT] = "an integer",
		[API_WORD] = "a string", [API_OBJECT] = "an object",   [API_ARRAY] = "an array",
	};

	switch (field->type) {
	case API_STR:
		if (json_is_string(value))
			return 0;
		break;
	case API_BOOL:
		if (json_is_boolean(value))
			return 0;
		break;
	case API_INT:
		if (json_is_integer(value))
			return check_integer(field, json_integer_value(value), err);
		break;
	case API_WORD:
		if (json_is_string(value))
			return check_word(field, json_string_value(value), err);
		break;
	case API_OBJECT:
		if (json_is_object(value))
			return 0;
		break;
	case API_ARRAY:
		if (json_is_array(value))
			return 0;
		break;
	}
	return err_set(err, EINVAL, "%s must be %s, not %s", field->name, expected[field->type],
		       type_name(value));
}

static int unknown_field(const char *name, const struct api_field *fields, struct err *err)
{
	const char *words[32];
	const char *near;
	size_t n = 0;

	for (; fields->name != NULL && n < 31; fields++)
		words[n++] = fields->name;
	words[n] = NULL;
	near = opt_nearest(name, words);
	return err_set(err, EINVAL, "unknown field '%.100s'%s%s%s", name,
		       near != NULL ? " (did you mean '" : "", near != NULL ? near : "",
		       near != NULL ? "'?)" : "");
}

int api_check(const json_t *body, const struct api_field *fields, struct err *err)
{
	json_t *object = (json_t *)body; /* read only; the iterators want it so */
	const struct api_field *f;

	if (!json_is_object(body))
		return err_set(err, EINVAL, "the body must be an object, not %s", type_name(body));
	for (void *it = json_object_iter(object); it != NULL;
	     it = json_object_iter_next(object, it)) {
		const char *name = json_object_iter_key(it);
		const json_t *value = json_object_iter_value(it);

		for (f = fields; f->name != NULL && strcmp(f->name, name) != 0; f++)
			;
		if (f->name == NULL)
			return unknown_field(name, fields, err);
		if (json_is_null(value) && !f->required)
			continue;
		if (check_value(f, value, err) < 0)
			return -err->code;
	}
	for (f = fields; f->name != NULL; f++)
		if (f->required && json_object_get(body, f->name) == NULL)
			return err_set(err, EINVAL, "field '%s' is missing", f->name);
	return 0;
}

json_t *api_get(const json_t *body, const char *name)
{
	json_t *value = json_object_get(body, name);

	return json_is_null(value) ? NULL : value;
}

const char *api_str(const json_t *body, const char *name)
{
	return json_string_value(api_get(body, name));
}

bool api_bool(const json_t *body, const char *name, bool def)
{
	const json_t *value = api_get(body, name);

	return value != NULL ? json_is_true(value) : def;
}

json_int_t api_int(const json_t *body, const char *name, json_int_t def)
{
	const json_t *value = api_get(body, name);

	return value != NULL ? json_integer_value(value) : def;
}

/*
 * A bucket of `size` units that is full again after `refill_time` ms, and `one_time_burst` more
 * at the beginning. A size or time of 0 is no limit, as it is to Firecracker.
 */
int api_bucket(const json_t *bucket, const char *what, struct ratelimit_config *limit,
	       struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "size", .type = API_INT, .required = true },
		{ .name = "refill_time", .type = API_INT, .required = true },
		{ .name = "one_time_burst", .type = API_INT },
		{ NULL },
	};
	uint64_t size, ms;
	unsigned __int128 rate;

	*limit = (struct ratelimit_config){ 0 };
	if (bucket == NULL)
		return 0;
	if (api_check(bucket, fields, err) < 0)
		return err_context(err, "%s", what);
	size = (uint64_t)api_int(bucket, "size", 0);
	ms = (uint64_t)api_int(bucket, "refill_time", 0);
	if (size == 0 || ms == 0)
		return 0;
	/* Rounded up, as 0 would be no limit at all. */
	rate = ((unsigned __int128)size * MS_PER_S + ms - 1) / ms;
	limit->rate = rate > INT64_MAX ? INT64_MAX : (uint64_t)rate;
	limit->burst = size;
	limit->once = (uint64_t)api_int(bucket, "one_time_burst", 0);
	return 0;
}

int api_limits(const json_t *limiter, struct api_limits *limits, struct err *err)
{
	static const struct api_field fields[] = {
		{ .name = "bandwidth", .type = API_OBJECT },
		{ .name = "ops", .type = API_OBJECT },
		{ NULL },
	};

	*limits = (struct api_limits){ 0 };
	if (limiter == NULL)
		return 0;
	if (api_check(limiter, fields, err) < 0 ||
	    api_bucket(api_get(limiter, "bandwidth"), "bandwidth", &limits->bytes, err) < 0 ||
	    api_bucket(api_get(limiter, "ops"), "ops", &limits->ops, err) < 0)
		return err_context(err, "rate_limiter");
	limits->has_bytes = api_get(limiter, "bandwidth") != NULL;
	limits->has_ops = api_get(limiter, "ops") != NULL;
	return 0;
}
