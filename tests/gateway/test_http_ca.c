/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are held against certificates: which, how often they are read, and what is left of a
 * set that nobody has any more. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/gateway/secure_fixture.h"
#include "tests/run_suite.h"

/* In front of the C library's, also for libcurl: time goes on, and may have jumped. libcheck, too,
 * which cannot say of a test that it took hours: it is to end with 0. */
static _Atomic time_t jump_s;

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now)
{
	int r = (int)syscall(SYS_clock_gettime, clock, now);
	if (r == 0 && clock != CLOCK_REALTIME)
		now->tv_sec += jump_s;
	return r;
}

/* ---- which ---- */

START_TEST(tls_works_with_the_right_certificate_and_only_with_it)
{
	static const char nonsense[] = "no certificate";
	struct fetch f;
	secure_system(nonsense, strlen(nonsense));
	fetch_on_loop(secure_read_system, NULL);
	for (int i = 0; i < 2; i++) {
		secure_make(&f);
		f.q.ca = secure_authorities(0);
		fetch_run(&f);
		ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
		ck_assert_ptr_nonnull(strstr(f.body.data, "[DONE]"));
		fetch_drop(&f);
		http_ca_put(f.q.ca);
		secure_make(&f);
		fetch_run(&f);
		ck_assert_int_eq(f.fault, HTTP_CONNECT);
		ck_assert_msg(strstr(f.sentence, "/system.pem cannot be read"), "%s", f.sentence);
		ck_assert_int_eq(f.head.status, 0);
	}
	secure_make(&f);
	f.q.ca = http_ca_new(nonsense, strlen(nonsense));
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_CONNECT);
	ck_assert_msg(strstr(f.sentence, "certificate"), "%s", f.sentence);
	http_ca_put(f.q.ca);
	json_t *log = faulty_log(&secure_server);
	ck_assert_uint_eq(json_array_size(log), 2);
	json_decref(log);
}
END_TEST

START_TEST(without_a_set_it_is_the_systems)
{
	secure_connect(NULL);
	secure_connect(NULL);
	ck_assert_uint_eq(fetch_http->n_of_ca, 1);
}
END_TEST

START_TEST(the_systems_file_is_looked_at_again_and_its_change_is_seen)
{
	static const char nonsense[] = "no certificate";
	struct http_ca *before = fetch_http->system;
	struct fetch f;
	secure_close_each();
	secure_connect(NULL);
	secure_system(nonsense, strlen(nonsense));
	secure_connect(NULL);
	ck_assert_ptr_eq(fetch_http->system, before);
	jump_s += 2 * 60 * 60;
	secure_make(&f);
	fetch_run(&f); /* has the look begin */
	fetch_drop(&f);
	for (int i = 0; i < 2000; i++) {
		secure_make(&f);
		fetch_run(&f);
		fetch_drop(&f);
		if (f.fault != HTTP_OK)
			break;
		usleep(5000);
	}
	ck_assert_int_eq(f.fault, HTTP_CONNECT);
	ck_assert_msg(strstr(f.sentence, "certificate"), "%s", f.sentence);
	json_decref(faulty_ask(&secure_server, "POST", "/reset", ""));
	jump_s = 0;
}
END_TEST

/* ---- once ---- */

START_TEST(authorities_are_read_once_and_not_for_each_connection_nor_each_day)
{
	if (run_suite_skips(!secure_keeps(), secure_keeps_not))
		return;
	struct http_ca *ca = secure_authorities(0);
	char path[320];

	secure_close_each();
	secure_connect(ca);
	/* From now on nobody who read them would find any. */
	ck_assert_int_eq(fetch_ca_files(path, sizeof path), 1);
	ck_assert_int_eq(truncate(path, 0), 0);
	secure_connect(ca);
	jump_s += 25 * 60 * 60;
	secure_connect(ca);
	jump_s *= 40;
	secure_connect(ca);
	/* Each was a connection of its own. */
	json_t *log = faulty_log(&secure_server);
	json_int_t last = 0;
	for (size_t i = 0; i < json_array_size(log); i++) {
		json_int_t n =
			json_integer_value(json_object_get(json_array_get(log, i), "connection"));
		ck_assert_int_gt(n, last);
		last = n;
	}
	json_decref(log);
	json_decref(faulty_ask(&secure_server, "POST", "/reset", ""));
	http_ca_put(ca);
	jump_s = 0;
}
END_TEST

