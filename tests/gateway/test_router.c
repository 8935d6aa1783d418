/* SPDX-License-Identifier: Apache-2.0 */
/* Which model takes a request. What a policy has to pick was computed by hand: three models, 1,000
 * tokens of prompt and 1,000 of answer, so that a price is the mean of its two parts. */
#include "gateway/router.h"

#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

#define DOLLAR INT64_C(1000000000)

static const char simple[] = "hi";
static const char moderate[] = "Explain the difference between TCP and UDP.";
static const char complex[] =
	"Prove that the algorithm is correct, derive its complexity and justify each assumption.";

/*            price   0.01 $/1k  quality  seconds for 1,000 tokens   dollars for the request
 *	small   0.2, 0.6   0.04     0.50    0.1 + 10 = 10.1            0.0008
 *	mid     2, 8       0.5      0.70    0.2 + 5 = 5.2              0.01
 *	big     10, 30     2        0.98    0.5 + 20 = 20.5            0.04
 */
enum { SMALL, MID, BIG, N_MODELS };
static const struct router_facts three[N_MODELS] = {
	{.name = "small",
		.price = {DOLLAR / 5, DOLLAR / 5, DOLLAR * 3 / 5},
		.quality = 0.5,
		.has_quality = true,
		.capabilities = ROUTER_CHAT | ROUTER_JSON,
		.context_tok = 4096,
		.weight = 1,
		.first_ms = 100,
		.tok_per_s = 100},
	{.name = "mid",
		.price = {DOLLAR * 2, DOLLAR * 2, DOLLAR * 8},
		.quality = 0.7,
		.has_quality = true,
		.capabilities = ROUTER_CHAT | ROUTER_JSON | ROUTER_TOOLS,
		.context_tok = 32768,
		.weight = 1,
		.first_ms = 200,
		.tok_per_s = 200},
	{.name = "big",
		.price = {DOLLAR * 10, DOLLAR * 10, DOLLAR * 30},
		.quality = 0.98,
		.has_quality = true,
		.capabilities = ROUTER_CHAT | ROUTER_JSON | ROUTER_TOOLS | ROUTER_VISION,
		.context_tok = 131072,
		.weight = 1,
		.first_ms = 500,
		.tok_per_s = 50},
};

static struct router *router;
static struct router_facts facts[4];
static struct router_ask ask;
static struct err err;

static void set(const char *file, const char *value)
{
	int r = router_setting_set(router, file, value, strlen(value), &err);
	ck_assert_msg(r == 0, "%s", err.text);
}

static void ask_for(const char *text)
{
	ask.text = text;
	ask.len = strlen(text);
}

static void setup(void)
{
	router = router_new();
	ck_assert_ptr_nonnull(router);
	memcpy(facts, three, sizeof three);
	memset(&facts[3], 0, sizeof facts[3]);
	ask = (struct router_ask){.prompt_tok = 1000,
		.max_tokens = 1000,
		.capabilities = ROUTER_CHAT,
		.session = "main"};
	ask_for(moderate);
	err = (struct err){0};
	set("weights", "answer_tok 1000\n");
}

static void teardown(void)
{
	router = router_free(router);
	ck_assert_ptr_null(router_free(NULL));
}

/* "a b c": who may be tried, in order. */
static void expect_of(size_t n, const char *order)
{
	struct router_decision *d;
	char got[512] = "";
	int r = router_decide(router, &ask, facts, n, &d, &err);
	ck_assert_ptr_nonnull(d);
	ck_assert_int_eq(r, *order ? 0 : -EHOSTUNREACH);
	for (size_t i = 0; i < d->n; i++) {
		strcat(got, i ? " " : "");
		strcat(got, d->tried[i].name);
	}
	ck_assert_str_eq(got, order);
	ck_assert_uint_eq(d->n + d->n_dropped, n);
	ck_assert_ptr_null(router_decision_free(d));
}

static void expect(const char *order)
{
	expect_of(N_MODELS, order);
}

static struct router_decision *decided(size_t n)
{
	struct router_decision *d;
	ck_assert_int_eq(router_decide(router, &ask, facts, n, &d, &err), 0);
	return d;
}

