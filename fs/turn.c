/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns are locks with a number of changes each. There is a fixed lot of them, and a name's is
 * found by its hash: two names may share one, and then a change of the one may wait for that of the
 * other, and have a pass look at the other once more. So none is ever made, lost or missing.
 *
 * Lock order: one of them; models/default's; those of keys.c and keys_seen.c; the gateway's. That
 * of guards/ is alone (guards.c).
 */
#include "fs/turn.h"

#include <pthread.h>

#include "base/hash.h"
#include "fs/collection.h"

struct turn {
	pthread_mutex_t lock;
	uint64_t n_changes;
};

enum { TURNS = 256 };

static struct turn turns[TURNS] = {[0 ... TURNS - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};
static struct turn of_default = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct turn of_guards = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct turn *turn_of(const struct collection *c, const char *name)
{
	char path[COLLECTION_PATH];
	collection_path(c, name, "", path);
	return &turns[hash_text(HASH_BEGIN, path) % TURNS];
}

struct turn *turn_of_default(void)
{
	return &of_default;
}

struct turn *turn_of_guards(void)
{
	return &of_guards;
}

void turn_begin(struct turn *t)
{
	pthread_mutex_lock(&t->lock);
	t->n_changes++;
}

void turn_end(struct turn *t)
{
	pthread_mutex_unlock(&t->lock);
}

uint64_t turn_count(struct turn *t)
{
	pthread_mutex_lock(&t->lock);
	uint64_t n = t->n_changes;
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool turn_begin_if(struct turn *t, uint64_t count)
{
	pthread_mutex_lock(&t->lock);
	if (t->n_changes == count)
		return true;
	pthread_mutex_unlock(&t->lock);
	return false;
}

void turn_begin_overtaken(struct turn *t)
{
	pthread_mutex_lock(&t->lock);
}
