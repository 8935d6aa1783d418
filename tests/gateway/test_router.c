/* SPDX-License-Identifier: Apache-2.0 */
/* Which model takes a request: policies, latency, and who cannot. */
#include "gateway/router.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/gateway/choice_fixture.h"
#include "tests/run_suite.h"

/* ---- policies ---- */

START_TEST(cost_takes_the_cheapest)
{
	choice_set("policy", "cost");
	choice_expect("small mid big");
	/* 20 and 0.1 dollars per million: dear to read, cheap to answer. */
	choice_facts[BIG].price =
		(struct money_price){CHOICE_DOLLAR * 20, CHOICE_DOLLAR * 20, CHOICE_DOLLAR / 10};
	choice_ask.prompt_tok = 10; /* 0.0003, 0.000602, 0.00802 */
	choice_expect("big small mid");
	choice_ask.prompt_tok = 1000; /* 0.0201, 0.0008, 0.01 */
	choice_expect("small mid big");
}
END_TEST

START_TEST(quality_takes_the_best)
{
	choice_set("policy", "quality");
	choice_expect("big mid small");
	choice_facts[BIG].has_quality = false; /* 0.5, as small, which is cheaper */
	choice_expect("mid small big");
}
END_TEST

START_TEST(latency_takes_the_one_that_is_done_first)
{
	choice_set("policy", "latency");
	choice_expect("mid small big"); /* 5.2 10.1 20.5 */
	choice_set("weights", "answer_tok 10");
	choice_expect("small mid big"); /* 0.2 0.25 0.7 */
	choice_ask.max_tokens = 1;      /* 0.11 0.205 0.52 */
	choice_set("weights", "answer_tok 1000");
	choice_expect("small mid big");
}
END_TEST

START_TEST(balanced_weighs_quality_against_cost_by_the_class)
{
	choice_ask_for(choice_simple); /* 0.1 - 0.02, 0.14 - 0.25, 0.196 - 1 */
	choice_expect("small mid big");
	struct router_decision *d = choice_decided(N_MODELS);
	ck_assert_int_eq(d->classified.class, CLASSIFY_SIMPLE);
	choice_near(choice_candidate(d, "small")->score, 0.08);
	choice_near(choice_candidate(d, "mid")->score, -0.11);
	choice_near(choice_candidate(d, "big")->score, -0.804);
	router_decision_free(d);
	choice_ask_for(choice_moderate); /* 0.2 - 0.012, 0.28 - 0.15, 0.392 - 0.6 */
	choice_expect("small mid big");
	d = choice_decided(N_MODELS);
	ck_assert_int_eq(d->classified.class, CLASSIFY_MODERATE);
	choice_near(choice_candidate(d, "small")->score, 0.188);
	choice_near(choice_candidate(d, "mid")->score, 0.13);
	choice_near(choice_candidate(d, "big")->score, -0.208);
	router_decision_free(d);
	choice_ask_for(choice_complex); /* 0.3 - 0.004, 0.42 - 0.05, 0.588 - 0.2 */
	choice_expect("big mid small");
	d = choice_decided(N_MODELS);
	ck_assert_int_eq(d->classified.class, CLASSIFY_COMPLEX);
	choice_near(choice_candidate(d, "small")->score, 0.296);
	choice_near(choice_candidate(d, "mid")->score, 0.37);
	choice_near(choice_candidate(d, "big")->score, 0.388);
	choice_near(choice_candidate(d, "big")->quality_term, 0.588);
	choice_near(choice_candidate(d, "big")->cost_term, -0.2);
	choice_near(choice_candidate(d, "big")->latency_term, 0);
	ck_assert_int_eq(choice_candidate(d, "small")->cost, CHOICE_DOLLAR * 8 / 10000);
	ck_assert_int_eq(choice_candidate(d, "big")->cost, CHOICE_DOLLAR * 4 / 100);
	router_decision_free(d);
}
END_TEST

START_TEST(balanced_counts_time_only_where_speed_matters)
{
	choice_ask_for(choice_complex);
	choice_ask.max_latency_ms = 60000; /* 0.296 - 1.01, 0.37 - 0.52, 0.388 - 2.05 */
	choice_expect("mid small big");
	struct router_decision *d = choice_decided(N_MODELS);
	choice_near(choice_candidate(d, "mid")->score, -0.15);
	choice_near(choice_candidate(d, "mid")->latency_term, -0.52);
	choice_near(choice_candidate(d, "big")->score, -1.662);
	choice_near(choice_candidate(d, "big")->expected_ms, 20500);
	router_decision_free(d);
}
END_TEST

