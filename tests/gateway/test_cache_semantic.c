/* SPDX-License-Identifier: Apache-2.0 */
/* A prompt that is near, agrees, and is asked by the same user under the same settings gets the
 * answer; nothing else does. The embedding is a made one: an angle for each text. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/vectors.h"
#include "tests/gateway/cache_fixture.h"
#include "tests/gateway/made_embedding.h"
#include "tests/run_suite.h"

static struct cache_fixture f;

static const struct question france = {.prompt = "What is the capital of France?",
				     .semantic = true},
			     france_again = {.prompt = "what is the capital of France",
				     .semantic = true},
			     spain = {.prompt = "What is the capital of Spain?", .semantic = true},
			     far_off = {.prompt = "What is the capital of France? And please",
				     .semantic = true},
			     sum = {.prompt = "Add 17 and 25.", .semantic = true},
			     other_sum = {.prompt = "Add 17 and 26.", .semantic = true},
			     sum_again = {.prompt = "add 17 and 25", .semantic = true};

static void setup(void)
{
	made_embedding = (struct made_embedding){.dim = 8};
	cache_fixture_make(&f);
	cache_fixture_open(&f);
	cache_fixture_set(&f, "embedding_model", "minilm");
}

static void teardown(void)
{
	cache_fixture_end(&f);
}

static void reopen(void)
{
	cache_fixture_reopen(&f);
	cache_fixture_set(&f, "embedding_model", "minilm");
	cache_fixture_settle(&f);
}

static void store(struct question q, const char *text)
{
	cache_fixture_store(&f, &q, text);
	cache_fixture_settle(&f);
}

static int hit(struct question q, const char *text)
{
	int level = cache_fixture_hit(&f, &q, text);
	cache_fixture_settle(&f);
	return level;
}

static int stat_of(const char *name)
{
	return (int)cache_fixture_stat(&f, name);
}

START_TEST(a_prompt_that_is_near_and_agrees_gets_the_answer_with_its_score)
{
	struct cache_ticket *t;
	store(france, "Paris");
	ck_assert_int_eq(stat_of("vectors"), 1);
	struct cache_found found = cache_fixture_ask(&f, &france_again, &t);
	ck_assert_int_eq(found.outcome, CACHE_HIT);
	ck_assert_int_eq(found.level, CACHE_L3);
	ck_assert_str_eq(found.text->bytes, "Paris");
	ck_assert_msg(fabs(found.score - cos(5 * M_PI / 180)) < 1e-5, "%f", found.score);
	ck_assert_uint_eq(found.output_tok, 5);
	text_put(found.text);
	cache_fixture_drop(&f, t);
	ck_assert_int_eq(stat_of("hits_l3"), 1);
	/* It is the answer to another prompt: it is not kept for this one. */
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
	ck_assert_int_eq(stat_of("stored"), 1);
	ck_assert_int_eq(hit(france, "Paris"), CACHE_L1);
}
END_TEST

START_TEST(a_prompt_that_is_near_and_does_not_agree_gets_nothing)
{
	store(france, "Paris");
	ck_assert_int_eq(hit(spain, ""), 0);
	store(sum, "42");
	ck_assert_int_eq(hit(other_sum, ""), 0);
	ck_assert_int_eq(stat_of("near_refused"), 2);
	ck_assert_int_eq(hit(sum_again, "42"), CACHE_L3);
}
END_TEST

START_TEST(a_prompt_below_the_threshold_gets_nothing)
{
	store(france, "Paris");
	ck_assert_int_eq(hit(far_off, ""), 0);
	cache_fixture_set(&f, "threshold", "0.999");
	ck_assert_int_eq(hit(france_again, ""), 0);
	cache_fixture_set(&f, "threshold", "0.99");
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
}
END_TEST

