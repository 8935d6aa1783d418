/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write-behind with group commit. Callers add to one pending batch and to the journal. What the
 * journal has survives a kill -9, so nobody waits for it: the thread writes it to the database, and
 * has the disk keep it, a second after the oldest of it was queued, or when the journal fills. The
 * database gets the last change of each key only.
 *
 * Where there is no journal, where it is full, and while the database cannot be written, callers
 * wait for the thread: it swaps the pending batch for an empty one and writes it whole, so whatever
 * was queued while the disk was busy goes out together. That group is written without waiting for
 * the disk and its waiters are told; an fsync follows within a second, for the power cut, and at
 * the end. So an answer never ends before it is stored, and hardly ever waits for an fsync (4 ms
 * here, where a write takes 30 us).
 *
 * A group that could not be written is kept and tried once more each second, before those behind
 * it. Until that works the store is degraded: the waiters were told so, and callers refuse new
 * work.
 *
 * The database handle belongs to the thread; before the thread's first work it is the opener's.
 *
 * Lock: store->lock is a leaf; it is never held across I/O, but for a page of the journal that the
 * kernel has to be asked for once more: the thread asks for them in advance.
 */
#include "gateway/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/background.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/store_database.h"
#include "gateway/store_group.h"
#include "gateway/store_journal.h"

static const uint64_t sync_interval_ns = 1000000000; /* at most so much is lost in a power cut */
static const uint64_t retry_interval_ns = 1000000000;
static const char mark_key[] = "journal";

struct store {
	pthread_mutex_t lock;
	pthread_cond_t filled;                   /* on CLOCK_MONOTONIC */
	leveldb_writebatch_t *pending, *written; /* written: the one before, for its memory */
	bool any_pending, closing;
	unsigned n_open;            /* groups that are being queued */
	bool hurry;                 /* something pending is not to be written later only */
	uint64_t pending_since_ns;  /* of the oldest that is; with any_pending */
	bool awaits_groups, sleeps; /* the thread waits for n_open == 0; for a signal only */
	struct store_waiter *waiters, **waiters_end;
	struct store_sweep *sweeps;
	int state; /* 0 or -errno */
	char sentence[sizeof(struct err)];

	struct store_journal journal;

	struct state_dir dir;
	struct store_database database;
	leveldb_writebatch_t *stuck; /* the group that could not be written */
	uint64_t unsynced_since_ns;  /* 0: all is on the disk */
	bool started;
	pthread_t thread;
};

/* ---- opening ---- */

static void *store_main(void *arg);

static int note_mark(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	store_journal_mark_get(arg, value, value_len);
	return 0;
}

static int note_change(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	if (value)
		leveldb_writebatch_put(arg, key, key_len, value, value_len);
	else
		leveldb_writebatch_delete(arg, key, key_len);
	return 1;
}

static void put_mark(leveldb_writebatch_t *group, const struct store_journal_mark *m)
{
	char value[STORE_JOURNAL_MARK_SIZE];
	store_journal_mark_put(m, value);
	leveldb_writebatch_put(group, mark_key, sizeof mark_key - 1, value, sizeof value);
}

/* Into the database, what only the journal of a daemon that was killed has. Then that journal is
 * out of date. */
static int recover(struct store *s, struct err *err)
{
	struct store_journal_mark mark = {0};
	int r = store_scan(s, mark_key, note_mark, &mark);
	if (r < 0 || !mark.run)
		return r;
	leveldb_writebatch_t *group = leveldb_writebatch_create();
	r = store_journal_replay(s->dir.path, &mark, note_change, group, err);
	leveldb_writebatch_delete(group, mark_key, sizeof mark_key - 1);
	r = r < 0 ? r : store_database_write(&s->database, group, true, err);
	leveldb_writebatch_destroy(group);
	return r;
}

/* Where there can be no journal, those who wait do so for the database. */
static int start_journal(struct store *s, struct err *err)
{
	struct err why = {0};
	struct store_journal_mark mark;
	if (store_journal_open(&s->journal, s->dir.path, &why) < 0) {
		log_info("answers wait for the store, as there is no journal: %s", why.text);
		return 0;
	}
	store_journal_prepare(&s->journal, 0);
	store_journal_take(&s->journal, &mark);
	leveldb_writebatch_t *group = leveldb_writebatch_create();
	put_mark(group, &mark);
	int r = store_database_write(&s->database, group, false, err);
	leveldb_writebatch_destroy(group);
	return r;
}