START_TEST(balanced_shuns_models_that_are_busy_or_cold)
{
	choice_ask_for(choice_complex);
	choice_facts[BIG].running = 3;
	choice_facts[BIG].waiting = 7; /* 0.388 - 0.1 */
	choice_expect("mid small big");
	choice_facts[MID].health = ROUTER_COLD; /* 0.37 - 0.05 */
	choice_expect("mid small big");
	choice_facts[MID].running = 3; /* - 0.03: 0.29 */
	choice_expect("small mid big");
	struct router_decision *d = choice_decided(N_MODELS);
	choice_near(choice_candidate(d, "mid")->load_term, -0.08);
	router_decision_free(d);
}
END_TEST

START_TEST(one_that_failed_lately_is_behind_those_that_did_not)
{
	struct buf out = {0};
	choice_ask_for(choice_complex);
	choice_facts[BIG].failed_lately = true;
	strcpy(choice_facts[BIG].why, "cannot connect: Connection refused");
	static const char *const policies[] = {"cost", "quality", "latency", "balanced"};
	static const char *const orders[] = {
		"small mid big", "mid small big", "mid small big", "mid small big"};
	for (size_t i = 0; i < 4; i++) {
		choice_set("policy", policies[i]);
		choice_expect(orders[i]);
	}
	choice_facts[SMALL].failed_lately = true; /* and among those as ever */
	choice_expect("mid big small");
	choice_facts[MID].failed_lately = true;
	choice_expect("big mid small");
	struct router_decision *d = choice_decided(N_MODELS);
	ck_assert_int_eq(router_decision_json(d, &out), 0);
	ck_assert_msg(strstr(out.data, "\"failed\": \"cannot connect: Connection refused\"}"), "%s",
		out.data);
	ck_assert_ptr_nonnull(strstr(out.data, "\"failed\": \"it failed\"}"));
	buf_free(&out);
	router_decision_free(d);
}
END_TEST

START_TEST(a_cascade_ends_with_its_best_model_whichever_failed_lately)
{
	choice_ask_for(choice_complex);
	choice_ask.model = ROUTER_CASCADE;
	for (int failed = 0; failed < 8; failed++) {
		choice_facts[SMALL].failed_lately = failed & 1;
		choice_facts[MID].failed_lately = failed & 2;
		choice_facts[BIG].failed_lately = failed & 4;
		choice_expect("small mid big");
	}
}
END_TEST

START_TEST(weights_and_classes_are_in_force_at_once)
{
	choice_ask_for(choice_simple);
	choice_set("weights", "answer_tok 1000\nquality_simple 1\ncost_simple 0\n");
	choice_expect("big mid small");
	choice_set("weights", "answer_tok 1000");
	choice_expect("small mid big");
	choice_set("classes", "moderate -9\ncomplex -8\n"); /* all is complex */
	choice_expect("big mid small");
	choice_set("classes", "");
	choice_expect("small mid big");
}
END_TEST

START_TEST(equals_are_ordered_by_cost_quality_state_load_and_name)
{
	for (int i = 0; i < N_MODELS; i++) {
		choice_facts[i] = choice_three[MID];
		snprintf(choice_facts[i].name, sizeof choice_facts[i].name, "%c", "bca"[i]);
	}
	choice_set("policy", "latency");
	choice_expect("a b c");
	choice_facts[0].running = 1;
	choice_expect("a c b");
	choice_facts[1].quality = 0.8;
	choice_expect("c a b");
	choice_facts[0].price.input -= CHOICE_DOLLAR / 1000000; /* a nanodollar for the request */
	choice_expect("b c a");
	choice_set("policy", "quality");
	choice_facts[1].quality = 0.7;
	choice_facts[0].price = choice_facts[1].price;
	choice_facts[2].health = ROUTER_COLD;
	choice_expect("c b a");
}
END_TEST

