/* SPDX-License-Identifier: Apache-2.0 */
/* One text becomes one vector, told once on the loop, whatever the model and its provider do. Both
 * are made ones: the linker puts them in the place of model.c's (--wrap). */
#include "gateway/embedding.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/model.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

enum { DIM = 3 };

/* ---- the model ---- */

static struct fake {
	int use;       /* what model_use returns */
	int embed;     /* what embed returns */
	bool late;     /* embed's answer comes when the test says so */
	bool stubborn; /* a cancel does not end it */
	int status;    /* of the answer */
	size_t dim;
	atomic_int unused, embedded, cancelled; /* looked at from both sides */
	bool on_loop;
	size_t len;
	struct model_user *user;
	struct provider_embed q;
	char text[64];
	uid_t uids[8]; /* whose texts came, in this order */
} fake;

static void answer(const struct provider_embed *q)
{
	static const float vector[DIM] = {0.6f, 0, 0.8f};
	struct trace_usage usage = {.prompt_tok = 4};
	q->done(q->arg, fake.status, fake.status ? "it is broken" : NULL,
		fake.status ? NULL : vector, fake.dim, &usage);
}

static void fake_cancel(void *handle, uint64_t id)
{
	ck_assert_ptr_eq(handle, &fake);
	ck_assert_uint_eq(id, 77);
	fake.cancelled++;
	if (!fake.stubborn) {
		fake.status = -ECANCELED;
		answer(&fake.q);
	}
}

static bool is_on_loop(void);

static int fake_embed(void *handle, const struct provider_embed *q, uint64_t *id, struct err *err)
{
	*id = 77;
	ck_assert_ptr_eq(handle, &fake);
	ck_assert_uint_eq(q->n, 1);
	fake.len = q->lens[0];
	memcpy(fake.text, q->texts[0], fake.len < 64 ? fake.len : 64);
	fake.on_loop = is_on_loop();
	fake.uids[fake.embedded % 8] = (uid_t)(q->salt * 0xF1DE83E19937733Du - 1);
	ck_assert_uint_ne(q->salt, 0); /* that is the judges' */
	fake.q = *q;
	fake.embedded++; /* whoever sees it sees the rest */
	if (fake.embed)
		return err_set(err, fake.embed, "too many wait");
	if (!fake.late)
		answer(q);
	return 0;
}

static const struct provider provider = {.embed = fake_embed, .cancel_embed = fake_cancel};
static struct loaded loaded = {.provider = &provider, .handle = &fake};

int __wrap_model_use(struct model *m, struct model_user *user, struct err *err);
void __wrap_model_unuse(struct model *m, struct model_user *user);

int __wrap_model_use(struct model *m, struct model_user *user, struct err *err)
{
	fake.user = user;
	if (fake.use == 0)
		user->loaded = &loaded;
	return fake.use < 0 ? err_set(err, fake.use, "it cannot be loaded") : fake.use;
}

void __wrap_model_unuse(struct model *m, struct model_user *user)
{
	user->loaded = NULL;
	fake.unused++;
}

/* ---- those who ask ---- */

static struct harness h;

static bool is_on_loop(void)
{
	return loop_inside(h.g->loop);
}

struct asking {
	struct embedding *e;
	uint64_t timeout_ms;
	const char *model, *text;
	size_t len;
	uid_t uid;
	bool cancel, asks_first; /* asks_first: begins is given */
	int refuse;
	uint64_t most_tok;
	int r;
	struct err err;

	sem_t told;
	int n, status;
	char sentence[200];
	float vector[DIM];
	size_t dim;
	uint64_t prompt_tok;
	bool inside, on_loop;
};

static void done(void *arg, int status, const char *sentence, const float *vector, size_t dim,
	const struct trace_usage *usage)
{
	struct asking *a = arg;
	a->n++;
	a->on_loop = loop_inside(h.g->loop);
	a->status = status;
	snprintf(a->sentence, sizeof a->sentence, "%s", sentence);
	a->dim = dim;
	if (vector)
		memcpy(a->vector, vector, dim * sizeof *vector);
	a->prompt_tok = usage->prompt_tok;
	ck_assert(!a->inside);
	a->e = embedding_cancel(a->e);
	sem_post(&a->told);
}

