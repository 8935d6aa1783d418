/* SPDX-License-Identifier: Apache-2.0 */
/* The money that a text costs, whatever ends it, at any moment. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/gateway/talker_fixture.h"
#include "tests/own_mounts.h"
#include "tests/run_suite.h"

/* Something of its waiting and computing, at random. */
static void a_moment(unsigned *seed, int i)
{
	usleep((useconds_t)(rand_r(seed) % (i % 10 ? 12000 : 60000)));
}

/* So that some moments are after the judge and the load, however slow these are. */
static void wait_while_queued(struct session *s)
{
	for (int i = 0; i < 60000; i++) {
		char *now = harness_view(s, SESSION_STATUS);
		bool is = !strcmp(now, "queued\n");
		free(now);
		if (!is)
			break;
		usleep(1000);
	}
}

/* Until a reader has something of its answer, or it has ended. */
static void wait_for_text(struct session *s)
{
	struct answer *a;
	gateway_waiter id;
	char byte[4];
	size_t n;
	ck_assert_int_eq(session_newest(s, &a, NULL, NULL, &id), 0);
	for (int i = 0; i < 60000 && answer_read(a, 0, byte, sizeof byte, &n) == 1; i++)
		usleep(1000);
	answer_put(a);
}

START_TEST(cancelled_at_any_moment_it_is_charged_once_for_what_was_computed)
{
	enum { N = 4, ROUNDS = 40 };
	struct session *s[N];
	unsigned seed = 11;
	double costs = 0, charged = 0;
	char id[8];
	talker_priced();
	harness_guard(&talker_h, "moderation", talker_safe_judge);
	harness_guard(&talker_h, "output/x.rules", "redact D /[0-9]+/\n");
	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "s%d", i);
		s[i] = talker_new(id, i % 2 ? "25" : "200");
	}
	for (int round = 0; round < ROUNDS; round++) {
		int status;
		for (int i = 0; i < N; i++)
			ck_assert_int_eq(harness_say(s[i], "tell me"), 0);
		for (int i = 0; i < N; i++) {
			if (round % 4 == 0 && i % 2 == 0)
				wait_for_text(s[i]);
			else
				a_moment(&seed, round);
			talker_ctl(s[i], "cancel");
			free(harness_read(s[i], &status)); /* it may be being stored */
			double cost = harness_usage(s[i], "cost");
			charged += cost > 0;
			if (round % 8 == 0)
				talker_ctl(s[i], "clear");
		}
	}
	for (int i = 0; i < N; i++) {
		costs += harness_usage(s[i], "session_cost");
		session_put(s[i]);
	}
	ck_assert_msg(costs == talker_dollars(ACCOUNT_SPENT), "%.0f in sessions, %.0f spent", costs,
		talker_dollars(ACCOUNT_SPENT));
	ck_assert(charged > 10);
	talker_assert_all_given_back();
	size_t n;
	talker_ledger_sum(&n);
	/* A line each at most, and one for its judge; and the last one's. */
	ck_assert_uint_le(n, 2 * ((size_t)N * ROUNDS + 1));
}
END_TEST

START_TEST(cancelled_while_the_store_cannot_write_it_is_charged_once_as_well)
{
	if (run_suite_skips(geteuid() != 0, "only root can mount a small disk"))
		return;
	enum { N = 6 };
	struct session *s[N];
	unsigned seed = 15, taken = 0;
	double costs = 0;
	char id[8], path[128];
	int status;
	talker_open_on_small_disk();
	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof id, "s%d", i);
		s[i] = talker_new(id, i % 2 ? "25" : "200");
		free(talker_ask(s[i], &status));
		ck_assert_int_eq(status, 0);
	}
	bool asked[N];
	talker_fill_disk(path);
	for (int i = 0; i < N; i++)
		taken += asked[i] = harness_say(s[i], "tell me") == 0;
	for (int i = 0; i < N; i++) {
		usleep((useconds_t)(rand_r(&seed) % 4000));
		talker_ctl(s[i], "cancel");
		free(harness_read(s[i], &status));
		ck_assert(!asked[i] || status == 0 || status == -ECANCELED || status == -ENOSPC);
	}
	talker_make_room(path);
	ck_assert_uint_gt(taken, 0);
	for (int i = 0; i < N; i++) {
		costs += harness_usage(s[i], "session_cost");
		session_put(s[i]);
	}
	ck_assert_msg(costs == talker_dollars(ACCOUNT_SPENT), "%.0f in sessions, %.0f spent", costs,
		talker_dollars(ACCOUNT_SPENT));
	talker_assert_all_given_back();
	/* What could not be written then was written later. */
	double spent = talker_dollars(ACCOUNT_SPENT);
	harness_close(&talker_h);
	harness_open(&talker_h);
	ck_assert(talker_dollars(ACCOUNT_SPENT) == spent);
}
END_TEST

