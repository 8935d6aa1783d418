/* SPDX-License-Identifier: Apache-2.0 */
/* An account's settings, windows, alerts and logs. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gateway/book_parts.h"
#include "gateway/ledger.h"
#include "gateway/window.h"
#include "tests/gateway/book_fixture.h"
#include "tests/run_suite.h"

static struct book_fixture f;

static void setup(void)
{
	book_fixture_make(&f);
}

static void teardown(void)
{
	book_fixture_end(&f);
}

/* 1 dollar for a token of output. */
static const struct money_price dollar_a_token = {.output = (money)1000000000 * 1000000};

static uint64_t next_id;

/* A request of `user` that costs so many dollars. */
static void spend(const char *user, uint64_t dollars)
{
	const struct book_worst worst = {.output_tok = dollars, .price = dollar_a_token};
	const struct book_request request = {++next_id, "s", "m"};
	const struct money_tokens tokens = {.output = dollars};
	struct book_claim *c = NULL;
	struct err err = {0};
	ck_assert_msg(book_claim(&c, f.g.book, user, &worst, NULL, &err) == 0, "%s", err.text);
	book_claim_start(c, &request, 0);
	book_claim_settle(c, &tokens, "done");
}

static int ctl(const char *name, const char *line, struct err *err)
{
	struct account *a = gateway_account_find(&f.g, name);
	int r = account_ctl(a, line, strlen(line), err);
	account_put(a);
	return r;
}

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
	struct account *a = gateway_account_find(&f.g, name);
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
		book_fixture_set(&f, "staff", good[i][0], good[i][1]);
		expect_setting("staff", good[i][0], good[i][1]);
		book_fixture_set(&f, "staff", good[i][0], "");
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
	book_fixture_set(&f, "alice", "members", "bob");
	struct account *a = gateway_account_find(&f.g, "alice");
	ck_assert_int_eq(account_setting_set(a, "members", "b b", 3, NULL), -EINVAL);
	account_put(a);
	expect_setting("alice", "members", "bob");
	book_fixture_set(&f, "alice", "limit", "1");
	spend("bob", 1);
	struct book_claim *c;
	const struct book_worst worst = {.output_tok = 1, .price = dollar_a_token};
	ck_assert_int_eq(book_claim(&c, f.g.book, "bob", &worst, NULL, NULL), -EDQUOT);
}
END_TEST

START_TEST(an_account_of_its_own_is_needed_to_have_settings)
{
	spend("alice", 1);
	struct account *a = gateway_account_find(&f.g, "alice");
	struct err err = {0};
	ck_assert(!account_is_configured(a));
	ck_assert_int_eq(account_setting_set(a, "limit", "1", 1, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.text, "mkdir budgets/alice"));
	ck_assert_int_eq(gateway_account_create(&f.g, "alice", NULL), 0);
	ck_assert_int_eq(gateway_account_create(&f.g, "alice", NULL), -EEXIST);
	ck_assert_int_eq(account_setting_set(a, "limit", "1", 1, &err), 0);
	account_put(a);
	ck_assert_int_eq(gateway_account_create(&f.g, "a/b", NULL), -EINVAL);
	ck_assert_int_eq(gateway_account_create(&f.g, "", NULL), -EINVAL);
}
END_TEST

START_TEST(who_has_no_account_shows_what_default_says_and_has_sums_of_its_own)
{
	book_fixture_set(&f, "default", "limit", "5");
	book_fixture_set(&f, "default", "window", "day");
	spend("alice", 3);
	spend("bob", 1);
	expect_setting("alice", "limit", "5");
	expect_setting("alice", "window", "day");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "2\n");
	book_fixture_expect(&f, "bob", ACCOUNT_REMAINING, "4\n");
	book_fixture_expect(&f, "default", ACCOUNT_SPENT, "0\n");
	ck_assert_int_eq(gateway_account_remove(&f.g, "default", NULL), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "unlimited\n");
}
END_TEST

START_TEST(default_is_a_template_without_members_and_verbs)
{
	ck_assert_int_eq(gateway_account_create(&f.g, "default", NULL), 0);
	struct account *a = gateway_account_find(&f.g, "default");
	ck_assert_int_eq(account_setting_set(a, "members", "bob", 3, NULL), -EINVAL);
	ck_assert_int_eq(account_ctl(a, "reset", 5, NULL), -EINVAL);
	account_put(a);
	struct book_claim *c;
	const struct book_worst worst = {0};
	ck_assert_int_eq(book_claim(&c, f.g.book, "default", &worst, NULL, NULL), -EINVAL);
}
END_TEST

