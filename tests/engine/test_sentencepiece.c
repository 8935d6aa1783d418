/* SPDX-License-Identifier: Apache-2.0 */
/* Vocabularies of SentencePiece. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

#define SP "\xe2\x96\x81"

static struct gguf_writer *sentencepiece(bool bytes, bool prefix)
{
	static const char *const tokens[] = {
		"<unk>", "<s>", "</s>", SP, "a", "b", "ab", SP "ab", "ba", "[sep]"};
	static const float scores[] = {0, 0, 0, -9, -10, -11, -2, -3, -1, 0};
	static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1, 1, 4};
	enum { N = sizeof(tokens) / sizeof(tokens[0]) };
	struct gguf_writer *w = gguf_writer_new();
	char names[256][8];
	const char *all[N + 256];
	float all_scores[N + 256] = {0};
	int32_t all_types[N + 256];
	size_t n = bytes ? N + 256 : N;

	for (size_t i = 0; i < N; i++) {
		all[i] = tokens[i];
		all_scores[i] = scores[i];
		all_types[i] = types[i];
	}
	for (size_t i = 0; i < 256; i++) {
		snprintf(names[i], sizeof(names[i]), "<0x%02X>", (unsigned)i);
		all[N + i] = names[i];
		all_types[N + i] = 6;
	}
	gguf_writer_add_string(w, "tokenizer.ggml.model", "llama");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", all, NULL, n);
	gguf_writer_add_floats(w, "tokenizer.ggml.scores", all_scores, n);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", all_types, n);
	if (!prefix)
		gguf_writer_add_bool(w, "tokenizer.ggml.add_space_prefix", false);
	return w;
}

START_TEST(best_scores_go_first)
{
	static const uint32_t bab[] = {8, 5}, started[] = {7}, inside[] = {6};
	struct tokenizer *t;

	ck_assert_msg(token_load(sentencepiece(true, true), &t) == 0, "%s", token_err.text);
	token_assert_ids(t, "bab", false, bab, 2);
	token_assert_ids(t, "ab", true, started, 1);
	token_assert_ids(t, "ab", false, inside, 1);
	token_assert_ids(t, " ab", false, started, 1);
	ck_assert_uint_eq(tokenizer_bos(t), 1);
	ck_assert_uint_eq(tokenizer_eos(t), 2);
	ck_assert(tokenizer_adds_bos(t));
	ck_assert(tokenizer_is_end(t, 2));
	ck_assert_str_eq(tokenizer_model(t), "llama");
	tokenizer_free(t);
}
END_TEST

START_TEST(no_space_is_put_in_front_where_the_vocabulary_wants_none)
{
	static const uint32_t inside[] = {6};
	struct tokenizer *t;

	ck_assert_int_eq(token_load(sentencepiece(true, false), &t), 0);
	token_assert_ids(t, "ab", true, inside, 1);
	tokenizer_free(t);
}
END_TEST

START_TEST(characters_that_are_no_piece_become_bytes)
{
	static const uint32_t euro[] = {10 + 0xe2, 10 + 0x82, 10 + 0xac}, bad[] = {10 + 0xff, 4};
	struct tokenizer *t;

	ck_assert_int_eq(token_load(sentencepiece(true, true), &t), 0);
	token_assert_ids(t, "\xe2\x82\xac", false, euro, 3);
	token_assert_ids(t,
		"\xff"
		"a",
		false, bad, 2);
	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b++) {
			const char text[2] = {(char)a, (char)b};

			token_assert_round_trip(t, text, 2);
		}
	}
	token_assert_round_trip(t, "a  b\n<s></s><unk>[sep]<0x41>", 27);
	tokenizer_free(t);
}
END_TEST

START_TEST(without_byte_tokens_unknown_characters_in_a_row_are_one_token)
{
	static const uint32_t want[] = {4, 0, 5};
	struct tokenizer *t;

	ck_assert_int_eq(token_load(sentencepiece(false, true), &t), 0);
	token_assert_ids(t,
		"a\xe2\x82\xac\xe2\x82\xac"
		"b",
		false, want, 3);
	tokenizer_free(t);
}
END_TEST

START_TEST(user_defined_pieces_are_not_merged_with_others)
{
	static const uint32_t want[] = {4, 9, 5};
	struct tokenizer *t;

	ck_assert_int_eq(token_load(sentencepiece(true, true), &t), 0);
	token_assert_ids(t, "a[sep]b", false, want, 3);
	tokenizer_free(t);
}
END_TEST

START_TEST(scores_that_are_missing_or_no_numbers_are_refused)
{
	static const char *const tokens[] = {"a", "b"};
	static const float bad[] = {0, NAN}, good[] = {0, -INFINITY};
	static const float *const cases[] = {NULL, bad, good};
	struct tokenizer *t;

	for (size_t i = 0; i < 3; i++) {
		struct gguf_writer *w = gguf_writer_new();

		gguf_writer_add_string(w, "tokenizer.ggml.model", "llama");
		gguf_writer_add_strings(w, "tokenizer.ggml.tokens", tokens, NULL, 2);
		if (cases[i])
			gguf_writer_add_floats(w, "tokenizer.ggml.scores", cases[i], 2);
		ck_assert_int_eq(token_load(w, &t), i == 2 ? 0 : -EBADMSG);
		tokenizer_free(t);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sentencepiece");
	TCase *t = tcase_create("sentencepiece");

	if (run_suite_has_one_thread())
		return 77;
	tcase_add_test(t, best_scores_go_first);
	tcase_add_test(t, no_space_is_put_in_front_where_the_vocabulary_wants_none);
	tcase_add_test(t, characters_that_are_no_piece_become_bytes);
	tcase_add_test(t, without_byte_tokens_unknown_characters_in_a_row_are_one_token);
	tcase_add_test(t, user_defined_pieces_are_not_merged_with_others);
	tcase_add_test(t, scores_that_are_missing_or_no_numbers_are_refused);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
