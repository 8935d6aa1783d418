/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests for embeddings, first come first served. A step takes as many texts from the front of
 * the queue as fit, of however many requests: the end of one and the beginning of the next go
 * together. A request is over when its last text is, and then its `done` is called, once.
 *
 * Texts are tokenised by the thread that asks, so a request in the queue is token ids, a few bytes
 * a word, and the room for its vectors; the queue has a ceiling in texts, a text one in tokens.
 *
 * A request that is cancelled before its first text is in a step leaves the queue at once; one with
 * a text in the step is over after it, and the worker ends it.
 *
 * The list belongs to whoever holds the lock; the requests in a step to the worker, which alone
 * takes them out. Lock order: embedder.lock only; no callback is made while it is held.
 */
#include "engine/embedder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/utf8.h"

struct job {
	struct list link;
	void (*done)(void *arg, int status, const char *sentence, const float *vectors,
		const struct engine_usage *usage);
	void *arg;
	uint64_t id;
	bool cancelled;         /* after this step */
	uint32_t n, n_taken;    /* texts; of them in a step or over */
	uint32_t *ids, *starts; /* [starts[n]], [n + 1] */
	float *vectors;         /* [n][n_embd] */
	uint64_t asked_ns;
	struct engine_usage usage;
};

/* One text of a step. */
struct place {
	struct job *job;
	uint32_t text;
};

struct embedder {
	struct embedder_options o;
	uint32_t n_embd;
	struct place *places;       /* [max_texts], the worker's */
	struct encoder_text *texts; /* [max_texts] */
	float *vectors;             /* [max_texts][n_embd] of a step */
	pthread_t worker;
	bool worker_runs;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t wake;
	struct list jobs;
	bool ending;
	int fault; /* < 0: of the file; fault_text says which */
	struct err fault_text;
	uint64_t last_id;
	struct engine_stats stats;
};

/* ---- requests ---- */

static struct job *job_free(struct job *j)
{
	if (!j)
		return NULL;
	free(j->ids);
	free(j->starts);
	free(j->vectors);
	free(j);
	return NULL;
}

static int fill(struct embedder *m, struct job *j, const struct engine_embed *q)
{
	struct token_list list = {0};
	int r = 0;

	for (uint32_t i = 0; i < j->n && !r; i++) {
		j->starts[i] = (uint32_t)list.n;
		r = tokenizer_encode_marked(
			m->o.tokenizer, q->texts[i], q->lens[i], m->o.context_tok, &list);
	}
	if (r)
		token_list_free(&list);
	j->starts[j->n] = (uint32_t)list.n;
	j->ids = list.ids;
	j->usage.prompt_tok = (uint32_t)list.n;
	return r;
}

static int job_new(
	struct job **out, struct embedder *m, const struct engine_embed *q, struct err *err)
{
	struct job *j;

	*out = NULL;
	if (q->n == 0 || q->n > ENGINE_EMBED_MAX)
		return err_set(
			err, -EINVAL, "1 .. %d texts at once, not %zu", ENGINE_EMBED_MAX, q->n);
	for (size_t i = 0; i < q->n; i++)
		if (utf8_valid_prefix(q->texts[i], q->lens[i]) != q->lens[i])
			return err_set(err, -EILSEQ, "the text is not UTF-8");
	j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(err, -ENOMEM, "not enough memory for a request");
	list_init(&j->link);
	j->done = q->done;
	j->arg = q->arg;
	j->n = (uint32_t)q->n;
	j->asked_ns = clock_mono_ns();
	j->starts = calloc(q->n + 1, sizeof(*j->starts));
	j->vectors = calloc(q->n, m->n_embd * sizeof(*j->vectors));
	if (!j->starts || !j->vectors || fill(m, j, q) < 0) {
		job_free(j);
		return err_set(err, -ENOMEM, "not enough memory for the tokens");
	}
	*out = j;
	return 0;
}