static void expect_names(const char *expected)
{
	char text[256] = "";
	char **names = gateway_account_names(&f.g);
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
	book_fixture_set(&f, "staff", "members", "bob");
	spend("bob", 2);
	expect_names("bob staff ");
	/* Not a user: gone from sight, but not forgotten. */
	ck_assert_int_eq(gateway_account_remove(&f.g, "staff", NULL), 0);
	ck_assert_int_eq(gateway_account_remove(&f.g, "staff", NULL), -ENOENT);
	expect_names("bob ");
	ck_assert_ptr_null(gateway_account_find(&f.g, "staff"));
	spend("bob", 1);
	book_fixture_set(&f, "staff", "limit", "9");
	book_fixture_expect(&f, "staff", ACCOUNT_SPENT, "2\n");
	expect_setting("staff", "members", "");
	book_fixture_close(&f);
	book_fixture_open(&f);
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

	book_fixture_set(&f, "alice", "window", "day");
	spend("alice", 3);
	book_fixture_set_s(now - 86400);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "3\n");
	book_fixture_set_s(now + 12 * 3600 - 1);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "3\n");
	book_fixture_set_s(now + 12 * 3600);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "0\n");
}
END_TEST

START_TEST(a_clock_that_was_far_ahead_is_got_over_by_a_reset)
{
	struct err err = {0};
	book_fixture_set(&f, "alice", "window", "day");
	book_fixture_set(&f, "alice", "requests_per_minute", "2");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 10 * 365 * 86400);
	spend("alice", 3);
	spend("alice", 3);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S);
	struct book_claim *c;
	const struct book_worst worst = {0};
	ck_assert_int_eq(book_claim(&c, f.g.book, "alice", &worst, NULL, NULL), -EAGAIN);
	ck_assert_int_eq(ctl("alice", "reset", &err), 0);
	spend("alice", 1);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "1\n");
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 86400);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "0\n");
}
END_TEST

START_TEST(another_window_shows_what_was_spent_in_it)
{
	spend("alice", 1);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 86400);
	spend("alice", 2);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 7 * 86400); /* December */
	spend("alice", 4);
	static const char *const expected[][2] = {
		{"day", "4\n"}, {"week", "4\n"}, {"month", "4\n"}, {"total", "7\n"}};
	for (int restart = 0; restart < 2; restart++) {
		for (size_t i = 0; i < 4; i++) {
			book_fixture_set(&f, "alice", "window", expected[i][0]);
			book_fixture_expect(&f, "alice", ACCOUNT_SPENT, expected[i][1]);
		}
		book_fixture_close(&f);
		book_fixture_open(&f);
	}
}
END_TEST

/* ---- verbs ---- */

START_TEST(reset_and_credit_are_in_the_ledger_and_survive)
{
	struct err err = {0};
	book_fixture_set(&f, "alice", "limit", "10");
	spend("alice", 8);
	ck_assert_int_eq(ctl("alice", "credit 2.5", &err), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "5.5\n");
	ck_assert_int_eq(ctl("alice", "reset", &err), 0);
	ck_assert_int_eq(ctl("alice", "credit 1", &err), 0);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "-1\n");
	book_fixture_expect(&f, "alice", ACCOUNT_REMAINING, "11\n");
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"status\": \"credit\", \"cost\": -2.5, \"spent\": 5.5}"),
		1);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_LEDGER,
				  "\"status\": \"reset\", \"cost\": -5.5, \"spent\": 0}"),
		1);
	char *before = book_fixture_view(&f, "alice", ACCOUNT_LEDGER);
	book_fixture_close(&f);
	book_fixture_open(&f);
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "-1\n");
	book_fixture_expect(&f, "alice", ACCOUNT_LEDGER, before);
	free(before);
}
END_TEST

START_TEST(a_verb_that_is_none_is_refused_with_those_there_are)
{
	static const char *const bad[] = {"", "refund", "reset now", "credit", "credit ",
		"credit x", "credit -1", "CREDIT 1"};
	spend("alice", 1);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err err = {0};
		ck_assert_msg(ctl("alice", bad[i], &err) == -EINVAL, "%s", bad[i]);
		ck_assert_msg(strstr(err.text, "credit") != NULL, "%s", err.text);
		bool lacks = !strcmp(bad[i], "credit") || !strcmp(bad[i], "credit ");
		ck_assert_msg(lacks == !!strstr(err.text, "are missing"), "%s", err.text);
	}
	book_fixture_expect(&f, "alice", ACCOUNT_SPENT, "1\n");
}
END_TEST

