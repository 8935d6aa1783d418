/* SPDX-License-Identifier: Apache-2.0 */
/* The system message that a model's own template has: found, within bounds, and put in front. */
#include "engine/chat_opening.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

static struct err err;

START_TEST(opening_is_the_literal_of_the_template)
{
	static const struct {
		const char *text, *opening;
	} cases[] = {
		/* SmolLM2: a line end in the literal */
		{"{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
		 "helpful AI assistant.<|im_end|>\n' }}{% endif %}",
			"You are a helpful AI assistant."},
		/* Qwen: one that is written as two characters, behind other uses of the header */
		{"{%- if tools %}{{- '<|im_start|>system\\n' }}{{- messages[0]['content'] }}{{- "
		 "'<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\n' + messages[0]['content']"
		 " + '<|im_end|>\\n' }}{{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}",
			"You are Qwen."},
		{"{{ '<|im_start|>system\n' + system + '<|im_end|>' }}", NULL},
		{"{{ '<|im_start|>system\nToday is {{ now }}.<|im_end|>' }}", NULL},
		{"{{ '<|im_start|>system\n<|im_end|>' }}", NULL},
		{"{{ '<|im_start|>system\nYou are", NULL},
		{"<|im_start|>system", NULL},
		{"{% for m in messages %}<|im_start|>{{ m.role }}", NULL},
	};
	char *opening;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = strlen(cases[i].text);
		char *text = malloc(n); /* not ended: what is read behind it is found */

		memcpy(text, cases[i].text, n);
		ck_assert_int_eq(chat_opening_find(text, n, &opening, &err), 0);
		ck_assert_pstr_eq(opening, cases[i].opening);
		free(opening);
		free(text);
	}
	ck_assert_int_eq(chat_opening_find(NULL, 0, &opening, &err), 0);
	ck_assert_ptr_null(opening);
}
END_TEST

/* Minutes, if each header were read to the end of the text. */
START_TEST(templates_of_headers_alone_are_read_once)
{
	enum { N = 200000 };
	static const char *const headers[] = {"<|im_start|>system\n", "<|im_start|>system\n\xff"};
	struct buf text = {0};
	char *opening;

	for (size_t k = 0; k < 2; k++) {
		buf_clear(&text);
		for (int i = 0; i < N; i++)
			ck_assert_int_eq(buf_append(&text, headers[k], strlen(headers[k])), 0);
		if (k == 1) /* what then is no UTF-8 */
			ck_assert_int_eq(buf_append(&text, "<|im_end|>", 10), 0);
		ck_assert_int_eq(chat_opening_find(text.data, text.len, &opening, &err), 0);
		ck_assert_ptr_null(opening);
	}
	buf_free(&text);
}
END_TEST

START_TEST(opening_has_a_ceiling)
{
	enum { MOST = 65536 };
	const char *head = "<|im_start|>system\n", *tail = "<|im_end|>";
	size_t n = strlen(head) + MOST + 1 + strlen(tail);
	char *text = malloc(n), *opening;

	memcpy(text, head, strlen(head));
	memset(text + strlen(head), 'a', MOST + 1);
	memcpy(text + strlen(head) + MOST, tail, strlen(tail));
	ck_assert_int_eq(chat_opening_find(text, n - 1, &opening, &err), 0);
	ck_assert_ptr_nonnull(opening);
	ck_assert_uint_eq(strlen(opening), MOST);
	free(opening);
	text[strlen(head) + MOST] = 'a';
	memcpy(text + n - strlen(tail), tail, strlen(tail));
	ck_assert_int_eq(chat_opening_find(text, n, &opening, &err), 0);
	ck_assert_ptr_null(opening);
	free(text);
}
END_TEST

START_TEST(opening_stands_where_there_is_no_system_message)
{
	static const struct engine_message messages[] = {
		{ENGINE_SYSTEM, "Be kind.", 8}, {ENGINE_USER, "Hi", 2}};
	struct tokenizer *t = token_tiny(TINY_VOCAB_GPT2);
	const struct chat_family *chatml;

	ck_assert_int_eq(chat_family_find(&chatml, "chatml", NULL, 0, &err), 0);
	for (size_t with = 0; with < 3; with++) { /* a system message of its own, none; no turns */
		struct token_list got = {0}, want = {0};
		const char *opening = with == 0 ? "Be brief." : "Be kind.";
		size_t from = with == 0 ? 0 : with == 1 ? 1 : 2, n = with == 2 ? 0 : 2;

		ck_assert_int_eq(chat_render(chatml, t, messages, n, true, &want, &err), 0);
		ck_assert_int_eq(chat_opening_render(opening, chatml, t, messages + from, 2 - from,
					 true, &got, &err),
			0);
		ck_assert_uint_eq(got.n, want.n);
		ck_assert_mem_eq(got.ids, want.ids, want.n * sizeof(*want.ids));
		token_list_free(&got);
		token_list_free(&want);
	}
	tokenizer_free(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("chat_opening");
	TCase *t = tcase_create("chat_opening");

	tcase_add_test(t, opening_is_the_literal_of_the_template);
	tcase_add_test(t, templates_of_headers_alone_are_read_once);
	tcase_add_test(t, opening_has_a_ceiling);
	tcase_add_test(t, opening_stands_where_there_is_no_system_message);
	suite_add_tcase(s, t);
	return run_suite(s);
}