static int store_start(struct store *s, const char *state_dir, struct err *err)
{
	int r = state_dir_open(&s->dir, state_dir, err);
	r = r ? r : store_database_open(&s->database, &s->dir, err);
	r = r ? r : recover(s, err);
	r = r ? r : start_journal(s, err);
	if (r < 0)
		return r;
	s->pending = leveldb_writebatch_create();
	s->written = leveldb_writebatch_create();
	r = -pthread_create(&s->thread, NULL, store_main, s);
	if (r < 0)
		return err_set(err, r, "cannot start a thread: %s", strerror(-r));
	s->started = true;
	pthread_setname_np(s->thread, "store");
	return 0;
}

int store_open(struct store **out, const char *state_dir, struct err *err)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->filled, &attr);
	pthread_condattr_destroy(&attr);
	s->waiters_end = &s->waiters;
	int r = store_start(s, state_dir, err);
	if (r < 0)
		store_free(s);
	else
		*out = s;
	return r;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_cond_signal(&s->filled);
	pthread_mutex_unlock(&s->lock);
	if (s->started)
		pthread_join(s->thread, NULL);
	s->started = false;
	store_journal_close(&s->journal);
	store_database_close(&s->database);
	state_dir_close(&s->dir);
}

struct store *store_free(struct store *s)
{
	if (!s)
		return NULL;
	store_close(s);
	if (s->pending)
		leveldb_writebatch_destroy(s->pending);
	if (s->written)
		leveldb_writebatch_destroy(s->written);
	if (s->stuck)
		leveldb_writebatch_destroy(s->stuck);
	pthread_cond_destroy(&s->filled);
	pthread_mutex_destroy(&s->lock);
	free(s);
	return NULL;
}

int store_scan(struct store *s, const char *prefix, store_entry_fn *entry, void *arg)
{
	return store_scan_from(s, prefix, prefix, entry, arg);
}

int store_scan_from(
	struct store *s, const char *prefix, const char *from, store_entry_fn *entry, void *arg)
{
	return store_database_scan(&s->database, prefix, from, entry, arg);
}

/* ---- writing ---- */

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

static void tell(struct store_waiter *w, int status)
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