/* ---- alerts ---- */

static unsigned alerts(const char *fraction)
{
	char part[64];
	snprintf(part, sizeof part, "\"fraction\": %s,", fraction);
	return book_fixture_count(&f, "alice", ACCOUNT_EVENTS, part);
}

/* Settings are files of TREE: set again at each start. */
static void restart_with_limit(const char *limit)
{
	book_fixture_close(&f);
	book_fixture_open(&f);
	book_fixture_set(&f, "alice", "limit", limit);
	book_fixture_set(&f, "alice", "alerts", "0.5 0.8 1");
}

START_TEST(an_alert_is_given_once_in_a_window_also_over_restarts)
{
	restart_with_limit("10");
	spend("alice", 4);
	ck_assert_uint_eq(alerts("0.5"), 0);
	spend("alice", 1);
	ck_assert_uint_eq(alerts("0.5"), 1);
	restart_with_limit("10");
	spend("alice", 1);
	ck_assert_uint_eq(alerts("0.5"), 1);
	spend("alice", 4); /* two at once */
	ck_assert_uint_eq(alerts("0.8"), 1);
	ck_assert_uint_eq(alerts("1"), 1);
	ck_assert_uint_eq(alerts("0.5"), 1);
	ck_assert_uint_eq(book_fixture_count(&f, "alice", ACCOUNT_EVENTS,
				  "\"account\": \"alice\", \"fraction\": 1, \"spent\": 10, "
				  "\"limit\": 10, \"window\": \"month\"}\n"),
		1);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 10 * 86400);
	spend("alice", 5);
	ck_assert_uint_eq(alerts("0.5"), 2);
}
END_TEST

START_TEST(a_raised_limit_is_alerted_of_again_and_a_lowered_one_only_of_what_is_crossed)
{
	restart_with_limit("10");
	spend("alice", 9);
	book_fixture_set(&f, "alice", "limit", "20");
	spend("alice", 2);
	ck_assert_uint_eq(alerts("0.5"), 2);
	ck_assert_uint_eq(alerts("0.8"), 1);
	book_fixture_set(&f, "alice", "limit", "12");
	spend("alice", 1);
	ck_assert_uint_eq(alerts("1"), 1);
	ck_assert_uint_eq(alerts("0.8"), 1);
	struct err err = {0};
	ck_assert_int_eq(ctl("alice", "reset", &err), 0);
	spend("alice", 6);
	ck_assert_uint_eq(alerts("0.5"), 3);
}
END_TEST

START_TEST(alerts_that_are_off_are_not_given)
{
	restart_with_limit("10");
	book_fixture_set(&f, "alice", "alerts", "off");
	spend("alice", 10);
	book_fixture_expect(&f, "alice", ACCOUNT_EVENTS, "");
}
END_TEST

/* ---- logs ---- */

static size_t lines_of(const char *text)
{
	size_t n = 0;
	while ((text = strchr(text, '\n'))) {
		text++;
		n++;
	}
	return n;
}

START_TEST(a_log_keeps_the_newest_lines_whole_and_the_store_all)
{
	struct ledger l;
	ledger_init(&l, "al", "long");
	char line[256];
	const unsigned n = 5000;
	size_t least = LEDGER_BYTES;
	for (unsigned i = 0; i < n; i++) {
		int len = snprintf(line, sizeof line, "{\"n\": %u, \"x\": \"%0*u\"}\n", i,
			(int)(i % 150) + 1, 0);
		ledger_add(&l, f.g.store, line, (size_t)len, i);
		ck_assert_uint_le(l.text.len, LEDGER_BYTES);
		least = l.trimmed && l.text.len < least ? l.text.len : least;
		ck_assert_int_eq(l.text.data[l.text.len - 1], '\n');
		ck_assert_int_eq(l.text.data[0], '{');
	}
	ck_assert(l.trimmed);
	ck_assert_uint_ge(least, LEDGER_BYTES * 3 / 4 - 256);
	ck_assert_uint_eq(lines_of(l.text.data), l.next - l.first);
	snprintf(line, sizeof line, "{\"n\": %u,", (unsigned)l.first);
	ck_assert_int_eq(strncmp(l.text.data, line, strlen(line)), 0);
	snprintf(line, sizeof line, "{\"n\": %u,", n - 1);
	ck_assert_ptr_nonnull(strstr(l.text.data, line));

	book_fixture_close(&f);
	struct err err = {0};
	struct ledger again, all;
	ledger_init(&again, "al", "long");
	ledger_init(&all, "al", "long");
	ck_assert_int_eq(store_open(&f.g.store, f.dir, &err), 0);
	ck_assert_int_eq(ledger_restore(&again, f.g.store, l.first, l.next), 0);
	ck_assert_str_eq(again.text.data, l.text.data);
	/* From the first line on all are there: what does not fit is dropped again. */
	ck_assert_int_eq(ledger_restore(&all, f.g.store, 0, l.next), 0);
	ck_assert_uint_eq(all.first, l.first);
	ck_assert_str_eq(all.text.data, l.text.data);
	ledger_free(&l);
	ledger_free(&again);
	ledger_free(&all);
	store_free(f.g.store);
	book_fixture_open(&f);
}
END_TEST

