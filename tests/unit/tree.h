/* SPDX-License-Identifier: Apache-2.0 */
/* A temporary folder with small files in it, that stands for some part of the host. */
#ifndef TESTS_UNIT_TREE_H
#define TESTS_UNIT_TREE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char dir[64]; /* the folder */

static inline void tree_make(void)
{
	strcpy(dir, "/tmp/test_tree.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static inline void tree_remove(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

/* A file below the folder with @text in it, and the folders on the way. */
static inline void put(const char *file, const char *text)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
	f = fopen(path, "we");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

/* What is in it; good for three more. */
static inline const char *get(const char *file)
{
	static char text[4][256];
	static unsigned next;
	char path[512], *t = text[next++ % 4];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "re");
	ck_assert_msg(f != NULL, "%s", file);
	t[fread(t, 1, 255, f)] = '\0';
	fclose(f);
	return t;
}

#endif