static const struct router_candidate *candidate(const struct router_decision *d, const char *name)
{
	for (size_t i = 0; i < d->n; i++)
		if (!strcmp(d->tried[i].name, name))
			return &d->tried[i];
	ck_abort_msg("no candidate %s", name);
	return NULL;
}

static void near(double x, double y)
{
	ck_assert_msg(fabs(x - y) < 1e-9, "%.12g, not %.12g", x, y);
}

static const char *why(const char *name)
{
	static char text[192];
	struct router_decision *d;
	*text = '\0';
	router_decide(router, &ask, facts, N_MODELS, &d, &err);
	for (size_t i = 0; i < d->n_dropped; i++)
		if (!strcmp(d->dropped[i].name, name))
			snprintf(text, sizeof text, "%s", d->dropped[i].why);
	router_decision_free(d);
	return text;
}

/* ---- policies ---- */

START_TEST(cost_takes_the_cheapest)
{
	set("policy", "cost");
	expect("small mid big");
	/* 20 and 0.1 dollars per million: dear to read, cheap to answer. */
	facts[BIG].price = (struct money_price){DOLLAR * 20, DOLLAR * 20, DOLLAR / 10};
	ask.prompt_tok = 10; /* 0.0003, 0.000602, 0.00802 */
	expect("big small mid");
	ask.prompt_tok = 1000; /* 0.0201, 0.0008, 0.01 */
	expect("small mid big");
}
END_TEST

START_TEST(quality_takes_the_best)
{
	set("policy", "quality");
	expect("big mid small");
	facts[BIG].has_quality = false; /* 0.5, as small, which is cheaper */
	expect("mid small big");
}
END_TEST

START_TEST(latency_takes_the_one_that_is_done_first)
{
	set("policy", "latency");
	expect("mid small big"); /* 5.2 10.1 20.5 */
	set("weights", "answer_tok 10");
	expect("small mid big"); /* 0.2 0.25 0.7 */
	ask.max_tokens = 1;      /* 0.11 0.205 0.52 */
	set("weights", "answer_tok 1000");
	expect("small mid big");
}
END_TEST

START_TEST(balanced_weighs_quality_against_cost_by_the_class)
{
	ask_for(simple); /* 0.1 - 0.02, 0.14 - 0.25, 0.196 - 1 */
	expect("small mid big");
	struct router_decision *d = decided(N_MODELS);
	ck_assert_int_eq(d->classified.class, CLASSIFY_SIMPLE);
	near(candidate(d, "small")->score, 0.08);
	near(candidate(d, "mid")->score, -0.11);
	near(candidate(d, "big")->score, -0.804);
	router_decision_free(d);
	ask_for(moderate); /* 0.2 - 0.012, 0.28 - 0.15, 0.392 - 0.6 */
	expect("small mid big");
	d = decided(N_MODELS);
	ck_assert_int_eq(d->classified.class, CLASSIFY_MODERATE);
	near(candidate(d, "small")->score, 0.188);
	near(candidate(d, "mid")->score, 0.13);
	near(candidate(d, "big")->score, -0.208);
	router_decision_free(d);
	ask_for(complex); /* 0.3 - 0.004, 0.42 - 0.05, 0.588 - 0.2 */
	expect("big mid small");
	d = decided(N_MODELS);
	ck_assert_int_eq(d->classified.class, CLASSIFY_COMPLEX);
	near(candidate(d, "small")->score, 0.296);
	near(candidate(d, "mid")->score, 0.37);
	near(candidate(d, "big")->score, 0.388);
	near(candidate(d, "big")->quality_term, 0.588);
	near(candidate(d, "big")->cost_term, -0.2);
	near(candidate(d, "big")->latency_term, 0);
	ck_assert_int_eq(candidate(d, "small")->cost, DOLLAR * 8 / 10000);
	ck_assert_int_eq(candidate(d, "big")->cost, DOLLAR * 4 / 100);
	router_decision_free(d);
}
END_TEST