static int begins(void *arg, struct model *m, uint64_t tok, struct err *err)
{
	struct asking *a = arg;
	ck_assert(loop_inside(h.g->loop));
	ck_assert_str_eq(model_name(m), "tiny");
	ck_assert_int_eq(fake.embedded, 0);
	a->most_tok = tok;
	return a->refuse ? err_set(err, a->refuse, "it is too dear") : 0;
}

struct errand {
	struct loop_work work;
	void (*run)(struct asking *a);
	struct asking *a;
	sem_t done;
};

static void run_errand(struct loop_work *work)
{
	struct errand *e = list_entry(work, struct errand, work);
	if (e->run)
		e->run(e->a);
	sem_post(&e->done);
}

static void on_loop(void (*run)(struct asking *a), struct asking *a)
{
	struct errand e = {.work.run = run_errand, .run = run, .a = a};
	list_init(&e.work.link);
	sem_init(&e.done, 0, 0);
	loop_post(h.g->loop, &e.work);
	while (sem_wait(&e.done) < 0)
		;
	sem_destroy(&e.done);
}

static void begin(struct asking *a)
{
	a->inside = true;
	const struct embedding_ask ask = {
		.model = a->model ? a->model : "tiny",
		.text = a->text ? a->text : "some words",
		.len = a->text ? a->len : 10,
		.uid = a->uid ? a->uid : 1000,
		.timeout_ms = a->timeout_ms,
		.begins = a->asks_first ? begins : NULL,
		.done = done,
		.arg = a,
	};
	a->r = embedding_begin(&a->e, h.g, &ask, &a->err);
	a->inside = false;
	if (a->cancel)
		a->e = embedding_cancel(a->e);
}

static void ask(struct asking *a)
{
	sem_init(&a->told, 0, 0);
	on_loop(begin, a);
}

static void wait_for(struct asking *a)
{
	while (sem_wait(&a->told) < 0)
		;
}

/* Nothing of it is left: the gateway waits for nobody, the model is let go. */
static void assert_released(void)
{
	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&h.g->busy_lock);
		unsigned n = h.g->n_busy;
		pthread_mutex_unlock(&h.g->busy_lock);
		if (!n)
			break;
		usleep(1000);
	}
	on_loop(NULL, NULL);
	ck_assert_int_eq(h.g->n_busy, 0);
	ck_assert_int_eq(fake.unused, 1);
}

static void setup(void)
{
	memset(&fake, 0, sizeof fake);
	fake.dim = DIM;
	loaded.limits = (struct provider_limits){.embeds = true};
	harness_make(&h, 0);
	harness_open(&h);
}

static void teardown(void)
{
	harness_end(&h);
}

START_TEST(a_text_becomes_a_vector_on_the_loop_after_the_call)
{
	struct asking a = {.timeout_ms = 60000};
	ask(&a);
	ck_assert_int_eq(a.r, 0);
	wait_for(&a);
	ck_assert(a.on_loop);
	ck_assert_int_eq(a.status, 0);
	ck_assert_uint_eq(a.dim, DIM);
	ck_assert(a.vector[0] == 0.6f && a.vector[2] == 0.8f);
	ck_assert_uint_eq(a.prompt_tok, 4);
	ck_assert_str_eq(fake.text, "some words");
	assert_released();
	ck_assert_int_eq(a.n, 1);
}
END_TEST

static void tell_loaded(void)
{
	fake.user->loaded = &loaded;
	fake.user->told(fake.user, 0, "");
}

START_TEST(a_model_that_has_to_be_loaded_first_is_waited_for)
{
	struct asking a = {.timeout_ms = 60000};
	fake.use = 1;
	ask(&a);
	on_loop(NULL, NULL);
	ck_assert_int_eq(fake.embedded, 0);
	tell_loaded();
	wait_for(&a);
	ck_assert_int_eq(a.status, 0);
	assert_released();
}
END_TEST

