/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request does that was not in memory: the steps behind L1, each of which may take its time
 * on another thread and comes back on the loop. A step either leads to another one, or says what
 * was found; then the ticket is told, and may be gone.
 *
 * What comes back is looked at anew: while it was read it may have been flushed, have grown too
 * old, or the cache been turned off.
 *
 * Lock: the cache's, for the settings and L1.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/cache_look.h"
#include "gateway/protocol.h"

/* A disk that takes longer is no help; nor is a model that has to be loaded first. */
static const uint64_t disk_timeout_ns = 1000000000, embedding_timeout_ms = 1000;

/* ---- what was found ---- */

void cache_look_fill(struct cache_found *found, enum cache_level level, double score,
	const struct cache_answer *a)
{
	*found = (struct cache_found){
		.outcome = CACHE_HIT,
		.level = level,
		.score = score,
		.text = a->text,
		.prompt_tok = a->prompt_tok,
		.output_tok = a->output_tok,
	};
	memcpy(found->finish, a->finish, sizeof found->finish);
}

/* The ticket's way is over; counts. */
void cache_look_conclude(struct cache_ticket *t, const struct cache_found *found)
{
	struct cache *c = t->c;
	t->step = CACHE_STEP_OVER;
	t->served = found->outcome == CACHE_HIT;
	t->computes = !t->served;
	loop_disarm(c->g->loop, &t->timer);
	pthread_mutex_lock(&c->lock);
	if (t->served)
		c->numbers.hits[found->level]++;
	else
		c->numbers.misses++;
	pthread_mutex_unlock(&c->lock);
}

/* The outcome comes later than cache_begin's return. */
static void tell(struct cache_ticket *t, const struct cache_found *found)
{
	cache_look_conclude(t, found);
	t->done(t->arg, found);
}

/* Where a step leads: 1: to another one that takes its time; 0: *found is the outcome. */
static int near_next(struct cache_ticket *t, struct cache_found *found);
static int embed(struct cache_ticket *t, struct cache_found *found);

static void go_on(struct cache_ticket *t, int (*step)(struct cache_ticket *, struct cache_found *))
{
	struct cache_found found = {.outcome = CACHE_MISS};
	if (step(t, &found) == 0)
		tell(t, &found);
}

static int miss(struct cache_ticket *t, struct cache_found *found)
{
	(void)t;
	*found = (struct cache_found){.outcome = CACHE_MISS, .score = 1};
	return 0;
}

/* ---- L2 ---- */

/* What was read, as an answer with a new text: unless it was flushed or the cache turned off while
 * it was read. It goes into L1, too. */
static bool take_record(struct cache_ticket *t, const struct cache_record *r,
	const struct cache_id *id, struct cache_answer *out)
{
	struct cache *c = t->c;
	char user[TEXT_NAME_SIZE];
	*out = (struct cache_answer){
		.prompt_tok = r->prompt_tok,
		.output_tok = r->output_tok,
		.serial = r->serial,
		.stored_s = r->stored_s,
	};
	snprintf(out->finish, sizeof out->finish, "%.*s", (int)r->finish.len, r->finish.bytes);
	snprintf(user, sizeof user, "%.*s", (int)r->user.len, r->user.bytes);
	out->text = text_new(r->text.bytes, r->text.len);
	if (!out->text)
		return false;
	struct cache_item *item = cache_item_new(id, r->key.bytes, r->key.len, "", 0, user, out);
	pthread_mutex_lock(&c->lock);
	bool good = cache_settings_on(&c->settings) &&
		    r->stored_s >= cache_shelf_not_before_s(c->settings.ttl_s) &&
		    cache_disk_has(c->disk, id, r->serial, NULL);
	if (good && item)
		cache_memory_put(c->memory, item);
	pthread_mutex_unlock(&c->lock);
	cache_item_put(item);
	if (!good)
		out->text = text_put(out->text);
	return good;
}

