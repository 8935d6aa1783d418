/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of a request through the cache, on the loop's thread:
 *
 *	L1 --- flight --- L2 --- embedding --- L3 --- the entry of what was near --- MISS
 *	 \        \         \                            \
 *	 HIT     FOLLOW     HIT                          HIT
 *
 * L1 and flights are decided within cache_begin; so is that L2 has nothing, as its index is in
 * memory. A request that looks further leads its flight already: whoever asks the same meanwhile
 * reads its answer, wherever that is going to come from.
 *
 * Serials order requests and flushes. An entry has the serial of the request that it was computed
 * for, taken when that began; a flush has one, too, and what is below it is gone: from L1 and L2's
 * index at once, and by comparison when it is landed later, however late.
 *
 * Locks: cache->lock has its place in core.h, behind the book's, and is outside of disk->lock and
 * semantic->lock. Nothing waits with it held, and nothing is called back. cache->setting_lock is
 * outside of it and of the core lock.
 */
#include "gateway/cache.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/cache_look.h"
#include "gateway/verbs.h"

void cache_ask_free(struct cache_ask *ask)
{
	buf_free(&ask->key);
	*ask = (struct cache_ask){0};
}

/* ---- serials ---- */

uint64_t cache_serial(struct cache *c)
{
	uint64_t now = clock_real_ns();
	c->last_serial = now > c->last_serial ? now : c->last_serial + 1;
	return c->last_serial;
}

/* With the lock held. */
static bool was_flushed(const struct cache *c, uint64_t serial, const char *user)
{
	if (serial < c->flushed_all)
		return true;
	for (size_t i = 0; i < c->n_flushed; i++)
		if (serial < c->flushed[i].below && !strcmp(c->flushed[i].user, user))
			return true;
	return false;
}

/* With the lock held. When there are too many the oldest becomes everybody's: what began before it
 * is old. */
static void note_flush(struct cache *c, const char *user, uint64_t below)
{
	if (!user) {
		c->flushed_all = below;
		c->n_flushed = 0;
		return;
	}
	if (c->n_flushed == CACHE_FLUSHES_KEPT) {
		c->flushed_all = c->flushed[0].below;
		memmove(c->flushed, c->flushed + 1, sizeof c->flushed - sizeof *c->flushed);
		c->n_flushed--;
	}
	struct cache_flushed *f = &c->flushed[c->n_flushed++];
	f->below = below;
	snprintf(f->user, sizeof f->user, "%s", user);
}

/* ---- the door ---- */

/* L1. True: *found is a hit. Whether it may be looked for further: *on. */
static bool look_in_memory(struct cache *c, const struct cache_ask *ask, struct cache_key *key,
	uint64_t *serial, bool *on, struct cache_found *found)
{
	struct cache_answer a;
	pthread_mutex_lock(&c->lock);
	*on = cache_settings_on(&c->settings);
	bool global = c->settings.global;
	pthread_mutex_unlock(&c->lock);
	if (!*on)
		return false;
	cache_key_make(key, ask->key.data, ask->key.len, global ? NULL : ask->user);
	pthread_mutex_lock(&c->lock);
	bool hit =
		cache_memory_find(c->memory, key, cache_shelf_not_before_s(c->settings.ttl_s), &a);
	if (hit)
		c->numbers.hits[CACHE_L1]++;
	else
		*serial = cache_serial(c);
	pthread_mutex_unlock(&c->lock);
	if (hit)
		cache_look_fill(found, CACHE_L1, 1, &a);
	return hit;
}

bool cache_is_on(struct cache *c)
{
	pthread_mutex_lock(&c->lock);
	bool on = cache_settings_on(&c->settings);
	pthread_mutex_unlock(&c->lock);
	return on;
}

bool cache_knows(struct cache *c, const struct cache_ask *ask)
{
	struct cache_key key;
	struct cache_answer a;
	uint64_t stored_s;
	if (!ask->store || ask->key.len > CACHE_KEY_MAX)
		return false;
	pthread_mutex_lock(&c->lock);
	bool on = cache_settings_on(&c->settings), global = c->settings.global;
	pthread_mutex_unlock(&c->lock);
	if (!on)
		return false;
	cache_key_make(&key, ask->key.data, ask->key.len, global ? NULL : ask->user);
	pthread_mutex_lock(&c->lock);
	uint64_t not_before_s = cache_shelf_not_before_s(c->settings.ttl_s);
	bool knows = cache_memory_peek(c->memory, &key, &a) && a.stored_s >= not_before_s;
	knows = knows ||
		(cache_disk_has(c->disk, &key.id, 0, &stored_s) && stored_s >= not_before_s);
	pthread_mutex_unlock(&c->lock);
	return knows;
}

