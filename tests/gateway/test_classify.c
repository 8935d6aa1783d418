/* SPDX-License-Identifier: Apache-2.0 */
/* The class of a prompt: the table that was written first, each feature, and the file of weights.
 */
#include "gateway/classify.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/classify_prompts_cjk.h"
#include "tests/run_suite.h"

enum { N_PROMPTS = sizeof classify_prompts / sizeof *classify_prompts };

static struct classify_result classified(const char *text)
{
	struct classify_weights w = classify_weights_default();
	struct classify_result r;
	classify_text(text, strlen(text), &w, &r);
	return r;
}

START_TEST(the_table_of_prompts_is_classified_as_a_person_did)
{
	unsigned n[2] = {0}, right[2] = {0};
	ck_assert_int_ge(N_PROMPTS, 60);
	for (size_t i = 0; i < N_PROMPTS; i++) {
		const struct classify_prompt *p = &classify_prompts[i];
		struct classify_result r = classified(p->text);
		bool held = p->part == 'h', agrees = "SMC"[r.class] == p->class;
		n[held]++;
		right[held] += agrees;
		if (!agrees)
			printf("%c, not %c (score %.3f): %.70s\n", "SMC"[r.class], p -> class,
				r.score, p->text);
	}
	printf("tuned on: %u of %u; held back: %u of %u (%.1f %%)\n", right[0], n[0], right[1],
		n[1], 100.0 * right[1] / n[1]);
	ck_assert_uint_eq(n[0], n[1]);
	ck_assert_double_ge((right[0] + right[1]) / (double)N_PROMPTS, 0.85);
	ck_assert_double_ge(right[1] / (double)n[1], 0.85);
}
END_TEST

START_TEST(chinese_and_japanese_prompts_are_classified_as_a_person_did)
{
	enum { N = sizeof classify_prompts_cjk / sizeof *classify_prompts_cjk };
	unsigned n[2] = {0}, right[2] = {0};
	for (size_t i = 0; i < N; i++) {
		const struct classify_prompt *p = &classify_prompts_cjk[i];
		struct classify_result r = classified(p->text);
		bool held = p->part == 'h', agrees = "SMC"[r.class] == p->class;
		n[held]++;
		right[held] += agrees;
		if (!agrees && !held)
			printf("%c, not %c (score %.3f): %s\n", "SMC"[r.class], p -> class, r.score,
				p->text);
	}
	printf("tuned on: %u of %u; held back: %u of %u\n", right[0], n[0], right[1], n[1]);
	ck_assert_uint_eq(n[0], n[1]);
	ck_assert_double_ge(right[0] / (double)n[0], 0.85);
	ck_assert_double_ge(right[1] / (double)n[1], 0.85);
}
END_TEST

START_TEST(a_word_without_spaces_around_it_is_found_and_the_longest_is_meant)
{
	ck_assert_double_eq(classified("请分析它").features.reasoning, 0.25);
	ck_assert_double_eq(classified("请证明它").features.reasoning, 0.5);
	ck_assert_double_eq(classified("一步一步来").features.reasoning, 0.25);
	ck_assert_double_eq(classified("証明してください").features.reasoning, 0.5);
	ck_assert_double_eq(classified("分").features.reasoning, 0);
	ck_assert_double_eq(classified("\xE5\x88\x86\xE6\x9E").features.reasoning, 0);
}
END_TEST

START_TEST(the_score_is_the_sum_of_weights_times_features)
{
	for (size_t i = 0; i < N_PROMPTS; i++) {
		struct classify_result r = classified(classify_prompts[i].text);
		const struct classify_features *f = &r.features;
		double sum = 0.45 * f->length + 0.05 * f->sentences + 0.35 * f->code +
			     0.45 * f->mathematics + 1.0 * f->reasoning + 0.35 * f->tasks +
			     0.3 * f->constraints + 0.1 * f->questions + 0.15 * f->numbers -
			     0.25 * f->simple + 0.3 * f->foreign;
		ck_assert_double_lt(fabs(sum - r.score), 1e-9);
		ck_assert_int_eq(r.class, sum >= 0.7 ? 2 : sum >= 0.15 ? 1 : 0);
	}
}
END_TEST

