/* SPDX-License-Identifier: Apache-2.0 */
/* What an account says: alerts, logs, and changes that a front end is told. */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "gateway/ledger.h"
#include "tests/gateway/spend_fixture.h"
#include "tests/run_suite.h"

/* ---- alerts ---- */

static unsigned alerts(const char *fraction)
{
	char part[64];
	snprintf(part, sizeof part, "\"fraction\": %s,", fraction);
	return book_fixture_count(&spend_f, "alice", ACCOUNT_EVENTS, part);
}

/* Settings are files of TREE: set again at each start. */
static void restart_with_limit(const char *limit)
{
	book_fixture_close(&spend_f);
	book_fixture_open(&spend_f);
	book_fixture_set(&spend_f, "alice", "limit", limit);
	book_fixture_set(&spend_f, "alice", "alerts", "0.5 0.8 1");
}

START_TEST(an_alert_is_given_once_in_a_window_also_over_restarts)
{
	restart_with_limit("10");
	spend_dollars("alice", 4);
	ck_assert_uint_eq(alerts("0.5"), 0);
	spend_dollars("alice", 1);
	ck_assert_uint_eq(alerts("0.5"), 1);
	restart_with_limit("10");
	spend_dollars("alice", 1);
	ck_assert_uint_eq(alerts("0.5"), 1);
	spend_dollars("alice", 4); /* two at once */
	ck_assert_uint_eq(alerts("0.8"), 1);
	ck_assert_uint_eq(alerts("1"), 1);
	ck_assert_uint_eq(alerts("0.5"), 1);
	ck_assert_uint_eq(book_fixture_count(&spend_f, "alice", ACCOUNT_EVENTS,
				  "\"account\": \"alice\", \"fraction\": 1, \"spent\": 10, "
				  "\"limit\": 10, \"window\": \"month\"}\n"),
		1);
	book_fixture_set_s(BOOK_FIXTURE_NOON_S + 10 * 86400);
	spend_dollars("alice", 5);
	ck_assert_uint_eq(alerts("0.5"), 2);
}
END_TEST

START_TEST(a_raised_limit_is_alerted_of_again_and_a_lowered_one_only_of_what_is_crossed)
{
	restart_with_limit("10");
	spend_dollars("alice", 9);
	book_fixture_set(&spend_f, "alice", "limit", "20");
	spend_dollars("alice", 2);
	ck_assert_uint_eq(alerts("0.5"), 2);
	ck_assert_uint_eq(alerts("0.8"), 1);
	book_fixture_set(&spend_f, "alice", "limit", "12");
	spend_dollars("alice", 1);
	ck_assert_uint_eq(alerts("1"), 1);
	ck_assert_uint_eq(alerts("0.8"), 1);
	struct err err = {0};
	ck_assert_int_eq(spend_ctl("alice", "reset", &err), 0);
	spend_dollars("alice", 6);
	ck_assert_uint_eq(alerts("0.5"), 3);
}
END_TEST

START_TEST(alerts_that_are_off_are_not_given)
{
	restart_with_limit("10");
	book_fixture_set(&spend_f, "alice", "alerts", "off");
	spend_dollars("alice", 10);
	book_fixture_expect(&spend_f, "alice", ACCOUNT_EVENTS, "");
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
		ledger_add(&l, spend_f.g.store, line, (size_t)len, i);
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

	book_fixture_close(&spend_f);
	struct err err = {0};
	struct ledger again, all;
	ledger_init(&again, "al", "long");
	ledger_init(&all, "al", "long");
	ck_assert_int_eq(store_open(&spend_f.g.store, spend_f.dir, &err), 0);
	ck_assert_int_eq(ledger_restore(&again, spend_f.g.store, l.first, l.next), 0);
	ck_assert_str_eq(again.text.data, l.text.data);
	/* From the first line on all are there: what does not fit is dropped again. */
	ck_assert_int_eq(ledger_restore(&all, spend_f.g.store, 0, l.next), 0);
	ck_assert_uint_eq(all.first, l.first);
	ck_assert_str_eq(all.text.data, l.text.data);
	ledger_free(&l);
	ledger_free(&again);
	ledger_free(&all);
	store_free(spend_f.g.store);
	book_fixture_open(&spend_f);
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
	spend_dollars("alice", 1);
	struct account *a = gateway_account_find(&spend_f.g, "alice");
	account_view_size(a, ACCOUNT_LEDGER, &bytes, &changed_ns);
	char *text = book_fixture_view(&spend_f, "alice", ACCOUNT_LEDGER);
	ck_assert_uint_eq(bytes, strlen(text));
	free(text);
	ck_assert_uint_eq(changed_ns, BOOK_FIXTURE_NOON_S * (uint64_t)1000000000);
	ck_assert_int_eq(account_watch(a, ACCOUNT_LEDGER, bytes - 1, wake, &woken, &id), 1);
	ck_assert_int_eq(account_watch(a, ACCOUNT_LEDGER, bytes, wake, &woken, &id), 0);
	ck_assert_int_eq(account_watch(a, ACCOUNT_EVENTS, 0, wake, &woken, &other), 0);
	spend_dollars("alice", 1);
	while (sem_wait(&woken) < 0)
		;
	ck_assert(!account_unwatch(a, id));
	ck_assert(account_unwatch(a, other));
	ck_assert_int_lt(sem_trywait(&woken), 0);
	book_stop(spend_f.g.book);
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
	snprintf(dir, sizeof dir, "%s/gateway", spend_f.dir);
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
	book_fixture_set(&spend_f, "alice", "limit", "5");
	spend_dollars("alice", 2);
	struct account *a = gateway_account_find(&spend_f.g, "alice");
	book_fixture_close(&spend_f);
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
	book_fixture_open(&spend_f);
}
END_TEST

/* As many lines as fit, without a claim for each. */
static void fill_ledger(struct account *a)
{
	char line[LEDGER_LINE_MAX];
	memset(line, 'x', sizeof line);
	line[sizeof line - 1] = '\n';
	pthread_mutex_lock(&spend_f.g.book->lock);
	store_begin(spend_f.g.store);
	for (size_t i = 0; i < LEDGER_BYTES / sizeof line; i++)
		ledger_add(&a->ledger, spend_f.g.store, line, sizeof line, book_now_ns());
	book_log_grew(a, &a->ledger);
	store_end(spend_f.g.store);
	pthread_mutex_unlock(&spend_f.g.book->lock);
}

START_TEST(logs_of_many_accounts_share_a_ceiling_and_the_newest_lines_of_each_stay)
{
	enum { N = 2 * (BOOK_LOGS_BYTES / LEDGER_BYTES) };
	size_t in_memory = 0;
	char name[32];
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "user%d", i);
		ck_assert_int_eq(gateway_account_create(&spend_f.g, name, NULL), 0);
		struct account *a = gateway_account_find(&spend_f.g, name);
		fill_ledger(a);
		account_put(a);
	}
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "user%d", i);
		const struct account *a = book_find(spend_f.g.book, name);
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
	struct account *a = gateway_account_find(&spend_f.g, "user0");
	fill_ledger(a);
	ck_assert_uint_gt(a->ledger.text.len, LEDGER_BYTES / 2);
	ck_assert_uint_le(spend_f.g.book->log_bytes, BOOK_LOGS_BYTES);
	account_put(a);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gateway/account_logs");
	TCase *t = tcase_create("account_logs");
	tcase_add_checked_fixture(t, spend_open, spend_close);
	tcase_set_timeout(t, 60);
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
