/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The door: a model file, its tokenizer, its scheduler and the thread that turns them. An encoder
 * has an embedder instead, which has queue and thread of its own, and nothing of what follows.
 *
 * The scheduler and all sequences in it belong to the worker thread. Others reach it through
 * `arrived` and `cancelled`, lists under the lock, and through a table that finds a sequence by its
 * id. The worker empties both lists between steps, and sleeps when nothing is under way.
 *
 * A sequence leaves the table under the lock before its ENGINE_END is sent; from then on nobody but
 * the worker can reach it.
 *
 * Lock order: engine.lock only; no callback is made while it is held.
 */
#include "engine/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/utf8.h"
#include "engine/backend.h"
#include "engine/embedder.h"
#include "engine/engine_parts.h"
#include "engine/identity.h"
#include "engine/sched.h"
#include "engine/seq_table.h"

#define MAX_WAITING 65536u

struct engine {
	struct engine_parts parts;
	struct embedder *embedder; /* of an encoder; else NULL */
	struct sched *sched;       /* the worker's */
	pthread_t worker;
	bool worker_runs; /* there is a thread to join */

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	struct list arrived;   /* of seq.link */
	struct list cancelled; /* of seq.cancel_link */
	struct seq_table live;
	bool ending;
	int fault; /* < 0: nothing can be computed any more; fault_text says why */
	struct err fault_text;
	struct engine_stats stats; /* of the last step */
};

/* ---- the worker ---- */

/* From the scheduler: q is over. */
static void forget(void *arg, struct seq *q)
{
	struct engine *e = arg;

	pthread_mutex_lock(&e->lock);
	seq_table_remove(&e->live, q);
	list_remove(&q->cancel_link);
	sched_stats(e->sched, &e->stats); /* who hears the end finds it counted */
	pthread_mutex_unlock(&e->lock);
}

static void add_arrived(struct engine *e, struct list *arrived)
{
	list_for_each (at, arrived) {
		list_remove(at);
		sched_add(e->sched, list_entry(at, struct seq, link));
	}
}

static void cancel_all(struct engine *e, struct list *cancelled)
{
	list_for_each (at, cancelled) {
		list_remove(at);
		sched_cancel(e->sched, list_entry(at, struct seq, cancel_link));
	}
}

static void end_all(struct engine *e, int fault, const struct err *text)
{
	if (fault < 0)
		sched_end_all(e->sched, ENGINE_FINISH_ERROR, fault, text->text);
	else
		sched_end_all(
			e->sched, ENGINE_FINISH_CANCEL, -ECANCELED, "the model is being unloaded");
}

static bool idle(const struct engine *e)
{
	return list_empty(&e->arrived) && list_empty(&e->cancelled) && !sched_has_work(e->sched);
}

