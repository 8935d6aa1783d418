/* SPDX-License-Identifier: Apache-2.0 */
/* What an uncased BERT makes of texts, by hand; against the library see test_tokenizer_reference.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer.h"
#include "engine/wordpiece.h"
#include "tests/engine/tiny_bert.h"
#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

#define MARK "\xe2\x96\x81"

static struct tokenizer *tiny(void)
{
	struct gguf_writer *w = gguf_writer_new();
	struct tokenizer *t;

	tiny_bert_vocab(w, 0);
	ck_assert_msg(token_load(w, &t) == 0, "%s", token_err.text);
	return t;
}

/* The tokens of text are these, NULL at the end. */
static void gives(const struct tokenizer *t, const char *text, size_t n, const char *const *tokens)
{
	struct token_list ids = {0};
	size_t i = 0;

	ck_assert_int_eq(tokenizer_encode(t, text, n, true, &ids), 0);
	for (; tokens[i]; i++) {
		ck_assert_msg(i < ids.n, "\"%s\" ends after %zu tokens", text, i);
		ck_assert_msg(ids.ids[i] == tiny_bert_id(tokens[i]),
			"\"%s\": token %zu is %u, not %s", text, i, ids.ids[i], tokens[i]);
	}
	ck_assert_msg(ids.n == i, "\"%s\" has %zu tokens, not %zu", text, ids.n, i);
	token_list_free(&ids);
}