START_TEST(another_user_system_prompt_or_setting_never_gets_it)
{
	struct question q = france_again;
	store(france, "Paris");
	q.user = "bob";
	ck_assert_int_eq(hit(q, ""), 0);
	q = france_again;
	q.system = "be short";
	ck_assert_int_eq(hit(q, ""), 0);
	q = france_again;
	q.model = "other";
	ck_assert_int_eq(hit(q, ""), 0);
	q = france_again;
	q.field = "max_tokens";
	q.value = "5";
	ck_assert_int_eq(hit(q, ""), 0);
	q = france_again;
	q.semantic = false;
	ck_assert_int_eq(hit(q, ""), 0);
	q.semantic = true;
	q.unstored = true;
	ck_assert_int_eq(hit(q, ""), 0);
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
	cache_key_mask = 0; /* digests alone decide nothing here either */
	store(sum, "42");
	q = sum_again;
	q.user = "bob";
	ck_assert_int_eq(hit(q, ""), 0);
	q = sum_again;
	q.system = "be short";
	ck_assert_int_eq(hit(q, ""), 0);
	cache_key_mask = UINT64_MAX;
}
END_TEST

START_TEST(scope_global_serves_others_but_nothing_from_before)
{
	struct question bob = france_again;
	bob.user = "bob";
	store(france, "Paris");
	cache_fixture_set(&f, "scope", "global");
	ck_assert_int_eq(hit(bob, ""), 0);
	store(france, "Paris!");
	ck_assert_int_eq(hit(bob, "Paris!"), CACHE_L3);
	cache_fixture_set(&f, "scope", "user");
	ck_assert_int_eq(hit(bob, ""), 0);
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
}
END_TEST

START_TEST(what_is_known_comes_back_after_a_restart)
{
	store(france, "Paris");
	store(sum, "42");
	reopen();
	ck_assert_int_eq(stat_of("vectors"), 2);
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
	ck_assert_int_eq(hit(sum_again, "42"), CACHE_L3);
	ck_assert_int_eq(hit(other_sum, ""), 0);
}
END_TEST

START_TEST(an_answer_that_is_on_disk_only_is_read_from_there)
{
	store(france, "Paris");
	cache_fixture_forget_memory(&f);
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
	ck_assert_int_eq(stat_of("entries"), 1); /* it is in memory again, under its own key */
	ck_assert_int_eq(hit(france, "Paris"), CACHE_L1);
}
END_TEST

START_TEST(a_prompt_whose_answer_is_gone_is_forgotten)
{
	store(france, "Paris");
	cache_fixture_set(&f, "max_disk", "0");
	cache_fixture_forget_memory(&f);
	ck_assert_int_eq(stat_of("vectors"), 1);
	ck_assert_int_eq(hit(france_again, ""), 0);
	ck_assert_int_eq(stat_of("vectors"), 0);
	cache_fixture_set(&f, "max_disk", "");
	store(france, "Paris");
	cache_fixture_ctl(&f, "flush bob");
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
	cache_fixture_ctl(&f, "flush ada");
	ck_assert_int_eq(cache_fixture_hit(&f, &france_again, ""), 0);
	cache_fixture_settle(&f);
	ck_assert_int_eq(stat_of("vectors"), 0);
	reopen();
	ck_assert_int_eq(stat_of("vectors"), 0);
}
END_TEST

START_TEST(prompts_beyond_max_entries_are_forgotten_the_unused_first)
{
	char room[64];
	cache_fixture_set(&f, "max_entries", "20");
	for (int i = 0; i < 60; i++) {
		snprintf(room, sizeof room, "Tell me about subject number %d", i);
		store((struct question){.prompt = room, .semantic = true}, "x");
		if (i == 0)
			store(france, "Paris");
		ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
		ck_assert_int_le(stat_of("vectors"), 20);
	}
	ck_assert_int_eq(stat_of("vectors"), 20);
}
END_TEST

START_TEST(without_a_model_or_for_a_long_prompt_nothing_is_embedded)
{
	char *text = malloc(CACHE_PROMPT_MAX + 2);
	memset(text, 'x', CACHE_PROMPT_MAX + 1);
	text[CACHE_PROMPT_MAX + 1] = '\0';
	store((struct question){.prompt = text, .semantic = true}, "x");
	store((struct question){.prompt = "a conversation"}, "x");
	cache_fixture_set(&f, "embedding_model", "");
	store(france, "Paris");
	ck_assert_int_eq(made_embedding.begun, 0);
	ck_assert_int_eq(stat_of("vectors"), 0);
	free(text);
}
END_TEST

