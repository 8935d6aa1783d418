/* SPDX-License-Identifier: Apache-2.0 */
/* An account's settings, windows and verbs. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "gateway/window.h"
#include "tests/gateway/spend_fixture.h"
#include "tests/run_suite.h"

/* ---- settings ---- */

START_TEST(a_value_that_makes_no_sense_is_refused_with_what_does)
{
	static const char *const bad[][3] = {{"limit", "-1", "dollars"},
		{"limit", "5 USD", "dollars"}, {"limit", "0.0000000001", "dollars"},
		{"limit", "1000000001", "dollars"},
		{"window", "minute", "day, week, month or total"},
		{"window", "year", "day, week, month or total"},
		{"requests_per_minute", "-1", "whole number"},
		{"requests_per_day", "1.5", "whole number"},
		{"tokens_per_minute", "ten", "whole number"},
		{"tokens_per_day", "1234567890123456", "whole number"},
		{"requests_in_flight", " 1", "whole number"}, {"alerts", "80%", "fractions"},
		{"alerts", "0", "fractions"}, {"alerts", "1.01", "fractions"},
		{"alerts", "0.8 0.5", "rising"}, {"alerts", "   ", "fractions"},
		{"alerts", ".1 .2 .3 .4 .5 .6 .7 .8 .9 .91 .92 .93 .94 .95 .96 .97 .98", "16"},
		{"members", "alice bob", "one a line"}, {"members", "..", "one a line"}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err err = {0};
		int r = account_setting_check(bad[i][0], bad[i][1], strlen(bad[i][1]), &err);
		ck_assert_msg(r == -EINVAL, "%s=%s", bad[i][0], bad[i][1]);
		ck_assert_msg(strstr(err.text, bad[i][2]) != NULL, "%s", err.text);
		ck_assert_msg(!strncmp(err.text, bad[i][0], strlen(bad[i][0])), "%s", err.text);
	}
	ck_assert_int_eq(account_setting_check("colour", "1", 1, NULL), -ENOENT);
	ck_assert_int_eq(account_setting_check("limit", "1\0", 2, NULL), -EINVAL);
}
END_TEST

static void expect_setting(const char *name, const char *file, const char *value)
{
	struct buf out = {0};
	struct account *a = gateway_account_find(&spend_f.g, name);
	ck_assert_ptr_nonnull(a);
	ck_assert_int_eq(account_setting_get(a, file, &out), 0);
	ck_assert_str_eq(out.data ? out.data : "", value);
	buf_free(&out);
	account_put(a);
}

START_TEST(each_setting_takes_its_values_and_shows_them_as_written)
{
	static const char *const good[][3] = {{"limit", "2.50", ""}, {"window", "week", "month"},
		{"requests_per_minute", "0", ""}, {"requests_per_day", "999999999999999", ""},
		{"tokens_per_minute", "10", ""}, {"tokens_per_day", "11", ""},
		{"requests_in_flight", "1", ""}, {"alerts", "0.25  .5 1", "0.8 1"},
		{"alerts", "off", "0.8 1"}, {"members", "bob\n\nalice", ""}};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		book_fixture_set(&spend_f, "staff", good[i][0], good[i][1]);
		expect_setting("staff", good[i][0], good[i][1]);
		book_fixture_set(&spend_f, "staff", good[i][0], "");
		expect_setting("staff", good[i][0], good[i][2]);
	}
	size_t n = 0;
	while (account_setting_names()[n])
		ck_assert_int_eq(
			account_setting_check(account_setting_names()[n++], "", 0, NULL), 0);
	ck_assert_uint_eq(n, 10);
}
END_TEST

START_TEST(a_refused_value_leaves_the_old_one_in_force)
{
	book_fixture_set(&spend_f, "alice", "members", "bob");
	struct account *a = gateway_account_find(&spend_f.g, "alice");
	ck_assert_int_eq(account_setting_set(a, "members", "b b", 3, NULL), -EINVAL);
	account_put(a);
	expect_setting("alice", "members", "bob");
	book_fixture_set(&spend_f, "alice", "limit", "1");
	spend_dollars("bob", 1);
	struct book_claim *c;
	const struct book_worst worst = {.output_tok = 1, .price = spend_dollar_a_token};
	ck_assert_int_eq(book_claim(&c, spend_f.g.book, "bob", &worst, NULL, NULL), -EDQUOT);
}
END_TEST