static struct cache_ticket *ticket_new(struct cache *c, struct cache_ask *ask)
{
	struct cache_ticket *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->c = c;
	t->ask = *ask;
	*ask = (struct cache_ask){0};
	/* Borrowed for the call, but needed longer. */
	snprintf(t->user, sizeof t->user, "%s", t->ask.user);
	t->ask.user = t->user;
	bool short_enough = t->ask.prompt_len && t->ask.prompt_len <= CACHE_PROMPT_MAX;
	if (t->ask.semantic && short_enough)
		t->prompt = malloc(t->ask.prompt_len);
	if (t->prompt)
		memcpy(t->prompt, t->ask.prompt, t->ask.prompt_len);
	t->ask.prompt = t->prompt;
	list_init(&t->timer.link);
	t->timer.run = cache_look_late;
	return t;
}

static struct cache_ticket *ticket_free(struct cache_ticket *t)
{
	if (!t)
		return NULL;
	cache_disk_cancel(t->read);
	embedding_cancel(t->embedding);
	cache_search_cancel(t->search);
	loop_disarm(t->c->g->loop, &t->timer);
	free(t->prompt);
	cache_ask_free(&t->ask);
	free(t->vector);
	free(t);
	return NULL;
}

/* Everything behind L1. */
static int look_further(struct cache_ticket *t, struct answer *leader, struct cache_found *found)
{
	struct cache *c = t->c;
	pthread_mutex_lock(&c->lock);
	uint64_t not_before = c->last_flush;
	pthread_mutex_unlock(&c->lock);
	int r = leader ? cache_flight_board(c->flights, &t->flyer, &t->key, t->serial, not_before,
				 leader, &found->leader)
		       : -ENOENT;
	if (r == 1) {
		t->step = CACHE_STEP_OVER;
		found->outcome = CACHE_FOLLOW;
		found->level = CACHE_FLIGHT;
		return 0;
	}
	r = cache_look_on_disk(t, found);
	if (r == 0)
		cache_look_conclude(t, found);
	return r;
}

int cache_begin(struct cache_ticket **out, struct cache *c, struct cache_ask *ask,
	struct answer *leader, struct cache_found *found,
	void (*done)(void *arg, const struct cache_found *found), void *arg)
{
	struct cache_key key;
	uint64_t serial = 0;
	bool on = false;
	assert(loop_inside(c->g->loop));
	*out = NULL;
	*found = (struct cache_found){.outcome = CACHE_MISS, .score = 1};
	/* What may not be kept is not looked for either: it is to be drawn anew. */
	bool passes = !ask->store || ask->key.len > CACHE_KEY_MAX;
	bool hit = !passes && look_in_memory(c, ask, &key, &serial, &on, found);
	struct cache_ticket *t = on && !hit ? ticket_new(c, ask) : NULL;
	cache_ask_free(ask);
	if (passes) {
		pthread_mutex_lock(&c->lock);
		c->numbers.passed++;
		pthread_mutex_unlock(&c->lock);
	}
	if (!t)
		return 0;
	t->key = key;
	t->key.body = t->ask.key.data;
	t->serial = serial;
	t->done = done;
	t->arg = arg;
	*out = t;
	return look_further(t, leader, found);
}

/* Those that followed have had what this one got, or else they come again. */
static void leave_flight(struct cache_ticket *t, bool with_answer)
{
	struct cache *c = t->c;
	size_t n = cache_flight_leave(c->flights, &t->flyer);
	if (!n || !with_answer)
		return;
	pthread_mutex_lock(&c->lock);
	c->numbers.hits[CACHE_FLIGHT] += n;
	pthread_mutex_unlock(&c->lock);
}

static struct cache_item *make_item(struct cache_ticket *t, struct text *text, const char *finish,
	uint64_t prompt_tok, uint64_t output_tok)
{
	struct cache_answer answer = {
		.text = text,
		.prompt_tok = prompt_tok,
		.output_tok = output_tok,
		.serial = t->serial,
		.stored_s = clock_real_ns() / 1000000000u,
	};
	snprintf(answer.finish, sizeof answer.finish, "%s", finish);
	return cache_item_new(&t->key.id, t->ask.key.data, t->ask.key.len, t->key.owner,
		t->key.owner_len, t->ask.user, &answer);
}

/* Takes the ticket's vector. NULL: it has none, or memory is out. */
static struct cache_prompt *make_prompt(struct cache_ticket *t, struct cache_item *i)
{
	struct cache_prompt *p = t->vector ? cache_prompt_new(i) : NULL;
	if (!p)
		return NULL;
	p->text = text_new(t->ask.prompt, t->ask.prompt_len);
	if (!p->text || cache_near_scope(&p->scope, t->ask.key.data, t->ask.scope_len, t->model,
				&t->key) < 0)
		return cache_prompt_put(p);
	memcpy(p->model, t->model, sizeof p->model);
	p->vector = t->vector;
	p->dim = t->dim;
	t->vector = NULL;
	return p;
}

