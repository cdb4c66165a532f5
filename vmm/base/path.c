// SPDX-License-Identifier: Apache-2.0
/* Paths as texts: see path.h. */
#include <string.h>
#include "vmm/base/path.h"

char *path_folder(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}
