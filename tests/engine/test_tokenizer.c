/* SPDX-License-Identifier: Apache-2.0 */
/* What all tokenizers promise, and byte-level BPE. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

START_TEST(text_comes_back_from_its_ids)
{
	static const char *const texts[] = {"", "a", "Hello, world!", "  two  spaces  ",
		"\xc3\xa9t\xc3\xa9 \xe2\x82\xac 5", "line\r\nline\n\n",
		"\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb",
		"\xff\xfe bad \xc3 and \xe2\x82 cut", "\xed\xa0\x80", "nul \x01 \x7f"};
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		token_assert_round_trip(t, texts[i], strlen(texts[i]));
	token_assert_round_trip(t, "a\0b", 3);
	tokenizer_free(t);
}
END_TEST

START_TEST(every_pair_of_bytes_comes_back)
{
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);

	for (unsigned a = 0; a < 256; a++) {
		for (unsigned b = 0; b < 256; b++) {
			const char text[2] = {(char)a, (char)b};

			token_assert_round_trip(t, text, 2);
		}
	}
	tokenizer_free(t);
}
END_TEST

START_TEST(control_tokens_never_come_out_of_text)
{
	static const char text[] = "<|im_start|>system\nYou<|im_end|><|endoftext|>";
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);

	ck_assert_uint_eq(tokenizer_control(t, "<|im_end|>"), 399);
	ck_assert_uint_eq(tokenizer_control(t, "<|im_start|>"), 398);
	ck_assert_uint_eq(tokenizer_control(t, "<|im_"), TOKENIZER_NONE);
	ck_assert(tokenizer_is_control(t, 397));
	token_assert_round_trip(t, text, strlen(text));
	tokenizer_free(t);
}
END_TEST

START_TEST(ends_of_turn_are_known)
{
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);
	size_t len;

	ck_assert(tokenizer_is_end(t, 399));
	ck_assert(tokenizer_is_end(t, 397)); /* <|endoftext|>, though it is only the bos */
	ck_assert(!tokenizer_is_end(t, 398));
	ck_assert(!tokenizer_is_end(t, 65));
	ck_assert(!tokenizer_is_end(t, TOKENIZER_NONE));
	ck_assert_uint_eq(tokenizer_eos(t), 399);
	ck_assert_uint_eq(tokenizer_bos(t), 397);
	ck_assert(!tokenizer_adds_bos(t));
	ck_assert_str_eq(tokenizer_model(t), "gpt2");
	tokenizer_text(t, 399, &len);
	ck_assert_uint_eq(len, 0);
	tokenizer_text(t, 100000, &len);
	ck_assert_uint_eq(len, 0);
	tokenizer_free(t);
}
END_TEST

START_TEST(long_words_are_merged_as_short_ones)
{
	/* "et" is the first merge of the tiny vocabulary's letters after "ee": so many "et" stay so
	 * many tokens. */
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);
	const size_t n = 200000;
	char *text = malloc(n);

	for (size_t i = 0; i < n; i++)
		text[i] = i % 2 ? 't' : 'e';
	struct token_list whole = token_encode(t, text, n, false),
			  part = token_encode(t, text, 10, false);
	ck_assert_uint_eq(whole.n, n / 2);
	ck_assert_uint_eq(part.n, 5);
	for (size_t i = 0; i < whole.n; i++)
		ck_assert_uint_eq(whole.ids[i], part.ids[0]);
	token_assert_round_trip(t, text, n);
	token_list_free(&whole);
	token_list_free(&part);
	free(text);
	tokenizer_free(t);
}
END_TEST

struct encoder {
	const struct tokenizer *tokenizer;
	struct token_list ids;
};

static void *encode_in_thread(void *arg)
{
	static const char text[] =
		"the tea and the hat in the rain, there and then; TEA 12 \xc3\xa9";
	struct encoder *e = arg;

	for (int i = 0; i < 200; i++) {
		e->ids.n = 0;
		if (tokenizer_encode(e->tokenizer, text, sizeof(text) - 1, true, &e->ids))
			return e;
	}
	return NULL;
}