START_TEST(a_model_that_fails_is_said_and_costs_no_request)
{
	static const char key[] = "cache/embedding_model";
	made_embedding.refuse = -EHOSTUNREACH;
	store(france, "Paris");
	ck_assert_ptr_nonnull(strstr(cache_fixture_fault(&f, key), "there is no model minilm"));
	made_embedding.refuse = 0;
	made_embedding.status = -EIO;
	ck_assert_int_eq(hit(france_again, ""), 0);
	/* All may read it: without the server's words, which may have the prompt in them. */
	ck_assert_str_eq(cache_fixture_fault(&f, key),
		"cache/embedding_model: vec: it is broken: HTTP 400, the request was refused");
	ck_assert_int_eq(stat_of("embeddings_failed"), 2);
	ck_assert_int_eq(hit(france, "Paris"), CACHE_L1);
	made_embedding.status = -ETIMEDOUT;
	ck_assert_int_eq(hit(france_again, ""), 0);
	ck_assert_int_eq(stat_of("embeddings_failed"), 2);
	made_embedding.refuse = -EBUSY; /* its gate is full */
	ck_assert_int_eq(hit(france_again, ""), 0);
	ck_assert_int_eq(stat_of("embeddings_failed"), 2);
	made_embedding.refuse = 0;
	ck_assert_int_eq(
		stat_of("embedding_tokens"), 7 * made_embedding.begun - 14); /* two were refused */
	made_embedding.status = 0;
	ck_assert_int_eq(hit(france_again, ""), 0);
	ck_assert_str_eq(cache_fixture_fault(&f, key), "");
	made_embedding.status = -EIO;
	hit(france_again, "");
	cache_fixture_set(&f, "embedding_model", "");
	ck_assert_str_eq(cache_fixture_fault(&f, key), "");
}
END_TEST

static struct cache_ticket *ticket;
static int n_told;

static void count(void *arg, const struct cache_found *found)
{
	n_told++;
}

static void begin_and_drop(void *arg)
{
	struct cache_ask ask;
	struct cache_found found;
	cache_fixture_make_ask(&ask, &france);
	ck_assert_int_eq(cache_begin(&ticket, f.c, &ask, NULL, &found, count, NULL), 1);
	cache_drop(ticket);
}

static void nothing(void *arg)
{
}

START_TEST(a_request_dropped_while_it_is_embedded_is_not_told)
{
	cache_fixture_settle(&f); /* L2 is open: it is not that which is waited for */
	for (int i = 0; i < 2; i++) {
		made_embedding.never = i;
		cache_fixture_on_loop(&f, begin_and_drop, NULL);
		cache_fixture_on_loop(&f, nothing, NULL);
	}
	ck_assert_int_eq(made_embedding.cancelled_early, 2);
	ck_assert_int_eq(n_told, 0);
}
END_TEST

START_TEST(another_model_knows_nothing_of_the_first_ones_vectors)
{
	store(france, "Paris");
	cache_fixture_set(&f, "embedding_model", "other");
	cache_fixture_settle(&f);
	ck_assert_int_eq(stat_of("vectors"), 0);
	ck_assert_int_eq(hit(france_again, ""), 0);
	cache_fixture_set(&f, "embedding_model", "minilm");
	cache_fixture_settle(&f);
	ck_assert_int_eq(stat_of("vectors"), 1);
	ck_assert_int_eq(hit(france_again, "Paris"), CACHE_L3);
	/* The name stays, what is behind it does not. */
	made_embedding.dim = 16;
	ck_assert_int_eq(hit(france_again, ""), 0);
	store(sum, "42");
	ck_assert_int_eq(hit(sum_again, "42"), CACHE_L3);
	ck_assert_int_eq(stat_of("vectors"), 1);
}
END_TEST

static json_t *lookup(struct question q)
{
	float vector[8];
	made_embedding_vector(q.prompt, strlen(q.prompt), vector);
	char *text = cache_fixture_lookup(&f, &q, vector, 8);
	json_t *j = json_loads(text, 0, NULL);
	ck_assert_msg(j, "%s", text);
	free(text);
	return j;
}