START_TEST(balanced_counts_time_only_where_speed_matters)
{
	ask_for(complex);
	ask.max_latency_ms = 60000; /* 0.296 - 1.01, 0.37 - 0.52, 0.388 - 2.05 */
	expect("mid small big");
	struct router_decision *d = decided(N_MODELS);
	near(candidate(d, "mid")->score, -0.15);
	near(candidate(d, "mid")->latency_term, -0.52);
	near(candidate(d, "big")->score, -1.662);
	near(candidate(d, "big")->expected_ms, 20500);
	router_decision_free(d);
}
END_TEST

START_TEST(balanced_shuns_models_that_are_busy_or_cold)
{
	ask_for(complex);
	facts[BIG].running = 3;
	facts[BIG].waiting = 7; /* 0.388 - 0.1 */
	expect("mid small big");
	facts[MID].health = ROUTER_COLD; /* 0.37 - 0.05 */
	expect("mid small big");
	facts[MID].running = 3; /* - 0.03: 0.29 */
	expect("small mid big");
	struct router_decision *d = decided(N_MODELS);
	near(candidate(d, "mid")->load_term, -0.08);
	router_decision_free(d);
}
END_TEST

START_TEST(weights_and_classes_are_in_force_at_once)
{
	ask_for(simple);
	set("weights", "answer_tok 1000\nquality_simple 1\ncost_simple 0\n");
	expect("big mid small");
	set("weights", "answer_tok 1000");
	expect("small mid big");
	set("classes", "moderate -9\ncomplex -8\n"); /* all is complex */
	expect("big mid small");
	set("classes", "");
	expect("small mid big");
}
END_TEST

START_TEST(equals_are_ordered_by_cost_quality_state_load_and_name)
{
	for (int i = 0; i < N_MODELS; i++) {
		facts[i] = three[MID];
		snprintf(facts[i].name, sizeof facts[i].name, "%c", "bca"[i]);
	}
	set("policy", "latency");
	expect("a b c");
	facts[0].running = 1;
	expect("a c b");
	facts[1].quality = 0.8;
	expect("c a b");
	facts[0].price.input -= DOLLAR / 1000000; /* a nanodollar for the request */
	expect("b c a");
	set("policy", "quality");
	facts[1].quality = 0.7;
	facts[0].price = facts[1].price;
	facts[2].health = ROUTER_COLD;
	expect("c b a");
}
END_TEST

