/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's thread: writes what is pending, has the disk keep it, sweeps. It has the database,
 * and the lock only between two of its works.
 *
 * A group that could not be written is kept and tried once more each second, before those behind
 * it. Until that works the store is degraded: the waiters were told so, and callers refuse new
 * work.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/store_group.h"
#include "gateway/store_parts.h"

static const uint64_t sync_interval_ns = 1000000000; /* at most so much is lost in a power cut */
static const uint64_t retry_interval_ns = 1000000000;

static void set_state(struct store *s, int state, const char *sentence)
{
	pthread_mutex_lock(&s->lock);
	bool changed = s->state != state;
	s->state = state;
	snprintf(s->sentence, sizeof s->sentence, "%s", sentence);
	pthread_mutex_unlock(&s->lock);
	if (changed && state < 0)
		log_error("%s", sentence);
	else if (changed)
		log_info("the state directory can be written again");
}

/* Writes the group, together with one that was stuck before. Steals group. sync: waits for the
 * disk. since_ns: when the oldest of it was queued. */
static int commit(struct store *s, leveldb_writebatch_t *group, bool sync, uint64_t since_ns)
{
	struct err err = {0};
	if (s->stuck) {
		leveldb_writebatch_append(s->stuck, group);
		leveldb_writebatch_destroy(group);
		group = s->stuck;
		s->stuck = NULL;
	}
	int r = store_database_write(&s->database, group, sync, &err);
	if (r < 0) {
		s->stuck = group;
	} else {
		leveldb_writebatch_destroy(group);
		if (sync)
			s->unsynced_since_ns = 0;
		else if (!s->unsynced_since_ns || since_ns < s->unsynced_since_ns)
			s->unsynced_since_ns = since_ns;
	}
	set_state(s, r, err.text);
	return r;
}

static void sync_now(struct store *s)
{
	struct err err = {0};
	leveldb_writebatch_t *nothing = leveldb_writebatch_create();
	int r = store_database_write(&s->database, nothing, true, &err);
	s->unsynced_since_ns = 0;
	/* To be tried again, so that a better disk is noticed. */
	if (r < 0 && !s->stuck)
		s->stuck = nothing;
	else
		leveldb_writebatch_destroy(nothing);
	if (r < 0)
		set_state(s, r, err.text);
}

void store_call(struct store_waiter *w, int status)
{
	while (w) {
		struct store_waiter *next = w->next;
		w->done(w, status);
		w = next;
	}
}