START_TEST(each_feature_answers_to_its_own_kind_of_text)
{
	ck_assert_double_eq(
		classified("one two three four five six seven eight").features.length, 1 / 8.0);
	ck_assert_double_eq(classified("A b. C d! E f?\nG h").features.sentences, 0.3);
	ck_assert_double_eq(classified("Ist das so? Warum? Wozu?").features.questions, 2 / 3.0);
	ck_assert_double_eq(classified("1,200.50 and 3 and x4").features.numbers, 0.3);
	ck_assert_double_eq(classified("Analyse it.").features.reasoning, 0.25);
	ck_assert_double_eq(classified("Prove it.").features.reasoning, 0.5);
	ck_assert_double_eq(classified("explain why").features.tasks, 2 / 3.0);
	ck_assert_double_eq(classified("- a\n- b\n* c\n4. d\n").features.constraints, 2 / 6.0);
	ck_assert_double_ge(
		classified("```c\nint main(void) { return x[3]; }\n```").features.code, 0.9);
	ck_assert_double_ge(classified("$\\int_0^1 x^2 + y^2 = z$ and \xE2\x88\x91 \xE2\x89\xA4 5")
				    .features.mathematics,
		0.4);
	struct classify_result hello = classified("Hello, who is it?");
	ck_assert_double_eq(hello.features.simple, 1 * 36 / 40.0);
	struct classify_result prose = classified("The lamp (in the hall) was lit by Tom.");
	ck_assert_double_eq(prose.features.code, 0);
	ck_assert_double_eq(prose.features.mathematics, 0);
	struct classify_weights w = classify_weights_default();
	struct classify_result nothing;
	classify_text(NULL, 0, &w, &nothing);
	ck_assert_double_eq(nothing.score, 0);
	ck_assert_int_eq(nothing.class, CLASSIFY_SIMPLE);
}
END_TEST

static const struct {
	const char *language, *text;
} languages[] = {
	{"en", "Where does the river that we crossed begin?"},
	{"de", "Wo beginnt der Fluss, den wir \xC3\xBC"
	       "berquert haben?"},
	{"fr", "O\xC3\xB9 commence la rivi\xC3\xA8re que nous avons travers\xC3\xA9"
	       "e ?"},
	{"es", "\xC2\xBF"
	       "D\xC3\xB3nde nace el r\xC3\xADo que hemos cruzado por la tarde?"},
	{"other", "\xD0\x93\xD0\xB4\xD0\xB5 \xD0\xBD\xD0\xB0\xD1\x87\xD0\xB0\xD0\xBB\xD0\xBE?"},
	{"ja", "\xE5\xB7\x9D\xE3\x81\xAF\xE3\x81\xA9\xE3\x81\x93\xEF\xBC\x9F"},
	{"zh", "这条河从哪里开始？"},
	{"other", "강은 어디에서 시작하나요?"},
	{"other", ""},
};

START_TEST(the_language_is_told_by_its_common_words)
{
	struct classify_result r = classified(languages[_i].text);
	ck_assert_str_eq(r.language, languages[_i].language);
	bool other = !strcmp(r.language, "other");
	ck_assert_double_eq(r.features.foreign, other ? r.features.length : 0);
}
END_TEST

/* Pairs: with and without accents, capitals or not. */
static const char *const same[][2] = {
	{"D\xC3\xA9montrez le th\xC3\xA9or\xC3\xA8me", "demontrez le theoreme"},
	{"DISE\xC3\x91"
	 "A UN EXPERIMENTO",
		"disena un experimento"},
	{"Erkl\xC3\xA4re die Gr\xC3\xB6\xC3\x9F"
	 "e",
		"erklare die grosse"},
	{"Explain WHY", "explain why"},
};

START_TEST(accents_and_capitals_make_no_difference)
{
	struct classify_result a = classified(same[_i][0]), b = classified(same[_i][1]);
	ck_assert_double_gt(a.features.reasoning + a.features.tasks, 0);
	for (size_t i = 0; classify_feature_names()[i]; i++)
		ck_assert_double_eq(
			classify_feature(&a.features, i), classify_feature(&b.features, i));
	ck_assert_str_eq(a.language, b.language);
}
END_TEST

