/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_RUN_SUITE_H
#define TESTS_RUN_SUITE_H

/* Runs one libcheck suite as a program: the exit status is the verdict. */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static inline int run_suite(Suite *s)
{
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* For programs of much arithmetic in which nothing runs beside anything: true, and said, under the
 * thread sanitizer, which would make minutes of them and has nothing to find. Their main returns
 * 77 then. */
static inline bool run_suite_has_one_thread(void)
{
#ifdef __SANITIZE_THREAD__
	printf("skip: one thread, nothing for the thread sanitizer\n");
	return true;
#else
	return false;
#endif
}

#endif