static struct timespec timespec_of(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

bool store_is_due(const struct store *s)
{
	bool wait = s->waiters && (s->owed || !store_is_safe(s));
	return s->hurry || wait || s->closing;
}

/* When the oldest of what the disk may not have yet is to be on it; 0: there is none. With the lock
 * held. */
static uint64_t sync_at_ns(const struct store *s)
{
	uint64_t since = s->unsynced_since_ns;
	if (s->any_pending && (!since || s->pending_since_ns < since))
		since = s->pending_since_ns;
	return since ? since + sync_interval_ns : 0;
}

static bool is_late(const struct store *s)
{
	uint64_t at_ns = sync_at_ns(s);
	return at_ns && clock_mono_ns() >= at_ns;
}

/* A sweep sees what was queued before it. It does not hurry that: there may always be a next one.
 * With the lock held. */
static bool is_to_sweep(const struct store *s)
{
	return s->ready || (s->sweeps && !s->any_pending);
}

/* Those that were queued are ready. With the lock held. */
static void ready_sweeps(struct store *s)
{
	struct store_sweep **end = &s->ready;
	while (*end)
		end = &(*end)->next;
	*end = s->sweeps;
	s->sweeps = NULL;
}

/* Until there is something to write, to retry or to sync. With the lock held. */
static void wait_for_work(struct store *s)
{
	uint64_t retry_at_ns = s->stuck ? clock_mono_ns() + retry_interval_ns : 0;
	bool over = false;
	while (!over && !store_is_due(s) && (s->stuck || !is_to_sweep(s))) {
		/* Anew each time: something may have been queued that is to be written later. */
		uint64_t until_ns = retry_at_ns ? retry_at_ns : sync_at_ns(s);
		struct timespec until = timespec_of(until_ns);
		s->sleeps = !until_ns;
		if (s->sleeps)
			pthread_cond_wait(&s->filled, &s->lock);
		else
			over = pthread_cond_timedwait(&s->filled, &s->lock, &until) == ETIMEDOUT;
	}
	s->sleeps = false;
}

void store_put_mark(leveldb_writebatch_t *group, const struct store_journal_mark *m)
{
	char value[STORE_JOURNAL_MARK_SIZE];
	store_journal_mark_put(m, value);
	leveldb_writebatch_put(group, STORE_MARK_KEY, strlen(STORE_MARK_KEY), value, sizeof value);
}

/* Between the two the thread has no lock, and may wait for the disk. */
static void leave(struct store *s)
{
	s->disk_since_ns = clock_mono_ns();
	pthread_mutex_unlock(&s->lock);
}

static void come_back(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->disk_since_ns = 0;
}

/* Takes what is pending, for the thread. With the lock held, which it gives back while it writes.
 */
static void write_pending(struct store *s)
{
	struct store_journal_mark mark;
	s->awaits_groups = true;
	while (s->n_open)
		pthread_cond_wait(&s->filled, &s->lock);
	s->awaits_groups = s->hurry = false;
	/* What is stuck is late: a second has passed, or nearly. */
	bool sync = is_late(s) || s->stuck;
	uint64_t since_ns = s->any_pending ? s->pending_since_ns : clock_mono_ns();
	leveldb_writebatch_t *all = s->pending, *group = leveldb_writebatch_create();
	struct store_waiter *waiters = s->waiters;
	store_journal_take(&s->journal, &mark);
	if (s->any_pending && mark.run)
		store_put_mark(all, &mark);
	s->pending = s->written;
	s->written = all;
	s->any_pending = false;
	ready_sweeps(s);
	s->waiters = NULL;
	s->owed = false;
	s->waiters_end = &s->waiters;
	leave(s);
	store_group_latest(group, all);
	leveldb_writebatch_clear(all);
	int r = commit(s, group, sync, since_ns);
	store_journal_prepare(&s->journal, mark.at);
	come_back(s);
	if (r == 0) {
		/* Who came meanwhile for what was not in the journal. */
		s->owed |= s->journal.lags && s->waiters;
		store_journal_written(&s->journal);
	}
	pthread_mutex_unlock(&s->lock);
	store_call(waiters, r);
	pthread_mutex_lock(&s->lock);
}

/* ---- sweeping ---- */

static void sweep(struct store *s, struct store_sweep *w)
{
	leveldb_writebatch_t *group = leveldb_writebatch_create();
	w->n = 0;
	*w->last = '\0';
	store_database_find_old(&s->database, w, group);
	if (!w->n) {
		leveldb_writebatch_destroy(group);
	} else if (commit(s, group, false, clock_mono_ns()) < 0) {
		w->n = 0; /* it is stuck, and will be written: but not now */
		*w->last = '\0';
	}
	w->done(w);
}

/* With the lock held, which it gives back meanwhile. */
static void sweep_one(struct store *s)
{
	if (!s->ready)
		ready_sweeps(s);
	struct store_sweep *w = s->ready;
	s->ready = w->next;
	leave(s);
	sweep(s, w);
	come_back(s);
}

void store_drop_sweeps(struct store_sweep *w)
{
	while (w) {
		struct store_sweep *next = w->next;
		w->n = 0;
		*w->last = '\0';
		w->done(w);
		w = next;
	}
}

void *store_thread(void *store)
{
	struct store *s = store;
	if (s->journal.bytes)
		background_batch(); /* as hardly anybody waits for it */
	pthread_mutex_lock(&s->lock);
	for (;;) {
		/* Not only after a sleep: the thread may be woken all the time, by sweeps. */
		bool idle = !s->any_pending && !s->waiters, late = is_late(s);
		if (idle && s->closing)
			break;
		if (late && idle) {
			leave(s);
			sync_now(s);
			come_back(s);
		} else if (store_is_due(s) || late) {
			write_pending(s);
		} else if (!s->stuck && is_to_sweep(s)) {
			sweep_one(s);
		} else {
			wait_for_work(s);
			if (s->stuck)
				write_pending(s);
		}
	}
	ready_sweeps(s);
	struct store_sweep *sweeps = s->ready;
	s->ready = NULL;
	pthread_mutex_unlock(&s->lock);
	store_drop_sweeps(sweeps);
	if (s->stuck)
		commit(s, leveldb_writebatch_create(), false, clock_mono_ns());
	if (s->unsynced_since_ns)
		sync_now(s);
	return NULL;
}