static void wake(void *arg)
{
	sem_post(arg);
}

START_TEST(who_follows_a_log_is_woken_when_it_grows)
{
	sem_t woken;
	gateway_waiter id = 0, other = 0;
	uint64_t bytes, changed_ns;
	sem_init(&woken, 0, 0);
	spend("alice", 1);
	struct account *a = gateway_account_find(&f.g, "alice");
	account_view_size(a, ACCOUNT_LEDGER, &bytes, &changed_ns);
	char *text = book_fixture_view(&f, "alice", ACCOUNT_LEDGER);
	ck_assert_uint_eq(bytes, strlen(text));
	free(text);
	ck_assert_uint_eq(changed_ns, BOOK_FIXTURE_NOON_S * (uint64_t)1000000000);
	ck_assert_int_eq(account_watch(a, ACCOUNT_LEDGER, bytes - 1, wake, &woken, &id), 1);
	ck_assert_int_eq(account_watch(a, ACCOUNT_LEDGER, bytes, wake, &woken, &id), 0);
	ck_assert_int_eq(account_watch(a, ACCOUNT_EVENTS, 0, wake, &woken, &other), 0);
	spend("alice", 1);
	while (sem_wait(&woken) < 0)
		;
	ck_assert(!account_unwatch(a, id));
	ck_assert(account_unwatch(a, other));
	ck_assert_int_lt(sem_trywait(&woken), 0);
	book_stop(f.g.book);
	ck_assert_int_eq(account_watch(a, ACCOUNT_EVENTS, 0, wake, &woken, &other), 1);
	account_put(a);
	sem_destroy(&woken);
}
END_TEST

struct told {
	pthread_mutex_t lock;
	char text[512];
};

static void note_change(void *arg, const struct gateway_change *change)
{
	struct told *told = arg;
	if (change->kind != GATEWAY_CHANGE_ACCOUNTS && change->kind != GATEWAY_CHANGE_ACCOUNT)
		return;
	pthread_mutex_lock(&told->lock);
	size_t n = strlen(told->text);
	snprintf(told->text + n, sizeof told->text - n, "%s/%s ", change->name,
		change->file ? change->file : "");
	pthread_mutex_unlock(&told->lock);
}

START_TEST(a_front_end_is_told_what_changed_and_of_accounts_that_follow_default_too)
{
	struct told told = {.text = ""};
	struct err err = {0};
	char dir[96];
	pthread_mutex_init(&told.lock, NULL);
	snprintf(dir, sizeof dir, "%s/gateway", f.dir);
	const struct gateway_options options = {
		.state_dir = dir, .changed = note_change, .changed_arg = &told};
	struct gateway *g = NULL;
	ck_assert_msg(gateway_open(&g, &options, &err) == 0, "%s", err.text);
	const struct book_worst worst = {0};
	for (int i = 0; i < 2; i++) {
		struct book_claim *c = NULL;
		ck_assert_int_eq(book_claim(&c, g->book, "alice", &worst, NULL, &err), 0);
		book_claim_return(c);
	}
	ck_assert_int_eq(gateway_account_create(g, "default", &err), 0);
	struct account *a = gateway_account_find(g, "default");
	ck_assert_int_eq(account_setting_set(a, "limit", "5", 1, &err), 0);
	ck_assert_int_eq(account_setting_set(a, "limit", "x", 1, &err), -EINVAL);
	account_put(a);
	ck_assert_int_eq(gateway_account_remove(g, "default", &err), 0);
	gateway_free(g);
	ck_assert_str_eq(told.text, "alice/ default/ default/limit alice/limit default/ ");
	pthread_mutex_destroy(&told.lock);
}
END_TEST

