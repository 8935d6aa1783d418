/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FS_CHECK_FIXTURE_H
#define TESTS_FS_CHECK_FIXTURE_H

/* A TREE in `temporary` with models a, the default, and b, and what check.h says of it. */

#include <stdbool.h>

void check_setup(void);
void check_teardown(void);

/* All that is said, and the faults' number; free() it. */
char *check_said(int *n);
/* Just that is said, a fault a line. */
void check_expect(const char *want);

/* The file of a model in the tree, which has no endpoint then. */
void check_make_model(const char *file, bool encoder);

#endif
