/* SPDX-License-Identifier: Apache-2.0 */
/* Names of users, from a user database of the test's own: the library finds our getpwuid_r, and our
 * clock. */
#include "gateway/users.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/run_suite.h"

static atomic_int n_asked, seconds_ahead;
static const char *database[2048]; /* by uid; NULL: unknown */
static struct users *u;

int getpwuid_r(uid_t uid, struct passwd *row, char *strings, size_t size, struct passwd **found)
{
	atomic_fetch_add(&n_asked, 1);
	*found = NULL;
	const char *name = uid < 2048 ? database[uid] : NULL;
	if (!name)
		return 0;
	if (strlen(name) >= size)
		return ERANGE;
	memset(row, 0, sizeof *row);
	row->pw_name = strcpy(strings, name);
	row->pw_uid = uid;
	*found = row;
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);
	t->tv_sec += atomic_load(&seconds_ahead);
	return r;
}

static void setup(void)
{
	u = users_new();
	ck_assert_ptr_nonnull(u);
	database[1] = "alice";
	database[2] = "bob";
}

static void teardown(void)
{
	users_free(u);
}

static void expect(uid_t uid, const char *want)
{
	char name[TEXT_NAME_SIZE];
	memset(name, 'x', sizeof name);
	users_name(u, uid, name);
	ck_assert_str_eq(name, want);
}

START_TEST(a_user_is_called_by_its_name_and_an_unknown_one_by_its_number)
{
	expect(1, "alice");
	expect(2, "bob");
	expect(3, "3");
	expect(0, "0");
	expect((uid_t)-2, "4294967294");
}
END_TEST

START_TEST(a_name_that_no_account_can_have_gives_the_number)
{
	char fits[TEXT_NAME_MAX + 1], too_long[TEXT_NAME_MAX + 2], huge[5000];
	memset(fits, 'f', sizeof fits);
	fits[sizeof fits - 1] = '\0';
	memset(too_long, 't', sizeof too_long);
	too_long[sizeof too_long - 1] = '\0';
	memset(huge, 'h', sizeof huge);
	huge[sizeof huge - 1] = '\0';
	database[10] = fits;
	database[11] = too_long;
	database[12] = huge; /* longer than the room for its entry */
	database[13] = "default";
	database[14] = "DOMAIN\\carol";
	database[15] = "..";
	database[16] = "";
	database[17] = "dave.smith-2_x";
	database[18] = "a/b";
	expect(10, fits);
	expect(11, "11");
	expect(12, "12");
	expect(13, "13");
	expect(14, "14");
	expect(15, "15");
	expect(16, "16");
	expect(17, "dave.smith-2_x");
	expect(18, "18");
}
END_TEST

START_TEST(the_database_is_asked_once_a_minute_for_each_user)
{
	for (int i = 0; i < 100; i++) {
		expect(1, "alice");
		expect(2, "bob");
		expect(900, "900");
	}
	ck_assert_int_eq(atomic_load(&n_asked), 3);
	database[1] = "alicia";
	atomic_store(&seconds_ahead, 55);
	expect(1, "alice");
	ck_assert_int_eq(atomic_load(&n_asked), 3);
	atomic_store(&seconds_ahead, 61);
	expect(1, "alicia");
	expect(1, "alicia");
	ck_assert_int_eq(atomic_load(&n_asked), 4);
}
END_TEST

START_TEST(users_that_share_a_row_are_not_mistaken_for_one_another)
{
	database[1 + 256] = "carol";
	for (int i = 0; i < 10; i++) {
		expect(1, "alice");
		expect(1 + 256, "carol");
		expect(1 + 512, "513");
	}
}
END_TEST

static void *ask(void *arg)
{
	char name[TEXT_NAME_SIZE], want[TEXT_NAME_SIZE];
	for (unsigned i = 0; i < 20000; i++) {
		unsigned uid = 1000 + i * 7 % 1000; /* four users a row */
		snprintf(want, sizeof want, uid % 2 ? "user%u" : "%u", uid);
		users_name(u, uid, name);
		ck_assert_str_eq(name, want);
	}
	return NULL;
}

START_TEST(threads_that_share_rows_get_their_own_names)
{
	enum { N = 4 };
	static char names[1000][16];
	pthread_t threads[N];
	for (unsigned i = 1; i < 1000; i += 2) {
		snprintf(names[i], sizeof names[i], "user%u", 1000 + i);
		database[1000 + i] = names[i];
	}
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ask, NULL), 0);
	for (int i = 0; i < N; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("users");
	TCase *t = tcase_create("users");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_user_is_called_by_its_name_and_an_unknown_one_by_its_number);
	tcase_add_test(t, a_name_that_no_account_can_have_gives_the_number);
	tcase_add_test(t, the_database_is_asked_once_a_minute_for_each_user);
	tcase_add_test(t, users_that_share_a_row_are_not_mistaken_for_one_another);
	tcase_add_test(t, threads_that_share_rows_get_their_own_names);
	suite_add_tcase(s, t);
	return run_suite(s);
}
