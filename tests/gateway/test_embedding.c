/* SPDX-License-Identifier: Apache-2.0 */
/* One text becomes one vector, told once on the loop, whatever the model and its provider do. */
#include "gateway/embedding.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/gateway/embed_fixture.h"
#include "tests/run_suite.h"

START_TEST(a_text_becomes_a_vector_on_the_loop_after_the_call)
{
	struct asking a = {.timeout_ms = 60000};
	embed_ask(&a);
	ck_assert_int_eq(a.r, 0);
	embed_wait(&a);
	ck_assert(a.on_loop);
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_eq(a.dim, EMBED_DIM);
	ck_assert(a.vector[0] == 0.6f && a.vector[2] == 0.8f);
	ck_assert_uint_eq(a.prompt_tok, 4);
	ck_assert_str_eq(embed_fake.text, "some words");
	embed_assert_released();
	ck_assert_int_eq(a.n, 1);
}
END_TEST

static void tell_loaded(void)
{
	embed_fake.user->loaded = &embed_loaded;
	embed_fake.user->told(embed_fake.user, 0, "");
}

START_TEST(a_model_that_has_to_be_loaded_first_is_waited_for)
{
	struct asking a = {.timeout_ms = 60000};
	embed_fake.use = 1;
	embed_ask(&a);
	embed_on_loop(NULL, NULL);
	ck_assert_int_eq(embed_fake.embedded, 0);
	tell_loaded();
	embed_wait(&a);
	ck_assert_int_eq(a.status, 0);
	embed_assert_released();
}
END_TEST

START_TEST(a_model_that_is_missing_or_cannot_be_loaded_is_said)
{
	struct asking none = {.model = "nobody"}, a = {0}, b = {0};
	embed_ask(&none);
	ck_assert_int_eq(none.r, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(none.err.text, "nobody"));
	ck_assert_ptr_null(none.e);
	embed_fake.use = -EHOSTUNREACH;
	embed_ask(&a);
	ck_assert_int_eq(a.r, -EHOSTUNREACH);
	ck_assert_str_eq(a.err.text, "it cannot be loaded");
	embed_fake.use = 1;
	embed_ask(&b);
	ck_assert_int_eq(b.r, 0);
	embed_fake.user->told(embed_fake.user, -EBADMSG, "its file is damaged");
	embed_wait(&b);
	ck_assert_int_eq(b.status, -EBADMSG);
	ck_assert_str_eq(b.sentence, "its file is damaged");
	embed_assert_released();
	ck_assert_int_eq(none.n + a.n, 0);
}
END_TEST

START_TEST(a_model_that_gives_no_embeddings_is_said)
{
	struct asking a = {0};
	embed_loaded.limits.embeds = false;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_int_eq(a.status, -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(a.sentence, "tiny gives no embeddings"));
	ck_assert_int_eq(embed_fake.embedded, 0);
	embed_assert_released();
}
END_TEST

START_TEST(what_the_provider_says_is_said)
{
	struct asking a = {0}, b = {0}, c = {0};
	embed_fake.embed = -EAGAIN;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_int_eq(a.status, -EAGAIN);
	ck_assert_str_eq(a.sentence, "too many wait");
	embed_fake.embed = 0;
	embed_fake.status = -EIO;
	embed_ask(&b);
	embed_wait(&b);
	ck_assert_int_eq(b.status, -EIO);
	ck_assert_str_eq(b.sentence, "it is broken");
	embed_fake.status = 0;
	embed_fake.dim = 0;
	embed_ask(&c);
	embed_wait(&c);
	ck_assert_int_eq(c.status, -EIO);
	ck_assert_int_eq(a.n + b.n + c.n, 3);
}
END_TEST

START_TEST(a_model_that_is_late_is_held_until_it_has_had_its_word)
{
	struct asking a = {.timeout_ms = 20};
	embed_fake.late = embed_fake.stubborn = true;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_int_eq(a.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(a.sentence, "20 ms"));
	embed_on_loop(NULL, NULL);
	embed_on_loop(NULL, NULL);
	ck_assert_int_eq(embed_fake.cancelled, 1);
	ck_assert_int_eq(embed_fake.unused, 0);
	ck_assert_int_eq(embed_h.g->n_busy, 1);
	embed_answer(&embed_fake.q); /* from this thread */
	embed_assert_released();
	ck_assert_int_eq(a.n, 1);
}
END_TEST

