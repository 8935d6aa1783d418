/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_RUN_SUITE_H
#define TESTS_RUN_SUITE_H

/* Runs one libcheck suite as a program: the exit status is the verdict. */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline int run_suite(Suite *s)
{
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* At the head of a test, or of what is left of it: true where it cannot be tried here. Then it says
 *so, with the reason, and the test returns; tools/test_summary.py counts it as skipped, not as
 *passed:
 *
 *	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
 *		return;
 */
#define run_suite_skips(cannot, why) ((cannot) && run_suite_say_skip(__func__, why))

static inline bool run_suite_say_skip(const char *function, const char *why)
{
	int len = (int)strlen(function);
	if (len > 3 && !strcmp(function + len - 3, "_fn")) /* START_TEST's */
		len -= 3;
	printf("\nskip   %.*s: %s\n", len, function, why);
	fflush(stdout);
	return true;
}

/* For much arithmetic in which nothing runs beside anything: the thread sanitizer would make
 * minutes of it and has nothing to find. */
#ifdef __SANITIZE_THREAD__
#	define RUN_SUITE_FINDS_RACES true
#else
#	define RUN_SUITE_FINDS_RACES false
#endif
#define RUN_SUITE_ONE_THREAD "one thread, nothing for the thread sanitizer"

/* For whole programs of that kind: true, and said, under it. Their main returns 77 then. */
static inline bool run_suite_has_one_thread(void)
{
	if (RUN_SUITE_FINDS_RACES)
		printf("skip: " RUN_SUITE_ONE_THREAD "\n");
	return RUN_SUITE_FINDS_RACES;
}

#endif
