/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Write-behind with group commit. Callers add to one pending batch; the thread swaps it for an
 * empty one and writes it whole, so whatever was queued while the disk was busy goes out together.
 * A group is written without waiting for the disk (that is enough for kill -9) and its waiters are
 * told; an fsync follows within a second, for the power cut, and at the end. So an answer never
 * ends before it is stored, and hardly ever waits for an fsync (4 ms here, where a write takes 30
 * us).
 *
 * A group that could not be written is kept and tried once more each second, before those behind
 * it. Until that works the store is degraded: the waiters were told so, and callers refuse new
 * work.
 *
 * The database handle belongs to the thread; before the thread's first work it is the opener's.
 *
 * Lock: store->lock is a leaf; it is never held across I/O.
 */
#include "gateway/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/store_database.h"

static const uint64_t sync_interval_ns = 1000000000; /* at most so much is lost in a power cut */
static const uint64_t retry_interval_ns = 1000000000;

struct store {
	pthread_mutex_t lock;
	pthread_cond_t filled; /* on CLOCK_MONOTONIC */
	leveldb_writebatch_t *pending;
	bool any_pending, closing;
	unsigned n_open;            /* groups that are being queued */
	bool hurry;                 /* something pending is not to be written later only */
	uint64_t pending_since_ns;  /* of the oldest that is; with any_pending */
	bool awaits_groups, sleeps; /* the thread waits for n_open == 0; for a signal only */
	struct store_waiter *waiters, **waiters_end;
	struct store_sweep *sweeps;
	int state; /* 0 or -errno */
	char sentence[sizeof(struct err)];

	struct state_dir dir;
	struct store_database database;
	leveldb_writebatch_t *stuck; /* the group that could not be written */
	uint64_t unsynced_since_ns;  /* 0: all is on the disk */
	bool started;
	pthread_t thread;
};

/* ---- opening ---- */

static void *store_main(void *arg);

