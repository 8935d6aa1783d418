/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L3: what is known (cache_known.h), behind a lock and a thread. Searches, and what is learnt and
 * forgotten, happen on that thread: a search of 100,000 vectors takes about a millisecond, too long
 * for the loop. L2's thread tells what it has by itself.
 *
 * A search gives back the best few, as some may have no answer any more: that prompts are forgotten
 * when their answers are is only a matter of room.
 *
 * Lock: semantic->lock, inside the cache's, a leaf otherwise.
 */
#include "gateway/cache_semantic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cache_semantic {
	struct gateway *g;
	struct runner *runner;

	pthread_mutex_t lock;
	pthread_cond_t settled;
	char model[TEXT_NAME_SIZE]; /* "": none */
	struct cache_known *known;
};

enum task_kind { TASK_ADD, TASK_DROP, TASK_FLUSH, TASK_SETTLE };

struct task {
	struct loop_work work;
	enum task_kind kind;
	struct cache_semantic *s;
	struct cache_prompt *prompt;
	struct cache_id id;
	uint64_t serial;
	bool all, *settled;
	char user[TEXT_NAME_SIZE];
};

struct cache_search {
	struct loop_work work; /* on the runner, and then on the loop */
	struct cache_semantic *s;
	struct buf scope;
	struct agree_sign *sign;
	float *vector;
	size_t dim;
	double threshold;
	struct cache_near near[CACHE_NEAR_MAX];
	size_t n;
	cache_search_done_fn *done; /* the loop's; NULL: cancelled */
	void *arg;
};

/* ---- learning ---- */

static void add(struct cache_semantic *s, const struct cache_prompt *of)
{
	const struct cache_known_prompt p = {
		.id = of->item->id,
		.serial = of->item->answer.serial,
		.stored_s = of->item->answer.stored_s,
		.user = of->item->user,
		.scope = of->scope.data,
		.scope_len = of->scope.len,
		.text = of->text,
		.vector = of->vector,
		.dim = of->dim,
	};
	pthread_mutex_lock(&s->lock);
	if (*s->model && !strcmp(s->model, of->model))
		cache_known_learn(s->known, &p, true);
	pthread_mutex_unlock(&s->lock);
}

void cache_semantic_load(
	struct cache_semantic *s, const struct cache_id *id, const struct cache_record *r)
{
	char user[TEXT_NAME_SIZE];
	if (!r->vector.len || r->text.len > CACHE_PROMPT_MAX)
		return;
	float *vector = malloc(r->vector.len); /* the record's is not aligned */
	struct text *prompt = vector ? text_new(r->text.bytes, r->text.len) : NULL;
	struct cache_known_prompt p = {
		.id = *id,
		.serial = r->serial,
		.stored_s = r->stored_s,
		.user = user,
		.scope = r->scope.bytes,
		.scope_len = r->scope.len,
		.text = prompt,
		.vector = vector,
		.dim = r->vector.len / sizeof *vector,
	};
	if (prompt) {
		memcpy(vector, r->vector.bytes, r->vector.len);
		snprintf(user, sizeof user, "%.*s", (int)r->user.len, r->user.bytes);
		pthread_mutex_lock(&s->lock);
		if (*s->model && cache_record_is(r->model, s->model))
			cache_known_learn(s->known, &p, false);
		pthread_mutex_unlock(&s->lock);
	}
	text_put(prompt);
	free(vector);
}

/* ---- tasks ---- */

static void run_task(struct loop_work *work)
{
	struct task *t = list_entry(work, struct task, work);
	struct cache_semantic *s = t->s;
	if (t->kind == TASK_ADD)
		add(s, t->prompt);
	pthread_mutex_lock(&s->lock);
	if (t->kind == TASK_DROP)
		cache_known_forget(s->known, &t->id, t->serial);
	if (t->kind == TASK_FLUSH)
		cache_known_flush(s->known, t->all ? NULL : t->user, t->serial);
	if (t->kind == TASK_SETTLE) {
		*t->settled = true;
		pthread_cond_broadcast(&s->settled);
	}
	pthread_mutex_unlock(&s->lock);
	cache_prompt_put(t->prompt);
	free(t);
}

static struct task *task_new(struct cache_semantic *s, enum task_kind kind)
{
	struct task *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	list_init(&t->work.link);
	t->work.run = run_task;
	t->kind = kind;
	t->s = s;
	return t;
}

void cache_semantic_add(struct cache_semantic *s, struct cache_prompt *prompt)
{
	struct task *t = task_new(s, TASK_ADD);
	if (!t)
		return;
	t->prompt = cache_prompt_ref(prompt);
	runner_post(s->runner, &t->work);
}

