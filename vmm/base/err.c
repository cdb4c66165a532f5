// SPDX-License-Identifier: Apache-2.0
/* Errors: see err.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "vmm/base/err.h"

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return -code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	const char *text = strerrordesc_np(code); /* thread-safe, unlike strerror() */
	size_t len;
	va_list ap;

	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	if (text != NULL)
		snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", text);
	else
		snprintf(err->msg + len, sizeof(err->msg) - len, ": error %d", code);
	return -code;
}

int err_context(struct err *err, const char *fmt, ...)
{
	char inner[ERR_MSG_MAX];
	size_t len;
	va_list ap;

	memcpy(inner, err->msg, sizeof(inner));
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", inner);
	return -err->code;
}