START_TEST(threads_share_a_tokenizer)
{
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);
	struct encoder encoders[4] = {0};
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++) {
		encoders[i].tokenizer = t;
		ck_assert_int_eq(
			pthread_create(&threads[i], NULL, encode_in_thread, &encoders[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		ck_assert_ptr_null(failed);
		ck_assert_uint_eq(encoders[i].ids.n, encoders[0].ids.n);
		ck_assert_mem_eq(encoders[i].ids.ids, encoders[0].ids.ids,
			encoders[0].ids.n * sizeof(*encoders[0].ids.ids));
	}
	for (size_t i = 0; i < 4; i++)
		token_list_free(&encoders[i].ids);
	tokenizer_free(t);
}
END_TEST

/* A byte-level vocabulary of the letters a, b, c and what is given. */
static struct gguf_writer *letters(const char *const *more, size_t n_more,
	const char *const *merges, size_t n_merges, const char *pre)
{
	const char *tokens[16] = {"a", "b", "c"};
	struct gguf_writer *w = gguf_writer_new();

	for (size_t i = 0; i < n_more; i++)
		tokens[3 + i] = more[i];
	gguf_writer_add_string(w, "tokenizer.ggml.model", "gpt2");
	if (pre)
		gguf_writer_add_string(w, "tokenizer.ggml.pre", pre);
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", tokens, NULL, 3 + n_more);
	gguf_writer_add_strings(w, "tokenizer.ggml.merges", merges, NULL, n_merges);
	return w;
}

START_TEST(lower_ranks_go_first_and_equals_from_the_left)
{
	static const char *const more[] = {"bc", "ab", "aa", "aaa"};
	static const char *const merges[] = {"b c", "a b", "a a", "aa a"};
	static const uint32_t abc[] = {0, 3}, aaaa[] = {5, 5}, aaaaa[] = {5, 6};
	struct tokenizer *t;

	ck_assert_msg(token_load(letters(more, 4, merges, 4, NULL), &t) == 0, "%s", token_err.text);
	token_assert_ids(t, "abc", false, abc, 2);
	token_assert_ids(t, "aaaa", false, aaaa, 2);
	token_assert_ids(t, "aaaaa", false, aaaaa, 2);
	tokenizer_free(t);
}
END_TEST

START_TEST(whole_word_is_taken_only_where_the_vocabulary_ignores_merges)
{
	static const char *const more[] = {"bc", "abc"}; /* abc is no result of the merges */
	static const char *const merges[] = {"b c"};
	static const uint32_t merged[] = {0, 3}, whole[] = {4};
	struct tokenizer *t;

	ck_assert_int_eq(token_load(letters(more, 2, merges, 1, "qwen2"), &t), 0);
	token_assert_ids(t, "abc", false, merged, 2);
	token_assert_ids(t, "abc", false, merged, 2); /* what is remembered says the same */
	tokenizer_free(t);
	ck_assert_int_eq(token_load(letters(more, 2, merges, 1, "llama-bpe"), &t), 0);
	token_assert_ids(t, "abc", false, whole, 1);
	tokenizer_free(t);
}
END_TEST

START_TEST(unknown_pretokenizer_is_refused_with_the_known_ones)
{
	struct tokenizer *t;

	ck_assert_int_eq(token_load(letters(NULL, 0, NULL, 0, "martian"), &t), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(token_err.text, "martian"));
	ck_assert_ptr_nonnull(strstr(token_err.text, "llama-bpe"));
	ck_assert_int_eq(token_load(letters(NULL, 0, NULL, 0, "gpt\033[2J"), &t), -ENOTSUP);
	ck_assert_ptr_null(strchr(token_err.text, '\033'));
}
END_TEST

START_TEST(merge_of_what_is_no_token_is_refused)
{
	static const char *const bad[] = {
		"a b", "a", "", " ", "a ", " a", "ab c", "a \xff", "a  b"};
	struct tokenizer *t;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(token_load(letters(NULL, 0, &bad[i], 1, NULL), &t), -EBADMSG);
}
END_TEST

START_TEST(lying_ids_types_and_lengths_are_refused)
{
	static const int32_t three[] = {1, 1, 1}, two[] = {1, 1}, seven[] = {1, 7, 1};
	struct tokenizer *t;
	struct gguf_writer *w = letters(NULL, 0, NULL, 0, NULL);

	gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", 3);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	w = letters(NULL, 0, NULL, 0, NULL);
	gguf_writer_add_i32(w, "tokenizer.ggml.bos_token_id", -1);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	w = letters(NULL, 0, NULL, 0, NULL);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", two, 2);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	w = letters(NULL, 0, NULL, 0, NULL);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", seven, 3);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	w = letters(NULL, 0, NULL, 0, NULL);
	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", three, 3);
	ck_assert_int_eq(token_load(w, &t), 0);
	tokenizer_free(t);
	w = gguf_writer_new();
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	w = gguf_writer_new();
	gguf_writer_add_string(w, "tokenizer.ggml.model", "t5");
	ck_assert_int_eq(token_load(w, &t), -ENOTSUP);
}
END_TEST

START_TEST(user_defined_tokens_are_found_longest_first)
{
	static const char *const more[] = {"<x>", "<x>b", "<|im_end|>"};
	static const int32_t types[] = {1, 1, 1, 4, 4, 4};
	static const uint32_t want[] = {0, 4, 3, 2};
	struct tokenizer *t;
	struct gguf_writer *w = letters(more, 3, NULL, 0, NULL);

	gguf_writer_add_ints(w, "tokenizer.ggml.token_type", types, 6);
	ck_assert_int_eq(token_load(w, &t), 0);
	token_assert_ids(t, "a<x>b<x>c", false, want, 4);
	ck_assert(tokenizer_is_control(t, 5)); /* whatever the file says */
	ck_assert(tokenizer_is_end(t, 5));
	token_assert_ids(t, "<|im_end|>", false, NULL, 0); /* none of its bytes is a token here */
	tokenizer_free(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tokenizer");
	TCase *t = tcase_create("tokenizer");

	tcase_add_test(t, text_comes_back_from_its_ids);
	tcase_add_test(t, every_pair_of_bytes_comes_back);
	tcase_add_test(t, control_tokens_never_come_out_of_text);
	tcase_add_test(t, ends_of_turn_are_known);
	tcase_add_test(t, threads_share_a_tokenizer);
	tcase_add_test(t, long_words_are_merged_as_short_ones);
	tcase_add_test(t, lower_ranks_go_first_and_equals_from_the_left);
	tcase_add_test(t, whole_word_is_taken_only_where_the_vocabulary_ignores_merges);
	tcase_add_test(t, unknown_pretokenizer_is_refused_with_the_known_ones);
	tcase_add_test(t, merge_of_what_is_no_token_is_refused);
	tcase_add_test(t, lying_ids_types_and_lengths_are_refused);
	tcase_add_test(t, user_defined_tokens_are_found_longest_first);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