START_TEST(a_model_that_is_never_loaded_times_out)
{
	struct asking a = {.timeout_ms = 20};
	embed_fake.use = 1;
	embed_ask(&a);
	embed_wait(&a);
	ck_assert_int_eq(a.status, -ETIMEDOUT);
	embed_assert_released();
}
END_TEST

START_TEST(one_that_is_cancelled_is_not_told)
{
	struct asking a = {.cancel = true, .timeout_ms = 60000};
	embed_ask(&a);
	embed_assert_released();
	ck_assert_int_eq(a.n, 0);
	embed_fake.unused = 0;
	embed_fake.use = 1;
	embed_ask(&a);
	embed_assert_released();
	ck_assert_int_eq(a.n, 0);
}
END_TEST

START_TEST(one_that_is_cancelled_while_it_is_computed_holds_the_model_until_then)
{
	struct asking a = {.timeout_ms = 60000};
	embed_fake.late = embed_fake.stubborn = true;
	embed_ask(&a);
	embed_on_loop(NULL, NULL);
	embed_on_loop(embed_cancel, &a);
	embed_on_loop(NULL, NULL);
	embed_on_loop(NULL, NULL);
	ck_assert_int_eq(embed_fake.cancelled, 1);
	ck_assert_int_eq(embed_fake.unused, 0);
	embed_answer(&embed_fake.q);
	embed_assert_released();
	ck_assert_int_eq(a.n, 0);
}
END_TEST

START_TEST(a_model_that_is_unloaded_meanwhile_is_said)
{
	struct asking a = {0};
	embed_fake.late = embed_fake.stubborn = true;
	embed_ask(&a);
	embed_on_loop(NULL, NULL);
	embed_fake.user->told(embed_fake.user, -ECANCELED, "the model was unloaded");
	embed_wait(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert_int_eq(embed_fake.unused, 0);
	embed_answer(&embed_fake.q);
	embed_assert_released();
	ck_assert_int_eq(a.n, 1);
}
END_TEST

START_TEST(whoever_gives_up_has_the_provider_stop)
{
	struct asking late = {.timeout_ms = 20}, dropped = {.timeout_ms = 60000}, unloaded = {0};
	embed_fake.late = true;
	embed_ask(&late);
	embed_wait(&late);
	ck_assert_int_eq(late.status, -ETIMEDOUT);
	embed_assert_released();
	ck_assert_int_eq(embed_fake.cancelled, 1);
	embed_fake.unused = 0;
	embed_ask(&dropped);
	embed_on_loop(NULL, NULL);
	embed_on_loop(embed_cancel, &dropped);
	embed_assert_released();
	ck_assert_int_eq(embed_fake.cancelled, 2);
	embed_fake.unused = 0;
	embed_ask(&unloaded);
	embed_on_loop(NULL, NULL);
	embed_fake.user->told(embed_fake.user, -ECANCELED, "the model was unloaded");
	embed_wait(&unloaded);
	embed_assert_released();
	ck_assert_int_eq(embed_fake.cancelled, 3);
	ck_assert_int_eq(late.n, 1);
	ck_assert_int_eq(dropped.n, 0);
	ck_assert_str_eq(unloaded.sentence, "the model was unloaded");
}
END_TEST

START_TEST(one_that_has_had_its_answer_is_not_stopped)
{
	struct asking a = {.timeout_ms = 60000};
	embed_ask(&a);
	embed_wait(&a);
	embed_assert_released();
	ck_assert_int_eq(embed_fake.cancelled, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("embedding");
	TCase *t = tcase_create("embedding");
	tcase_add_checked_fixture(t, embed_open, embed_close);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_text_becomes_a_vector_on_the_loop_after_the_call);
	tcase_add_test(t, a_model_that_has_to_be_loaded_first_is_waited_for);
	tcase_add_test(t, a_model_that_is_missing_or_cannot_be_loaded_is_said);
	tcase_add_test(t, a_model_that_gives_no_embeddings_is_said);
	tcase_add_test(t, what_the_provider_says_is_said);
	tcase_add_test(t, a_model_that_is_late_is_held_until_it_has_had_its_word);
	tcase_add_test(t, a_model_that_is_never_loaded_times_out);
	tcase_add_test(t, one_that_is_cancelled_is_not_told);
	tcase_add_test(t, one_that_is_cancelled_while_it_is_computed_holds_the_model_until_then);
	tcase_add_test(t, a_model_that_is_unloaded_meanwhile_is_said);
	tcase_add_test(t, whoever_gives_up_has_the_provider_stop);
	tcase_add_test(t, one_that_has_had_its_answer_is_not_stopped);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