static void disk_done(void *arg, const struct cache_record *r)
{
	struct cache_ticket *t = arg;
	struct cache_found found;
	struct cache_answer a;
	t->read = NULL;
	loop_disarm(t->c->g->loop, &t->timer);
	if (!r || !cache_key_is(&t->key, r->key.bytes, r->key.len) ||
		!take_record(t, r, &t->key.id, &a)) {
		go_on(t, embed);
		return;
	}
	cache_look_fill(&found, CACHE_L2, 1, &a);
	tell(t, &found);
}

void cache_look_late(struct loop_timer *timer)
{
	struct cache_ticket *t = list_entry(timer, struct cache_ticket, timer);
	t->read = cache_disk_cancel(t->read);
	go_on(t, t->step == CACHE_STEP_DISK ? embed : near_next);
}

int cache_look_on_disk(struct cache_ticket *t, struct cache_found *found)
{
	t->step = CACHE_STEP_DISK;
	if (cache_disk_find(t->c->disk, &t->key.id, 0, disk_done, t, &t->read) == 0)
		return embed(t, found);
	loop_arm(t->c->g->loop, &t->timer, clock_mono_ns() + disk_timeout_ns);
	return 1;
}

/* ---- L3 ---- */

static void near_read(void *arg, const struct cache_record *r)
{
	struct cache_ticket *t = arg;
	const struct cache_near *near = &t->near[t->at_near - 1];
	struct cache_found found;
	struct cache_answer a;
	t->read = NULL;
	loop_disarm(t->c->g->loop, &t->timer);
	if (!r || r->serial != near->serial ||
		!cache_key_is_owned(&t->key, r->key.bytes, r->key.len) ||
		!take_record(t, r, &near->id, &a)) {
		cache_semantic_drop(t->c->semantic, &near->id, near->serial);
		go_on(t, near_next);
		return;
	}
	cache_look_fill(&found, CACHE_L3, near->score, &a);
	tell(t, &found);
}

/* The entry of the next near one, from wherever it is. */
static int near_next(struct cache_ticket *t, struct cache_found *found)
{
	struct cache *c = t->c;
	while (t->at_near < t->n_near) {
		const struct cache_near *near = &t->near[t->at_near++];
		struct cache_answer a;
		t->step = CACHE_STEP_NEAR;
		pthread_mutex_lock(&c->lock);
		bool on = cache_settings_on(&c->settings);
		bool hit = on && cache_memory_find_serial(c->memory, &near->id, near->serial,
					 cache_shelf_not_before_s(c->settings.ttl_s), &a);
		pthread_mutex_unlock(&c->lock);
		if (hit) {
			cache_look_fill(found, CACHE_L3, near->score, &a);
			return 0;
		}
		if (on &&
			cache_disk_find(c->disk, &near->id, near->serial, near_read, t, &t->read)) {
			loop_arm(c->g->loop, &t->timer, clock_mono_ns() + disk_timeout_ns);
			return 1;
		}
		if (on)
			cache_semantic_drop(c->semantic, &near->id, near->serial);
	}
	return miss(t, found);
}

static void search_done(void *arg, const struct cache_near *near, size_t n)
{
	struct cache_ticket *t = arg;
	t->search = NULL;
	memcpy(t->near, near, n * sizeof *near);
	t->n_near = n;
	go_on(t, near_next);
}

int cache_near_scope(struct buf *out, const char *scope, size_t len, const char *model,
	const struct cache_key *key)
{
	int r = len ? buf_append(out, scope, len) : 0;
	r = r ? r : cache_key_field(out, "embedding_model", model, strlen(model));
	return r ? r : buf_append(out, key->owner, key->owner_len);
}