START_TEST(an_account_of_its_own_is_needed_to_have_settings)
{
	spend_dollars("alice", 1);
	struct account *a = gateway_account_find(&spend_f.g, "alice");
	struct err err = {0};
	ck_assert(!account_is_configured(a));
	ck_assert_int_eq(account_setting_set(a, "limit", "1", 1, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "mkdir budgets/alice"));
	ck_assert_int_eq(gateway_account_create(&spend_f.g, "alice", NULL), 0);
	ck_assert_int_eq(gateway_account_create(&spend_f.g, "alice", NULL), -EEXIST);
	ck_assert_int_eq(account_setting_set(a, "limit", "1", 1, &err), 0);
	account_put(a);
	ck_assert_int_eq(gateway_account_create(&spend_f.g, "a/b", NULL), -EINVAL);
	ck_assert_int_eq(gateway_account_create(&spend_f.g, "", NULL), -EINVAL);
}
END_TEST

START_TEST(who_has_no_account_shows_what_default_says_and_has_sums_of_its_own)
{
	book_fixture_set(&spend_f, "default", "limit", "5");
	book_fixture_set(&spend_f, "default", "window", "day");
	spend_dollars("alice", 3);
	spend_dollars("bob", 1);
	expect_setting("alice", "limit", "5");
	expect_setting("alice", "window", "day");
	book_fixture_expect(&spend_f, "alice", ACCOUNT_REMAINING, "2\n");
	book_fixture_expect(&spend_f, "bob", ACCOUNT_REMAINING, "4\n");
	book_fixture_expect(&spend_f, "default", ACCOUNT_SPENT, "0\n");
	ck_assert_int_eq(gateway_account_remove(&spend_f.g, "default", NULL), 0);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_REMAINING, "unlimited\n");
}
END_TEST

START_TEST(default_is_a_template_without_members_and_verbs)
{
	ck_assert_int_eq(gateway_account_create(&spend_f.g, "default", NULL), 0);
	struct account *a = gateway_account_find(&spend_f.g, "default");
	ck_assert_int_eq(account_setting_set(a, "members", "bob", 3, NULL), -EINVAL);
	ck_assert_int_eq(account_ctl(a, "reset", 5, NULL), -EINVAL);
	account_put(a);
	struct book_claim *c;
	const struct book_worst worst = {0};
	ck_assert_int_eq(book_claim(&c, spend_f.g.book, "default", &worst, NULL, NULL), -EINVAL);
}
END_TEST

static void expect_names(const char *expected)
{
	char text[256] = "";
	char **names = gateway_account_names(&spend_f.g);
	for (size_t i = 0; names[i]; i++) {
		strncat(text, names[i], sizeof text - strlen(text) - 2);
		strcat(text, " ");
		free(names[i]);
	}
	free(names);
	ck_assert_str_eq(text, expected);
}

START_TEST(accounts_are_shown_when_they_are_configured_or_have_asked)
{
	expect_names("");
	book_fixture_set(&spend_f, "staff", "members", "bob");
	spend_dollars("bob", 2);
	expect_names("bob staff ");
	/* Not a user: gone from sight, but not forgotten. */
	ck_assert_int_eq(gateway_account_remove(&spend_f.g, "staff", NULL), 0);
	ck_assert_int_eq(gateway_account_remove(&spend_f.g, "staff", NULL), -ENOENT);
	expect_names("bob ");
	ck_assert_ptr_null(gateway_account_find(&spend_f.g, "staff"));
	spend_dollars("bob", 1);
	book_fixture_set(&spend_f, "staff", "limit", "9");
	book_fixture_expect(&spend_f, "staff", ACCOUNT_SPENT, "2\n");
	expect_setting("staff", "members", "");
	book_fixture_close(&spend_f);
	book_fixture_open(&spend_f);
	expect_names("bob ");
}
END_TEST

/* ---- windows ---- */

static uint64_t at(int year, int month, int day, int hour, int minute, int second)
{
	struct tm tm = {.tm_year = year - 1900,
		.tm_mon = month - 1,
		.tm_mday = day,
		.tm_hour = hour,
		.tm_min = minute,
		.tm_sec = second};
	return (uint64_t)timegm(&tm);
}

