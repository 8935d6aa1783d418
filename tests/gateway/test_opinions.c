/* SPDX-License-Identifier: Apache-2.0 */
/* What models said of prompts: for whom it is known, and for how long. */
#include "gateway/opinions.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "tests/run_suite.h"

static struct opinions *o;

static void setup(void)
{
	o = opinions_new();
	ck_assert_ptr_nonnull(o);
}

static void teardown(void)
{
	o = opinions_free(o);
	ck_assert_ptr_null(o);
	ck_assert_ptr_null(opinions_free(NULL));
}

static void note(
	uid_t uid, uint64_t model, const char *question, enum classify_class class, uint64_t now_ms)
{
	struct text *t = text_new(question, strlen(question));
	struct router_opinion say = {.has_class = true, .class = class, .share = {0.25, 0.25, 0.5}};
	opinions_note(o, &(struct opinions_key){uid, model, t}, now_ms, &say);
	text_put(t);
}

/* The class, or -1. */
static int known(uid_t uid, uint64_t model, const char *question, uint64_t now_ms)
{
	struct text *t = text_new(question, strlen(question));
	struct router_opinion got = {.model = "m"};
	bool is = opinions_find(o, &(struct opinions_key){uid, model, t}, now_ms, &got);
	ck_assert_int_eq(got.has_class, is);
	ck_assert_int_eq(got.is_remembered, is);
	ck_assert_str_eq(got.model, "m");
	if (is)
		ck_assert_double_eq(got.share[2], 0.5);
	text_put(t);
	return is ? (int)got.class : -1;
}

START_TEST(it_is_known_to_the_same_user_about_the_same_model_and_question)
{
	ck_assert_int_eq(known(1, 7, "q", 0), -1);
	note(1, 7, "q", CLASSIFY_COMPLEX, 0);
	ck_assert_int_eq(known(1, 7, "q", 1), CLASSIFY_COMPLEX);
	ck_assert_int_eq(known(2, 7, "q", 1), -1);
	ck_assert_int_eq(known(1, 8, "q", 1), -1);
	ck_assert_int_eq(known(1, 7, "q ", 1), -1);
	ck_assert_int_eq(known(1, 7, "Q", 1), -1);
}
END_TEST

START_TEST(nobody_keeps_the_question)
{
	struct text *t = text_new("q", 1);
	const struct router_opinion say = {.has_class = true};
	opinions_note(o, &(struct opinions_key){1, 7, t}, 0, &say);
	ck_assert_uint_eq(atomic_load(&t->refs), 1);
	text_put(t);
}
END_TEST

START_TEST(the_last_word_counts)
{
	note(1, 7, "q", CLASSIFY_COMPLEX, 0);
	note(1, 7, "q", CLASSIFY_SIMPLE, 5);
	ck_assert_int_eq(known(1, 7, "q", 6), CLASSIFY_SIMPLE);
}
END_TEST

START_TEST(it_is_forgotten_after_a_while_however_often_it_is_wanted)
{
	note(1, 7, "q", CLASSIFY_MODERATE, 1000);
	for (uint64_t ms = 1000; ms < 1000 + OPINIONS_MS; ms += 10000)
		ck_assert_int_eq(known(1, 7, "q", ms), CLASSIFY_MODERATE);
	ck_assert_int_eq(known(1, 7, "q", 1000 + OPINIONS_MS), -1);
	ck_assert_int_eq(known(1, 7, "q", 1001), -1); /* it has gone */
}
END_TEST

START_TEST(of_too_many_the_one_that_nobody_wanted_goes)
{
	char q[32];
	for (int i = 0; i < OPINIONS_MAX; i++) {
		snprintf(q, sizeof q, "q%d", i);
		note(1, 7, q, CLASSIFY_SIMPLE, 0);
	}
	ck_assert_int_eq(known(1, 7, "q0", 0), CLASSIFY_SIMPLE); /* now the last wanted */
	note(1, 7, "one more", CLASSIFY_SIMPLE, 0);
	ck_assert_int_eq(known(1, 7, "q1", 0), -1);
	ck_assert_int_eq(known(1, 7, "q0", 0), CLASSIFY_SIMPLE);
	ck_assert_int_eq(known(1, 7, "q2", 0), CLASSIFY_SIMPLE);
	ck_assert_int_eq(known(1, 7, "one more", 0), CLASSIFY_SIMPLE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("opinions");
	TCase *t = tcase_create("opinions");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, it_is_known_to_the_same_user_about_the_same_model_and_question);
	tcase_add_test(t, nobody_keeps_the_question);
	tcase_add_test(t, the_last_word_counts);
	tcase_add_test(t, it_is_forgotten_after_a_while_however_often_it_is_wanted);
	tcase_add_test(t, of_too_many_the_one_that_nobody_wanted_goes);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
