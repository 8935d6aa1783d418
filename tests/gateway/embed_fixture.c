/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/gateway/embed_fixture.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct fake embed_fake;

void embed_answer(const struct provider_embed *q)
{
	static const float vector[EMBED_DIM] = {0.6f, 0, 0.8f};
	struct trace_usage usage = {.prompt_tok = 4};
	q->done(q->arg, embed_fake.status, embed_fake.status ? "it is broken" : NULL,
		embed_fake.status ? NULL : vector, embed_fake.dim, &usage);
}

static void embed_fake_cancel(void *handle, uint64_t id)
{
	ck_assert_ptr_eq(handle, &embed_fake);
	ck_assert_uint_eq(id, 77);
	embed_fake.cancelled++;
	if (!embed_fake.stubborn) {
		embed_fake.status = -ECANCELED;
		embed_answer(&embed_fake.q);
	}
}

static bool is_on_loop(void);

static int embed_fake_embed(
	void *handle, const struct provider_embed *q, uint64_t *id, struct err *err)
{
	*id = 77;
	ck_assert_ptr_eq(handle, &embed_fake);
	ck_assert_uint_eq(q->n, 1);
	embed_fake.len = q->lens[0];
	memcpy(embed_fake.text, q->texts[0], embed_fake.len < 64 ? embed_fake.len : 64);
	embed_fake.on_loop = is_on_loop();
	embed_fake.uids[embed_fake.embedded % 8] = (uid_t)(q->salt * 0xF1DE83E19937733Du - 1);
	ck_assert_uint_ne(q->salt, 0); /* nobody's */
	embed_fake.q = *q;
	embed_fake.embedded++; /* whoever sees it sees the rest */
	if (embed_fake.embed)
		return err_set(err, embed_fake.embed, "too many wait");
	if (!embed_fake.late)
		embed_answer(q);
	return 0;
}

static const struct provider provider = {
	.embed = embed_fake_embed, .cancel_embed = embed_fake_cancel};
struct loaded embed_loaded = {.provider = &provider, .handle = &embed_fake};

int __wrap_model_use(struct model *m, struct model_user *user, struct err *err);
void __wrap_model_unuse(struct model *m, struct model_user *user);

int __wrap_model_use(struct model *m, struct model_user *user, struct err *err)
{
	embed_fake.user = user;
	if (embed_fake.use == 0)
		user->loaded = &embed_loaded;
	return embed_fake.use < 0 ? err_set(err, embed_fake.use, "it cannot be loaded")
				  : embed_fake.use;
}

void __wrap_model_unuse(struct model *m, struct model_user *user)
{
	user->loaded = NULL;
	embed_fake.unused++;
}

struct harness embed_h;

static bool is_on_loop(void)
{
	return loop_inside(embed_h.g->loop);
}

static void done(void *arg, int status, const char *sentence, const float *vector, size_t dim,
	const struct trace_usage *usage)
{
	struct asking *a = arg;
	a->n++;
	a->on_loop = loop_inside(embed_h.g->loop);
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
	ck_assert(loop_inside(embed_h.g->loop));
	ck_assert_str_eq(model_name(m), "tiny");
	ck_assert_int_eq(embed_fake.embedded, 0);
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

void embed_on_loop(void (*run)(struct asking *a), struct asking *a)
{
	struct errand e = {.work.run = run_errand, .run = run, .a = a};
	list_init(&e.work.link);
	sem_init(&e.done, 0, 0);
	loop_post(embed_h.g->loop, &e.work);
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
	a->r = embedding_begin(&a->e, embed_h.g, &ask, &a->err);
	a->inside = false;
	if (a->cancel)
		a->e = embedding_cancel(a->e);
}

void embed_ask(struct asking *a)
{
	sem_init(&a->told, 0, 0);
	embed_on_loop(begin, a);
}

void embed_wait(struct asking *a)
{
	while (sem_wait(&a->told) < 0)
		;
}

void embed_assert_released(void)
{
	for (int i = 0; i < 5000; i++) {
		pthread_mutex_lock(&embed_h.g->busy_lock);
		unsigned n = embed_h.g->n_busy;
		pthread_mutex_unlock(&embed_h.g->busy_lock);
		if (!n)
			break;
		usleep(1000);
	}
	embed_on_loop(NULL, NULL);
	ck_assert_int_eq(embed_h.g->n_busy, 0);
	ck_assert_int_eq(embed_fake.unused, 1);
}

void embed_open(void)
{
	memset(&embed_fake, 0, sizeof embed_fake);
	embed_fake.dim = EMBED_DIM;
	embed_loaded.limits = (struct provider_limits){.embeds = true};
	harness_make(&embed_h, 0);
	harness_open(&embed_h);
}

void embed_close(void)
{
	harness_end(&embed_h);
}

void embed_cancel(struct asking *a)
{
	a->e = embedding_cancel(a->e);
}

void embed_set(const char *file, const char *value)
{
	struct model *m = gateway_model_find(embed_h.g, "tiny");
	harness_model_set(m, file, value);
	model_put(m);
}