/* Whether there is something that is not to be written later only. With the lock held. */
static bool is_due(const struct store *s)
{
	return s->hurry || s->waiters || s->closing;
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

/* Until there is something to write, to retry or to sync. With the lock held. */
static void wait_for_work(struct store *s)
{
	uint64_t retry_at_ns = s->stuck ? clock_mono_ns() + retry_interval_ns : 0;
	bool over = false;
	while (!over && !is_due(s) && (!s->sweeps || s->stuck)) {
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
		put_mark(all, &mark);
	s->pending = s->written;
	s->written = all;
	s->any_pending = false;
	s->waiters = NULL;
	s->waiters_end = &s->waiters;
	pthread_mutex_unlock(&s->lock);
	store_group_latest(group, all);
	leveldb_writebatch_clear(all);
	int r = commit(s, group, sync, since_ns);
	store_journal_prepare(&s->journal, mark.at);
	pthread_mutex_lock(&s->lock);
	if (r == 0)
		store_journal_written(&s->journal);
	pthread_mutex_unlock(&s->lock);
	tell(waiters, r);
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
	} else if (commit(s, group, false, clock_mono_ns()) <
		   0) { /* it is stuck, and will be written: but not now */
		w->n = 0;
		*w->last = '\0';
	}
	w->done(w);
}

/* With the lock held, which it gives back meanwhile. What is to be deleted may be pending still. */
static void sweep_one(struct store *s)
{
	if (s->any_pending)
		write_pending(s);
	if (s->stuck || !s->sweeps)
		return;
	struct store_sweep *w = s->sweeps;
	s->sweeps = w->next;
	pthread_mutex_unlock(&s->lock);
	sweep(s, w);
	pthread_mutex_lock(&s->lock);
}

static void drop_sweeps(struct store_sweep *w)
{
	while (w) {
		struct store_sweep *next = w->next;
		w->n = 0;
		*w->last = '\0';
		w->done(w);
		w = next;
	}
}

static void *store_main(void *arg)
{
	struct store *s = arg;
	if (s->journal.bytes)
		background_begin(); /* as nobody waits for it */
	pthread_mutex_lock(&s->lock);
	for (;;) {
		/* Not only after a sleep: the thread may be woken all the time, by sweeps. */
		bool idle = !s->any_pending && !s->waiters, late = is_late(s);
		if (idle && s->closing)
			break;
		if (late && idle) {
			pthread_mutex_unlock(&s->lock);
			sync_now(s);
			pthread_mutex_lock(&s->lock);
		} else if (is_due(s) || late) {
			write_pending(s);
		} else if (!s->stuck && s->sweeps) {
			sweep_one(s);
		} else {
			wait_for_work(s);
			if (s->stuck)
				write_pending(s);
		}
	}
	struct store_sweep *sweeps = s->sweeps;
	s->sweeps = NULL;
	pthread_mutex_unlock(&s->lock);
	drop_sweeps(sweeps);
	if (s->stuck)
		commit(s, leveldb_writebatch_create(), false, clock_mono_ns());
	if (s->unsynced_since_ns)
		sync_now(s);
	return NULL;
}

/* ---- queueing ---- */

/* Whether the thread is to be woken, which costs more than everything else here: for what is due,
 * if no group is open, whose end does that; or for the first thing that is to be written later, as
 * it must not sleep for good beside it. With the lock held. */
static bool is_to_wake(const struct store *s)
{
	return s->n_open ? false : is_due(s) || s->awaits_groups || (s->sleeps && s->any_pending);
}

/* Wakes without the lock: the thread would only wait for it. */
static void unlock_and_wake(struct store *s, bool wake)
{
	pthread_mutex_unlock(&s->lock);
	if (wake)
		pthread_cond_signal(&s->filled);
}

/* Whether all that was queued survives a kill. With the lock held, between groups. */
static bool is_safe(const struct store *s)
{
	return s->state == 0 && store_journal_is_safe(&s->journal);
}

/* Those who wait, if they need not. With the lock held. */
static struct store_waiter *take_waiters(struct store *s)
{
	struct store_waiter *waiters = s->waiters;
	if (s->n_open || !is_safe(s))
		return NULL;
	s->waiters = NULL;
	s->waiters_end = &s->waiters;
	return waiters;
}

/* A change; value NULL: a deletion. What the journal has may be written later. */
static void put(struct store *s, const char *key, const char *value, size_t value_len, bool hurry)
{
	size_t key_len = strlen(key);
	pthread_mutex_lock(&s->lock);
	/* A group that has begun is written whole: with something pending the thread waits for its
	 * end. */
	if (!s->closing || (s->n_open && s->any_pending)) {
		if (value)
			leveldb_writebatch_put(s->pending, key, key_len, value, value_len);
		else
			leveldb_writebatch_delete(s->pending, key, key_len);
		store_journal_put(&s->journal, key, key_len, value, value_len);
		if (!s->any_pending)
			s->pending_since_ns = clock_mono_ns();
		s->any_pending = true;
		if (!s->n_open)
			store_journal_commit(&s->journal);
		s->hurry |= hurry && !is_safe(s);
		s->hurry |= store_journal_fills(&s->journal);
	}
	unlock_and_wake(s, is_to_wake(s));
}

void store_put(struct store *s, const char *key, const char *value, size_t value_len)
{
	put(s, key, value ? value : "", value_len, true);
}

void store_put_later(struct store *s, const char *key, const char *value, size_t value_len)
{
	put(s, key, value ? value : "", value_len, false);
}

void store_delete(struct store *s, const char *key)
{
	put(s, key, NULL, 0, true);
}

void store_begin(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->n_open++;
	pthread_mutex_unlock(&s->lock);
}

/* With the lock held. */
static void leave_group(struct store *s)
{
	if (--s->n_open)
		return;
	store_journal_commit(&s->journal);
	s->hurry |= store_journal_fills(&s->journal);
}

void store_end(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	leave_group(s);
	unlock_and_wake(s, is_to_wake(s));
}

void store_end_and_tell(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	leave_group(s);
	struct store_waiter *waiters = take_waiters(s);
	unlock_and_wake(s, is_to_wake(s));
	tell(waiters, 0);
}

void store_after(struct store *s, struct store_waiter *w)
{
	pthread_mutex_lock(&s->lock);
	w->next = NULL;
	*s->waiters_end = w;
	s->waiters_end = &w->next;
	struct store_waiter *waiters = take_waiters(s);
	unlock_and_wake(s, is_to_wake(s));
	tell(waiters, 0);
}

void store_sweep(struct store *s, struct store_sweep *w)
{
	pthread_mutex_lock(&s->lock);
	bool closing = s->closing;
	w->next = closing ? NULL : s->sweeps;
	if (!closing)
		s->sweeps = w;
	unlock_and_wake(s, !closing);
	if (closing)
		drop_sweeps(w);
}

int store_state(struct store *s, struct err *err)
{
	pthread_mutex_lock(&s->lock);
	int r = s->state;
	if (r < 0)
		err_set(err, r, "%s", s->sentence);
	pthread_mutex_unlock(&s->lock);
	return r;
}