struct cache_ticket *cache_land(struct cache_ticket *t, struct text *text, const char *finish,
	uint64_t prompt_tok, uint64_t output_tok)
{
	if (!t)
		return NULL;
	struct cache *c = t->c;
	assert(loop_inside(c->g->loop));
	leave_flight(t, true);
	struct cache_item *i = text && text->len && t->computes
				       ? make_item(t, text, finish, prompt_tok, output_tok)
				       : NULL;
	struct cache_prompt *p = i ? make_prompt(t, i) : NULL;
	ticket_free(t);
	if (!i)
		return NULL;
	pthread_mutex_lock(&c->lock);
	bool kept = cache_settings_on(&c->settings) && !was_flushed(c, i->answer.serial, i->user);
	if (kept) {
		cache_memory_put(c->memory, i);
		cache_disk_put(c->disk, i, p);
		c->numbers.stored++;
	}
	pthread_mutex_unlock(&c->lock);
	if (kept && p)
		cache_semantic_add(c->semantic, p);
	cache_prompt_put(p);
	cache_item_put(i);
	return NULL;
}

struct cache_ticket *cache_drop(struct cache_ticket *t)
{
	if (!t)
		return NULL;
	assert(loop_inside(t->c->g->loop));
	leave_flight(t, t->served);
	return ticket_free(t);
}

/* ---- flushing ---- */

static void flush(struct cache *c, const char *user)
{
	struct cache_disk_counts counts;
	pthread_mutex_lock(&c->lock);
	cache_disk_count(c->disk, &counts); /* of a time when the clock went ahead */
	if (c->last_serial < counts.newest)
		c->last_serial = counts.newest;
	uint64_t below = c->last_flush = cache_serial(c);
	note_flush(c, user, below);
	cache_memory_flush(c->memory, user, below);
	cache_disk_flush(c->disk, user, below);
	pthread_mutex_unlock(&c->lock);
	cache_semantic_flush(c->semantic, user, below);
	cache_disk_mark_flush(c->disk, user, below);
}

static const struct verbs_row verbs[] = {{"flush", "USER", NULL}, {0}};

bool cache_ctl_is_hopeless(const char *line, size_t len)
{
	return verbs_is_hopeless(verbs, line, len);
}

int cache_ctl(struct cache *c, const char *line, size_t len, struct err *err)
{
	struct verbs_argument name;
	char user[TEXT_NAME_SIZE];
	while (len && (line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	int r = verbs_find(verbs, line, len, &name, err);
	if (r < 0)
		return r;
	if (!name.len) {
		flush(c, NULL);
		return 0;
	}
	while (name.len && *name.text == ' ') {
		name.text++;
		name.len--;
	}
	if (!text_is_name(name.text, name.len))
		return err_set(err, -EINVAL, "ctl: flush USER: that is no name of a user");
	memcpy(user, name.text, name.len);
	user[name.len] = '\0';
	flush(c, user);
	return 0;
}

/* ---- the object ---- */

static void tell_near(void *arg, const struct cache_id *id, const struct cache_record *record)
{
	const struct cache *c = arg;
	cache_semantic_load(c->semantic, id, record);
}

static int start(struct cache *c, const char *dir, struct err *err)
{
	struct cache_disk_limits limits = {
		c->settings.max_entries, c->settings.max_disk, c->settings.ttl_s};
	c->memory = cache_memory_new(c->settings.max_memory);
	c->flights = cache_flights_new();
	if (!c->memory || !c->flights)
		return err_set(err, -ENOMEM, "out of memory");
	int r = cache_semantic_new(&c->semantic, c->g, err);
	if (r == 0)
		cache_semantic_limit(c->semantic, limits.max_n);
	return r ? r : cache_disk_open(&c->disk, c->g, dir, &limits, tell_near, c, err);
}

int cache_open(struct cache **out, struct gateway *g, const char *dir, struct err *err)
{
	struct cache *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->g = g;
	pthread_mutex_init(&c->setting_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	cache_settings_init(&c->settings);
	int r = start(c, dir, err);
	if (r < 0)
		cache_free(c);
	else
		*out = c;
	return r;
}

struct cache *cache_free(struct cache *c)
{
	if (!c)
		return NULL;
	cache_disk_free(c->disk);
	cache_semantic_free(c->semantic);
	cache_memory_free(c->memory);
	cache_flights_free(c->flights);
	cache_settings_clear(&c->settings);
	pthread_mutex_destroy(&c->setting_lock);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}
