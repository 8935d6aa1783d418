/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory that has gone from TREE may be back in a moment, as in a git checkout: so the key of
 * its model, if it was written to the mount, is kept for a minute; and so is the secret of an API
 * key, which lets nobody in meanwhile.
 *
 * A secret that is forgotten by mistake cannot be had again. So it goes only with a directory that
 * is known not to be there: where models/ cannot be read, or is not there itself, or something else
 * has the name, nothing has gone. Of keys that a start finds without their models nothing is known
 * (TREE may be another one), and they stay. Not so of API keys, since whoever has such a secret
 * could be let in by a directory that is made much later: their minute begins with the start.
 *
 * Locks: a thing's turn (turn.h) around seen_lock around the gateway's. Nothing of TREE is asked in
 * either.
 */
#include "fs/keys_seen.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/names.h"
#include "fs/tree.h"
#include "fs/turn.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct seen {
	const struct collection *c;
	char *name;
	dev_t dev; /* the directory that it was seen in last */
	ino_t ino;
	uint64_t gone_ns; /* when it had gone, or later: from then on its secret is kept; 0: it is
			     there, or nobody knows */
};
static struct seen *seen; /* [n_seen], sorted by collection and name: of keys there may be 10,000 */
static size_t n_seen;
static uint64_t keep_ns = KEYS_SEEN_KEEP_MS * (uint64_t)1000000;
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- under seen_lock ---- */

