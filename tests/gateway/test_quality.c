/* SPDX-License-Identifier: Apache-2.0 */
/* How good an answer looks. */
#include "gateway/quality.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tests/run_suite.h"

static struct quality_answer answer;
static struct quality_reasons why;

static void setup(void)
{
	answer = (struct quality_answer){.class = CLASSIFY_SIMPLE, .mean_logprob = NAN};
}

static double estimate(const char *text)
{
	answer.text = text;
	answer.len = strlen(text);
	return quality_estimate(&answer, &why);
}

static void near(double x, double y)
{
	ck_assert_msg(fabs(x - y) < 1e-9, "%.12g, not %.12g (%s)", x, y, why.why);
}

static const char good[] =
	"TCP sets a connection up before data flow and sends again what was lost, so that all of "
	"it arrives in order. UDP sends single packets without any of that, which is faster but "
	"may "
	"lose some. Video calls use UDP, since a late picture is of no use; web pages use TCP, "
	"because a page with holes in it cannot be shown to anybody at all.";

START_TEST(a_good_answer_has_nothing_against_it)
{
	for (int class = 0; class < CLASSIFY_CLASSES; class ++) {
		answer.class = (enum classify_class) class;
		near(estimate(good), 1);
		ck_assert_str_eq(why.why, "ok");
	}
	answer.class = CLASSIFY_SIMPLE;
	near(estimate("Paris"), 1);
	near(estimate("42"), 1);
	near(estimate("\xE5\x8C\x97\xE4\xBA\xAC\xE3\x80\x82"), 1);
}
END_TEST

START_TEST(an_answer_without_a_word_is_worth_nothing)
{
	static const char *const texts[] = {"", " \n", "...", "!!!!!!!!!!!!!!!!!!!!!!!!!!!!"};
	for (size_t i = 0; i < 4; i++) {
		near(estimate(texts[i]), 0);
		ck_assert_str_eq(why.why, "empty");
	}
	answer.text = NULL;
	answer.len = 0;
	near(quality_estimate(&answer, &why), 0);
}
END_TEST

START_TEST(how_short_is_too_short_depends_on_the_question)
{
	near(estimate("It is faster now."), 1);
	answer.class = CLASSIFY_MODERATE; /* 4 of 20 */
	near(estimate("It is faster now."), 0.4 + 0.6 * 0.2);
	ck_assert_str_eq(why.why, "short");
	answer.class = CLASSIFY_COMPLEX; /* 4 of 60 */
	near(estimate("It is faster now."), 0.4 + 0.6 / 15);
}
END_TEST

START_TEST(a_loop_of_words_is_found)
{
	struct buf text = {0};
	for (int i = 0; i < 40; i++)
		buf_append_str(&text, "and then it goes on ");
	near(estimate(text.data), 0.1); /* 5 grams of 197 are new */
	ck_assert_str_eq(why.why, "repeats");
	buf_clear(&text);
	for (int i = 0; i < 30; i++)
		buf_append_str(&text, "\xE6\x98\xAF\xE7\x9A\x84");
	near(estimate(text.data), 0.1);
	buf_clear(&text); /* a sound beginning does not hide it: 65 words, then 4 × 60 */
	buf_append_str(&text, good);
	for (int i = 0; i < 60; i++)
		buf_append_str(&text, " I Mean it, really.");
	near(estimate(text.data), 0.1);
	buf_clear(&text); /* 16 words twice: 29 grams, 13 of them again */
	for (int i = 0; i < 2; i++)
		buf_append_str(&text, "a b c d e f g h i j k l m n o p ");
	near(estimate(text.data), 1 - (13 / 29.0 - 0.2) / 0.5 * 0.9);
	buf_free(&text);
}
END_TEST

START_TEST(a_loop_at_the_end_of_a_long_answer_is_found)
{
	struct buf text = {0};
	for (int i = 0; i < 20000; i++)
		buf_printf(&text, "word%d ", i);
	near(estimate(text.data), 1);
	for (int i = 0; i < 8000; i++)
		buf_append_str(&text, "no ");
	near(estimate(text.data), 0.1);
	buf_free(&text);
}
END_TEST

static const char *const refusals[] = {
	"I'm sorry, but I can't help with that.",
	"I\xE2\x80\x99m sorry, but that is not possible.",
	"As an AI, I have no opinion.",
	"Hm. I don't know.",
	"I DO NOT KNOW",
	"Das wei\xC3\x9F ich nicht.",
	"Als KI habe ich keine Meinung dazu.",
	"Je suis d\xC3\xA9sol\xC3\xA9, mais c'est impossible.",
	"D\xC3\x89SOL\xC3\x89, MAIS NON",
	"En tant qu\xE2\x80\x99IA, je n'ai pas d'avis.",
	"No lo s\xC3\xA9.",
	"Lo siento, pero no es posible.",
};

START_TEST(a_refusal_is_found_in_four_languages)
{
	near(estimate(refusals[_i]), 0.15);
	ck_assert_str_eq(why.why, "refuses");
}
END_TEST

static const char *const no_refusals[] = {
	"As an aid to memory, write it down.",
	"The capital is Bern; many visitors are sorry to leave.",
	"Wir k\xC3\xB6nnen das nicht nur heute tun.",
	"Il a dit la v\xC3\xA9rit\xC3\xA9.",
	"No s\xC3\xA9lo eso.",
};

START_TEST(what_only_begins_like_a_refusal_is_none)
{
	near(estimate(no_refusals[_i]), 1);
}
END_TEST