#define GIVES(t, text, ...)                                                                        \
	gives(t, text, sizeof(text) - 1, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

START_TEST(words_are_covered_with_the_longest_tokens)
{
	struct tokenizer *t = tiny();

	ck_assert_str_eq(tokenizer_model(t), "bert");
	GIVES(t, "", );
	GIVES(t, " \t\n ", );
	GIVES(t, "the cat sat", MARK "the", MARK "cat", MARK "sat");
	GIVES(t, "cats", MARK "cat", "s");
	GIVES(t, "walking", MARK "walk", "ing");
	GIVES(t, "readable", MARK "read", "able");
	GIVES(t, "thec", MARK "the", "c");
	GIVES(t, "bed", MARK "b", "ed");
	GIVES(t, "cat.sat", MARK "cat", MARK ".", MARK "sat");
	GIVES(t, "?!?", MARK "?", MARK "!", MARK "?");
	tokenizer_free(t);
}
END_TEST

START_TEST(letters_are_folded_and_accents_dropped)
{
	struct tokenizer *t = tiny();

	GIVES(t, "The CAT", MARK "the", MARK "cat");
	GIVES(t, "caf\xc3\xa9", MARK "cafe");
	GIVES(t, "CAFE\xcc\x81", MARK "cafe");
	GIVES(t, "\xc3\x80 m\xc3\xa0t", MARK "a", MARK "mat");
	GIVES(t,
		"c\xc2\xad"
		"at",
		MARK "cat");                     /* soft hyphen */
	GIVES(t, "ca\xe2\x80\x8bt", MARK "cat"); /* zero width space */
	GIVES(t,
		"the\xc2\xa0"
		"cat\xe3\x80\x80sat",
		MARK "the", MARK "cat", MARK "sat");
	GIVES(t, "the\x01\x7f", MARK "the");
	tokenizer_free(t);
}
END_TEST

START_TEST(ideographs_stand_alone)
{
	struct tokenizer *t = tiny();

	GIVES(t,
		"the\xe4\xbd\xa0"
		"cat",
		MARK "the", MARK "\xe4\xbd\xa0", MARK "cat");
	GIVES(t, "\xe4\xbd\xa0\xe5\xa5\xbd", MARK "\xe4\xbd\xa0", "[UNK]");
	tokenizer_free(t);
}
END_TEST

START_TEST(word_that_cannot_be_covered_is_one_unknown)
{
	struct tokenizer *t = tiny();
	char word[4 * WORDPIECE_MAX_WORD];

	GIVES(t, "the cat7 sat", MARK "the", "[UNK]", MARK "sat");
	GIVES(t, "42", MARK "42");
	GIVES(t, "421", "[UNK]");
	GIVES(t, "#", "[UNK]");
	memset(word, 'b', sizeof(word));
	const char *tokens[WORDPIECE_MAX_WORD + 1] = {MARK "b"};
	for (int i = 1; i < WORDPIECE_MAX_WORD; i++)
		tokens[i] = "b";
	gives(t, word, WORDPIECE_MAX_WORD, tokens);
	gives(t, word, WORDPIECE_MAX_WORD + 1, (const char *const[]){"[UNK]", NULL});
	gives(t, word, sizeof(word), (const char *const[]){"[UNK]", NULL});
	tokenizer_free(t);
}
END_TEST

START_TEST(no_mark_comes_out_of_a_text)
{
	struct tokenizer *t = tiny();
	static const char text[] = "[CLS] [SEP][PAD] the [MASK] [UNK] " MARK "cat \xe2\x96\x81";
	struct token_list ids = {0};

	ck_assert_int_eq(tokenizer_encode(t, text, sizeof(text) - 1, true, &ids), 0);
	for (size_t i = 0; i < ids.n; i++)
		ck_assert(!tokenizer_is_control(t, ids.ids[i]));
	ck_assert(
		!tokenizer_is_control(t, TINY_BERT_UNK) && tokenizer_is_control(t, TINY_BERT_CLS));
	token_list_free(&ids);
	tokenizer_free(t);
}
END_TEST

START_TEST(bytes_that_are_no_utf8_are_left_out)
{
	struct tokenizer *t = tiny();

	GIVES(t,
		"c\xff"
		"at\xc3",
		MARK "cat");
	GIVES(t, "\x80\xbf", );
	tokenizer_free(t);
}
END_TEST

START_TEST(marked_text_is_cut_to_what_fits)
{
	struct tokenizer *t = tiny();
	static const char text[] = "the cats sat on a mat.";
	static const char *const all[] = {"[CLS]", MARK "the", MARK "cat", "s", MARK "sat",
		MARK "on", MARK "a", MARK "mat", MARK ".", "[SEP]"};

	for (size_t most = 2; most < 14; most++) {
		struct token_list ids = {0};
		size_t n = most < 10 ? most : 10;

		ck_assert_int_eq(tokenizer_encode_marked(t, text, sizeof(text) - 1, most, &ids), 0);
		ck_assert_uint_eq(ids.n, n);
		for (size_t i = 0; i + 1 < n; i++)
			ck_assert_uint_eq(ids.ids[i], tiny_bert_id(all[i]));
		ck_assert_uint_eq(ids.ids[n - 1], TINY_BERT_SEP);
		token_list_free(&ids);
	}
	tokenizer_free(t);
}
END_TEST

START_TEST(text_of_the_tokens_can_be_read)
{
	struct tokenizer *t = tiny();
	size_t n;

	ck_assert_mem_eq(tokenizer_text(t, tiny_bert_id(MARK "cat"), &n), " cat", 4);
	ck_assert_uint_eq(n, 4);
	ck_assert_mem_eq(tokenizer_text(t, tiny_bert_id("ing"), &n), "ing", 3);
	ck_assert_uint_eq(n, 3);
	tokenizer_text(t, TINY_BERT_CLS, &n);
	ck_assert_uint_eq(n, 0);
	tokenizer_free(t);
}
END_TEST

/* ---- code points ---- */

START_TEST(code_points_fold_as_unicode_says)
{
	static const struct {
		uint32_t from, n, to[3];
	} cases[] = {
		{'A', 1, {'a'}},
		{'z', 1, {'z'}},
		{'\t', 1, {' '}},
		{0x0b, 0, {0}},
		{0x85, 0, {0}},
		{0xa0, 1, {' '}},
		{0xad, 0, {0}},
		{0xc4, 1, {'a'}},
		{0xdf, 1, {0xdf}},   /* sharp s stays */
		{0x1e9e, 1, {0xdf}}, /* and its capital becomes it */
		{0x130, 1, {'i'}},   /* I with a dot */
		{0x131, 1, {0x131}}, /* i without one */
		{0x141, 1, {0x142}}, /* L with stroke has no accent */
		{0x301, 0, {0}},     /* an accent */
		{0x3a3, 1, {0x3c3}},
		{0x37e, 1, {';'}}, /* the Greek question mark */
		{0x401, 1, {0x435}},
		{0x1f18, 1, {0x3b5}},
		{0x212b, 1, {'a'}}, /* Angstrom */
		{0xac00, 2, {0x1100, 0x1161}},
		{0xac01, 3, {0x1100, 0x1161, 0x11a8}},
		{0xd7a3, 3, {0x1112, 0x1175, 0x11c2}},
		{0xf900, 1, {0x8c48}}, /* a compatibility ideograph */
		{0xfb01, 1, {0xfb01}}, /* a ligature is not one */
		{0xfffd, 0, {0}},
		{0x10400, 1, {0x10428}},
		{0x1f600, 1, {0x1f600}},
		{0xe000, 0, {0}}, /* private */
		{0x10ffff, 1, {0x10ffff}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t out[WORDPIECE_MAX_PARTS];
		uint32_t n = wordpiece_fold(cases[i].from, out);

		ck_assert_msg(n == cases[i].n, "U+%04X becomes %u", cases[i].from, n);
		for (uint32_t k = 0; k < n; k++)
			ck_assert_msg(out[k] == cases[i].to[k], "U+%04X becomes U+%04X",
				cases[i].from, out[k]);
	}
}
END_TEST

START_TEST(what_is_folded_stays_as_it_is)
{
	for (uint32_t c = 0; c <= 0x10ffff; c++) {
		uint32_t once[WORDPIECE_MAX_PARTS], twice[WORDPIECE_MAX_PARTS];
		uint32_t n = wordpiece_fold(c, once);

		ck_assert_uint_le(n, WORDPIECE_MAX_PARTS);
		for (uint32_t k = 0; k < n; k++) {
			ck_assert_uint_eq(wordpiece_fold(once[k], twice), 1);
			ck_assert_uint_eq(twice[0], once[k]);
		}
	}
}
END_TEST

/* ---- files ---- */

START_TEST(vocabulary_that_is_none_is_refused)
{
	static const char *const hashes[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "##s"};
	struct gguf_writer *w = gguf_writer_new();
	struct tokenizer *t;

	gguf_writer_add_string(w, "tokenizer.ggml.model", "bert");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", hashes, NULL, 6);
	gguf_writer_add_u32(w, "tokenizer.ggml.cls_token_id", 2);
	gguf_writer_add_u32(w, "tokenizer.ggml.separator_token_id", 3);
	gguf_writer_add_u32(w, "tokenizer.ggml.unknown_token_id", 1);
	ck_assert_int_eq(token_load(w, &t), -ENOTSUP);
	ck_assert_msg(strstr(token_err.text, "U+2581") != NULL, "%s", token_err.text);

	w = gguf_writer_new(); /* [CLS] would be 101 */
	gguf_writer_add_string(w, "tokenizer.ggml.model", "bert");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", hashes, NULL, 6);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	ck_assert_msg(strstr(token_err.text, "[CLS]") != NULL, "%s", token_err.text);

	w = gguf_writer_new();
	tiny_bert_vocab(w, 0);
	gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", 3);
	ck_assert_int_eq(token_load(w, &t), 0);
	tokenizer_free(t);

	w = gguf_writer_new();
	gguf_writer_add_string(w, "tokenizer.ggml.model", "bert");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", hashes, NULL, 6);
	gguf_writer_add_u32(w, "tokenizer.ggml.cls_token_id", 2);
	gguf_writer_add_u32(w, "tokenizer.ggml.seperator_token_id", 6);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);

	w = gguf_writer_new();
	gguf_writer_add_string(w, "tokenizer.ggml.model", "bert");
	gguf_writer_add_strings(w, "tokenizer.ggml.tokens", hashes, NULL, 6);
	gguf_writer_add_u32(w, "tokenizer.ggml.cls_token_id", 2);
	gguf_writer_add_u32(w, "tokenizer.ggml.seperator_token_id", 3);
	gguf_writer_add_u32(w, "tokenizer.ggml.unknown_token_id", 3);
	ck_assert_int_eq(token_load(w, &t), -EBADMSG);
	ck_assert_msg(strstr(token_err.text, "same token") != NULL, "%s", token_err.text);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("wordpiece");
	TCase *t = tcase_create("wordpiece");

	tcase_add_test(t, words_are_covered_with_the_longest_tokens);
	tcase_add_test(t, letters_are_folded_and_accents_dropped);
	tcase_add_test(t, ideographs_stand_alone);
	tcase_add_test(t, word_that_cannot_be_covered_is_one_unknown);
	tcase_add_test(t, no_mark_comes_out_of_a_text);
	tcase_add_test(t, bytes_that_are_no_utf8_are_left_out);
	tcase_add_test(t, marked_text_is_cut_to_what_fits);
	tcase_add_test(t, text_of_the_tokens_can_be_read);
	tcase_add_test(t, code_points_fold_as_unicode_says);
	tcase_add_test(t, what_is_folded_stays_as_it_is);
	tcase_add_test(t, vocabulary_that_is_none_is_refused);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
