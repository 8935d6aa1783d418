/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of at most OPINIONS_MAX, the one that was wanted last in front. No prompt is kept: of what
 * the model saw only 128 bits of a digest (cache_key.h) are, taken behind a secret of this process,
 * so that nobody can compute two prompts that pass for each other, nor try from a core file which
 * one was asked without that. Beside a question to a model a walk through 256 digests is nothing.
 *
 * A model is known by its serial, which a change of its settings does not change: so what it said
 * is forgotten after a while, too.
 *
 * Lock: a leaf.
 */
#include "gateway/opinions.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/list.h"
#include "gateway/cache_key.h"

struct entry {
	struct list link;
	struct cache_id question;
	uint64_t model, said_ms;
	uid_t uid;
	enum classify_class class;
	double share[CLASSIFY_CLASSES];
};

struct opinions {
	pthread_mutex_t lock;
	struct list all; /* struct entry, the last wanted first */
	size_t n;
	char secret[16];
};

struct opinions *opinions_new(void)
{
	struct opinions *o = calloc(1, sizeof *o);
	if (!o)
		return NULL;
	if (getrandom(o->secret, sizeof o->secret, 0) != (ssize_t)sizeof o->secret) {
		free(o);
		return NULL;
	}
	pthread_mutex_init(&o->lock, NULL);
	list_init(&o->all);
	return o;
}

static void drop(struct opinions *o, struct entry *e)
{
	list_remove(&e->link);
	free(e);
	o->n--;
}

struct opinions *opinions_free(struct opinions *o)
{
	if (!o)
		return NULL;
	list_for_each (link, &o->all)
		drop(o, list_entry(link, struct entry, link));
	pthread_mutex_destroy(&o->lock);
	free(o);
	return NULL;
}

static struct cache_id digest_of(const struct opinions *o, const struct text *t)
{
	struct cache_id id;
	cache_key_digest(&id, o->secret, sizeof o->secret, t->bytes, t->len);
	return id;
}

/* With the lock held. */
static struct entry *find(
	struct opinions *o, const struct opinions_key *key, const struct cache_id *question)
{
	list_for_each (link, &o->all) {
		struct entry *e = list_entry(link, struct entry, link);
		if (e->question.a == question->a && e->question.b == question->b &&
			e->model == key->model && e->uid == key->uid)
			return e;
	}
	return NULL;
}

static void to_front(struct opinions *o, struct entry *e)
{
	list_remove(&e->link);
	list_prepend(&o->all, &e->link);
}

bool opinions_find(struct opinions *o, const struct opinions_key *key, uint64_t now_ms,
	struct router_opinion *out)
{
	const struct cache_id question = digest_of(o, key->question);
	pthread_mutex_lock(&o->lock);
	struct entry *e = find(o, key, &question);
	if (e && now_ms - e->said_ms >= OPINIONS_MS) {
		drop(o, e);
		e = NULL;
	}
	if (e) {
		to_front(o, e);
		out->has_class = out->is_remembered = true;
		out->class = e->class;
		memcpy(out->share, e->share, sizeof out->share);
	}
	pthread_mutex_unlock(&o->lock);
	return e;
}

static struct entry *entry_new(
	const struct opinions *o, const struct opinions_key *key, uint64_t now_ms)
{
	struct entry *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->question = digest_of(o, key->question);
	e->model = key->model;
	e->uid = key->uid;
	e->said_ms = now_ms;
	list_init(&e->link);
	return e;
}

void opinions_note(struct opinions *o, const struct opinions_key *key, uint64_t now_ms,
	const struct router_opinion *opinion)
{
	struct entry *fresh = entry_new(o, key, now_ms);
	if (!fresh)
		return;
	fresh->class = opinion->class;
	memcpy(fresh->share, opinion->share, sizeof fresh->share);
	pthread_mutex_lock(&o->lock);
	struct entry *before = find(o, key, &fresh->question);
	if (before)
		drop(o, before);
	else if (o->n == OPINIONS_MAX)
		drop(o, list_entry(o->all.prev, struct entry, link));
	list_prepend(&o->all, &fresh->link);
	o->n++;
	pthread_mutex_unlock(&o->lock);
}