START_TEST(a_model_that_is_missing_or_cannot_be_loaded_is_said)
{
	struct asking none = {.model = "nobody"}, a = {0}, b = {0};
	ask(&none);
	ck_assert_int_eq(none.r, -EHOSTUNREACH);
	ck_assert_ptr_nonnull(strstr(none.err.text, "nobody"));
	ck_assert_ptr_null(none.e);
	fake.use = -EHOSTUNREACH;
	ask(&a);
	ck_assert_int_eq(a.r, -EHOSTUNREACH);
	ck_assert_str_eq(a.err.text, "it cannot be loaded");
	fake.use = 1;
	ask(&b);
	ck_assert_int_eq(b.r, 0);
	fake.user->told(fake.user, -EBADMSG, "its file is damaged");
	wait_for(&b);
	ck_assert_int_eq(b.status, -EBADMSG);
	ck_assert_str_eq(b.sentence, "its file is damaged");
	assert_released();
	ck_assert_int_eq(none.n + a.n, 0);
}
END_TEST

START_TEST(a_model_that_gives_no_embeddings_is_said)
{
	struct asking a = {0};
	loaded.limits.embeds = false;
	ask(&a);
	wait_for(&a);
	ck_assert_int_eq(a.status, -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(a.sentence, "tiny gives no embeddings"));
	ck_assert_int_eq(fake.embedded, 0);
	assert_released();
}
END_TEST

START_TEST(what_the_provider_says_is_said)
{
	struct asking a = {0}, b = {0}, c = {0};
	fake.embed = -EAGAIN;
	ask(&a);
	wait_for(&a);
	ck_assert_int_eq(a.status, -EAGAIN);
	ck_assert_str_eq(a.sentence, "too many wait");
	fake.embed = 0;
	fake.status = -EIO;
	ask(&b);
	wait_for(&b);
	ck_assert_int_eq(b.status, -EIO);
	ck_assert_str_eq(b.sentence, "it is broken");
	fake.status = 0;
	fake.dim = 0;
	ask(&c);
	wait_for(&c);
	ck_assert_int_eq(c.status, -EIO);
	ck_assert_int_eq(a.n + b.n + c.n, 3);
}
END_TEST

START_TEST(a_model_that_is_late_is_held_until_it_has_had_its_word)
{
	struct asking a = {.timeout_ms = 20};
	fake.late = fake.stubborn = true;
	ask(&a);
	wait_for(&a);
	ck_assert_int_eq(a.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(a.sentence, "20 ms"));
	on_loop(NULL, NULL);
	on_loop(NULL, NULL);
	ck_assert_int_eq(fake.cancelled, 1);
	ck_assert_int_eq(fake.unused, 0);
	ck_assert_int_eq(h.g->n_busy, 1);
	answer(&fake.q); /* from this thread */
	assert_released();
	ck_assert_int_eq(a.n, 1);
}
END_TEST

START_TEST(a_model_that_is_never_loaded_times_out)
{
	struct asking a = {.timeout_ms = 20};
	fake.use = 1;
	ask(&a);
	wait_for(&a);
	ck_assert_int_eq(a.status, -ETIMEDOUT);
	assert_released();
}
END_TEST

START_TEST(one_that_is_cancelled_is_not_told)
{
	struct asking a = {.cancel = true, .timeout_ms = 60000};
	ask(&a);
	assert_released();
	ck_assert_int_eq(a.n, 0);
	fake.unused = 0;
	fake.use = 1;
	ask(&a);
	assert_released();
	ck_assert_int_eq(a.n, 0);
}
END_TEST

static void cancel(struct asking *a)
{
	a->e = embedding_cancel(a->e);
}

