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
 * The database handle belongs to the thread; before the thread's first work it is the opener's.
 *
 * Lock: store->lock is a leaf; it is never held across I/O, but for a page of the journal that the
 * kernel has to be asked for once more: the thread asks for them in advance, and when it is with
 * the disk for a second, nobody touches them until it is back.
 */
#include "gateway/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/store_parts.h"

static const uint64_t hang_ns = 1000000000;

/* ---- opening ---- */

static int note_change(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len)
{
	if (value)
		leveldb_writebatch_put(arg, key, key_len, value, value_len);
	else
		leveldb_writebatch_delete(arg, key, key_len);
	return 1;
}

/* Into the database, what only the journal of a daemon that was killed has. Then that journal is
 * out of date. Where the mark cannot be read there is no start: that would empty the journal. */
static int recover(struct store *s, struct err *err)
{
	struct store_journal_mark mark;
	char *value;
	size_t len;
	int r = store_database_get(&s->database, STORE_MARK_KEY, &value, &len, err);
	bool any = r == 0 && value && store_journal_mark_get(&mark, value, len);
	leveldb_free(value);
	if (!any)
		return r;
	leveldb_writebatch_t *group = leveldb_writebatch_create();
	r = store_journal_replay(s->dir.path, &mark, note_change, group, err);
	leveldb_writebatch_delete(group, STORE_MARK_KEY, strlen(STORE_MARK_KEY));
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
	store_put_mark(group, &mark);
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
	r = -pthread_create(&s->thread, NULL, store_thread, s);
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
	pthread_cond_init(&s->ended, NULL);
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
	pthread_mutex_lock(&s->lock); /* who still has a group open ends it meanwhile, or later */
	store_journal_close(&s->journal);
	pthread_mutex_unlock(&s->lock);
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
	pthread_cond_destroy(&s->ended);
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

int store_skip(const char *key, size_t key_len)
{
	char name[128];
	size_t n = key_len < sizeof name - 1 ? key_len : sizeof name - 1;
	for (size_t i = 0; i < n; i++)
		name[i] = key[i] > ' ' && key[i] < 0x7F ? key[i] : '?';
	name[n] = '\0';
	log_warn("store: entry %s is damaged and was skipped", name);
	return 0;
}

/* ---- queueing ---- */

/* Whether the thread is to be woken, which costs more than everything else here: for what is due,
 * if no group is open, whose end does that; or for the first thing that is to be written later, as
 * it must not sleep for good beside it. With the lock held. */
static bool is_to_wake(const struct store *s)
{
	return !s->n_open && (store_is_due(s) || s->awaits_groups || (s->sleeps && s->any_pending));
}

/* Wakes without the lock: the thread would only wait for it. */
static void unlock_and_wake(struct store *s, bool wake)
{
	pthread_mutex_unlock(&s->lock);
	if (wake)
		pthread_cond_signal(&s->filled);
}

bool store_is_safe(const struct store *s)
{
	return s->state == 0 && store_journal_is_safe(&s->journal);
}

/* Those who wait, if they need not. With the lock held. */
static struct store_waiter *take_waiters(struct store *s)
{
	struct store_waiter *waiters = s->waiters;
	s->owed = s->n_open && waiters;
	if (s->n_open || !store_is_safe(s))
		return NULL;
	s->waiters = NULL;
	s->waiters_end = &s->waiters;
	return waiters;
}

/* Whether the disk does not answer: then nobody touches the journal's pages, which are its. With
 * the lock held. */
static bool disk_hangs(const struct store *s)
{
	return s->disk_since_ns && clock_mono_ns() - s->disk_since_ns > hang_ns;
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
		if (disk_hangs(s))
			store_journal_refuse(&s->journal);
		store_journal_put(&s->journal, key, key_len, value, value_len);
		if (!s->any_pending)
			s->pending_since_ns = clock_mono_ns();
		s->any_pending = true;
		if (!s->n_open)
			store_journal_commit(&s->journal);
		s->hurry |= hurry && !store_is_safe(s);
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
	s->n_rounds++;
	pthread_cond_broadcast(&s->ended);
	store_journal_commit(&s->journal);
	s->hurry |= store_journal_fills(&s->journal);
}

void store_end(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	leave_group(s);
	unlock_and_wake(s, is_to_wake(s));
}

void store_await_groups(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	uint64_t round = s->n_rounds;
	while (s->n_open && s->n_rounds == round)
		pthread_cond_wait(&s->ended, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

void store_tell(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	struct store_waiter *waiters = take_waiters(s);
	unlock_and_wake(s, is_to_wake(s));
	store_call(waiters, 0);
}

void store_after(struct store *s, struct store_waiter *w)
{
	pthread_mutex_lock(&s->lock);
	w->next = NULL;
	*s->waiters_end = w;
	s->waiters_end = &w->next;
	struct store_waiter *waiters = s->n_open ? NULL : take_waiters(s);
	unlock_and_wake(s, is_to_wake(s));
	store_call(waiters, 0);
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
		store_drop_sweeps(w);
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