int embedder_submit(struct embedder *m, const struct engine_embed *q, uint64_t *id, struct err *err)
{
	struct job *j;
	int r = job_new(&j, m, q, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&m->lock);
	if (m->ending)
		r = err_set(err, -ESHUTDOWN, "the model is being unloaded");
	else if (m->fault < 0)
		r = err_set(err, m->fault, "%s", m->fault_text.text);
	else if (m->stats.waiting + j->n > EMBEDDER_MAX_WAITING)
		r = err_set(err, -EAGAIN, "%u texts wait for this model already", m->stats.waiting);
	if (r == 0) {
		m->stats.waiting += j->n;
		j->id = ++m->last_id;
		if (id)
			*id = j->id; /* before the worker can see it, and free it */
		list_append(&m->jobs, &j->link);
	}
	pthread_mutex_unlock(&m->lock);
	if (r < 0)
		job_free(j);
	else
		pthread_cond_signal(&m->wake);
	return r;
}

static void finish(struct job *j, int status, const char *sentence)
{
	j->usage.prompt_tok = j->starts[j->n_taken];
	j->done(j->arg, status, sentence, status ? NULL : j->vectors, &j->usage);
	job_free(j);
}

/* NULL: it is over. Under the lock. */
static struct job *find(struct embedder *m, uint64_t id)
{
	list_for_each (at, &m->jobs) {
		struct job *j = list_entry(at, struct job, link);

		if (j->id >= id) /* they stand in that order */
			return j->id == id ? j : NULL;
	}
	return NULL;
}

void embedder_cancel(struct embedder *m, uint64_t id)
{
	pthread_mutex_lock(&m->lock);
	struct job *j = find(m, id);
	bool waits = j && j->n_taken == 0;

	if (waits) {
		m->stats.waiting -= j->n;
		list_remove(&j->link);
	} else if (j) {
		j->cancelled = true;
	}
	pthread_mutex_unlock(&m->lock);
	if (waits)
		finish(j, -ECANCELED, "cancelled");
}

/* ---- the worker ---- */

/* Takes texts from the front as long as they fit; how many. Under the lock. */
static uint32_t take(struct embedder *m)
{
	uint32_t n = 0, rows = 0;

	list_for_each (at, &m->jobs) {
		struct job *j = list_entry(at, struct job, link);

		while (j->n_taken < j->n && n < m->o.max_texts) {
			uint32_t first = j->starts[j->n_taken],
				 len = j->starts[j->n_taken + 1] - first;

			if (len > m->o.max_rows - rows)
				return n;
			m->texts[n] = (struct encoder_text){j->ids + first, len};
			m->places[n++] = (struct place){j, j->n_taken++};
			rows += len;
		}
		if (j->n_taken < j->n)
			return n;
	}
	return n;
}

/* Ends all requests. */
static void end_all(struct embedder *m, int status, const char *sentence)
{
	struct list jobs;

	list_init(&jobs);
	pthread_mutex_lock(&m->lock);
	list_splice(&jobs, &m->jobs);
	m->stats.waiting = m->stats.running = 0;
	pthread_mutex_unlock(&m->lock);
	list_for_each (at, &jobs) {
		list_remove(at);
		finish(list_entry(at, struct job, link), status, sentence);
	}
}