START_TEST(what_cannot_be_read_is_tried_once_and_said_each_time)
{
	char path[320], first[320];
	struct stat st;
	size_t len;
	char *pem = secure_pem(0, 20, &len);
	struct fetch f;
	pem[len - 200] = '!'; /* in the last one */
	secure_make(&f);
	f.q.ca = http_ca_new(pem, len);
	free(pem);
	for (int i = 0; i < 3; i++) {
		f.n_done = 0;
		fetch_run(&f);
		ck_assert_int_eq(f.fault, HTTP_CONNECT);
		ck_assert_msg(strstr(f.sentence, "the certificates of ca_file cannot be read"),
			"%s", f.sentence);
		if (i == 0)
			strcpy(first, f.sentence);
		ck_assert_str_eq(f.sentence, first);
		ck_assert_int_eq(fetch_ca_files(path, sizeof path), 1);
		ck_assert_int_eq(stat(path, &st), 0);
		if (secure_keeps())
			ck_assert_int_eq(st.st_size, 0);
	}
	http_ca_put(f.q.ca);
}
END_TEST

START_TEST(sets_of_authorities_come_and_go_and_leave_nothing_behind)
{
	struct http_ca *sets[40];
	int descriptors = 0;

	/* Connections are not kept: only what is there for sets is counted. */
	secure_close_each();
	for (int i = 0; i < 80; i++) {
		struct http_ca *ca = secure_authorities(i);
		secure_connect(ca);
		http_ca_put(ca);
		if (i == 2)
			descriptors = fetch_count_descriptors();
	}
	ck_assert_int_le(fetch_count_descriptors(), descriptors + 2);
	/* More at a time than are remembered. */
	for (int i = 0; i < 40; i++) {
		sets[i] = secure_authorities(100 + i);
		secure_connect(sets[i]);
	}
	secure_connect(sets[0]);
	secure_connect(sets[39]);
	for (int i = 0; i < 40; i++)
		http_ca_put(sets[i]);
	struct http_ca *last = secure_authorities(200);
	secure_connect(last);
	http_ca_put(last);
	ck_assert_int_le(fetch_count_descriptors(), descriptors + 2);
	json_decref(faulty_ask(&secure_server, "POST", "/reset", ""));
}
END_TEST

START_TEST(equal_sets_of_authorities_share_a_connection)
{
	struct http_ca *one = secure_authorities(0), *other = secure_authorities(0);
	char path[320];
	secure_connect(one);
	secure_connect(other);
	ck_assert_int_eq(fetch_ca_files(path, sizeof path), 2);
	json_t *log = faulty_log(&secure_server);
	ck_assert_uint_eq(json_array_size(log), 2);
	ck_assert(json_equal(json_object_get(json_array_get(log, 0), "connection"),
		json_object_get(json_array_get(log, 1), "connection")));
	json_decref(log);
	http_ca_put(one);
	http_ca_put(other);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("http_ca");
	TCase *c = tcase_create("authorities");
	tcase_add_checked_fixture(c, secure_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, tls_works_with_the_right_certificate_and_only_with_it);
	tcase_add_test(c, without_a_set_it_is_the_systems);
	tcase_add_test(c, the_systems_file_is_looked_at_again_and_its_change_is_seen);
	tcase_add_test(c, authorities_are_read_once_and_not_for_each_connection_nor_each_day);
	tcase_add_test(c, what_cannot_be_read_is_tried_once_and_said_each_time);
	tcase_add_test(c, sets_of_authorities_come_and_go_and_leave_nothing_behind);
	tcase_add_test(c, equal_sets_of_authorities_share_a_connection);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	if (!fetch_server_start())
		return 77;
	int r = secure_start() ? run_suite(make_suite()) : 77;
	secure_stop();
	faulty_stop(&fetch_server);
	return r;
}