START_TEST(what_is_decided_does_not_depend_on_the_order_of_the_facts)
{
	static const int orders[][3] = {
		{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	for (size_t p = 0; p < 5; p++) {
		char first[200] = "";
		set("policy", policies[p]);
		for (size_t o = 0; o < 6; o++) {
			char got[200] = "";
			for (int i = 0; i < 3; i++) {
				facts[i] = three[orders[o][i]];
				facts[i].tok_per_s = orders[o][i] == MID ? 0 : facts[i].tok_per_s;
			}
			struct router_decision *d = decided(3);
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
	set("policy", "latency");
	facts[MID].tok_per_s = 0; /* (10.1 + 20.5) / 2 = 15.3 */
	expect("small mid big");
	struct router_decision *d = decided(N_MODELS);
	near(candidate(d, "mid")->expected_ms, 15300);
	ck_assert(!candidate(d, "mid")->is_measured);
	ck_assert(candidate(d, "big")->is_measured);
	router_decision_free(d);
	ask.max_latency_ms = 11000; /* big goes, mid is not known to be too slow */
	expect("small mid");
	for (int i = 0; i < N_MODELS; i++)
		facts[i].first_ms = 0;
	expect("small mid big"); /* by cost */
	d = decided(N_MODELS);
	near(candidate(d, "small")->expected_ms, 0);
	router_decision_free(d);
}
END_TEST

START_TEST(loading_takes_its_time)
{
	set("policy", "latency");
	facts[MID].health = ROUTER_COLD; /* 5.2 + 5 */
	expect("small mid big");
	set("weights", "answer_tok 1000\ncold_ms 4000\n"); /* 5.2 + 4 */
	expect("mid small big");
	facts[MID].first_ms = 0; /* 15.3 + 4 */
	expect("small mid big");
	set("weights", "answer_tok 1000\ncold_ms 6000\n"); /* 15.3 + 6 */
	expect("small big mid");
}
END_TEST

/* ---- who cannot ---- */

START_TEST(each_filter_drops_with_its_reason)
{
	snprintf(facts[SMALL].why, sizeof facts[SMALL].why, "breaker open, 5 failures");
	facts[SMALL].health = ROUTER_DOWN;
	expect("mid big");
	ck_assert_str_eq(why("small"), "down: breaker open, 5 failures");
	facts[SMALL].health = ROUTER_COLD;
	expect("small mid big");
	facts[SMALL].health = ROUTER_READY;

	ask.capabilities = ROUTER_CHAT | ROUTER_TOOLS | ROUTER_VISION;
	expect("big");
	ck_assert_str_eq(why("small"), "cannot do vision tools");
	ck_assert_str_eq(why("mid"), "cannot do vision");
	ask.capabilities = ROUTER_CHAT;

	ask.prompt_tok = 4095; /* 0.2 - 0.3 * 0.0279, 0.28 - 0.3 * 0.318 */
	expect("small mid big");
	ask.prompt_tok = 4096;
	expect("mid big");
	ck_assert_str_eq(why("small"), "the prompt has 4096 tokens, its context 4096");
	facts[SMALL].context_tok = 0; /* unknown */
	expect("small mid big");
	ask.prompt_tok = 1000;

	ask.has_max_cost = true;
	ask.max_cost = DOLLAR / 100;
	expect("small mid");
	ck_assert_str_eq(why("big"), "may cost 0.04 dollars, max_cost is 0.01");
	ask.max_cost--;
	expect("small");
	ck_assert_str_eq(why("mid"), "may cost 0.01 dollars, max_cost is 0.009999999");
	ask.has_max_cost = false;

	ask.max_latency_ms = 10100;
	expect("mid small");
	ck_assert_str_eq(why("big"), "is expected to take 20500 ms, max_latency_ms is 10100");
	ask.max_latency_ms = 10099;
	expect("mid");
}
END_TEST

START_TEST(the_ceiling_of_cost_is_for_the_longest_answer)
{
	ask.has_max_cost = true;
	ask.max_cost = DOLLAR / 100;
	ask.max_tokens = 2000; /* mid: 0.002 + 0.016 */
	expect("small");
	ck_assert_str_eq(why("mid"), "may cost 0.018 dollars, max_cost is 0.01");
	facts[MID].max_tokens = 1000; /* but it answers no longer */
	expect("small mid");
	ask.max_tokens = 0; /* small: up to its context, 3,096 tokens: 0.0002 + 0.0018576 */
	ask.max_cost = DOLLAR * 20576 / 10000000;
	expect("small");
	ask.max_cost--;
	expect("");
	ask.max_cost = 0;
	facts[BIG].price = (struct money_price){0};
	expect("big"); /* what is free costs 0 */
}
END_TEST

START_TEST(when_nobody_remains_the_sentence_has_the_reasons)
{
	for (int i = 0; i < N_MODELS; i++)
		facts[i].health = ROUTER_DOWN;
	strcpy(facts[MID].why, "no connection");
	expect("");
	ck_assert_str_eq(
		err.text, "no model can take it: small: down; mid: down: no connection; big: down");
	struct router_decision *d;
	ck_assert_int_eq(router_decide(router, &ask, NULL, 0, &d, &err), -EHOSTUNREACH);
	ck_assert_str_eq(err.text, "there is no model to choose from");
	router_decision_free(d);
}
END_TEST

START_TEST(a_sentence_that_cannot_hold_all_reasons_counts_the_others)
{
	struct router_facts many[20];
	struct router_decision *d;
	for (int i = 0; i < 20; i++) {
		many[i] = three[MID];
		many[i].health = ROUTER_DOWN;
		snprintf(many[i].name, sizeof many[i].name, "model-%02d", i);
		memset(many[i].why, 'x', sizeof many[i].why); /* not even terminated */
	}
	memcpy(many[0].why + 125, "\xE2\x82\xAC", 3);
	memcpy(many[1].why + 126, "\xE2\x82", 2); /* cut inside a character */
	ck_assert_int_eq(router_decide(router, &ask, many, 20, &d, &err), -EHOSTUNREACH);
	ck_assert_msg(strstr(err.text, "; and 19 more"), "%s", err.text);
	ck_assert_uint_eq(d->n_dropped, 20);
	ck_assert_uint_eq(strlen(d->dropped[0].why), 6 + 128);
	ck_assert_uint_eq(strlen(d->dropped[1].why), 6 + 126);
	router_decision_free(d);
}
END_TEST

START_TEST(words_of_capabilities_are_read_and_others_refused)
{
	unsigned bits = 0;
	ck_assert_int_eq(router_capabilities_parse("", 0, &bits, &err), 0);
	ck_assert_uint_eq(bits, ROUTER_CHAT | ROUTER_JSON);
	static const char all[] = " chat json\ncode math\tvision  audio tools embed\n";
	ck_assert_int_eq(router_capabilities_parse(all, strlen(all), &bits, &err), 0);
	ck_assert_uint_eq(bits, 255);
	ck_assert_int_eq(router_capabilities_parse("embed", 5, &bits, &err), 0);
	ck_assert_uint_eq(bits, ROUTER_EMBED);
	static const char *const bad[] = {"chats", "chat,json", "Chat", "cha", "chat video", "0"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_int_eq(
			router_capabilities_parse(bad[i], strlen(bad[i]), &bits, &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.text, "vision, audio, tools and embed"));
		ck_assert_uint_eq(bits, ROUTER_EMBED);
	}
}
END_TEST

/* ---- split ---- */

/* Where each of 10,000 sessions goes: an index of facts. */
enum { N_SESSIONS = 10000 };
static void assign(size_t n, unsigned char where[N_SESSIONS])
{
	for (int s = 0; s < N_SESSIONS; s++) {
		char session[24];
		snprintf(session, sizeof session, "s%d", s);
		ask.session = session;
		struct router_decision *d = decided(n);
		ck_assert_str_eq(d->arm, d->tried[0].name);
		for (size_t i = 0; i < n; i++)
			if (!strcmp(facts[i].name, d->arm))
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
	set("policy", "split");
	facts[SMALL].weight = 70;
	facts[MID].weight = 30;
	facts[BIG].weight = 0;
	assign(2, where);
	count(where, n);
	near_share(n[SMALL], 0.7);
	near_share(n[MID], 0.3);
	assign(2, again);
	ck_assert_mem_eq(where, again, sizeof where);
	assign(3, again); /* a third one without a weight */
	ck_assert_mem_eq(where, again, sizeof where);
	facts[BIG].weight = 100;
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
	set("policy", "split");
	ask_for(complex); /* balanced: big mid small */
	facts[SMALL].weight = 1;
	facts[MID].weight = facts[BIG].weight = 0;
	expect("small big mid");
	facts[MID].weight = 1;
	facts[SMALL].health = ROUTER_DOWN;
	expect("mid big");
	facts[MID].weight = 0; /* nobody takes part: as balanced */
	expect("big mid");
	struct router_decision *d = decided(N_MODELS);
	ck_assert_str_eq(d->arm, "");
	router_decision_free(d);
}
END_TEST

/* ---- cascade ---- */

START_TEST(a_cascade_goes_from_the_cheapest_upwards_whatever_the_policy)
{
	static const char *const policies[] = {"cost", "quality", "latency", "balanced", "split"};
	ask.model = ROUTER_CASCADE;
	ask_for(complex);
	for (size_t i = 0; i < 5; i++) {
		set("policy", policies[i]);
		expect("small mid big");
	}
	for (int i = 0; i < N_MODELS; i++)
		facts[i].price = (struct money_price){0};
	facts[MID].quality = 0.4;
	expect("mid small big"); /* all free: by quality */
	set("threshold", "0.75");
	struct router_decision *d = decided(N_MODELS);
	near(d->threshold, 0.75);
	router_decision_free(d);
}
END_TEST

START_TEST(a_cascade_may_pay_for_all_of_its_steps)
{
	ask.model = ROUTER_CASCADE;
	ask.has_max_cost = true;
	ask.max_cost = DOLLAR * 508 / 10000; /* 0.0008 + 0.01 + 0.04 */
	expect("small mid big");
	ask.max_cost--;
	expect("small mid");
	ck_assert_str_eq(why("big"),
		"may cost 0.04 dollars on top of the steps before, max_cost is 0.050799999");
	facts[MID].health = ROUTER_DOWN;
	expect("small big");
}
END_TEST

/* ---- the files ---- */

static const struct {
	const char *file, *value;
	int code;
	const char *says;
} values[] = {
	{"policy", "cost", 0, ""},
	{"policy", "# which\n  split  # by weight\n", 0, ""},
	{"policy", "# only a remark\n", 0, ""},
	{"policy", "cheap", -EINVAL, "policy: must be cost, quality, latency, balanced or split"},
	{"policy", "cost quality", -EINVAL, "policy: must be cost"},
	{"policy", "cost\0", -EINVAL, "policy: must be UTF-8"},
	{"threshold", "0", 0, ""},
	{"threshold", "1", 0, ""},
	{"threshold", "# of quality\n0.75", 0, ""},
	{"threshold", "1.01", -EINVAL, "threshold: must be a number from 0 to 1"},
	{"threshold", "-0.1", -EINVAL, "from 0 to 1"},
	{"threshold", "high", -EINVAL, "from 0 to 1"},
	{"threshold", "0.5 0.6", -EINVAL, "from 0 to 1"},
	{"threshold", "nan", -EINVAL, "from 0 to 1"},
	{"weights", "latency 0.5 # a second\n\n# cost\ncost_simple 0", 0, ""},
	{"weights", "speed 1", -EINVAL,
		"weights: line 1: there is no speed; there are quality_simple"},
	{"weights", "\nlatency", -EINVAL,
		"weights: line 2: latency: must be a number from 0 to 1000000"},
	{"weights", "load -1", -EINVAL, "weights: line 1: load: must be a number from 0"},
	{"weights", "load 1\nload 1", -EINVAL, "line 2: load stands in line 1 already"},
	{"classes", "length 0.5", 0, ""},
	{"classes", "size 1", -EINVAL, "classes: line 1: there is no size; there are length"},
	{"classes", "moderate 3", -EINVAL, "classes: moderate (3) must be below complex (0.7)"},
	{"classes", "length \xFF", -EINVAL, "classes: must be UTF-8"},
	{"no_such", "1", -ENOENT, "there are policy, weights, classes and threshold"},
};

START_TEST(a_value_is_taken_or_refused_with_what_is_allowed)
{
	const char *file = values[_i].file, *value = values[_i].value;
	size_t len = strlen(value) + (strstr(values[_i].says, "UTF-8") && *file == 'p');
	struct router_config before, after;
	router_config(router, &before);
	ck_assert_int_eq(router_setting_check(file, value, len, &err), values[_i].code);
	ck_assert_int_eq(router_setting_set(router, file, value, len, &err), values[_i].code);
	ck_assert_msg(strstr(err.text, values[_i].says), "%s", err.text);
	router_config(router, &after);
	if (values[_i].code < 0)
		ck_assert_mem_eq(&before, &after, sizeof before);
	struct buf out = {0};
	int r = router_setting_get(router, file, &out);
	ck_assert_int_eq(r, values[_i].code == -ENOENT ? -ENOENT : 0);
	if (!values[_i].code) /* as it was written, less the last newline */
		ck_assert_int_eq(strncmp(out.data, value, out.len), 0);
	buf_free(&out);
}
END_TEST

START_TEST(every_default_is_shown_spelled_out_and_would_be_taken)
{
	struct router_config before, after;
	set("weights", "");
	router_config(router, &before);
	for (const char *const *file = router_setting_names(); *file; file++) {
		struct buf out = {0};
		ck_assert_int_eq(router_setting_get(router, *file, &out), 0);
		ck_assert_uint_gt(out.len, 0);
		ck_assert(out.data[out.len - 1] != '\n');
		set(*file, out.data);
		buf_free(&out);
	}
	router_config(router, &after);
	ck_assert_mem_eq(&before, &after, sizeof before);
	ck_assert_int_eq(before.policy, ROUTER_BALANCED);
	near(before.threshold, 0.6);
}
END_TEST

START_TEST(the_empty_text_brings_the_default_back)
{
	struct router_config before, after;
	set("weights", "");
	router_config(router, &before);
	set("policy", "cost");
	set("threshold", "0.1");
	set("weights", "load 5");
	set("classes", "length 5");
	for (const char *const *file = router_setting_names(); *file; file++)
		set(*file, "");
	router_config(router, &after);
	ck_assert_mem_eq(&before, &after, sizeof before);
}
END_TEST

START_TEST(the_identity_is_that_of_the_settings_and_changes_with_each_of_them)
{
	static const char *const changes[][2] = {{"policy", "cost"}, {"threshold", "0.1"},
		{"weights", "load 5"}, {"classes", "length 5"}};
	struct buf first = {0}, was = {0};
	for (const char *const *file = router_setting_names(); *file; file++)
		set(*file, "");
	ck_assert_int_eq(router_identity(router, &first), 0);
	ck_assert_int_eq(router_identity(router, &was), 0);
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		struct buf is = {0};
		set(changes[i][0], changes[i][1]);
		ck_assert_int_eq(router_identity(router, &is), 0);
		ck_assert(is.len != was.len || memcmp(is.data, was.data, is.len) != 0);
		buf_free(&was);
		was = is;
	}
	for (const char *const *file = router_setting_names(); *file; file++)
		set(*file, "");
	buf_clear(&was);
	ck_assert_int_eq(router_identity(router, &was), 0);
	ck_assert_uint_eq(was.len, first.len);
	ck_assert_mem_eq(was.data, first.data, first.len);
	buf_free(&was);
	buf_free(&first);
}
END_TEST

/* Each value has all of its weights alike. */
static void *change_weights(void *arg)
{
	static const char *const tables[] = {
		"quality_moderate 1\ncost_moderate 1\n", "quality_moderate 3\ncost_moderate 3\n"};
	for (int i = 0; i < 2000; i++)
		router_setting_set(router, "weights", tables[i % 2], strlen(tables[i % 2]), NULL);
	return arg;
}

START_TEST(a_decision_sees_a_value_as_a_whole_while_another_thread_changes_it)
{
	pthread_t writer;
	set("weights", "quality_moderate 1\ncost_moderate 1\n");
	facts[MID].price = (struct money_price){DOLLAR * 7, DOLLAR * 7, DOLLAR * 7}; /* 0.7 */
	ck_assert_int_eq(pthread_create(&writer, NULL, change_weights, NULL), 0);
	for (int i = 0; i < 2000; i++) {
		struct router_decision *d = decided(N_MODELS);
		const struct router_candidate *k = candidate(d, "mid");
		near(k->quality_term, -k->cost_term);
		ck_assert(fabs(k->quality_term - 0.7) < 1e-9 || fabs(k->quality_term - 2.1) < 1e-9);
		router_decision_free(d);
	}
	pthread_join(writer, NULL);
}
END_TEST

/* ---- JSON ---- */

static json_t *explained(size_t n)
{
	struct router_decision *d;
	struct buf out = {0};
	json_error_t fault;
	router_decide(router, &ask, facts, n, &d, &err);
	ck_assert_int_eq(router_decision_json(d, &out), 0);
	json_t *j = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, &fault);
	ck_assert_msg(j, "%s: %s", fault.text, out.data);
	ck_assert_int_eq(out.data[out.len - 1], '\n');
	buf_free(&out);
	router_decision_free(d);
	return j;
}

static const char *string_at(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

START_TEST(the_explanation_has_each_candidate_with_its_terms_and_each_dropped_with_why)
{
	ask_for(complex);
	facts[SMALL].health = ROUTER_DOWN;
	strcpy(facts[SMALL].why, "\"refused\"\n");
	ask.max_latency_ms = 60000;
	json_t *j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "model"), "auto");
	ck_assert_str_eq(string_at(j, "policy"), "balanced");
	ck_assert_str_eq(string_at(j, "class"), "complex");
	ck_assert_str_eq(string_at(j, "language"), "en");
	ck_assert_str_eq(string_at(j, "chosen"), "mid");
	ck_assert(json_is_null(json_object_get(j, "arm")));
	ck_assert_ptr_null(json_object_get(j, "threshold"));
	const json_t *features = json_object_get(j, "features");
	ck_assert_uint_eq(json_object_size(features), 11);
	near(json_real_value(json_object_get(features, "reasoning")), 1);
	const json_t *list = json_object_get(j, "candidates");
	ck_assert_uint_eq(json_array_size(list), 2);
	const json_t *mid = json_array_get(list, 0);
	ck_assert_str_eq(string_at(mid, "model"), "mid");
	near(json_real_value(json_object_get(mid, "score")), -0.15);
	near(json_real_value(json_object_get(mid, "quality")), 0.42);
	near(json_real_value(json_object_get(mid, "cost")), -0.05);
	near(json_real_value(json_object_get(mid, "latency")), -0.52);
	near(json_number_value(json_object_get(mid, "load")), 0);
	near(json_number_value(json_object_get(mid, "dollars")), 0.01);
	near(json_number_value(json_object_get(mid, "expected_ms")), 5200);
	list = json_object_get(j, "dropped");
	ck_assert_uint_eq(json_array_size(list), 1);
	ck_assert_str_eq(string_at(json_array_get(list, 0), "model"), "small");
	ck_assert_str_eq(string_at(json_array_get(list, 0), "why"), "down: \"refused\"\n");
	json_decref(j);
}
END_TEST

START_TEST(the_explanation_is_json_when_nobody_remains_and_for_cascade_and_split)
{
	json_t *j = explained(0);
	ck_assert(json_is_null(json_object_get(j, "chosen")));
	ck_assert_uint_eq(json_array_size(json_object_get(j, "candidates")), 0);
	json_decref(j);
	ask.model = ROUTER_CASCADE;
	j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "model"), "cascade");
	ck_assert_str_eq(string_at(j, "chosen"), "small");
	near(json_real_value(json_object_get(j, "threshold")), 0.6);
	json_decref(j);
	ask.model = ROUTER_AUTO;
	set("policy", "split");
	j = explained(N_MODELS);
	ck_assert_str_eq(string_at(j, "arm"), string_at(j, "chosen"));
	json_decref(j);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("router");
	TCase *t = tcase_create("router");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, cost_takes_the_cheapest);
	tcase_add_test(t, quality_takes_the_best);
	tcase_add_test(t, latency_takes_the_one_that_is_done_first);
	tcase_add_test(t, balanced_weighs_quality_against_cost_by_the_class);
	tcase_add_test(t, balanced_counts_time_only_where_speed_matters);
	tcase_add_test(t, balanced_shuns_models_that_are_busy_or_cold);
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
	tcase_add_test(t, ten_thousand_sessions_are_split_by_the_weights);
	tcase_add_test(t, a_split_falls_back_in_the_order_of_balanced);
	tcase_add_test(t, a_cascade_goes_from_the_cheapest_upwards_whatever_the_policy);
	tcase_add_test(t, a_cascade_may_pay_for_all_of_its_steps);
	tcase_add_loop_test(t, a_value_is_taken_or_refused_with_what_is_allowed, 0,
		(int)(sizeof values / sizeof *values));
	tcase_add_test(t, every_default_is_shown_spelled_out_and_would_be_taken);
	tcase_add_test(t, the_empty_text_brings_the_default_back);
	tcase_add_test(t, the_identity_is_that_of_the_settings_and_changes_with_each_of_them);
	tcase_add_test(t, a_decision_sees_a_value_as_a_whole_while_another_thread_changes_it);
	tcase_add_test(
		t, the_explanation_has_each_candidate_with_its_terms_and_each_dropped_with_why);
	tcase_add_test(t, the_explanation_is_json_when_nobody_remains_and_for_cascade_and_split);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