static const char *word(const json_t *near, const char *name)
{
	const char *s = json_string_value(json_object_get(near, name));
	return s ? s : "";
}

START_TEST(lookup_shows_the_nearest_and_why_they_are_not_served)
{
	struct question q = france;
	q.system = "be short";
	store(q, "P.");
	store(france, "Paris");
	store(spain, "Madrid");
	json_t *j = lookup(france_again), *near = json_object_get(j, "nearest");
	ck_assert_str_eq(word(j, "outcome"), "hit");
	ck_assert(json_is_null(json_object_get(j, "exact")));
	ck_assert_uint_eq(json_array_size(near), 3);
	int seen = 0;
	for (size_t i = 0; i < 3; i++) {
		const json_t *n = json_array_get(near, i);
		bool is = json_is_true(json_object_get(n, "served"));
		ck_assert_int_eq(is, !*word(n, "why"));
		if (is) {
			ck_assert_str_eq(word(n, "prompt"), france.prompt);
			ck_assert_str_eq(word(n, "agreement"), "agree");
			seen |= 1;
		} else if (strstr(word(n, "why"), "system prompt")) {
			ck_assert_str_eq(word(n, "prompt"), france.prompt);
			seen |= 2;
		} else if (strstr(word(n, "why"), "do not agree")) {
			ck_assert_str_eq(word(n, "prompt"), spain.prompt);
			seen |= 4;
		}
	}
	ck_assert_int_eq(seen, 7);
	json_decref(j);
	cache_fixture_set(&f, "threshold", "1");
	j = lookup(france_again);
	ck_assert_str_eq(word(j, "outcome"), "miss");
	json_decref(j);
	ck_assert_int_eq(stat_of("hits_l3"), 0);
}
END_TEST

START_TEST(lookup_shows_no_text_of_another_user)
{
	struct question bob = france_again;
	bob.user = "bob";
	store(france, "Paris");
	json_t *j = lookup(bob);
	ck_assert_uint_eq(json_array_size(json_object_get(j, "nearest")), 0);
	json_decref(j);
	cache_fixture_set(&f, "scope", "global");
	store(france, "Paris");
	j = lookup(bob);
	ck_assert_str_eq(word(j, "outcome"), "hit");
	json_t *near = json_object_get(j, "nearest");
	ck_assert_uint_eq(json_array_size(near), 1);
	ck_assert_ptr_null(json_object_get(json_array_get(near, 0), "prompt"));
	char *text = json_dumps(j, 0);
	ck_assert_ptr_null(strstr(text, "France"));
	free(text);
	json_decref(j);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache_semantic");
	TCase *t = tcase_create("cache_semantic");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_prompt_that_is_near_and_agrees_gets_the_answer_with_its_score);
	tcase_add_test(t, a_prompt_that_is_near_and_does_not_agree_gets_nothing);
	tcase_add_test(t, a_prompt_below_the_threshold_gets_nothing);
	tcase_add_test(t, another_user_system_prompt_or_setting_never_gets_it);
	tcase_add_test(t, scope_global_serves_others_but_nothing_from_before);
	tcase_add_test(t, what_is_known_comes_back_after_a_restart);
	tcase_add_test(t, an_answer_that_is_on_disk_only_is_read_from_there);
	tcase_add_test(t, a_prompt_whose_answer_is_gone_is_forgotten);
	tcase_add_test(t, prompts_beyond_max_entries_are_forgotten_the_unused_first);
	tcase_add_test(t, without_a_model_or_for_a_long_prompt_nothing_is_embedded);
	tcase_add_test(t, a_model_that_fails_is_said_and_costs_no_request);
	tcase_add_test(t, a_request_dropped_while_it_is_embedded_is_not_told);
	tcase_add_test(t, another_model_knows_nothing_of_the_first_ones_vectors);
	tcase_add_test(t, lookup_shows_the_nearest_and_why_they_are_not_served);
	tcase_add_test(t, lookup_shows_no_text_of_another_user);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