START_TEST(what_is_decided_does_not_depend_on_the_order_of_the_facts)
{
	static const int orders[][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	for (size_t p = 0; p < 5; p++) {
		char first[200] = "";
		choice_set("policy", policies[p]);
		for (size_t o = 0; o < 6; o++) {
			char got[200] = "";
			for (int i = 0; i < 3; i++) {
				choice_facts[i] = choice_three[orders[o][i]];
				choice_facts[i].tok_per_s =
					orders[o][i] == MID ? 0 : choice_facts[i].tok_per_s;
			}
			struct router_decision *d = choice_decided(3);
			for (size_t i = 0; i < d->n; i++)
				strcat(strcat(got, " "), d->tried[i].name);
			router_decision_free(d);
			if (!*first)
				strcpy(first, got);
			ck_assert_str_eq(got, first);
		}
	}
}
END_TEST

/* ---- latency ---- */

START_TEST(a_model_that_was_never_measured_is_taken_for_the_mean)
{
	choice_set("policy", "latency");
	choice_facts[MID].tok_per_s = 0; /* (10.1 + 20.5) / 2 = 15.3 */
	choice_expect("small mid big");
	struct router_decision *d = choice_decided(N_MODELS);
	choice_near(choice_candidate(d, "mid")->expected_ms, 15300);
	ck_assert(!choice_candidate(d, "mid")->is_measured);
	ck_assert(choice_candidate(d, "big")->is_measured);
	router_decision_free(d);
	choice_ask.max_latency_ms = 11000; /* big goes, mid is not known to be too slow */
	choice_expect("small mid");
	for (int i = 0; i < N_MODELS; i++)
		choice_facts[i].first_ms = 0;
	choice_expect("small mid big"); /* by cost */
	d = choice_decided(N_MODELS);
	choice_near(choice_candidate(d, "small")->expected_ms, 0);
	router_decision_free(d);
}
END_TEST

START_TEST(loading_takes_its_time)
{
	choice_set("policy", "latency");
	choice_facts[MID].health = ROUTER_COLD; /* 5.2 + 5 */
	choice_expect("small mid big");
	choice_set("weights", "answer_tok 1000\ncold_ms 4000\n"); /* 5.2 + 4 */
	choice_expect("mid small big");
	choice_facts[MID].first_ms = 0; /* 15.3 + 4 */
	choice_expect("small mid big");
	choice_set("weights", "answer_tok 1000\ncold_ms 6000\n"); /* 15.3 + 6 */
	choice_expect("small big mid");
}
END_TEST

/* ---- who cannot ---- */

START_TEST(each_filter_drops_with_its_reason)
{
	snprintf(choice_facts[SMALL].why, sizeof choice_facts[SMALL].why,
		"breaker open, 5 failures");
	choice_facts[SMALL].health = ROUTER_DOWN;
	choice_expect("mid big");
	ck_assert_str_eq(choice_why("small"), "down: breaker open, 5 failures");
	choice_facts[SMALL].health = ROUTER_COLD;
	choice_expect("small mid big");
	choice_facts[SMALL].health = ROUTER_READY;

	choice_ask.capabilities = ROUTER_CHAT | ROUTER_TOOLS | ROUTER_VISION;
	choice_expect("big");
	ck_assert_str_eq(choice_why("small"), "cannot do vision tools");
	ck_assert_str_eq(choice_why("mid"), "cannot do vision");
	choice_ask.capabilities = ROUTER_CHAT;

	choice_ask.prompt_tok = 4095; /* 0.2 - 0.3 * 0.0279, 0.28 - 0.3 * 0.318 */
	choice_expect("small mid big");
	choice_ask.prompt_tok = 4096;
	choice_expect("mid big");
	ck_assert_str_eq(choice_why("small"), "the prompt has 4096 tokens, its context 4096");
	choice_facts[SMALL].context_tok = 0; /* unknown */
	choice_expect("small mid big");
	choice_ask.prompt_tok = 1000;

	choice_ask.has_max_cost = true;
	choice_ask.max_cost = CHOICE_DOLLAR / 100;
	choice_expect("small mid");
	ck_assert_str_eq(choice_why("big"), "may cost 0.04 dollars, max_cost is 0.01");
	choice_ask.max_cost--;
	choice_expect("small");
	ck_assert_str_eq(choice_why("mid"), "may cost 0.01 dollars, max_cost is 0.009999999");
	choice_ask.has_max_cost = false;

	choice_ask.max_latency_ms = 10100;
	choice_expect("mid small");
	ck_assert_str_eq(
		choice_why("big"), "is expected to take 20500 ms, max_latency_ms is 10100");
	choice_ask.max_latency_ms = 10099;
	choice_expect("mid");
}
END_TEST

START_TEST(the_ceiling_of_cost_is_for_the_longest_answer)
{
	choice_ask.has_max_cost = true;
	choice_ask.max_cost = CHOICE_DOLLAR / 100;
	choice_ask.max_tokens = 2000; /* mid: 0.002 + 0.016 */
	choice_expect("small");
	ck_assert_str_eq(choice_why("mid"), "may cost 0.018 dollars, max_cost is 0.01");
	choice_facts[MID].max_tokens = 1000; /* but it answers no longer */
	choice_expect("small mid");
	choice_ask.max_tokens = 0; /* small: up to its context, 3,096 tokens: 0.0002 + 0.0018576 */
	choice_ask.max_cost = CHOICE_DOLLAR * 20576 / 10000000;
	choice_expect("small");
	choice_ask.max_cost--;
	choice_expect("");
	choice_ask.max_cost = 0;
	choice_facts[BIG].price = (struct money_price){0};
	choice_expect("big"); /* what is free costs 0 */
}
END_TEST

START_TEST(when_nobody_remains_the_sentence_has_the_reasons)
{
	for (int i = 0; i < N_MODELS; i++)
		choice_facts[i].health = ROUTER_DOWN;
	strcpy(choice_facts[MID].why, "no connection");
	choice_expect("");
	ck_assert_str_eq(choice_err.text,
		"no model can take it: small: down; mid: down: no connection; big: down");
	struct router_decision *d;
	ck_assert_int_eq(
		router_decide(choice_router, &choice_ask, NULL, 0, &d, &choice_err), -EHOSTUNREACH);
	ck_assert_str_eq(choice_err.text, "there is no model to choose from");
	router_decision_free(d);
}
END_TEST

START_TEST(a_sentence_that_cannot_hold_all_reasons_counts_the_others)
{
	struct router_facts many[20];
	struct router_decision *d;
	for (int i = 0; i < 20; i++) {
		many[i] = choice_three[MID];
		many[i].health = ROUTER_DOWN;
		snprintf(many[i].name, sizeof many[i].name, "model-%02d", i);
		memset(many[i].why, 'x', sizeof many[i].why); /* not even terminated */
	}
	const size_t room = sizeof many[0].why;
	memcpy(many[0].why + room - 3, "\xE2\x82\xAC", 3);
	memcpy(many[1].why + room - 2, "\xE2\x82", 2); /* cut inside a character */
	ck_assert_int_eq(router_decide(choice_router, &choice_ask, many, 20, &d, &choice_err),
		-EHOSTUNREACH);
	ck_assert_msg(strstr(choice_err.text, "; and 19 more"), "%s", choice_err.text);
	ck_assert_uint_eq(d->n_dropped, 20);
	ck_assert_uint_eq(strlen(d->dropped[0].why), 6 + room);
	ck_assert_uint_eq(strlen(d->dropped[1].why), 6 + room - 2);
	router_decision_free(d);
}
END_TEST

START_TEST(words_of_capabilities_are_read_and_others_refused)
{
	unsigned bits = 0;
	ck_assert_int_eq(router_capabilities_parse("", 0, &bits, &choice_err), 0);
	ck_assert_uint_eq(bits, ROUTER_CHAT | ROUTER_JSON);
	static const char all[] = " chat json\ncode math\tvision  audio tools embed\n";
	ck_assert_int_eq(router_capabilities_parse(all, strlen(all), &bits, &choice_err), 0);
	ck_assert_uint_eq(bits, 255);
	ck_assert_int_eq(router_capabilities_parse("embed", 5, &bits, &choice_err), 0);
	ck_assert_uint_eq(bits, ROUTER_EMBED);
	static const char *const bad[] = {"chats", "chat,json", "Chat", "cha", "chat video", "0"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_int_eq(
			router_capabilities_parse(bad[i], strlen(bad[i]), &bits, &choice_err),
			-EINVAL);
		ck_assert_ptr_nonnull(strstr(choice_err.text, "vision, audio, tools and embed"));
		ck_assert_uint_eq(bits, ROUTER_EMBED);
	}
}
END_TEST

/* ---- a model that says the class ---- */

START_TEST(the_class_that_a_model_says_counts_and_without_one_that_of_the_rules)
{
	struct router_opinion o = {.model = "clever", .has_class = true, .class = CLASSIFY_COMPLEX};
	choice_ask_for(choice_simple);
	choice_ask.opinion = &o;
	choice_expect("big mid small"); /* as balanced_weighs_quality... has it of a complex one */
	struct router_decision *d = choice_decided(N_MODELS);
	ck_assert_int_eq(d->class, CLASSIFY_COMPLEX);
	ck_assert_int_eq(d->classified.class, CLASSIFY_SIMPLE);
	choice_near(choice_candidate(d, "big")->score, 0.388);
	router_decision_free(d);
	o.has_class = false;
	choice_expect("small mid big");
	d = choice_decided(N_MODELS);
	ck_assert_int_eq(d->class, CLASSIFY_SIMPLE);
	ck_assert_str_eq(d->opinion.model, "clever");
	router_decision_free(d);
}
END_TEST

static bool wants_opinion(enum router_model model, size_t n)
{
	choice_ask.model = model;
	struct router_decision *d = choice_decided(n);
	bool wants = d->wants_opinion;
	router_decision_free(d);
	return wants;
}

START_TEST(an_opinion_is_wanted_once_where_there_is_a_choice_that_the_class_may_change)
{
	struct router_opinion o = {.model = "clever"};
	ck_assert(wants_opinion(ROUTER_AUTO, N_MODELS));
	ck_assert(wants_opinion(ROUTER_CASCADE, N_MODELS));
	ck_assert(!wants_opinion(ROUTER_AUTO, 1));
	ck_assert(!wants_opinion(ROUTER_CASCADE, 1));
	choice_set("policy", "cost");
	ck_assert(!wants_opinion(ROUTER_AUTO, N_MODELS));
	ck_assert(wants_opinion(ROUTER_CASCADE, N_MODELS)); /* what it weighs depends on it */
	choice_set("policy", "balanced");
	choice_ask.opinion = &o; /* it has said nothing, but it was asked */
	ck_assert(!wants_opinion(ROUTER_AUTO, N_MODELS));
}
END_TEST

START_TEST(who_is_asked_and_for_how_long_is_what_the_files_say)
{
	char name[TEXT_NAME_SIZE] = "before";
	ck_assert_uint_eq(router_classifier(choice_router, name), 0);
	ck_assert_uint_eq(router_cascade_judge(choice_router, name), 0);
	ck_assert_str_eq(name, "before");
	choice_set("classifier_model", "small");
	choice_set("cascade_judge", "# the good one\nbig");
	ck_assert_uint_eq(router_classifier(choice_router, name), 2000);
	ck_assert_str_eq(name, "small");
	ck_assert_uint_eq(router_cascade_judge(choice_router, name), 10000);
	ck_assert_str_eq(name, "big");
	choice_set("classifier_timeout_ms", "7");
	choice_set("cascade_judge_timeout_ms", "8");
	ck_assert_uint_eq(router_classifier(choice_router, name), 7);
	ck_assert_uint_eq(router_cascade_judge(choice_router, name), 8);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("router");
	TCase *t = tcase_create("router");
	tcase_add_checked_fixture(t, choice_open, choice_close);
	tcase_add_test(t, cost_takes_the_cheapest);
	tcase_add_test(t, quality_takes_the_best);
	tcase_add_test(t, latency_takes_the_one_that_is_done_first);
	tcase_add_test(t, balanced_weighs_quality_against_cost_by_the_class);
	tcase_add_test(t, balanced_counts_time_only_where_speed_matters);
	tcase_add_test(t, balanced_shuns_models_that_are_busy_or_cold);
	tcase_add_test(t, one_that_failed_lately_is_behind_those_that_did_not);
	tcase_add_test(t, a_cascade_ends_with_its_best_model_whichever_failed_lately);
	tcase_add_test(t, weights_and_classes_are_in_force_at_once);
	tcase_add_test(t, equals_are_ordered_by_cost_quality_state_load_and_name);
	tcase_add_test(t, what_is_decided_does_not_depend_on_the_order_of_the_facts);
	tcase_add_test(t, a_model_that_was_never_measured_is_taken_for_the_mean);
	tcase_add_test(t, loading_takes_its_time);
	tcase_add_test(t, each_filter_drops_with_its_reason);
	tcase_add_test(t, the_ceiling_of_cost_is_for_the_longest_answer);
	tcase_add_test(t, when_nobody_remains_the_sentence_has_the_reasons);
	tcase_add_test(t, a_sentence_that_cannot_hold_all_reasons_counts_the_others);
	tcase_add_test(t, words_of_capabilities_are_read_and_others_refused);
	tcase_add_test(t, the_class_that_a_model_says_counts_and_without_one_that_of_the_rules);
	tcase_add_test(
		t, an_opinion_is_wanted_once_where_there_is_a_choice_that_the_class_may_change);
	tcase_add_test(t, who_is_asked_and_for_how_long_is_what_the_files_say);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