static void *work(void *arg)
{
	struct engine *e = arg;
	struct list arrived, cancelled;
	struct err text = {""};
	bool ending = false;
	int fault = 0;

	list_init(&arrived);
	list_init(&cancelled);
	pthread_mutex_lock(&e->lock);
	while (!ending) {
		while (!e->ending && idle(e))
			pthread_cond_wait(&e->wake, &e->lock);
		ending = e->ending;
		list_splice(&arrived, &e->arrived);
		list_splice(&cancelled, &e->cancelled);
		pthread_mutex_unlock(&e->lock);

		add_arrived(e, &arrived);
		cancel_all(e, &cancelled);
		if (ending || fault < 0)
			end_all(e, fault, &text);
		else
			fault = sched_step(e->sched, &text);

		pthread_mutex_lock(&e->lock);
		e->fault = fault;
		e->fault_text = text;
		sched_stats(e->sched, &e->stats);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- open and close ---- */

static int start(struct engine *e, struct err *err)
{
	struct sched_options so = e->parts.sched_options;
	int r;

	if (e->parts.encoder)
		return embedder_new(&e->embedder, &e->parts.embedder_options, err);
	so.over = forget;
	so.over_arg = e;
	r = sched_new(&e->sched, &so, err);
	if (r < 0)
		return r;
	sched_stats(e->sched, &e->stats);
	r = -pthread_create(&e->worker, NULL, work, e);
	if (r < 0)
		err_set(err, r, "the engine's thread cannot be started");
	e->worker_runs = r == 0;
	return r;
}

int engine_open(struct engine **out, const char *path, const struct engine_options *options,
	const volatile bool *stop, struct err *err)
{
	static const struct engine_options defaults;
	struct engine *e = calloc(1, sizeof(*e));
	sigset_t before;
	int r;

	*out = NULL;
	if (!e)
		return err_set(err, -ENOMEM, "not enough memory for an engine");
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->wake, NULL);
	list_init(&e->arrived);
	list_init(&e->cancelled);
	engine_parts_block_signals(&before);
	r = engine_parts_open(&e->parts, path, options ? options : &defaults, stop, err);
	if (r == 0)
		r = start(e, err);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		e = engine_free(e);
	*out = e;
	return r;
}

int engine_check(const char *path, const char *chat_family, dev_t forbidden_device,
	bool *is_encoder, struct err *err)
{
	const struct engine_options options = {
		.chat_family = chat_family, .forbidden_device = forbidden_device};
	struct engine_parts parts = {0};
	int r = engine_parts_check(&parts, path, &options, err);

	if (r == 0)
		*is_encoder = encoder_is_one(parts.gguf);
	engine_parts_close(&parts);
	return r;
}

struct engine *engine_free(struct engine *e)
{
	if (!e)
		return NULL;
	if (e->worker_runs) {
		pthread_mutex_lock(&e->lock);
		e->ending = true;
		pthread_mutex_unlock(&e->lock);
		pthread_cond_signal(&e->wake);
		pthread_join(e->worker, NULL);
	}
	embedder_free(e->embedder);
	sched_free(e->sched);
	engine_parts_close(&e->parts);
	seq_table_end(&e->live);
	pthread_cond_destroy(&e->wake);
	pthread_mutex_destroy(&e->lock);
	free(e);
	return NULL;
}

const struct engine_info *engine_info(const struct engine *e)
{
	return &e->parts.info;
}

int engine_identity(const struct engine *e, struct buf *out)
{
	return identity_append(e ? &e->parts : NULL, out);
}

/* ---- text and tokens ---- */

/* Hands the list over, or frees it after an error. */
static int give_tokens(int r, struct token_list *list, struct engine_tokens *out, struct err *err)
{
	if (r == -ENOMEM)
		err_set(err, r, "not enough memory for the tokens");
	if (r == -ENOTSUP)
		err_set(err, r,
			"this build has no PCRE2, which this vocabulary needs to cut text into "
			"words");
	if (r < 0) {
		token_list_free(list);
		return r;
	}
	*out = (struct engine_tokens){.ids = list->ids, .n = list->n};
	return 0;
}

static int refuse_encoder(const struct engine *e, struct err *err)
{
	return e->embedder ? err_set(err, -ENOTSUP,
				     "this is an embedding model: it has no answers; use its file "
				     "embed")
			   : 0;
}

int engine_render(struct engine *e, const struct engine_message *messages, size_t n_messages,
	bool add_generation, struct engine_tokens *out, struct err *err)
{
	struct token_list list = {0};
	int r;

	*out = (struct engine_tokens){0};
	r = refuse_encoder(e, err);
	if (r < 0)
		return r;
	r = chat_opening_render(e->parts.opening, e->parts.family, e->parts.tokenizer, messages,
		n_messages, add_generation, &list, err);
	return give_tokens(r, &list, out, err);
}

int engine_tokenize(
	struct engine *e, const char *text, size_t len, struct engine_tokens *out, struct err *err)
{
	struct token_list list = {0};
	int r;

	*out = (struct engine_tokens){0};
	if (utf8_valid_prefix(text, len) != len)
		return err_set(err, -EILSEQ, "the text is not UTF-8");
	r = tokenizer_encode(e->parts.tokenizer, text, len, false, &list);
	return give_tokens(r, &list, out, err);
}

int engine_detokenize(struct engine *e, const uint32_t *ids, size_t n, struct buf *text)
{
	int r = 0;

	for (size_t i = 0; i < n; i++)
		if (ids[i] >= tokenizer_size(e->parts.tokenizer))
			return -EINVAL;
	for (size_t i = 0; i < n && r == 0; i++) {
		size_t len;
		const char *piece = tokenizer_text(e->parts.tokenizer, ids[i], &len);

		r = buf_append(text, piece, len);
	}
	return r;
}

/* ---- requests ---- */

static int admit(struct engine *e, struct seq *q, struct err *err)
{
	if (e->ending)
		return err_set(err, -ESHUTDOWN, "the model is being unloaded");
	if (e->fault < 0)
		return err_set(err, e->fault, "%s", e->fault_text.text);
	if (e->live.n_live >= MAX_WAITING + e->stats.running)
		return err_set(
			err, -EAGAIN, "%u requests wait for this model already", MAX_WAITING);
	if (seq_table_add(&e->live, q) < 0)
		return err_set(err, -ENOMEM, "not enough memory for a request");
	list_append(&e->arrived, &q->link);
	return 0;
}

int engine_submit(
	struct engine *e, const struct engine_request *request, uint64_t *id, struct err *err)
{
	struct seq *q;
	int r;

	*id = 0;
	r = refuse_encoder(e, err);
	if (r < 0)
		return r;
	r = seq_new(
		&q, request, e->parts.info.context_tok, tokenizer_size(e->parts.tokenizer), err);
	if (r < 0)
		return r;
	q->drops_space = chat_answer_has_space(e->parts.family, e->parts.tokenizer);
	r = candidates_find(&q->candidates, e->parts.tokenizer, request->candidates,
		request->n_candidates, q->drops_space, err);
	if (r < 0) {
		seq_free(q);
		return r;
	}
	pthread_mutex_lock(&e->lock);
	r = admit(e, q, err);
	if (r == 0)
		*id = q->id; /* before the worker can see it, and free it */
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		seq_free(q);
	else
		pthread_cond_signal(&e->wake);
	return r;
}

void engine_cancel(struct engine *e, uint64_t id)
{
	struct seq *q;

	if (e->embedder) {
		embedder_cancel(e->embedder, id);
		return;
	}
	pthread_mutex_lock(&e->lock);
	q = seq_table_find(&e->live, id);
	if (q && !q->cancelled) {
		q->cancelled = true;
		list_append(&e->cancelled, &q->cancel_link);
	}
	pthread_mutex_unlock(&e->lock);
	pthread_cond_signal(&e->wake);
}

int engine_embed(struct engine *e, const struct engine_embed *q, uint64_t *id, struct err *err)
{
	if (!e->embedder)
		return err_set(err, -ENOTSUP,
			"this model gives answers and no embeddings; an embedding model (bert) "
			"does");
	return embedder_submit(e->embedder, q, id, err);
}

static pthread_mutex_t *lock_of(const struct engine *e)
{
	return (pthread_mutex_t *)(uintptr_t)&e->lock;
}

int engine_file(const struct engine *e, struct err *err)
{
	return gguf_changed_now(e->parts.gguf, "the model's file", "loaded", err);
}

int engine_fault(const struct engine *e, struct err *err)
{
	int r;

	pthread_mutex_lock(lock_of(e));
	r = e->fault < 0 ? err_set(err, e->fault, "%s", e->fault_text.text) : 0;
	pthread_mutex_unlock(lock_of(e));
	return r;
}

void engine_stats(const struct engine *e, struct engine_stats *out)
{
	if (e->embedder) {
		embedder_stats(e->embedder, out);
		return;
	}
	pthread_mutex_lock(lock_of(e));
	*out = e->stats;
	out->waiting = e->live.n_live > out->running ? e->live.n_live - out->running : 0;
	pthread_mutex_unlock(lock_of(e));
	if (out->running == 0)
		out->output_tok_s = 0;
}

void engine_device(const struct engine *e, struct engine_device *out)
{
	struct backend_stats s = {.utilisation = -1};

	if (!e->embedder)
		model_device_stats(e->parts.model, &s);
	*out = (struct engine_device){
		.memory_used = s.memory_used,
		.memory_free = s.memory_free,
		.utilisation = s.utilisation,
		.graph_hits = s.graph_hits,
		.graph_misses = s.graph_misses,
		.graphs_off = s.graphs_off,
	};
}