static void expect_window(enum window_kind kind, uint64_t now, uint64_t begin, uint64_t end)
{
	struct window w = window_at(kind, now);
	ck_assert_uint_eq(w.begin_s, begin);
	ck_assert_uint_eq(w.end_s, end);
}

START_TEST(windows_begin_where_the_calendar_says)
{
	uint64_t now = at(2026, 11, 25, 12, 34, 56);
	expect_window(WINDOW_MINUTE, now, at(2026, 11, 25, 12, 34, 0), at(2026, 11, 25, 12, 35, 0));
	expect_window(WINDOW_DAY, now, at(2026, 11, 25, 0, 0, 0), at(2026, 11, 26, 0, 0, 0));
	expect_window(WINDOW_WEEK, now, at(2026, 11, 23, 0, 0, 0), at(2026, 11, 30, 0, 0, 0));
	expect_window(WINDOW_MONTH, now, at(2026, 11, 1, 0, 0, 0), at(2026, 12, 1, 0, 0, 0));
	expect_window(WINDOW_TOTAL, now, 0, UINT64_MAX);
	/* A Monday's first second and a Sunday's last; a year's end; a leap day. */
	uint64_t monday = at(2026, 11, 23, 0, 0, 0);
	expect_window(WINDOW_WEEK, monday, monday, monday + 7 * 86400);
	expect_window(WINDOW_WEEK, monday - 1, monday - 7 * 86400, monday);
	expect_window(WINDOW_MONTH, at(2026, 12, 31, 23, 59, 59), at(2026, 12, 1, 0, 0, 0),
		at(2027, 1, 1, 0, 0, 0));
	expect_window(WINDOW_MONTH, at(2028, 2, 29, 1, 0, 0), at(2028, 2, 1, 0, 0, 0),
		at(2028, 3, 1, 0, 0, 0));
}
END_TEST

START_TEST(every_second_is_in_the_window_that_was_asked_for_it)
{
	uint64_t x = 3;
	for (int i = 0; i < 100000; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		uint64_t now = (x >> 20) % 5000000000u;
		for (int k = 0; k < N_WINDOWS; k++) {
			struct window w = window_at((enum window_kind)k, now);
			ck_assert_uint_le(w.begin_s, now);
			ck_assert_uint_lt(now, w.end_s);
			if (w.begin_s)
				ck_assert_uint_eq(
					window_at((enum window_kind)k, w.begin_s - 1).end_s,
					w.begin_s);
		}
	}
}
END_TEST

START_TEST(a_clock_that_goes_back_opens_no_window)
{
	struct window w = {0};
	uint64_t now = BOOK_FIXTURE_NOON_S;
	ck_assert(window_roll(&w, WINDOW_DAY, now));
	ck_assert(!window_roll(&w, WINDOW_DAY, now + 60));
	ck_assert(!window_roll(&w, WINDOW_DAY, now - 86400));
	ck_assert(window_roll(&w, WINDOW_DAY, now + 86400));

	book_fixture_set(&spend_f, "alice", "window", "day");
	spend_dollars("alice", 3);
	book_fixture_set_s(now - 86400);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "3\n");
	book_fixture_set_s(now + 12 * 3600 - 1);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "3\n");
	book_fixture_set_s(now + 12 * 3600);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "0\n");
}
END_TEST

START_TEST(a_clock_that_was_far_ahead_is_got_over_by_a_reset)
{
	struct err err = {0};
	book_fixture_set(&spend_f, "alice", "window", "day");
	book_fixture_set(&spend_f, "alice", "requests_per_minute", "2");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 10 * 365 * 86400);
	spend_dollars("alice", 3);
	spend_dollars("alice", 3);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S);
	struct book_claim *c;
	const struct book_worst worst = {0};
	ck_assert_int_eq(book_claim(&c, spend_f.g.book, "alice", &worst, NULL, NULL), -EAGAIN);
	ck_assert_int_eq(spend_ctl("alice", "reset", &err), 0);
	spend_dollars("alice", 1);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "1\n");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 86400);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "0\n");
}
END_TEST

