/* SPDX-License-Identifier: Apache-2.0 */
/* Which turns are sent, with a provider that counts a token for each byte and 4 for each message.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "gateway/truncate.h"
#include "tests/run_suite.h"

enum { CONTEXT = 1000 };

static void limits(void *handle, struct provider_limits *out)
{
	*out = (struct provider_limits){.context_tok = CONTEXT, .max_token_bytes = 1};
}

static int count(void *handle, const char *text, size_t len, size_t *n_tok, struct err *err)
{
	*n_tok = len;
	return 0;
}

static size_t rendered; /* messages of the last rendering */

static int render(void *handle, const struct provider_message *messages, size_t n,
	struct provider_prompt *out, struct err *err)
{
	*out = (struct provider_prompt){0};
	for (size_t i = 0; i < n; i++)
		out->n_tok += messages[i].len + 4;
	rendered = n;
	return 0;
}

static const struct provider counter = {.limits = limits, .count = count, .render = render};

enum { MOST = 64 };

struct talk {
	struct truncate_job job;
	struct truncate_turn turns[MOST];
};

static struct text *letters(size_t n)
{
	char bytes[4096];
	memset(bytes, 'a', n);
	return text_new(bytes, n);
}

/* n turns whose prompts and answers have that many bytes; the last is the new prompt. */
static void make(struct talk *t, size_t n, size_t bytes, enum truncate_mode mode)
{
	*t = (struct talk){0};
	for (size_t i = 0; i < n; i++) {
		t->turns[i].user = letters(bytes);
		t->turns[i].assistant = i + 1 < n ? letters(bytes) : NULL;
	}
	t->job = (struct truncate_job){.turns = t->turns, .n = n, .mode = mode, .max_tokens = 100};
}

static void unmake(struct talk *t)
{
	for (size_t i = 0; i < t->job.n; i++) {
		text_put(t->turns[i].user);
		text_put(t->turns[i].assistant);
	}
}

static int fit(struct talk *t, struct provider_prompt *out)
{
	return truncate_render(&counter, NULL, &t->job, out, &(struct err){{0}});
}

START_TEST(what_fits_is_sent_whole)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 5, 90, TRUNCATE_OLDEST_TURNS);
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(t.job.first, 0);
	ck_assert_uint_eq(rendered, 9);
	unmake(&t);
}
END_TEST

START_TEST(the_oldest_turns_go_until_three_quarters_are_left)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 20, 40, TRUNCATE_OLDEST_TURNS);
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(t.job.head, 0);
	ck_assert_uint_gt(t.job.first, 0);
	ck_assert_uint_le(p.n_tok, 900 / 4 * 3);
	ck_assert_uint_ge(p.n_tok, 500);
	unmake(&t);
}
END_TEST

START_TEST(a_window_that_still_fits_stays)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 20, 40, TRUNCATE_OLDEST_TURNS);
	ck_assert_int_eq(fit(&t, &p), 0);
	size_t first = t.job.first;
	t.job.n = 22;
	for (size_t i = 19; i < 22; i++) {
		text_put(t.turns[i].user);
		t.turns[i].user = letters(40);
		t.turns[i].assistant = i < 21 ? letters(40) : NULL;
	}
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(t.job.first, first);
	unmake(&t);
}
END_TEST

START_TEST(middle_keeps_the_first_turn_and_the_newest)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 20, 40, TRUNCATE_MIDDLE);
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(t.job.head, 1);
	ck_assert_uint_gt(t.job.first, 1);
	ck_assert_uint_lt(t.job.first, 19);
	unmake(&t);
}
END_TEST

START_TEST(a_first_turn_too_long_to_keep_is_not_kept)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 6, 100, TRUNCATE_MIDDLE);
	text_put(t.turns[0].user);
	t.turns[0].user = letters(880);
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(t.job.head, 0);
	unmake(&t);
}
END_TEST

START_TEST(off_refuses_what_does_not_fit)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 20, 40, TRUNCATE_OFF);
	ck_assert_int_eq(fit(&t, &p), -EMSGSIZE);
	unmake(&t);
	make(&t, 10, 45, TRUNCATE_OFF);
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(rendered, 19);
	unmake(&t);
}
END_TEST

START_TEST(a_new_prompt_needs_room_for_one_token_only)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 1, CONTEXT - 5, TRUNCATE_OLDEST_TURNS);
	ck_assert_int_eq(fit(&t, &p), 0);
	unmake(&t);
	make(&t, 1, CONTEXT - 4, TRUNCATE_OLDEST_TURNS);
	ck_assert_int_eq(fit(&t, &p), -EMSGSIZE);
	unmake(&t);
}
END_TEST

START_TEST(a_long_prompt_pushes_out_all_that_was_before)
{
	struct talk t;
	struct provider_prompt p;
	make(&t, 5, 50, TRUNCATE_OLDEST_TURNS);
	text_put(t.turns[4].user);
	t.turns[4].user = letters(CONTEXT - 5);
	ck_assert_int_eq(fit(&t, &p), 0);
	ck_assert_uint_eq(t.job.first, 4);
	ck_assert_uint_eq(rendered, 1);
	unmake(&t);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("truncate");
	TCase *t = tcase_create("truncate");
	tcase_add_test(t, what_fits_is_sent_whole);
	tcase_add_test(t, the_oldest_turns_go_until_three_quarters_are_left);
	tcase_add_test(t, a_window_that_still_fits_stays);
	tcase_add_test(t, middle_keeps_the_first_turn_and_the_newest);
	tcase_add_test(t, a_first_turn_too_long_to_keep_is_not_kept);
	tcase_add_test(t, off_refuses_what_does_not_fit);
	tcase_add_test(t, a_new_prompt_needs_room_for_one_token_only);
	tcase_add_test(t, a_long_prompt_pushes_out_all_that_was_before);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