START_TEST(an_account_in_hand_outlives_the_book)
{
	book_fixture_set(&f, "alice", "limit", "5");
	spend("alice", 2);
	struct account *a = gateway_account_find(&f.g, "alice");
	book_fixture_close(&f);
	struct buf out = {0};
	gateway_waiter id;
	ck_assert_int_eq(account_render(a, ACCOUNT_REMAINING, &out), 0);
	ck_assert_str_eq(out.data, "3\n");
	ck_assert_int_eq(account_ctl(a, "reset", 5, NULL), -ESHUTDOWN);
	ck_assert_int_eq(account_setting_set(a, "limit", "1", 1, NULL), -ESHUTDOWN);
	ck_assert_int_eq(account_watch(a, ACCOUNT_LEDGER, 1 << 20, wake, NULL, &id), 1);
	ck_assert(!account_unwatch(a, 1));
	buf_free(&out);
	ck_assert_ptr_null(account_put(a));
	book_fixture_open(&f);
}
END_TEST

/* As many lines as fit, without a claim for each. */
static void fill_ledger(struct account *a)
{
	char line[LEDGER_LINE_MAX];
	memset(line, 'x', sizeof line);
	line[sizeof line - 1] = '\n';
	pthread_mutex_lock(&f.g.book->lock);
	store_begin(f.g.store);
	for (size_t i = 0; i < LEDGER_BYTES / sizeof line; i++)
		ledger_add(&a->ledger, f.g.store, line, sizeof line, book_now_ns());
	book_log_grew(a, &a->ledger);
	store_end(f.g.store);
	pthread_mutex_unlock(&f.g.book->lock);
}

START_TEST(logs_of_many_accounts_share_a_ceiling_and_the_newest_lines_of_each_stay)
{
	enum { N = 2 * (BOOK_LOGS_BYTES / LEDGER_BYTES) };
	size_t in_memory = 0;
	char name[32];
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "user%d", i);
		ck_assert_int_eq(gateway_account_create(&f.g, name, NULL), 0);
		struct account *a = gateway_account_find(&f.g, name);
		fill_ledger(a);
		account_put(a);
	}
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "user%d", i);
		const struct account *a = book_find(f.g.book, name);
		const struct ledger *l = &a->ledger;
		in_memory += l->text.cap;
		ck_assert_uint_ge(l->text.len, LEDGER_IDLE_BYTES - LEDGER_LINE_MAX);
		ck_assert_uint_eq(l->text.len % LEDGER_LINE_MAX, 0); /* whole lines */
		ck_assert_uint_eq(l->next - l->first, l->text.len / LEDGER_LINE_MAX);
		if (i < N / 4)
			ck_assert_uint_le(l->text.cap, LEDGER_IDLE_BYTES + 1);
		if (i == N - 1)
			ck_assert_uint_gt(l->text.len, LEDGER_BYTES / 2);
	}
	ck_assert_uint_le(in_memory, BOOK_LOGS_BYTES + N * (LEDGER_IDLE_BYTES + 1));
	/* One that is busy again grows again, and another one shrinks. */
	struct account *a = gateway_account_find(&f.g, "user0");
	fill_ledger(a);
	ck_assert_uint_gt(a->ledger.text.len, LEDGER_BYTES / 2);
	ck_assert_uint_le(f.g.book->log_bytes, BOOK_LOGS_BYTES);
	account_put(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/account");
	TCase *t = tcase_create("account");
	tcase_add_checked_fixture(t, setup, teardown);
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
	tcase_add_test(t, an_alert_is_given_once_in_a_window_also_over_restarts);
	tcase_add_test(
		t, a_raised_limit_is_alerted_of_again_and_a_lowered_one_only_of_what_is_crossed);
	tcase_add_test(t, alerts_that_are_off_are_not_given);
	tcase_add_test(t, a_log_keeps_the_newest_lines_whole_and_the_store_all);
	tcase_add_test(t, who_follows_a_log_is_woken_when_it_grows);
	tcase_add_test(t, a_front_end_is_told_what_changed_and_of_accounts_that_follow_default_too);
	tcase_add_test(t, an_account_in_hand_outlives_the_book);
	tcase_add_test(t, logs_of_many_accounts_share_a_ceiling_and_the_newest_lines_of_each_stay);
	suite_add_tcase(s, t);
	return run_suite(s);
}