START_TEST(one_that_is_cancelled_while_it_is_computed_holds_the_model_until_then)
{
	struct asking a = {.timeout_ms = 60000};
	fake.late = fake.stubborn = true;
	ask(&a);
	on_loop(NULL, NULL);
	on_loop(cancel, &a);
	on_loop(NULL, NULL);
	on_loop(NULL, NULL);
	ck_assert_int_eq(fake.cancelled, 1);
	ck_assert_int_eq(fake.unused, 0);
	answer(&fake.q);
	assert_released();
	ck_assert_int_eq(a.n, 0);
}
END_TEST

START_TEST(a_model_that_is_unloaded_meanwhile_is_said)
{
	struct asking a = {0};
	fake.late = fake.stubborn = true;
	ask(&a);
	on_loop(NULL, NULL);
	fake.user->told(fake.user, -ECANCELED, "the model was unloaded");
	wait_for(&a);
	ck_assert_int_eq(a.status, -ECANCELED);
	ck_assert_int_eq(fake.unused, 0);
	answer(&fake.q);
	assert_released();
	ck_assert_int_eq(a.n, 1);
}
END_TEST

START_TEST(whoever_gives_up_has_the_provider_stop)
{
	struct asking late = {.timeout_ms = 20}, dropped = {.timeout_ms = 60000}, unloaded = {0};
	fake.late = true;
	ask(&late);
	wait_for(&late);
	ck_assert_int_eq(late.status, -ETIMEDOUT);
	assert_released();
	ck_assert_int_eq(fake.cancelled, 1);
	fake.unused = 0;
	ask(&dropped);
	on_loop(NULL, NULL);
	on_loop(cancel, &dropped);
	assert_released();
	ck_assert_int_eq(fake.cancelled, 2);
	fake.unused = 0;
	ask(&unloaded);
	on_loop(NULL, NULL);
	fake.user->told(fake.user, -ECANCELED, "the model was unloaded");
	wait_for(&unloaded);
	assert_released();
	ck_assert_int_eq(fake.cancelled, 3);
	ck_assert_int_eq(late.n, 1);
	ck_assert_int_eq(dropped.n, 0);
	ck_assert_str_eq(unloaded.sentence, "the model was unloaded");
}
END_TEST

START_TEST(one_that_has_had_its_answer_is_not_stopped)
{
	struct asking a = {.timeout_ms = 60000};
	ask(&a);
	wait_for(&a);
	assert_released();
	ck_assert_int_eq(fake.cancelled, 0);
}
END_TEST

/* ---- the gate ---- */

static void set(const char *file, const char *value)
{
	struct model *m = gateway_model_find(h.g, "tiny");
	struct err err;
	ck_assert_int_eq(model_setting_set(m, file, value, strlen(value), &err), 0);
	model_put(m);
}

START_TEST(no_more_ask_a_model_than_its_gate_lets_in)
{
	struct asking a = {0}, b = {0}, c = {0};
	set("requests_max", "1");
	set("queue_max", "1");
	fake.late = true;
	ask(&a);
	ask(&b);
	ask(&c);
	on_loop(NULL, NULL);
	on_loop(NULL, NULL);
	ck_assert_int_eq(fake.embedded, 1);
	ck_assert_int_eq(c.r, -EBUSY);
	ck_assert_ptr_nonnull(strstr(c.err.text, "requests_max is 1"));
	answer(&fake.q);
	wait_for(&a);
	for (int i = 0; i < 100 && fake.embedded < 2; i++)
		on_loop(NULL, NULL);
	ck_assert_int_eq(fake.embedded, 2);
	answer(&fake.q);
	wait_for(&b);
	ck_assert_int_eq(a.status + b.status, 0);
}
END_TEST

