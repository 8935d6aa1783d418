/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fs/temporary.h"

char temporary[64];

void temporary_make(void)
{
	snprintf(temporary, sizeof temporary, "/tmp/llmfs-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(temporary));
}

void temporary_remove(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", temporary);
	ck_assert_int_eq(system(command), 0);
}

void temporary_empty(const char *name)
{
	char path[192];
	snprintf(path, sizeof path, "%s/%s", temporary, name);
	ck_assert_int_eq(truncate(path, 0), 0);
}

void temporary_sh(const char *script)
{
	char command[1024];
	snprintf(command, sizeof command, "cd '%s' && { %s; }", temporary, script);
	ck_assert_int_eq(system(command), 0);
}