START_TEST(a_session_removed_at_any_moment_leaves_its_costs_in_the_ledger)
{
	unsigned seed = 12;
	char id[16];
	talker_priced();
	harness_guard(&talker_h, "moderation", talker_safe_judge);
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof id, "s%d", i);
		struct session *s = talker_new(id, i % 2 ? "25" : "200");
		ck_assert_int_eq(harness_say(s, "tell me"), 0);
		ck_assert_int_eq(harness_say(s, "and more"), 0);
		struct draft *d;
		ck_assert_int_eq(draft_new(&d, s, getuid(), NULL), 0);
		ck_assert_int_eq(draft_write(d, "more", 4, NULL), 0);
		if (i % 10 == 5)
			wait_while_queued(s);
		a_moment(&seed, i);
		ck_assert_int_eq(gateway_session_remove(talker_h.g, id, NULL), 0);
		draft_commit(d);
		session_put(s);
	}
	talker_assert_all_given_back();
	ck_assert(talker_dollars(ACCOUNT_SPENT) > 0);
}
END_TEST

START_TEST(a_model_unloaded_at_any_moment_is_charged_once_for_what_was_computed)
{
	unsigned seed = 13;
	double costs = 0;
	struct session *s[2];
	talker_priced();
	harness_guard(&talker_h, "moderation", talker_safe_judge);
	s[0] = talker_new("a", "25");
	s[1] = talker_new("b", "200");
	struct model *m = gateway_model_find(talker_h.g, "tiny");
	for (int i = 0; i < 60; i++) {
		int status;
		for (int k = 0; k < 2; k++)
			ck_assert_int_eq(harness_say(s[k], "tell me"), 0);
		if (i % 4 == 0)
			wait_while_queued(s[1]);
		a_moment(&seed, i);
		ck_assert_int_eq(model_ctl(m, "unload", 6, NULL), 0);
		for (int k = 0; k < 2; k++) {
			free(harness_read(s[k], &status));
			/* EPERM: the judge had no verdict */
			ck_assert_msg(status == 0 || status == -ECANCELED || status == -EPERM, "%d",
				status);
			if (i % 8 == 0)
				talker_ctl(s[k], "clear");
		}
	}
	for (int k = 0; k < 2; k++) {
		costs += harness_usage(s[k], "session_cost");
		session_put(s[k]);
	}
	model_put(m);
	ck_assert_msg(costs == talker_dollars(ACCOUNT_SPENT), "%.0f in sessions, %.0f spent", costs,
		talker_dollars(ACCOUNT_SPENT));
	ck_assert(costs > 0);
	talker_assert_all_given_back();
}
END_TEST

START_TEST(a_gateway_stopped_at_any_moment_has_charged_all_once_when_it_is_back)
{
	unsigned seed = 14;
	harness_guard(&talker_h, "moderation", talker_safe_judge);
	for (int i = 0; i < 12; i++) {
		char id[16];
		talker_priced();
		for (int k = 0; k < 3; k++) {
			snprintf(id, sizeof id, "s%d-%d", i, k);
			struct session *s = talker_new(id, k % 2 ? "25" : "200");
			ck_assert_int_eq(harness_say(s, "tell me"), 0);
			if (k == 2 && i % 2)
				wait_while_queued(s);
			session_put(s);
		}
		a_moment(&seed, i);
		if (i % 3 == 0)
			gateway_stop(talker_h.g);
		harness_close(&talker_h);
		harness_open(&talker_h);
		double costs = 0;
		size_t n;
		for (int all = 0; all <= i; all++)
			for (int k = 0; k < 3; k++) {
				snprintf(id, sizeof id, "s%d-%d", all, k);
				struct session *s = gateway_session_find(talker_h.g, id);
				ck_assert_ptr_nonnull(s);
				double cost = harness_usage(s, "session_cost");
				costs += cost > 0 ? cost : 0;
				session_put(s);
			}
		struct account *a = gateway_account_find(talker_h.g, harness_me(&talker_h));
		if (!a) { /* all were over before they began */
			ck_assert(costs == 0);
			continue;
		}
		account_put(a);
		double spent = talker_dollars(ACCOUNT_SPENT);
		ck_assert_msg(costs == spent && talker_ledger_sum(&n) == spent,
			"round %d: %.0f in sessions, %.0f in the ledger, %.0f spent", i, costs,
			talker_ledger_sum(&n), spent);
	}
	talker_priced();
	ck_assert(talker_dollars(ACCOUNT_SPENT) > 0);
	talker_assert_all_given_back();
}
END_TEST

int main(void)
{
	own_mounts();
	Suite *s = suite_create("outlet_moments");
	TCase *t = tcase_create("outlet_moments");
	tcase_add_checked_fixture(t, talker_open, talker_close);
	tcase_set_timeout(t, 100);
	tcase_add_test(t, cancelled_while_the_store_cannot_write_it_is_charged_once_as_well);
	tcase_add_test(t, cancelled_at_any_moment_it_is_charged_once_for_what_was_computed);
	tcase_add_test(t, a_session_removed_at_any_moment_leaves_its_costs_in_the_ledger);
	tcase_add_test(t, a_model_unloaded_at_any_moment_is_charged_once_for_what_was_computed);
	tcase_add_test(t, a_gateway_stopped_at_any_moment_has_charged_all_once_when_it_is_back);
	suite_add_tcase(s, t);
	return run_suite(s);
}
