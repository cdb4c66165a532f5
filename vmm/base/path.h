/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as texts. */
#ifndef VMM_BASE_PATH_H
#define VMM_BASE_PATH_H

/* The folder that @path is in, "." if it names none. malloc'ed, NULL when out of memory. */
char *path_folder(const char *path);

#endif