static int store_start(struct store *s, const char *state_dir, struct err *err)
{
	int r = state_dir_open(&s->dir, state_dir, err);
	r = r ? r : store_database_open(&s->database, &s->dir, err);
	if (r < 0)
		return r;
	s->pending = leveldb_writebatch_create();
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

/* Writes the group, together with one that was stuck before. Steals group. */
static int commit(struct store *s, leveldb_writebatch_t *group)
{
	struct err err = {0};
	if (s->stuck) {
		leveldb_writebatch_append(s->stuck, group);
		leveldb_writebatch_destroy(group);
		group = s->stuck;
		s->stuck = NULL;
	}
	int r = store_database_write(&s->database, group, false, &err);
	if (r < 0) {
		s->stuck = group;
	} else {
		leveldb_writebatch_destroy(group);
		if (!s->unsynced_since_ns)
			s->unsynced_since_ns = clock_mono_ns();
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

/* What may be written later has waited for long enough. A matter of its own: the thread may be
 * woken all the time, by sweeps, and never sleep until the moment. With the lock held. */
static void hurry_if_late(struct store *s)
{
	if (s->any_pending && clock_mono_ns() - s->pending_since_ns >= sync_interval_ns)
		s->hurry = true;
}

/* Until there is something to write, to retry or to sync. With the lock held. */
static void wait_for_work(struct store *s)
{
	uint64_t now = clock_mono_ns(), until_ns = 0;
	if (s->stuck)
		until_ns = now + retry_interval_ns;
	else if (s->unsynced_since_ns)
		until_ns = s->unsynced_since_ns + sync_interval_ns;
	else if (s->any_pending)
		until_ns = s->pending_since_ns + sync_interval_ns;
	struct timespec until = timespec_of(until_ns);
	s->sleeps = !until_ns;
	while (!is_due(s) && (!s->sweeps || s->stuck)) {
		if (!until_ns) {
			pthread_cond_wait(&s->filled, &s->lock);
		} else if (pthread_cond_timedwait(&s->filled, &s->lock, &until) == ETIMEDOUT) {
			s->hurry = s->any_pending;
			break;
		}
	}
	s->sleeps = false;
}

/* Takes what is pending, for the thread. With the lock held, which it gives back while it writes.
 */
static void write_pending(struct store *s)
{
	s->awaits_groups = true;
	while (s->n_open)
		pthread_cond_wait(&s->filled, &s->lock);
	s->awaits_groups = s->hurry = false;
	leveldb_writebatch_t *group = s->pending;
	struct store_waiter *waiters = s->waiters;
	s->pending = leveldb_writebatch_create();
	s->any_pending = false;
	s->waiters = NULL;
	s->waiters_end = &s->waiters;
	pthread_mutex_unlock(&s->lock);
	tell(waiters, commit(s, group));
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
	} else if (commit(s, group) < 0) { /* it is stuck, and will be written: but not now */
		w->n = 0;
		*w->last = '\0';
	}
	w->done(w);
}

/* With the lock held, which it gives back meanwhile. */
static void sweep_one(struct store *s)
{
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
	pthread_mutex_lock(&s->lock);
	for (;;) {
		bool idle = !s->any_pending && !s->waiters;
		hurry_if_late(s);
		if (idle && s->closing)
			break;
		uint64_t since = s->unsynced_since_ns;
		if (since && clock_mono_ns() - since >= sync_interval_ns) {
			pthread_mutex_unlock(&s->lock);
			sync_now(s);
			pthread_mutex_lock(&s->lock);
		} else if (!is_due(s) && !s->stuck && s->sweeps) {
			sweep_one(s);
		} else {
			if (!is_due(s))
				wait_for_work(s);
			if (is_due(s) || s->stuck)
				write_pending(s);
		}
	}
	struct store_sweep *sweeps = s->sweeps;
	s->sweeps = NULL;
	pthread_mutex_unlock(&s->lock);
	drop_sweeps(sweeps);
	if (s->stuck)
		commit(s, leveldb_writebatch_create());
	if (s->unsynced_since_ns)
		sync_now(s);
	return NULL;
}

/* Something was queued. True: the thread is to be woken, unless a group is open, whose end does
 * that. A wake costs more than everything else here, so there is one a group, and none for what may
 * be written later (but the thread must not sleep for good beside it). With the lock held. */
static bool queued(struct store *s, bool hurry)
{
	if (!s->any_pending)
		s->pending_since_ns = clock_mono_ns();
	s->any_pending = true;
	s->hurry |= hurry || s->sleeps;
	return s->hurry && !s->n_open;
}

/* Wakes without the lock: the thread would only wait for it. */
static void unlock_and_wake(struct store *s, bool is_due)
{
	pthread_mutex_unlock(&s->lock);
	if (is_due)
		pthread_cond_signal(&s->filled);
}

static void put(struct store *s, const char *key, const char *value, size_t value_len, bool hurry)
{
	bool is_due = false;
	pthread_mutex_lock(&s->lock);
	if (!s->closing) {
		leveldb_writebatch_put(s->pending, key, strlen(key), value, value_len);
		is_due = queued(s, hurry);
	}
	unlock_and_wake(s, is_due);
}

void store_put(struct store *s, const char *key, const char *value, size_t value_len)
{
	put(s, key, value, value_len, true);
}

void store_put_later(struct store *s, const char *key, const char *value, size_t value_len)
{
	put(s, key, value, value_len, false);
}

void store_delete(struct store *s, const char *key)
{
	bool is_due = false;
	pthread_mutex_lock(&s->lock);
	if (!s->closing) {
		leveldb_writebatch_delete(s->pending, key, strlen(key));
		is_due = queued(s, true);
	}
	unlock_and_wake(s, is_due);
}

void store_begin(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	s->n_open++;
	pthread_mutex_unlock(&s->lock);
}

void store_end(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	unlock_and_wake(s, --s->n_open == 0 && (s->hurry || s->awaits_groups));
}

void store_after(struct store *s, struct store_waiter *w)
{
	pthread_mutex_lock(&s->lock);
	w->next = NULL;
	*s->waiters_end = w;
	s->waiters_end = &w->next;
	s->hurry = true;
	unlock_and_wake(s, !s->n_open);
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