/* Where that one is, or would be. */
static size_t place_of(const struct collection *c, const char *name)
{
	size_t low = 0, high = n_seen;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct seen *s = &seen[middle];
		bool is_before = s->c == c ? strcmp(s->name, name) < 0 : s->c < c;
		if (is_before)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct seen *find_seen(const struct collection *c, const char *name)
{
	size_t i = place_of(c, name);
	return i < n_seen && seen[i].c == c && strcmp(seen[i].name, name) == 0 ? &seen[i] : NULL;
}

static void drop_seen(struct seen *s)
{
	free(s->name);
	memmove(s, s + 1, (size_t)(seen + --n_seen - s) * sizeof *s);
}

/* The one of that name, made if need be. One that cannot be noted for want of memory keeps its
 * secret: NULL. */
static struct seen *find_or_add(const struct collection *c, const char *name)
{
	struct seen *s = find_seen(c, name);
	if (s)
		return s;
	char *copy = strdup(name);
	struct seen *more = copy ? realloc(seen, (n_seen + 1) * sizeof *seen) : NULL;
	if (!more) {
		free(copy);
		return NULL;
	}
	seen = more;
	s = &seen[place_of(c, name)];
	memmove(s + 1, s, (size_t)(seen + n_seen++ - s) * sizeof *s);
	*s = (struct seen){.c = c, .name = copy};
	return s;
}

/* It was there, a moment ago; or has gone before this daemon came. */
static void note_seen(const struct collection *c, const struct tree_place *in, const char *name)
{
	struct seen *s = find_or_add(c, name);
	if (!s)
		return;
	s->gone_ns = 0;
	s->dev = in->dev;
	s->ino = in->ino;
}

static bool is_over(const struct seen *s)
{
	return s->gone_ns && clock_mono_ns() - s->gone_ns >= keep_ns;
}

static void forget_secret(struct fs *fs, struct seen *s)
{
	struct err err = {{0}};
	const struct collection *c = s->c;
	if (c->forget_secret(fs->gateway, s->name, &err) < 0) {
		log_warn("%s/%s has gone from TREE, but not its %s: %s", c->dir, s->name, c->secret,
			err.text);
		s->gone_ns = clock_mono_ns();
		return;
	}
	log_info("%s/%s has gone from TREE, and its %s with it", c->dir, s->name, c->secret);
	drop_seen(s);
}

/* gone: what TREE says of it (tree_has_gone). Where another directory is called models now, as when
 * one that is a mount is not mounted, nothing is known. What cannot be found out or done now is due
 * again after as long a time. */
static void pass_gone(struct fs *fs, struct seen *s, const struct tree_place *in, int gone)
{
	if (gone > 0 && (in->dev != s->dev || in->ino != s->ino))
		gone = -ESTALE;
	if (gone > 0 && !s->c->has_secret(fs->gateway, s->name))
		drop_seen(s);
	else if (gone > 0 && is_over(s))
		forget_secret(fs, s);
	else if (gone == 0)
		s->gone_ns = 0;
	else if (gone > 0 ? !s->gone_ns : is_over(s))
		s->gone_ns = clock_mono_ns();
}

/* ---- a pass ---- */

/* One that was not among the names of TREE. It is asked again: since they were read it may have
 * come back, with another secret. True: ask again soon. */
static bool pass_absent(
	struct fs *fs, const struct collection *c, const char *name, const struct tree_place *in)
{
	struct turn *t = turn_of(c, name);
	uint64_t n_changes = turn_count(t);
	int gone = tree_has_gone(in, name);
	if (!turn_begin_if(t, n_changes))
		return true;
	pthread_mutex_lock(&seen_lock);
	struct seen *s = find_seen(c, name);
	if (s)
		pass_gone(fs, s, in, gone);
	pthread_mutex_unlock(&seen_lock);
	turn_end(t);
	return false;
}

/* new: as names_take. */
static char **names_of(const struct collection *c)
{
	struct names names = {0};
	int r = 0;
	pthread_mutex_lock(&seen_lock);
	for (size_t i = 0; r == 0 && i < n_seen; i++)
		if (seen[i].c == c)
			r = names_add(&names, seen[i].name);
	pthread_mutex_unlock(&seen_lock);
	return names_take(&names, r);
}

/* What has gone unseen has gone from here, if from anywhere. */
static void note_unseen(struct fs *fs, const struct collection *c, const struct tree_place *in)
{
	char **names = c->names_gone && in->fd >= 0 ? c->names_gone(fs->gateway) : NULL;
	pthread_mutex_lock(&seen_lock);
	for (size_t i = 0; names && names[i]; i++)
		if (!find_seen(c, names[i]))
			note_seen(c, in, names[i]);
	pthread_mutex_unlock(&seen_lock);
	names_free(names);
}

static bool pass(struct fs *fs, const struct collection *c)
{
	bool again = false;
	char **there = tree_names(fs->tree, c);
	struct tree_place in = tree_place_open(fs->tree, c);
	for (size_t i = 0; there && there[i]; i++) {
		if (tree_has_gone(&in, there[i]) != 0)
			continue; /* meanwhile */
		pthread_mutex_lock(&seen_lock);
		note_seen(c, &in, there[i]);
		pthread_mutex_unlock(&seen_lock);
	}
	note_unseen(fs, c, &in);
	char **names = names_of(c);
	size_t n_there = names_count(there);
	for (size_t i = 0; names && names[i]; i++)
		if (!names_has_sorted(there, n_there, names[i]))
			again = pass_absent(fs, c, names[i], &in) || again;
	names_free(names);
	names_free(there);
	tree_place_close(&in);
	return again;
}

bool keys_seen_pass(struct fs *fs)
{
	bool again = false;
	for (size_t i = 0; collections[i]; i++)
		if (collections[i]->secret)
			again = pass(fs, collections[i]) || again;
	return again;
}

int keys_seen_due_ms(void)
{
	uint64_t now = clock_mono_ns(), first = UINT64_MAX;
	pthread_mutex_lock(&seen_lock);
	for (size_t i = 0; i < n_seen; i++)
		if (seen[i].gone_ns && seen[i].gone_ns + keep_ns < first)
			first = seen[i].gone_ns + keep_ns;
	pthread_mutex_unlock(&seen_lock);
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now) / 1000000) + 1;
}

void keys_seen_keep(unsigned ms)
{
	pthread_mutex_lock(&seen_lock);
	keep_ns = ms * (uint64_t)1000000;
	pthread_mutex_unlock(&seen_lock);
}

/* ---- through the mount ---- */

void keys_seen_new_key(const char *name)
{
	pthread_mutex_lock(&seen_lock);
	struct seen *s = find_seen(&collection_models, name);
	if (s)
		s->gone_ns = 0;
	pthread_mutex_unlock(&seen_lock);
}

void keys_seen_forget(const struct collection *c, const char *name)
{
	pthread_mutex_lock(&seen_lock);
	struct seen *s = find_seen(c, name);
	if (s)
		drop_seen(s);
	pthread_mutex_unlock(&seen_lock);
}
