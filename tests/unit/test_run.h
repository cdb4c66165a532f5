/* SPDX-License-Identifier: Apache-2.0 */
/* Running a suite of the check library: the end of every unit test's main(). */
#ifndef TESTS_UNIT_TEST_RUN_H
#define TESTS_UNIT_TEST_RUN_H

#include <check.h>
#include <stdlib.h>

/* The program's exit status. The suite is freed. */
static inline int test_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