START_TEST(another_window_shows_what_was_spent_in_it)
{
	spend_dollars("alice", 1);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 86400);
	spend_dollars("alice", 2);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 7 * 86400); /* December */
	spend_dollars("alice", 4);
	static const char *const expected[][2] = {
		{"day", "4\n"}, {"week", "4\n"}, {"month", "4\n"}, {"total", "7\n"}};
	for (int restart = 0; restart < 2; restart++) {
		for (size_t i = 0; i < 4; i++) {
			book_fixture_set(&spend_f, "alice", "window", expected[i][0]);
			book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, expected[i][1]);
		}
		book_fixture_close(&spend_f);
		book_fixture_open(&spend_f);
	}
}
END_TEST

/* ---- verbs ---- */

START_TEST(reset_and_credit_are_in_the_ledger_and_survive)
{
	struct err err = {0};
	book_fixture_set(&spend_f, "alice", "limit", "10");
	spend_dollars("alice", 8);
	ck_assert_int_eq(spend_ctl("alice", "credit 2.5", &err), 0);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "5.5\n");
	ck_assert_int_eq(spend_ctl("alice", "reset", &err), 0);
	ck_assert_int_eq(spend_ctl("alice", "credit 1", &err), 0);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "-1\n");
	book_fixture_expect(&spend_f, "alice", ACCOUNT_REMAINING, "11\n");
	ck_assert_uint_eq(book_fixture_count(&spend_f, "alice", ACCOUNT_LEDGER,
				  "\"status\": \"credit\", \"cost\": -2.5, \"spent\": 5.5}"),
		1);
	ck_assert_uint_eq(book_fixture_count(&spend_f, "alice", ACCOUNT_LEDGER,
				  "\"status\": \"reset\", \"cost\": -5.5, \"spent\": 0}"),
		1);
	char *before = book_fixture_view(&spend_f, "alice", ACCOUNT_LEDGER);
	book_fixture_close(&spend_f);
	book_fixture_open(&spend_f);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "-1\n");
	book_fixture_expect(&spend_f, "alice", ACCOUNT_LEDGER, before);
	free(before);
}
END_TEST

START_TEST(a_verb_that_is_none_is_refused_with_those_there_are)
{
	static const char *const bad[] = {"", "refund", "reset now", "credit", "credit ",
		"credit x", "credit -1", "CREDIT 1"};
	spend_dollars("alice", 1);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err err = {0};
		ck_assert_msg(spend_ctl("alice", bad[i], &err) == -EINVAL, "%s", bad[i]);
		ck_assert_msg(strstr(err.text, "credit") != NULL, "%s", err.text);
		bool lacks = !strcmp(bad[i], "credit") || !strcmp(bad[i], "credit ");
		ck_assert_msg(lacks == !!strstr(err.text, "are missing"), "%s", err.text);
	}
	book_fixture_expect(&spend_f, "alice", ACCOUNT_SPENT, "1\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/account");
	TCase *t = tcase_create("account");
	tcase_add_checked_fixture(t, spend_open, spend_close);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_value_that_makes_no_sense_is_refused_with_what_does);
	tcase_add_test(t, each_setting_takes_its_values_and_shows_them_as_written);
	tcase_add_test(t, a_refused_value_leaves_the_old_one_in_force);
	tcase_add_test(t, an_account_of_its_own_is_needed_to_have_settings);
	tcase_add_test(t, who_has_no_account_shows_what_default_says_and_has_sums_of_its_own);
	tcase_add_test(t, default_is_a_template_without_members_and_verbs);
	tcase_add_test(t, accounts_are_shown_when_they_are_configured_or_have_asked);
	tcase_add_test(t, windows_begin_where_the_calendar_says);
	tcase_add_test(t, every_second_is_in_the_window_that_was_asked_for_it);
	tcase_add_test(t, a_clock_that_goes_back_opens_no_window);
	tcase_add_test(t, a_clock_that_was_far_ahead_is_got_over_by_a_reset);
	tcase_add_test(t, another_window_shows_what_was_spent_in_it);
	tcase_add_test(t, reset_and_credit_are_in_the_ledger_and_survive);
	tcase_add_test(t, a_verb_that_is_none_is_refused_with_those_there_are);
	suite_add_tcase(s, t);
	return run_suite(s);
}
