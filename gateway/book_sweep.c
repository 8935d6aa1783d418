/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Old lines of ledgers and events are deleted: once an hour a round goes through all accounts, one
 * log at a time, and the store's thread deletes a portion of it when it has written what was queued
 * before. When a line is due is known from the one that was found young enough the last time, so
 * that a round in which nothing is due reads nothing.
 *
 * Sums are not touched: they are no sums of lines.
 *
 * Lock: the book's; a job is the store's while it runs and comes back by way of the loop. It holds
 * the account, and with it the book's memory, and looks whether the book is closed before it
 * touches the loop.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/book_parts.h"

static const uint64_t first_ns = 60000000000, interval_ns = 3600000000000;
enum { PORTION = 1000, DAY_S = 86400 };

struct job {
	struct store_sweep w;
	struct loop_work work;
	struct account *a;
	struct ledger *l;
	uint64_t before_s; /* lines of before that are old */
	uint64_t next_s;   /* of the first one that is not; 0: there is none */
};

static void go_on(struct book *b);

static struct job *job_free(struct job *j)
{
	account_put(j->a);
	free(j);
	return NULL;
}

/* On the store's thread, as the next. */
static bool is_old(struct store_sweep *w, const char *value, size_t len)
{
	struct job *j = list_entry(w, struct job, w);
	uint64_t s = ledger_line_s(value, len);
	if (s < j->before_s) /* one that is damaged, too */
		return true;
	j->next_s = s;
	return false;
}

static void swept(struct store_sweep *w)
{
	struct job *j = list_entry(w, struct job, w);
	struct book *b = j->a->b;
	pthread_mutex_lock(&b->lock);
	bool posted = !b->closed && loop_post(b->loop, &j->work);
	pthread_mutex_unlock(&b->lock);
	if (!posted)
		job_free(j);
}

/* On the loop. */
static void take_over(struct loop_work *work)
{
	struct job *j = list_entry(work, struct job, work);
	struct book *b = j->a->b;
	struct ledger *l = j->l;
	pthread_mutex_lock(&b->lock);
	if (j->w.n) {
		ledger_forget(l, j->before_s, ledger_serial(l, j->w.last) + 1, j->next_s);
		l->changed_ns = book_now_ns();
		book_store_account(j->a, true);
		book_log_grew(j->a, l);
	} else {
		l->oldest_s = j->next_s;
	}
	if (!j->w.n || j->w.n < PORTION)
		b->sweep_at++;
	pthread_mutex_unlock(&b->lock);
	go_on(b);
	job_free(j);
}

/* new: for the next log with something to delete; NULL: there is none, or memory is out. */
static struct job *next_job(struct book *b, uint64_t now_s)
{
	for (; b->sweep_at < 2 * b->accounts.n; b->sweep_at++) {
		struct account *a = b->accounts.rows[b->sweep_at / 2].object;
		struct ledger *l = b->sweep_at % 2 ? &a->events : &a->ledger;
		uint64_t days = account_limits(a)->ledger_days, keep_s = days * DAY_S;
		if (!days || keep_s > now_s || l->oldest >= l->next ||
			l->oldest_s >= now_s - keep_s)
			continue;
		struct job *j = calloc(1, sizeof *j);
		if (!j)
			return NULL;
		j->a = account_ref(a);
		j->l = l;
		j->before_s = now_s - keep_s;
		j->work.run = take_over;
		list_init(&j->work.link);
		j->w.most = PORTION;
		j->w.old = is_old;
		j->w.done = swept;
		j->w.prefix_len = l->prefix_len;
		strcpy(j->w.from, ledger_oldest_key(l));
		return j;
	}
	return NULL;
}

static void go_on(struct book *b)
{
	pthread_mutex_lock(&b->lock);
	struct job *j = b->closed ? NULL : next_job(b, book_now_ns() / 1000000000);
	b->sweeps = j;
	if (!j && !b->closed)
		loop_arm(b->loop, &b->sweep_timer, clock_mono_ns() + interval_ns);
	struct store *store = b->store;
	pthread_mutex_unlock(&b->lock);
	if (j)
		store_sweep(store, &j->w);
}

void book_sweep(struct book *b)
{
	pthread_mutex_lock(&b->lock);
	bool begin = !b->sweeps && !b->closed;
	b->sweeps = b->sweeps || begin;
	b->sweep_at = 0;
	pthread_mutex_unlock(&b->lock);
	if (begin)
		go_on(b);
}

static void timer_is_due(struct loop_timer *timer)
{
	book_sweep(list_entry(timer, struct book, sweep_timer));
}

void book_sweep_init(struct book *b)
{
	list_init(&b->sweep_timer.link);
	b->sweep_timer.run = timer_is_due;
	loop_arm(b->loop, &b->sweep_timer, clock_mono_ns() + first_ns);
}

void book_sweep_stop(struct book *b)
{
	loop_disarm(b->loop, &b->sweep_timer);
}
