/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FS_TEMPORARY_H
#define TESTS_FS_TEMPORARY_H

/* A directory of its own for each test. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char temporary[64];

static inline void temporary_make(void)
{
	snprintf(temporary, sizeof temporary, "/tmp/llmfs-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(temporary));
}

static inline void temporary_remove(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", temporary);
	ck_assert_int_eq(system(command), 0);
}

/* Empties a file of it, at once. */
static inline void temporary_empty(const char *name)
{
	char path[192];
	snprintf(path, sizeof path, "%s/%s", temporary, name);
	ck_assert_int_eq(truncate(path, 0), 0);
}

/* Runs a shell in it. */
static inline void temporary_sh(const char *script)
{
	char command[1024];
	snprintf(command, sizeof command, "cd '%s' && { %s; }", temporary, script);
	ck_assert_int_eq(system(command), 0);
}

#endif
