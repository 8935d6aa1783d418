/* SPDX-License-Identifier: Apache-2.0 */
/* Who is let in to a model of embeddings, and what of a long text is handed over. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gateway/embed_fixture.h"
#include "tests/run_suite.h"

/* ---- the gate ---- */

START_TEST(no_more_ask_a_model_than_its_gate_lets_in)
{
	struct asking a = {0}, b = {0}, c = {0};
	embed_set("requests_max", "1");
	embed_set("queue_max", "1");
	embed_fake.late = true;
	embed_ask(&a);
	embed_ask(&b);
	embed_ask(&c);
	embed_on_loop(NULL, NULL);
	embed_on_loop(NULL, NULL);
	ck_assert_int_eq(embed_fake.embedded, 1);
	ck_assert_int_eq(c.r, -EBUSY);
	ck_assert_ptr_nonnull(strstr(c.err.text, "requests_max is 1"));
	embed_answer(&embed_fake.q);
	embed_wait(&a);
	for (int i = 0; i < 100 && embed_fake.embedded < 2; i++)
		embed_on_loop(NULL, NULL);
	ck_assert_int_eq(embed_fake.embedded, 2);
	embed_answer(&embed_fake.q);
	embed_wait(&b);
	ck_assert_int_eq(a.status + b.status, 0);
}
END_TEST

START_TEST(users_take_turns_at_the_gate)
{
	struct asking a[4] = {{.uid = 1}, {.uid = 1}, {.uid = 1}, {.uid = 2}};
	embed_set("requests_max", "1");
	embed_fake.late = true;
	for (int i = 0; i < 4; i++)
		embed_ask(&a[i]);
	for (int n = 1; n <= 4; n++) {
		for (int i = 0; i < 100 && embed_fake.embedded < n; i++)
			embed_on_loop(NULL, NULL);
		ck_assert_int_eq(embed_fake.embedded, n);
		embed_answer(&embed_fake.q);
	}
	for (int i = 0; i < 4; i++)
		embed_wait(&a[i]);
	embed_fake.unused -= 3;
	embed_assert_released();
	ck_assert_uint_eq(embed_fake.uids[0], 1);
	ck_assert_uint_eq(embed_fake.uids[1], 1);
	ck_assert_uint_eq(embed_fake.uids[2], 2);
	ck_assert_uint_eq(embed_fake.uids[3], 1);
}
END_TEST

START_TEST(who_waits_too_long_at_the_gate_or_goes_is_not_asked_for)
{
	struct asking a = {0}, b = {0}, c = {0};
	embed_set("requests_max", "1");
	embed_set("queue_timeout_ms", "20");
	embed_fake.late = true;
	embed_ask(&a);
	embed_ask(&b);
	embed_wait(&b);
	ck_assert_int_eq(b.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(b.sentence, "queue_timeout_ms"));
	embed_set("queue_timeout_ms", "60000");
	embed_ask(&c);
	embed_on_loop(embed_cancel, &c);
	embed_answer(&embed_fake.q);
	embed_wait(&a);
	embed_fake.unused -= 2;
	embed_assert_released();
	ck_assert_int_eq(embed_fake.embedded, 1);
	ck_assert_int_eq(a.n + b.n + c.n, 2);
}
END_TEST

START_TEST(a_providers_full_queue_is_busy_at_a_read)
{
	struct session *s = NULL;
	int status;
	embed_fake.embed = -EAGAIN;
	ck_assert_int_eq(gateway_channel_open(embed_h.g, GATEWAY_EMBED, "tiny", 1000, &s, NULL), 0);
	ck_assert_int_eq(harness_say(s, "some words\n"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EBUSY);
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_str_eq(error, "too many wait\n");
	free(error);
	session_put(s);
	embed_assert_released();
}
END_TEST

/* ---- texts ---- */

START_TEST(a_long_text_is_not_handed_over_on_the_loop)
{
	enum { LEN = (64 << 10) + 1 };
	struct asking a = {.text = malloc(LEN), .len = LEN}, b = a;
	memset((char *)(uintptr_t)a.text, 'x', LEN);
	b.len--;
	embed_ask(&b);
	embed_wait(&b);
	ck_assert(embed_fake.on_loop);
	embed_assert_released();
	embed_fake.unused = 0;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert(!embed_fake.on_loop);
	ck_assert_uint_eq(embed_fake.len, LEN);
	ck_assert_int_eq(a.status, 0);
	embed_assert_released();
	embed_fake.embed = -EAGAIN; /* refused there, it is told as ever */
	embed_fake.unused = 0;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_int_eq(a.status, -EAGAIN);
	embed_assert_released();
	free((char *)(uintptr_t)a.text);
}
END_TEST

START_TEST(what_is_behind_the_context_is_cut_off_at_a_character)
{
	enum { LEN = 300000, MOST = 10000 * 7 };
	struct asking a = {.text = malloc(LEN), .len = LEN, .asks_first = true};
	char *text = (char *)(uintptr_t)a.text;
	for (size_t i = 0; i < LEN; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	embed_loaded.limits.context_tok = 10000;
	embed_loaded.limits.max_token_bytes = 7;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_uint_eq(embed_fake.len, MOST - MOST % 3);
	ck_assert_uint_eq(a.most_tok, 10000);
	embed_assert_released();
	free(text);
}
END_TEST

START_TEST(who_asks_may_say_no_when_it_begins)
{
	struct asking a = {.asks_first = true}, b = {.asks_first = true, .refuse = -EDQUOT};
	embed_ask(&b);
	embed_wait(&b);
	ck_assert_int_eq(b.status, -EDQUOT);
	ck_assert_str_eq(b.sentence, "it is too dear");
	ck_assert_int_eq(embed_fake.embedded, 0);
	embed_assert_released();
	embed_fake.unused = 0;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_uint_eq(a.most_tok, 10 + 2);
	ck_assert_int_eq(a.status, 0);
	embed_assert_released();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("embedding_gate");
	TCase *t = tcase_create("embedding_gate");
	tcase_add_checked_fixture(t, embed_open, embed_close);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, no_more_ask_a_model_than_its_gate_lets_in);
	tcase_add_test(t, users_take_turns_at_the_gate);
	tcase_add_test(t, who_waits_too_long_at_the_gate_or_goes_is_not_asked_for);
	tcase_add_test(t, a_providers_full_queue_is_busy_at_a_read);
	tcase_add_test(t, a_long_text_is_not_handed_over_on_the_loop);
	tcase_add_test(t, what_is_behind_the_context_is_cut_off_at_a_character);
	tcase_add_test(t, who_asks_may_say_no_when_it_begins);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
