/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions split between models by weight, and cascades from the cheapest upwards. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/gateway/choice_fixture.h"
#include "tests/run_suite.h"

/* ---- split ---- */

/* Where each of 10,000 sessions goes: an index of facts. */
enum { N_SESSIONS = 10000 };

static void assign(size_t n, unsigned char where[N_SESSIONS])
{
	for (int s = 0; s < N_SESSIONS; s++) {
		char session[24];
		snprintf(session, sizeof session, "s%d", s);
		choice_ask.session = session;
		struct router_decision *d = choice_decided(n);
		ck_assert_str_eq(d->arm, d->tried[0].name);
		for (size_t i = 0; i < n; i++)
			if (!strcmp(choice_facts[i].name, d->arm))
				where[s] = (unsigned char)i;
		router_decision_free(d);
	}
}

static void count(const unsigned char where[N_SESSIONS], unsigned n[4])
{
	memset(n, 0, 4 * sizeof *n);
	for (int s = 0; s < N_SESSIONS; s++)
		n[where[s]]++;
}

static void near_share(unsigned n, double share)
{
	ck_assert_msg(fabs(n / (double)N_SESSIONS - share) < 0.02, "%u is not near %g", n, share);
}

START_TEST(ten_thousand_sessions_are_split_by_the_weights)
{
	static unsigned char where[N_SESSIONS], again[N_SESSIONS];
	unsigned n[4];
	choice_set("policy", "split");
	choice_facts[SMALL].weight = 70;
	choice_facts[MID].weight = 30;
	choice_facts[BIG].weight = 0;
	assign(2, where);
	count(where, n);
	near_share(n[SMALL], 0.7);
	near_share(n[MID], 0.3);
	assign(2, again);
	ck_assert_mem_eq(where, again, sizeof where);
	assign(3, again); /* a third one without a weight */
	ck_assert_mem_eq(where, again, sizeof where);
	choice_facts[BIG].weight = 100;
	assign(3, again);
	count(again, n);
	near_share(n[SMALL], 0.35);
	near_share(n[MID], 0.15);
	near_share(n[BIG], 0.5);
	for (int s = 0; s < N_SESSIONS; s++) /* none went from one of the old to the other */
		ck_assert(again[s] == where[s] || again[s] == BIG);
}
END_TEST

START_TEST(a_split_falls_back_in_the_order_of_balanced)
{
	choice_set("policy", "split");
	choice_ask_for(choice_complex); /* balanced: big mid small */
	choice_facts[SMALL].weight = 1;
	choice_facts[MID].weight = choice_facts[BIG].weight = 0;
	choice_expect("small big mid");
	choice_facts[SMALL].health = ROUTER_DOWN; /* the arm, but who answers is as balanced */
	choice_expect("big mid");
	choice_facts[SMALL].weight = 0; /* nobody takes part */
	choice_expect("big mid");
	struct router_decision *d = choice_decided(N_MODELS);
	ck_assert_str_eq(d->arm, "");
	router_decision_free(d);
}
END_TEST

START_TEST(a_session_keeps_its_arm_while_that_is_down_or_cannot_take_the_request)
{
	unsigned of_small = 0;
	choice_set("policy", "split");
	for (int i = 0; i < N_MODELS; i++)
		choice_facts[i].weight = 1;
	for (int s = 0; s < 300; s++) {
		char session[24], arm[TEXT_NAME_SIZE];
		snprintf(session, sizeof session, "s%d", s);
		choice_ask.session = session;
		struct router_decision *d = choice_decided(N_MODELS);
		snprintf(arm, sizeof arm, "%s", d->arm);
		router_decision_free(d);
		of_small += !strcmp(arm, "small");
		for (int is_long = 0; is_long < 2; is_long++) {
			choice_facts[SMALL].health = is_long ? ROUTER_READY : ROUTER_DOWN;
			choice_facts[SMALL].context_tok = is_long ? 1 : 0;
			d = choice_decided(N_MODELS);
			ck_assert_str_eq(d->arm, arm);
			ck_assert_uint_eq(d->n, 2);
			ck_assert_str_ne(d->tried[0].name, "small");
			if (strcmp(arm, "small") != 0)
				ck_assert_str_eq(d->tried[0].name, arm);
			router_decision_free(d);
		}
		choice_facts[SMALL].context_tok = choice_three[SMALL].context_tok;
	}
	ck_assert_uint_gt(of_small, 60);
	ck_assert_uint_lt(of_small, 140);
}
END_TEST

