/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory that has gone from TREE may be back in a moment, as in a git checkout: so the key of
 * its model, if it was written to the mount, is kept for a minute.
 *
 * A secret that is forgotten by mistake cannot be had again. So it goes only with a directory that
 * this daemon has seen, and that is known not to be there: where models/ cannot be read, or is not
 * there itself, or something else has the name, nothing has gone. Of keys that a start finds
 * without their models nothing is known (TREE may be another one), and they stay.
 *
 * Locks: a model's turn (turn.h) around seen_lock around the gateway's. Nothing of TREE is asked in
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
#include "gateway/gateway_models.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const struct collection *const models = &collection_models;

struct seen {
	char *name;
	dev_t dev; /* the directory that it was seen in last */
	ino_t ino;
	uint64_t gone_ns; /* when it had gone, or later: from then on its key is kept; 0: it is
			     there */
};
static struct seen *seen;
static size_t n_seen;
static uint64_t keep_ns = KEYS_SEEN_KEEP_MS * (uint64_t)1000000;
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- under seen_lock ---- */

static struct seen *find_seen(const char *name)
{
	for (size_t i = 0; i < n_seen; i++)
		if (strcmp(seen[i].name, name) == 0)
			return &seen[i];
	return NULL;
}

static void drop_seen(struct seen *s)
{
	free(s->name);
	*s = seen[--n_seen];
}

/* It was there, a moment ago. One that cannot be noted for want of memory keeps its key. */
static void note_seen(const struct tree_place *in, const char *name)
{
	struct seen *s = find_seen(name);
	struct seen *more = s ? NULL : realloc(seen, (n_seen + 1) * sizeof *seen);
	if (s) {
		s->gone_ns = 0;
		s->dev = in->dev;
		s->ino = in->ino;
	}
	if (!more)
		return;
	seen = more;
	seen[n_seen] = (struct seen){.name = strdup(name), .dev = in->dev, .ino = in->ino};
	n_seen += seen[n_seen].name != NULL;
}

static bool is_over(const struct seen *s)
{
	return s->gone_ns && clock_mono_ns() - s->gone_ns >= keep_ns;
}

static void forget_key(struct fs *fs, struct seen *s)
{
	struct err err = {{0}};
	if (gateway_model_key_forget(fs->gateway, s->name, &err) < 0) {
		log_warn("models/%s has gone from TREE, but not its key: %s", s->name, err.text);
		s->gone_ns = clock_mono_ns();
		return;
	}
	log_info("models/%s has gone from TREE, and its key with it", s->name);
	drop_seen(s);
}

/* gone: what TREE says of it (tree_has_gone). Where another directory is called models now, as when
 * one that is a mount is not mounted, nothing is known. What cannot be found out or done now is due
 * again after as long a time. */
static void pass_gone(
	struct fs *fs, struct seen *s, const struct tree_place *in, int gone, bool has_key)
{
	if (gone > 0 && (in->dev != s->dev || in->ino != s->ino))
		gone = -ESTALE;
	if (gone > 0 && !has_key)
		drop_seen(s);
	else if (gone > 0 && is_over(s))
		forget_key(fs, s);
	else if (gone == 0)
		s->gone_ns = 0;
	else if (gone > 0 ? !s->gone_ns : is_over(s))
		s->gone_ns = clock_mono_ns();
}

/* ---- a pass ---- */

/* 1; 0; -ENOMEM. */
static int has_key(struct fs *fs, const char *name)
{
	char **with_key = gateway_model_key_names(fs->gateway);
	int r = with_key ? names_has(with_key, name) : -ENOMEM;
	names_free(with_key);
	return r;
}

/* One that was not among the names of TREE. It is asked again: since they were read the model may
 * have come back, with another key. True: ask again soon. */
static bool pass_absent(struct fs *fs, const char *name, const struct tree_place *in)
{
	struct turn *t = turn_of(models, name);
	uint64_t n_changes = turn_count(t);
	int gone = tree_has_gone(in, name);
	if (!turn_begin_if(t, n_changes))
		return true;
	int has = has_key(fs, name);
	pthread_mutex_lock(&seen_lock);
	struct seen *s = find_seen(name);
	if (s)
		pass_gone(fs, s, in, has < 0 ? has : gone, has > 0);
	pthread_mutex_unlock(&seen_lock);
	turn_end(t);
	return false;
}

/* new: as names_take. */
static char **names_of(void)
{
	struct names names = {0};
	int r = 0;
	pthread_mutex_lock(&seen_lock);
	for (size_t i = 0; r == 0 && i < n_seen; i++)
		r = names_add(&names, seen[i].name);
	pthread_mutex_unlock(&seen_lock);
	return names_take(&names, r);
}

bool keys_seen_pass(struct fs *fs, char *const *there)
{
	bool again = false;
	struct tree_place in = tree_place_open(fs->tree, models);
	for (size_t i = 0; there && there[i]; i++) {
		if (tree_has_gone(&in, there[i]) != 0)
			continue; /* meanwhile */
		pthread_mutex_lock(&seen_lock);
		note_seen(&in, there[i]);
		pthread_mutex_unlock(&seen_lock);
	}
	char **names = names_of();
	for (size_t i = 0; names && names[i]; i++)
		if (!there || !names_has(there, names[i]))
			again = pass_absent(fs, names[i], &in) || again;
	names_free(names);
	tree_place_close(&in);
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
	struct seen *s = find_seen(name);
	if (s)
		s->gone_ns = 0;
	pthread_mutex_unlock(&seen_lock);
}

void keys_seen_forget(const char *name)
{
	pthread_mutex_lock(&seen_lock);
	struct seen *s = find_seen(name);
	if (s)
		drop_seen(s);
	pthread_mutex_unlock(&seen_lock);
}
