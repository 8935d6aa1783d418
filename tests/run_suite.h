/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_RUN_SUITE_H
#define TESTS_RUN_SUITE_H

/* Runs one libcheck suite as a program: the exit status is the verdict. */
#include <check.h>
#include <stdlib.h>

static inline int run_suite(Suite *s)
{
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