START_TEST(users_take_turns_at_the_gate)
{
	struct asking a[4] = {{.uid = 1}, {.uid = 1}, {.uid = 1}, {.uid = 2}};
	set("requests_max", "1");
	fake.late = true;
	for (int i = 0; i < 4; i++)
		ask(&a[i]);
	for (int n = 1; n <= 4; n++) {
		for (int i = 0; i < 100 && fake.embedded < n; i++)
			on_loop(NULL, NULL);
		ck_assert_int_eq(fake.embedded, n);
		answer(&fake.q);
	}
	for (int i = 0; i < 4; i++)
		wait_for(&a[i]);
	fake.unused -= 3;
	assert_released();
	ck_assert_uint_eq(fake.uids[0], 1);
	ck_assert_uint_eq(fake.uids[1], 1);
	ck_assert_uint_eq(fake.uids[2], 2);
	ck_assert_uint_eq(fake.uids[3], 1);
}
END_TEST

START_TEST(who_waits_too_long_at_the_gate_or_goes_is_not_asked_for)
{
	struct asking a = {0}, b = {0}, c = {0};
	set("requests_max", "1");
	set("queue_timeout_ms", "20");
	fake.late = true;
	ask(&a);
	ask(&b);
	wait_for(&b);
	ck_assert_int_eq(b.status, -ETIMEDOUT);
	ck_assert_ptr_nonnull(strstr(b.sentence, "queue_timeout_ms"));
	set("queue_timeout_ms", "60000");
	ask(&c);
	on_loop(cancel, &c);
	answer(&fake.q);
	wait_for(&a);
	fake.unused -= 2;
	assert_released();
	ck_assert_int_eq(fake.embedded, 1);
	ck_assert_int_eq(a.n + b.n + c.n, 2);
}
END_TEST

START_TEST(a_providers_full_queue_is_busy_at_a_read)
{
	struct session *s = NULL;
	int status;
	fake.embed = -EAGAIN;
	ck_assert_int_eq(gateway_channel_open(h.g, GATEWAY_EMBED, "tiny", 1000, &s, NULL), 0);
	ck_assert_int_eq(harness_say(s, "some words\n"), 0);
	free(harness_read(s, &status));
	ck_assert_int_eq(status, -EBUSY);
	char *error = harness_view(s, SESSION_ERROR);
	ck_assert_str_eq(error, "too many wait\n");
	free(error);
	session_put(s);
	assert_released();
}
END_TEST

/* ---- texts ---- */

START_TEST(a_long_text_is_not_handed_over_on_the_loop)
{
	enum { LEN = (64 << 10) + 1 };
	struct asking a = {.text = malloc(LEN), .len = LEN}, b = a;
	memset((char *)(uintptr_t)a.text, 'x', LEN);
	b.len--;
	ask(&b);
	wait_for(&b);
	ck_assert(fake.on_loop);
	assert_released();
	fake.unused = 0;
	ask(&a);
	wait_for(&a);
	ck_assert(!fake.on_loop);
	ck_assert_uint_eq(fake.len, LEN);
	ck_assert_int_eq(a.status, 0);
	assert_released();
	fake.embed = -EAGAIN; /* refused there, it is told as ever */
	fake.unused = 0;
	ask(&a);
	wait_for(&a);
	ck_assert_int_eq(a.status, -EAGAIN);
	assert_released();
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
	loaded.limits.context_tok = 10000;
	loaded.limits.max_token_bytes = 7;
	ask(&a);
	wait_for(&a);
	ck_assert_uint_eq(fake.len, MOST - MOST % 3);
	ck_assert_uint_eq(a.most_tok, 10000);
	assert_released();
	free(text);
}
END_TEST

START_TEST(who_asks_may_say_no_when_it_begins)
{
	struct asking a = {.asks_first = true}, b = {.asks_first = true, .refuse = -EDQUOT};
	ask(&b);
	wait_for(&b);
	ck_assert_int_eq(b.status, -EDQUOT);
	ck_assert_str_eq(b.sentence, "it is too dear");
	ck_assert_int_eq(fake.embedded, 0);
	assert_released();
	fake.unused = 0;
	ask(&a);
	wait_for(&a);
	ck_assert_uint_eq(a.most_tok, 10 + 2);
	ck_assert_int_eq(a.status, 0);
	assert_released();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("embedding");
	TCase *t = tcase_create("embedding");
	tcase_add_checked_fixture(t, setup, teardown);
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