void cache_semantic_drop(struct cache_semantic *s, const struct cache_id *id, uint64_t serial)
{
	struct task *t = task_new(s, TASK_DROP);
	if (!t)
		return;
	t->id = *id;
	t->serial = serial;
	runner_post(s->runner, &t->work);
}

void cache_semantic_flush(struct cache_semantic *s, const char *user, uint64_t below)
{
	struct task *t = task_new(s, TASK_FLUSH);
	if (!t)
		return;
	t->all = !user;
	t->serial = below;
	snprintf(t->user, sizeof t->user, "%s", user ? user : "");
	runner_post(s->runner, &t->work);
}

void cache_semantic_settle(struct cache_semantic *s)
{
	bool settled = false;
	struct task *t = task_new(s, TASK_SETTLE);
	if (!t)
		return;
	t->settled = &settled;
	runner_post(s->runner, &t->work);
	pthread_mutex_lock(&s->lock);
	while (!settled)
		pthread_cond_wait(&s->settled, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

/* ---- searching ---- */

static void search_free(struct cache_search *q)
{
	buf_free(&q->scope);
	agree_sign_free(q->sign);
	free(q->vector);
	free(q);
}

static void deliver(struct loop_work *work)
{
	struct cache_search *q = list_entry(work, struct cache_search, work);
	if (q->done)
		q->done(q->arg, q->near, q->n);
	search_free(q);
}

static void run_search(struct loop_work *work)
{
	struct cache_search *q = list_entry(work, struct cache_search, work);
	pthread_mutex_lock(&q->s->lock);
	q->n = cache_known_search(
		q->s->known, &q->scope, q->sign, q->vector, q->dim, q->threshold, q->near);
	pthread_mutex_unlock(&q->s->lock);
	q->work.run = deliver;
	if (!loop_post(q->s->g->loop, &q->work))
		search_free(q); /* the loop has ended: so have those who asked */
}

int cache_semantic_search(struct cache_semantic *s, struct buf *scope, const char *prompt,
	size_t prompt_len, float *vector, size_t dim, double threshold, cache_search_done_fn *done,
	void *arg, struct cache_search **out)
{
	struct cache_search *q = calloc(1, sizeof *q);
	if (q)
		q->sign = agree_sign_new(prompt, prompt_len);
	if (!q || !q->sign) {
		free(q);
		buf_free(scope);
		free(vector);
		return -ENOMEM;
	}
	list_init(&q->work.link);
	q->work.run = run_search;
	q->s = s;
	q->scope = *scope;
	*scope = (struct buf){0};
	q->vector = vector;
	q->dim = dim;
	q->threshold = threshold;
	q->done = done;
	q->arg = arg;
	*out = q;
	runner_post(s->runner, &q->work);
	return 0;
}

struct cache_search *cache_search_cancel(struct cache_search *q)
{
	if (q)
		q->done = NULL;
	return NULL;
}

/* ---- for a person ---- */

size_t cache_semantic_nearest(struct cache_semantic *s, const struct buf *scope,
	const struct cache_key *owner, const char *prompt, size_t prompt_len, const float *vector,
	size_t dim, struct cache_neighbour *out, size_t n_max)
{
	struct agree_sign *sign = agree_sign_new(prompt, prompt_len);
	if (!sign)
		return 0;
	pthread_mutex_lock(&s->lock);
	size_t n = cache_known_nearest(s->known, scope, owner, sign, vector, dim, out, n_max);
	pthread_mutex_unlock(&s->lock);
	agree_sign_free(sign);
	return n;
}

/* ---- the object ---- */

void cache_semantic_model(struct cache_semantic *s, const char *model)
{
	pthread_mutex_lock(&s->lock);
	if (strcmp(s->model, model)) {
		cache_known_forget_all(s->known);
		snprintf(s->model, sizeof s->model, "%s", model);
	}
	pthread_mutex_unlock(&s->lock);
}

void cache_semantic_limit(struct cache_semantic *s, size_t n_max)
{
	pthread_mutex_lock(&s->lock);
	cache_known_limit(s->known, n_max);
	pthread_mutex_unlock(&s->lock);
}

void cache_semantic_count(struct cache_semantic *s, struct cache_known_counts *out)
{
	pthread_mutex_lock(&s->lock);
	cache_known_count(s->known, out);
	pthread_mutex_unlock(&s->lock);
}

int cache_semantic_new(struct cache_semantic **out, struct gateway *g, struct err *err)
{
	struct cache_semantic *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->g = g;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->settled, NULL);
	s->known = cache_known_new();
	int r = s->known ? runner_new(&s->runner, "nearest", err)
			 : err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		cache_semantic_free(s);
	else
		*out = s;
	return r;
}

struct cache_semantic *cache_semantic_free(struct cache_semantic *s)
{
	if (!s)
		return NULL;
	runner_free(s->runner);
	cache_known_free(s->known);
	pthread_cond_destroy(&s->settled);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}
