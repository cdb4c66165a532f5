// SPDX-License-Identifier: Apache-2.0
/*
 * File names by pattern, as in a shell: * ? and [] in any part of a path, and no name that begins
 * with a dot unless the pattern does. (glob() and fnmatch() of the C library bring along the users
 * and the character sets of the world, 100 KiB of them.)
 *
 * #syscalls spawn: openat newfstatat getdents64 close
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "vmm/run/glob.h"

#define DEPTH_MAX 32 /* parts of a path that are patterns */

int run_glob_add(const char *path, struct run_paths *paths, struct err *err)
{
	if (paths->n == RUN_GLOB_MAX)
		return err_set(err, E2BIG, "more than %u kernels", RUN_GLOB_MAX);
	paths->path[paths->n] = strdup(path);
	if (paths->path[paths->n] == NULL)
		return err_sys(err, ENOMEM, "kernels");
	paths->n++;
	return 0;
}

/* Is @c one of the characters of the "[...]" at @p? *@end: what follows it; NULL: it has no end. */
static bool in_set(const char *p, char c, const char **end)
{
	bool not = p[1] == '!' || p[1] == '^', found = false;
	const char *first = p + 1 + not ;

	for (p = first; *p != '\0' && (*p != ']' || p == first); p++) {
		if (p[1] == '-' && p[2] != ']' && p[2] != '\0') {
			found = found || (c >= p[0] && c <= p[2]);
			p += 2;
		} else {
			found = found || c == *p;
		}
	}
	*end = *p == ']' ? p + 1 : NULL;
	return found != not ;
}

static bool matches(const char *p, const char *name)
{
	const char *star = NULL, *from = NULL, *end;

	if (*name == '.' && *p != '.')
		return false;
	/* After a mismatch the last '*' takes one character more. */
	while (*name != '\0') {
		if (*p == '*') {
			star = ++p;
			from = name;
			continue;
		}
		end = p + 1;
		if (*p == '?' || (*p == '[' && in_set(p, *name, &end) && end != NULL) ||
		    (*p != '[' && *p == *name)) {
			p = end;
			name++;
		} else if (star != NULL) {
			p = star;
			name = ++from;
		} else {
			return false;
		}
	}
	return p[strspn(p, "*")] == '\0';
}

/* What is in the folder @done (ends in '/', or is empty) and matches @pattern. */
static int expand(const char *done, const char *pattern, unsigned depth, struct run_paths *paths,
		  struct err *err)
{
	size_t len = strcspn(pattern, "*?["), part;
	char part_text[NAME_MAX + 1], path[PATH_MAX];
	struct dirent *entry;
	int r = 0;
	DIR *dir;

	/* Parts without a pattern go on as they are. */
	if (pattern[len] == '\0') {
		if (snprintf(path, sizeof(path), "%s%s", done, pattern) < (int)sizeof(path) &&
		    access(path, F_OK) == 0)
			r = run_glob_add(path, paths, err);
		return r;
	}
	while (len > 0 && pattern[len - 1] != '/')
		len--;
	part = strcspn(pattern + len, "/");
	if (depth == DEPTH_MAX || part > NAME_MAX ||
	    snprintf(path, sizeof(path), "%s%.*s", done, (int)len, pattern) >= (int)sizeof(path))
		return 0;
	memcpy(part_text, pattern + len, part);
	part_text[part] = '\0';
	dir = opendir(*path != '\0' ? path : ".");
	if (dir == NULL)
		return 0; /* as if it had no match */
	while (r == 0 && (entry = readdir(dir)) != NULL) {
		char next[PATH_MAX];
		bool last = pattern[len + part] == '\0';

		if (!matches(part_text, entry->d_name) ||
		    snprintf(next, sizeof(next), "%s%s%s", path, entry->d_name, last ? "" : "/") >=
			    (int)sizeof(next))
			continue;
		if (last)
			r = run_glob_add(next, paths, err);
		else
			r = expand(next, pattern + len + part + 1, depth + 1, paths, err);
	}
	closedir(dir);
	return r;
}

static int compare(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

int run_glob(const char *pattern, struct run_paths *paths, struct err *err)
{
	unsigned before = paths->n;

	if (strpbrk(pattern, "*?[") == NULL)
		return run_glob_add(pattern, paths, err);
	if (expand("", pattern, 0, paths, err) < 0)
		return -err->code;
	if (paths->n == before)
		return err_set(err, ENOENT, "there is no file %s", pattern);
	qsort(paths->path + before, paths->n - before, sizeof(*paths->path), compare);
	return 0;
}

void run_paths_fini(struct run_paths *paths)
{
	for (unsigned i = 0; i < paths->n; i++)
		free(paths->path[i]);
	paths->n = 0;
}
