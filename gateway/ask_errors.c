/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session has `error`; a channel has no session that anybody could look into, and is gone with
 * its handle, so the sentence stays here for whoever asked. It is shown to that user and
 * to nobody else: a server's words about a request may say what was in it, for which reason it is
 * in no trace either.
 *
 * A model is known by its serial: one of the same name that comes later has nothing to do with what
 * was asked of the one before, also where that ends late. What is noted of a model that has gone
 * nobody shows; it goes as the oldest.
 *
 * One for each user and model or channel, until he is answered there, the model goes or the daemon
 * ends; no more than ASK_ERRORS_MAX, the oldest go first. Failures are few, so they stand in a
 * list, and what is answered where none failed costs a look at an empty one.
 */
#include "gateway/ask_errors.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/utf8.h"

enum { ASK_ERRORS_MAX = 1024 };

struct failure {
	struct list link;
	uint64_t model;
	uid_t uid;
	const char *channel;
	uint64_t ended_ns;
	char sentence[sizeof(struct err)];
};

struct ask_errors {
	pthread_mutex_t lock;
	struct list all; /* struct failure, oldest first */
	size_t n;
};

struct ask_errors *ask_errors_new(void)
{
	struct ask_errors *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	list_init(&a->all);
	return a;
}

static void drop(struct ask_errors *a, struct failure *f)
{
	if (!f)
		return;
	list_remove(&f->link);
	a->n--;
	free(f);
}

struct ask_errors *ask_errors_free(struct ask_errors *a)
{
	if (!a)
		return NULL;
	list_for_each (link, &a->all)
		drop(a, list_entry(link, struct failure, link));
	pthread_mutex_destroy(&a->lock);
	free(a);
	return NULL;
}

/* With the lock held. */
static struct failure *find(struct ask_errors *a, uint64_t model, uid_t uid)
{
	list_for_each (link, &a->all) {
		struct failure *f = list_entry(link, struct failure, link);
		if (f->uid == uid && f->model == model)
			return f;
	}
	return NULL;
}

static struct failure *failure_new(
	uint64_t model, uid_t uid, const char *channel, const char *sentence)
{
	struct failure *f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->model = model;
	snprintf(f->sentence, sizeof f->sentence, "%s", sentence);
	f->sentence[utf8_valid_prefix(f->sentence, strlen(f->sentence))] = '\0';
	f->uid = uid;
	f->channel = channel;
	f->ended_ns = clock_real_ns();
	return f;
}

void ask_errors_note(
	struct ask_errors *a, uint64_t model, uid_t uid, const char *channel, const char *sentence)
{
	struct failure *fresh = sentence ? failure_new(model, uid, channel, sentence) : NULL;
	pthread_mutex_lock(&a->lock);
	drop(a, find(a, model, uid));
	if (fresh && a->n == ASK_ERRORS_MAX)
		drop(a, list_entry(a->all.next, struct failure, link));
	if (fresh) {
		list_append(&a->all, &fresh->link);
		a->n++;
	}
	pthread_mutex_unlock(&a->lock);
}

int ask_errors_render(
	struct ask_errors *a, uint64_t model, uid_t uid, struct buf *out, uint64_t *changed_ns)
{
	pthread_mutex_lock(&a->lock);
	const struct failure *f = find(a, model, uid);
	int r = f ? buf_printf(out, "%s: %s\n", f->channel, f->sentence) : 0;
	if (changed_ns)
		*changed_ns = f ? f->ended_ns : 0;
	pthread_mutex_unlock(&a->lock);
	return r;
}

void ask_errors_forget(struct ask_errors *a, uint64_t model)
{
	pthread_mutex_lock(&a->lock);
	list_for_each (link, &a->all) {
		struct failure *f = list_entry(link, struct failure, link);
		if (f->model == model)
			drop(a, f);
	}
	pthread_mutex_unlock(&a->lock);
}