START_TEST(words_far_from_both_ends_count_a_quarter)
{
	struct buf text = {0};
	for (int i = 0; i < 300; i++)
		buf_append_str(&text, "lamp on ");
	size_t middle = text.len / 2;
	memcpy(text.data + middle / 8 * 8, "analyse ", 8);
	ck_assert_double_eq(classified(text.data).features.reasoning, 1 / 16.0);
	memcpy(text.data + middle / 8 * 8, "lamp on ", 8);
	memcpy(text.data, "analyse ", 8);
	ck_assert_double_eq(classified(text.data).features.reasoning, 0.25);
	buf_free(&text);
}
END_TEST

START_TEST(of_a_long_text_only_beginning_and_end_are_looked_at)
{
	size_t n = 1 << 20;
	char *a = malloc(n), *b = malloc(n);
	for (size_t i = 0; i < n; i++)
		a[i] = "lamp on "[i % 8];
	memcpy(b, a, n);
	for (size_t i = CLASSIFY_BYTES; i + 8 <= n - CLASSIFY_BYTES; i += 8)
		memcpy(b + i, "prove {}", 8);
	struct classify_weights w = classify_weights_default();
	struct classify_result x, y;
	classify_text(a, n, &w, &x);
	classify_text(b, n, &w, &y);
	ck_assert_double_eq(x.features.length, 1);
	ck_assert_double_eq(x.score, y.score);
	memcpy(b + n - CLASSIFY_BYTES, "prove {}", 8);
	classify_text(b, n, &w, &y);
	ck_assert_double_gt(y.score, x.score);
	free(a);
	free(b);
}
END_TEST

START_TEST(words_that_were_not_looked_at_count_for_the_length)
{
	size_t n = 64 << 10; /* words of 63 letters: 1,024, of which 512 are looked at */
	char *text = malloc(n);
	struct classify_weights w = classify_weights_default();
	struct classify_result r;
	for (size_t i = 0; i < n; i++)
		text[i] = i % 64 == 63 ? ' ' : 'x';
	classify_text(text, n, &w, &r);
	ck_assert_double_lt(fabs(r.features.length - log2(1 + 1024 / 8.0) / 8), 1e-9);
	free(text);
}
END_TEST

START_TEST(any_bytes_give_features_between_0_and_1)
{
	struct classify_weights w = classify_weights_default();
	unsigned seed = 3;
	for (int round = 0; round < 2000; round++) {
		size_t len = (size_t)(rand_r(&seed) % 90);
		char *text = malloc(len + !len);
		struct classify_result r;
		for (size_t i = 0; i < len; i++)
			text[i] = (char)(rand_r(&seed) % 3
						 ? "\xC3\xE2\xEF\xE3`? -9a"[rand_r(&seed) % 10]
						 : rand_r(&seed));
		classify_text(text, len, &w, &r);
		for (size_t i = 0; classify_feature_names()[i]; i++) {
			double x = classify_feature(&r.features, i);
			ck_assert_msg(x >= 0 && x <= 1, "%s %g", classify_feature_names()[i], x);
		}
		free(text);
	}
}
END_TEST

/* ---- router/classes ---- */

static struct classify_weights parsed(const char *text)
{
	struct err err = {0};
	struct classify_weights w;
	int r = classify_weights_parse(text, strlen(text), &w, &err);
	ck_assert_msg(r == 0, "%s", err.text);
	return w;
}

START_TEST(a_file_changes_what_it_names_and_nothing_else)
{
	struct classify_weights w = classify_weights_default(), v;
	v = parsed("");
	ck_assert_mem_eq(&v, &w, sizeof w);
	v = parsed("# weights\n\n  length\t-1.5   # less\r\nmoderate .25\ncomplex 99");
	w.weight.length = -1.5;
	w.moderate = 0.25;
	w.complex = 99;
	ck_assert_mem_eq(&v, &w, sizeof w);
}
END_TEST

START_TEST(weights_that_were_printed_are_read_as_the_same)
{
	struct classify_weights w = parsed("numbers 0.123456\nsimple -7\ncomplex 2\n");
	struct buf text = {0};
	ck_assert_int_eq(classify_weights_print(&w, &text), 0);
	struct classify_weights v = parsed(text.data);
	ck_assert_mem_eq(&v, &w, sizeof w);
	buf_free(&text);
}
END_TEST