static int search(struct cache_ticket *t, struct cache_found *found)
{
	struct cache *c = t->c;
	struct buf scope = {0};
	float *copy = malloc(t->dim * sizeof *copy);
	if (copy)
		memcpy(copy, t->vector, t->dim * sizeof *copy);
	pthread_mutex_lock(&c->lock);
	double threshold = c->settings.threshold;
	pthread_mutex_unlock(&c->lock);
	if (!copy || cache_near_scope(
			     &scope, t->ask.key.data, t->ask.scope_len, t->model, &t->key) < 0) {
		free(copy);
		buf_free(&scope);
		return miss(t, found);
	}
	t->step = CACHE_STEP_SEARCH;
	if (cache_semantic_search(c->semantic, &scope, t->ask.prompt, t->ask.prompt_len, copy,
		    t->dim, threshold, search_done, t, &t->search) < 0)
		return miss(t, found);
	return 1;
}

/* A model that does not work is a fault that lasts: said in `status` until it works, to all, and so
 * without a server's words about the prompt. */
static void embedding_works(struct cache *c, const char *sentence)
{
	char report[256];
	if (sentence) {
		size_t own = protocol_own_words(sentence);
		snprintf(report, sizeof report, "cache/embedding_model: %.*s",
			(int)(own < 200 ? own : 200), sentence);
		gateway_report(c->g, "cache/embedding_model", report);
		pthread_mutex_lock(&c->lock);
		c->numbers.embeddings_failed++;
		pthread_mutex_unlock(&c->lock);
	} else if (c->embedding_reported) {
		gateway_report(c->g, "cache/embedding_model", NULL);
	}
	c->embedding_reported = sentence;
}

/* That it takes too long, that too many wait, or that it cannot be paid. */
static bool passes(int status)
{
	return status == -ETIMEDOUT || status == -EAGAIN || status == -EBUSY || status == -EDQUOT ||
	       status == -ECANCELED;
}

static int embedding_begins(void *arg, struct model *m, uint64_t tok, struct err *err)
{
	const struct cache_ask *ask = &((struct cache_ticket *)arg)->ask;
	return ask->payer ? ask->payer->begins(ask->payer_arg, m, tok, err) : 0;
}

static void embedded(void *arg, int status, const char *sentence, const float *vector, size_t dim,
	const struct trace_usage *usage)
{
	struct cache_ticket *t = arg;
	cache_count_embedding(t->c, usage->prompt_tok);
	if (t->ask.payer)
		t->ask.payer->took(t->ask.payer_arg, status, usage);
	t->embedding = embedding_cancel(t->embedding);
	if (status == 0 || !passes(status))
		embedding_works(t->c, status ? sentence : NULL);
	if (status == 0)
		t->vector = malloc(dim * sizeof *vector);
	if (!t->vector) {
		go_on(t, miss);
		return;
	}
	memcpy(t->vector, vector, dim * sizeof *vector);
	t->dim = dim;
	go_on(t, search);
}

bool cache_embeds(struct cache *c, size_t prompt_len, char model[TEXT_NAME_SIZE])
{
	pthread_mutex_lock(&c->lock);
	memcpy(model, c->settings.model, TEXT_NAME_SIZE);
	bool on = cache_settings_on(&c->settings) && c->settings.max_entries;
	pthread_mutex_unlock(&c->lock);
	return on && *model && prompt_len && prompt_len <= CACHE_PROMPT_MAX;
}

static int embed(struct cache_ticket *t, struct cache_found *found)
{
	struct cache *c = t->c;
	struct err err = {0};
	if (!cache_embeds(c, t->ask.prompt_len, t->model) || !t->prompt)
		return miss(t, found);
	t->step = CACHE_STEP_EMBED;
	const struct embedding_ask ask = {
		.model = t->model,
		.text = t->ask.prompt,
		.len = t->ask.prompt_len,
		.uid = t->ask.uid,
		.timeout_ms = embedding_timeout_ms,
		.begins = embedding_begins,
		.done = embedded,
		.arg = t,
	};
	int r = embedding_begin(&t->embedding, c->g, &ask, &err);
	if (r < 0 && !passes(r))
		embedding_works(c, err.text);
	if (r < 0)
		return miss(t, found);
	return 1;
}