/* The n texts of a step are computed: their vectors go to their requests. */
static void deliver(struct embedder *m, uint32_t n, uint64_t began_ns)
{
	uint64_t now = clock_mono_ns();
	struct list over;
	uint32_t n_tok = 0;

	list_init(&over);
	for (uint32_t i = 0; i < n; i++) {
		struct place *p = &m->places[i];
		struct job *j = p->job;

		memcpy(j->vectors + (size_t)p->text * m->n_embd, m->vectors + (size_t)i * m->n_embd,
			m->n_embd * sizeof(float));
		n_tok += m->texts[i].n;
		if (p->text == 0)
			j->usage.queued_ns = began_ns - j->asked_ns;
		j->usage.prefill_ns = now - j->asked_ns - j->usage.queued_ns;
	}
	pthread_mutex_lock(&m->lock);
	for (uint32_t i = 0; i < n; i++) {
		struct job *j = m->places[i].job;

		bool last = i + 1 == n || m->places[i + 1].job != j;

		if (m->places[i].text + 1 < j->n && !(j->cancelled && last))
			continue;
		m->stats.waiting -= j->n - j->n_taken;
		list_remove(&j->link);
		list_append(&over, &j->link);
	}
	m->stats.running = 0;
	m->stats.steps++;
	m->stats.prompt_tok += n_tok;
	m->stats.step_ns += now - began_ns;
	m->stats.model_ns += now - began_ns;
	pthread_mutex_unlock(&m->lock);
	list_for_each (at, &over) {
		list_remove(at);
		struct job *j = list_entry(at, struct job, link);

		finish(j, j->cancelled ? -ECANCELED : 0, j->cancelled ? "cancelled" : "");
	}
}

static void *work(void *arg)
{
	struct embedder *m = arg;

	for (;;) {
		struct err text = {""};
		uint64_t began_ns;
		uint32_t n;
		int fault;

		pthread_mutex_lock(&m->lock);
		while (!m->ending && list_empty(&m->jobs))
			pthread_cond_wait(&m->wake, &m->lock);
		if (m->ending) {
			pthread_mutex_unlock(&m->lock);
			end_all(m, -ECANCELED, "the model is being unloaded");
			return NULL;
		}
		n = take(m);
		m->stats.running = n;
		m->stats.waiting -= n;
		pthread_mutex_unlock(&m->lock);

		began_ns = clock_mono_ns();
		encoder_step(m->o.encoder, m->texts, n, m->vectors);
		fault = gguf_changed(m->o.gguf, "the model's file", "in use", &text);
		if (fault >= 0) {
			deliver(m, n, began_ns);
			continue;
		}
		pthread_mutex_lock(&m->lock);
		m->fault = fault;
		m->fault_text = text;
		pthread_mutex_unlock(&m->lock);
		end_all(m, fault, text.text);
	}
}

/* ---- the object ---- */

int embedder_new(struct embedder **out, const struct embedder_options *options, struct err *err)
{
	struct embedder *m = calloc(1, sizeof(*m));
	int r = 0;

	*out = NULL;
	if (!m)
		return err_set(err, -ENOMEM, "not enough memory for an engine");
	m->o = *options;
	m->n_embd = encoder_config(m->o.encoder)->n_embd;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->wake, NULL);
	list_init(&m->jobs);
	m->places = calloc(m->o.max_texts, sizeof(*m->places));
	m->texts = calloc(m->o.max_texts, sizeof(*m->texts));
	m->vectors = calloc(m->o.max_texts, m->n_embd * sizeof(*m->vectors));
	if (!m->places || !m->texts || !m->vectors)
		r = err_set(err, -ENOMEM, "not enough memory for an engine");
	if (!r) {
		r = -pthread_create(&m->worker, NULL, work, m);
		if (r < 0)
			err_set(err, r, "the engine's thread cannot be started");
		m->worker_runs = r == 0;
	}
	*out = r ? embedder_free(m) : m;
	return r;
}

struct embedder *embedder_free(struct embedder *m)
{
	if (!m)
		return NULL;
	if (m->worker_runs) {
		pthread_mutex_lock(&m->lock);
		m->ending = true;
		pthread_mutex_unlock(&m->lock);
		pthread_cond_signal(&m->wake);
		pthread_join(m->worker, NULL);
	}
	free(m->places);
	free(m->texts);
	free(m->vectors);
	pthread_cond_destroy(&m->wake);
	pthread_mutex_destroy(&m->lock);
	free(m);
	return NULL;
}

void embedder_stats(const struct embedder *m, struct engine_stats *out)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&m->lock;

	pthread_mutex_lock(lock);
	*out = m->stats;
	pthread_mutex_unlock(lock);
}