START_TEST(weights_and_thresholds_decide_the_class)
{
	struct classify_weights w = parsed("length 0\nsentences 0\ncode 0\nmathematics 0\n"
					   "reasoning 0\ntasks 0\nconstraints 0\nquestions 1\n"
					   "numbers 0\nsimple 0\nforeign 0\nmoderate 0.3\n"
					   "complex 0.6\n");
	static const char *const texts[] = {"Why?", "Why? How?", "Why? How? When?"};
	for (int i = 0; i < 3; i++) {
		struct classify_result r;
		classify_text(texts[i], strlen(texts[i]), &w, &r);
		ck_assert_double_eq(r.score, i / 3.0);
		ck_assert_int_eq(r.class, i);
	}
	ck_assert_str_eq(classify_name(CLASSIFY_SIMPLE), "simple");
	ck_assert_str_eq(classify_name(CLASSIFY_MODERATE), "moderate");
	ck_assert_str_eq(classify_name(CLASSIFY_COMPLEX), "complex");
}
END_TEST

static const struct {
	const char *text, *says;
} faults[] = {
	{"lenght 1\n", "line 1: there is no lenght; there are length, sentences, code"},
	{"lenght 1\n", "foreign, moderate and complex"},
	{"\n# x\nlength\n", "line 3: length: must be a number from -100 to 100"},
	{"length 1 2\n", "line 1: length: must be"},
	{"length 101\n", "from -100 to 100"},
	{"length 1e3\n", "must be a number"},
	{"length nan\n", "must be a number"},
	{"length 0,5\n", "must be a number"},
	{"length - \n", "must be a number"},
	{"length . \n", "must be a number"},
	{"length 1.2.3\n", "must be a number"},
	{"length #1\n", "must be a number"},
	{"length 1\nlength 1\n", "line 2: length stands in line 1 already"},
	{"moderate 0.7\n", "moderate (0.7) must be below complex (0.7)"},
	{"moderate 1\n", "must be below"},
};

START_TEST(a_fault_says_its_line_and_what_is_allowed_and_changes_nothing)
{
	struct classify_weights w = {.moderate = 42}, before = w;
	struct err err = {0};
	const char *text = faults[_i].text;
	ck_assert_int_eq(classify_weights_parse(text, strlen(text), &w, &err), -EINVAL);
	ck_assert_msg(strstr(err.text, faults[_i].says), "%s", err.text);
	ck_assert_mem_eq(&w, &before, sizeof w);
}
END_TEST

START_TEST(a_file_that_is_too_long_is_refused)
{
	struct classify_weights w;
	char *big = malloc((64 << 10) + 1);
	memset(big, '\n', (64 << 10) + 1);
	ck_assert_int_eq(classify_weights_parse(big, (64 << 10) + 1, &w, NULL), -EFBIG);
	ck_assert_int_eq(classify_weights_parse(big, 64 << 10, &w, NULL), 0);
	free(big);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("classify");
	TCase *t = tcase_create("classify");
	tcase_add_test(t, the_table_of_prompts_is_classified_as_a_person_did);
	tcase_add_test(t, chinese_and_japanese_prompts_are_classified_as_a_person_did);
	tcase_add_test(t, a_word_without_spaces_around_it_is_found_and_the_longest_is_meant);
	tcase_add_test(t, the_score_is_the_sum_of_weights_times_features);
	tcase_add_test(t, each_feature_answers_to_its_own_kind_of_text);
	tcase_add_loop_test(t, the_language_is_told_by_its_common_words, 0,
		(int)(sizeof languages / sizeof *languages));
	tcase_add_loop_test(
		t, accents_and_capitals_make_no_difference, 0, (int)(sizeof same / sizeof *same));
	tcase_add_test(t, words_far_from_both_ends_count_a_quarter);
	tcase_add_test(t, of_a_long_text_only_beginning_and_end_are_looked_at);
	tcase_add_test(t, words_that_were_not_looked_at_count_for_the_length);
	tcase_add_test(t, any_bytes_give_features_between_0_and_1);
	tcase_add_test(t, a_file_changes_what_it_names_and_nothing_else);
	tcase_add_test(t, weights_that_were_printed_are_read_as_the_same);
	tcase_add_test(t, weights_and_thresholds_decide_the_class);
	tcase_add_loop_test(t, a_fault_says_its_line_and_what_is_allowed_and_changes_nothing, 0,
		(int)(sizeof faults / sizeof *faults));
	tcase_add_test(t, a_file_that_is_too_long_is_refused);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
