/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/local_fs.h"
#include "tests/run_suite.h"

START_TEST(memory_is_local)
{
	int fd = memfd_create("local", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert(local_fs_has(fd));
	close(fd);
}
END_TEST

START_TEST(what_is_not_known_is_not_local)
{
	int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert(!local_fs_has(fd));
	close(fd);
	ck_assert(!local_fs_has(-1));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base/local_fs");
	TCase *t = tcase_create("local_fs");
	tcase_add_test(t, memory_is_local);
	tcase_add_test(t, what_is_not_known_is_not_local);
	suite_add_tcase(s, t);
	return run_suite(s);
}
