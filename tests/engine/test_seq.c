/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "engine/seq.h"
#include "tests/engine/tiny_vocab.h"
#include "tests/engine/token_fixture.h"
#include "tests/run_suite.h"

static struct err err;

static void collect(void *arg, const struct engine_event *event)
{
	if (event->kind == ENGINE_TEXT)
		ck_assert_int_eq(buf_append(arg, event->text, event->len), 0);
}

/* What is shown when the model answers with the tokens of `text`. */
static void assert_shown(const char *text, bool drops_space, const char *want)
{
	static const uint32_t prompt[] = {1};
	struct buf shown = {0}, scratch = {0};
	struct token_list answer = {0};
	struct engine_request request = {.ids = prompt,
		.n_ids = 1,
		.sampling = {.top_p = 1},
		.event = collect,
		.arg = &shown};
	struct tokenizer *t = token_tiny(TINY_VOCAB_SENTENCEPIECE);
	struct seq *q;

	ck_assert_int_eq(tokenizer_encode(t, text, strlen(text), false, &answer), 0);
	ck_assert_msg(seq_new(&q, &request, 256, tokenizer_size(t), &err) == 0, "%s", err.text);
	q->drops_space = drops_space;
	ck_assert_int_eq(seq_reserve(q), 0);
	for (size_t i = 0; i < answer.n; i++)
		ck_assert_int_eq(seq_accept(q, answer.ids[i], t, &scratch), 0);
	seq_end(q, ENGINE_FINISH_STOP, 0, NULL, &scratch);
	ck_assert_str_eq(shown.data ? shown.data : "", want);
	seq_free(q);
	tokenizer_free(t);
	token_list_free(&answer);
	buf_free(&scratch);
	buf_free(&shown);
}

START_TEST(space_of_the_template_is_not_shown)
{
	assert_shown(" tea at ten", true, "tea at ten");
	assert_shown("  tea", true, " tea"); /* only one is the template's */
	assert_shown("tea", true, "tea");
	assert_shown(" ", true, "");
	assert_shown(" tea at ten", false, " tea at ten");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("seq");
	TCase *t = tcase_create("seq");

	tcase_add_test(t, space_of_the_template_is_not_shown);
	suite_add_tcase(s, t);
	return run_suite(s);
}
