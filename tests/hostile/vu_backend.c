// SPDX-License-Identifier: Apache-2.0
/*
 * The back end of the unit tests (tests/unit/vu_backend.h) as a program, for guests that attack
 * what another process serves:  vu_backend SOCKET
 *
 * It runs until it is killed.
 */
#include <stdio.h>
#include <stdlib.h>

#define BACKEND_SECTORS 16384 /* 8 MiB */
#define BACKEND_ALONE

/* What the front end does wrong ends this program; check's own are for tests only. */
#define ck_assert(cond)                                                                            \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "not ok - the front end: %s\n", #cond);                    \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)
#define ck_assert_uint_eq(a, b)	 ck_assert((a) == (b))
#define ck_assert_int_eq(a, b)	 ck_assert((a) == (b))
#define ck_assert_uint_le(a, b)	 ck_assert((a) <= (b))
#define ck_assert_uint_gt(a, b)	 ck_assert((a) > (b))
#define ck_assert_ptr_ne(a, b)	 ck_assert((a) != (b))
#define ck_assert_ptr_nonnull(a) ck_assert((a) != NULL)
#include "tests/unit/vu_backend.h"

int main(int argc, char **argv)
{
	static struct backend b;

	if (argc != 2 || strlen(argv[1]) >= sizeof(b.path))
		return 125;
	backend_init(&b);
	rmdir(b.dir);
	strcpy(b.path, argv[1]);
	backend_start(&b);
	pthread_join(b.thread, NULL);
	return 0;
}
