/* SPDX-License-Identifier: Apache-2.0 */
/* What calls leave behind: connections that idle, calls under way at the end, and ten thousand that
 * failed. */
#include <check.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "gateway/http_parts.h"
#include "tests/gateway/fetch_fixture.h"
#include "tests/run_suite.h"

START_TEST(connections_that_nobody_uses_are_closed)
{
	struct fetch f;
	http_idle(fetch_http, 1);
	fetch_make(&f, "ok");
	fetch_run(&f);
	fetch_drop(&f);
	fetch_assert_counts(0, 1);
	ck_assert_int_eq(faulty_open(&fetch_server), 1);
	sleep(1);
	fetch_assert_counts(0, 0);
	usleep(10000);
	ck_assert_int_eq(faulty_open(&fetch_server), 0);
	fetch_make(&f, "ok");
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	fetch_drop(&f);
}
END_TEST

static size_t sets;

static void count_sets(struct fetch *f)
{
	sets = fetch_http->n_of_ca;
}

static void assert_sets(size_t n)
{
	fetch_on_loop(count_sets, NULL);
	ck_assert_uint_eq(sets, n);
}

START_TEST(authorities_that_nobody_has_any_more_are_let_go_of_though_no_others_come)
{
	struct fetch f;
	http_idle(fetch_http, 1);
	fetch_make(&f, "");
	snprintf(f.url, sizeof f.url, "https://127.0.0.1:%d/", fetch_server.closed);
	f.q.ca = http_ca_new("", 0);
	fetch_run(&f);
	fetch_drop(&f);
	assert_sets(1);
	ck_assert_int_eq(fetch_ca_files(NULL, 0), 1);
	sleep(2); /* they are somebody's: they stay */
	ck_assert_int_eq(fetch_ca_files(NULL, 0), 1);
	http_ca_put(f.q.ca);
	for (int i = 0; i < 1000 && fetch_ca_files(NULL, 0); i++)
		usleep(10000);
	ck_assert_int_eq(fetch_ca_files(NULL, 0), 0);
	fetch_assert_counts(0, 0);
	assert_sets(0);
	fetch_make(&f, "ok");
	fetch_run(&f);
	ck_assert_int_eq(f.fault, HTTP_OK);
	fetch_drop(&f);
}
END_TEST

START_TEST(calls_under_way_end_with_the_whole_without_a_word)
{
	static struct fetch f[8];
	for (int i = 0; i < 8; i++) {
		fetch_make(&f[i], i % 2 ? "hang-first" : "hang-middle");
		f[i].q.first_ms = f[i].q.idle_ms = 100000;
		fetch_on_loop(fetch_begin, &f[i]);
	}
	usleep(50000);
	fetch_close();
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(f[i].n_done, 0);
		fetch_drop(&f[i]);
	}
	fetch_open();
}
END_TEST

static void fetch_many(int n)
{
	static const char *const behaviours[] = {"ok", "close", "500", "garbage", "close-middle",
		"429", "#closed", "reset", "utf8", "redirect"};
	enum { AT_ONCE = 20 };
	static struct fetch f[AT_ONCE];
	for (int i = 0; i < n; i += AT_ONCE) {
		for (int k = 0; k < AT_ONCE; k++) {
			const char *b = behaviours[(size_t)(i + k) %
						   (sizeof behaviours / sizeof *behaviours)];
			fetch_make(&f[k], b);
			if (*b == '#')
				snprintf(f[k].url, sizeof f[k].url, "http://127.0.0.1:%d/",
					fetch_server.closed);
			if (k == 7)
				f[k].on_data = fetch_break_off;
			fetch_on_loop(fetch_begin, &f[k]);
		}
		for (int k = 0; k < AT_ONCE; k++) {
			if (k != 7)
				fetch_wait(&f[k]);
		}
		size_t running = 1, connections;
		while (running)
			http_count(fetch_http, &running, &connections);
		for (int k = 0; k < AT_ONCE; k++)
			fetch_drop(&f[k]);
	}
}

START_TEST(ten_thousand_calls_leave_no_descriptor_and_no_memory_behind)
{
	http_idle(fetch_http, 1);
	fetch_many(1000);
	json_decref(faulty_ask(&fetch_server, "POST", "/reset", ""));
	int descriptors = fetch_count_descriptors();
	size_t bytes = mallinfo2().uordblks;
	fetch_many(9000);
	json_decref(faulty_ask(&fetch_server, "POST", "/reset", ""));
	ck_assert_int_le(fetch_count_descriptors(), descriptors + 20);
	ck_assert_msg(mallinfo2().uordblks < bytes + 300000, "%zu bytes, then %zu", bytes,
		mallinfo2().uordblks);
	sleep(3);
	fetch_assert_counts(0, 0);
	ck_assert_int_eq(faulty_open(&fetch_server), 0);
	ck_assert_int_le(fetch_count_descriptors(), descriptors);
}
END_TEST

int main(void)
{
	if (!fetch_server_start())
		return 77;
	Suite *s = suite_create("http_many");
	TCase *c = tcase_create("many");
	tcase_add_checked_fixture(c, fetch_open, fetch_close);
	tcase_set_timeout(c, 120);
	tcase_add_test(c, connections_that_nobody_uses_are_closed);
	tcase_add_test(c, authorities_that_nobody_has_any_more_are_let_go_of_though_no_others_come);
	tcase_add_test(c, calls_under_way_end_with_the_whole_without_a_word);
	tcase_add_test(c, ten_thousand_calls_leave_no_descriptor_and_no_memory_behind);
	suite_add_tcase(s, c);
	int r = run_suite(s);
	faulty_stop(&fetch_server);
	return r;
}