START_TEST(a_model_that_is_not_able_to_do_what_is_asked_is_no_arm)
{
	choice_set("policy", "split");
	choice_facts[SMALL].weight = 1000000;
	choice_facts[SMALL].capabilities = ROUTER_EMBED;
	choice_facts[MID].weight = 1;
	choice_facts[BIG].weight = 0;
	struct router_decision *d = choice_decided(N_MODELS);
	ck_assert_str_eq(d->arm, "mid");
	ck_assert_str_eq(d->tried[0].name, "mid");
	router_decision_free(d);
}
END_TEST

START_TEST(a_request_that_no_model_can_take_is_still_of_its_arm)
{
	struct router_decision *d = NULL;
	choice_set("policy", "split");
	choice_facts[MID].weight = 1;
	choice_facts[SMALL].weight = choice_facts[BIG].weight = 0;
	for (int i = 0; i < N_MODELS; i++)
		choice_facts[i].health = ROUTER_DOWN;
	ck_assert_int_eq(
		router_decide(choice_router, &choice_ask, choice_facts, N_MODELS, &d, &choice_err),
		-EHOSTUNREACH);
	ck_assert_str_eq(d->arm, "mid");
	router_decision_free(d);
}
END_TEST

/* ---- cascade ---- */

START_TEST(a_cascade_goes_from_the_cheapest_upwards_whatever_the_policy)
{
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	choice_ask.model = ROUTER_CASCADE;
	choice_ask_for(choice_complex);
	for (size_t i = 0; i < 5; i++) {
		choice_set("policy", policies[i]);
		choice_expect("small mid big");
	}
	for (int i = 0; i < N_MODELS; i++)
		choice_facts[i].price = (struct money_price){0};
	choice_facts[MID].quality = 0.4;
	choice_expect("mid small big"); /* all free: by quality */
	choice_set("threshold", "0.75");
	struct router_decision *d = choice_decided(N_MODELS);
	choice_near(d->threshold, 0.75);
	router_decision_free(d);
}
END_TEST

START_TEST(a_cascade_may_pay_for_all_of_its_steps)
{
	choice_ask.model = ROUTER_CASCADE;
	choice_ask.has_max_cost = true;
	choice_ask.max_cost = CHOICE_DOLLAR * 508 / 10000; /* 0.0008 + 0.01 + 0.04 */
	choice_expect("small mid big");
	choice_ask.max_cost--;
	choice_expect("small mid");
	ck_assert_str_eq(choice_why("big"),
		"may cost 0.04 dollars on top of the steps before, max_cost is 0.050799999");
	choice_facts[MID].health = ROUTER_DOWN;
	choice_expect("small big");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("router_split");
	TCase *t = tcase_create("router_split");
	tcase_add_checked_fixture(t, choice_open, choice_close);
	tcase_add_test(t, ten_thousand_sessions_are_split_by_the_weights);
	tcase_add_test(t, a_split_falls_back_in_the_order_of_balanced);
	tcase_add_test(t, a_session_keeps_its_arm_while_that_is_down_or_cannot_take_the_request);
	tcase_add_test(t, a_model_that_is_not_able_to_do_what_is_asked_is_no_arm);
	tcase_add_test(t, a_request_that_no_model_can_take_is_still_of_its_arm);
	tcase_add_test(t, a_cascade_goes_from_the_cheapest_upwards_whatever_the_policy);
	tcase_add_test(t, a_cascade_may_pay_for_all_of_its_steps);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