START_TEST(a_refusal_counts_less_before_a_long_answer_and_not_behind_one)
{
	struct buf text = {0};
	buf_append_str(&text, "I'm not sure, but here is what I found. ");
	buf_append_str(&text, good);
	near(estimate(text.data), 0.5);
	buf_clear(&text);
	buf_append_str(&text, good);
	buf_append_str(&text, " I don't know more.");
	near(estimate(text.data), 1);
	buf_free(&text);
}
END_TEST

START_TEST(an_answer_that_was_cut_loses_a_little)
{
	answer.was_cut = true;
	near(estimate(good), 0.7);
	ck_assert_str_eq(why.why, "cut");
}
END_TEST

START_TEST(tokens_that_were_guessed_are_held_against_it)
{
	static const struct {
		double p, factor;
	} samples[] = {{1, 1}, {0.75, 1}, {0.5, 0.6}, {0.25, 0.2}, {0.01, 0.2}};
	for (size_t i = 0; i < 5; i++) {
		answer.mean_logprob = log(samples[i].p);
		near(estimate(good), samples[i].factor);
		ck_assert_str_eq(why.why, samples[i].factor < 1 ? "unsure" : "ok");
	}
	answer.mean_logprob = -INFINITY;
	near(estimate(good), 0.2);
}
END_TEST

START_TEST(json_that_was_wanted_must_be_json)
{
	answer.wants_json = true;
	answer.class = CLASSIFY_COMPLEX; /* and is not too short */
	near(estimate("{\"a\": [1, 2.5, null, \"\\u0000\"]}\n"), 1);
	near(estimate("12"), 1);
	near(estimate("{\"a\": [1, 2"), 0.1);
	ck_assert_str_eq(why.why, "not-json");
	near(estimate("Here you are: {\"a\": 1}"), 0.1);
	answer.was_cut = true;
	near(estimate("{\"a\": [1, 2"), 0.07);
	ck_assert_str_eq(why.why, "not-json");
}
END_TEST

START_TEST(signs_multiply_and_the_lowest_is_named)
{
	answer.was_cut = true;
	answer.mean_logprob = log(0.5);
	answer.class = CLASSIFY_MODERATE;
	near(estimate("I don't know that, sadly."), (0.4 + 0.6 * 6 / 20) * 0.15 * 0.7 * 0.6);
	ck_assert_str_eq(why.why, "refuses");
	near(why.finish, 0.7);
	near(why.certainty, 0.6);
	near(why.refusal, 0.15);
	near(why.repetition, 1);
}
END_TEST

START_TEST(a_verdict_multiplies_and_is_named_where_it_is_the_lowest)
{
	double x = estimate(good);
	near(quality_judged(x, 0.9, &why), 0.9);
	ck_assert_str_eq(why.why, "judged");
	near(why.judge, 0.9);
	x = estimate(good);
	near(quality_judged(x, 1, &why), 1);
	ck_assert_str_eq(why.why, "ok");
	answer.was_cut = true;
	x = estimate(good);
	near(why.judge, 1); /* none */
	near(quality_judged(x, 0.8, &why), 0.7 * 0.8);
	ck_assert_str_eq(why.why, "cut");
	x = estimate(good);
	near(quality_judged(x, 0.25, &why), 0.7 * 0.25);
	ck_assert_str_eq(why.why, "judged");
	near(quality_judged(x, -1, &why), 0);
	near(quality_judged(x, 7, &why), x);
	near(quality_judged(x, NAN, &why), 0);
}
END_TEST

START_TEST(any_bytes_give_a_number_between_0_and_1)
{
	unsigned seed = 5;
	for (int round = 0; round < 3000; round++) {
		size_t len = (size_t)(rand_r(&seed) % 400);
		char *text = malloc(len + !len);
		for (size_t i = 0; i < len; i++)
			text[i] = (char)(rand_r(&seed) % 2
						 ? "\xC3\xE2\x80\x99\xE3I a"[rand_r(&seed) % 8]
						 : rand_r(&seed));
		answer.text = text;
		answer.len = len;
		answer.wants_json = round % 2;
		double x = quality_estimate(&answer, &why);
		ck_assert(x >= 0 && x <= 1);
		free(text);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("quality");
	TCase *t = tcase_create("quality");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, a_good_answer_has_nothing_against_it);
	tcase_add_test(t, an_answer_without_a_word_is_worth_nothing);
	tcase_add_test(t, how_short_is_too_short_depends_on_the_question);
	tcase_add_test(t, a_loop_of_words_is_found);
	tcase_add_test(t, a_loop_at_the_end_of_a_long_answer_is_found);
	tcase_add_loop_test(t, a_refusal_is_found_in_four_languages, 0,
		(int)(sizeof refusals / sizeof *refusals));
	tcase_add_loop_test(t, what_only_begins_like_a_refusal_is_none, 0,
		(int)(sizeof no_refusals / sizeof *no_refusals));
	tcase_add_test(t, a_refusal_counts_less_before_a_long_answer_and_not_behind_one);
	tcase_add_test(t, an_answer_that_was_cut_loses_a_little);
	tcase_add_test(t, tokens_that_were_guessed_are_held_against_it);
	tcase_add_test(t, json_that_was_wanted_must_be_json);
	tcase_add_test(t, signs_multiply_and_the_lowest_is_named);
	tcase_add_test(t, a_verdict_multiplies_and_is_named_where_it_is_the_lowest);
	tcase_add_test(t, any_bytes_give_a_number_between_0_and_1);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
