/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The book as an object: its accounts by name, who of them is in which group, and who is told that
 * a log grew. What is claimed on them is book_claims.c's.
 *
 * Who is in which group is worked out once for each user after each change of any members, not for
 * each claim.
 *
 * Lock: book->lock, around the store's, the watch table's and the loop's, which are leaves.
 */
#include "gateway/book.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "gateway/book_parts.h"

static uint64_t (*real_ns)(void) = clock_real_ns;

void book_set_clock(uint64_t (*clock)(void))
{
	real_ns = clock ? clock : clock_real_ns;
}

uint64_t book_now_ns(void)
{
	return real_ns();
}

/* ---- the object ---- */

static void tell_watchers(struct loop_work *work);

int book_open(struct book **out, struct store *store, struct watch_table *watch, struct loop *loop,
	struct err *err)
{
	struct book *b = calloc(1, sizeof *b);
	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	atomic_init(&b->refs, 1);
	pthread_mutex_init(&b->lock, NULL);
	b->store = store;
	b->watch = watch;
	b->loop = loop;
	b->groups_age = 1;
	list_init(&b->dirty);
	list_init(&b->big_logs);
	list_init(&b->tell.link);
	b->tell.run = tell_watchers;
	book_sweep_init(b);
	pthread_mutex_lock(&b->lock);
	int r = book_restore(b, err);
	pthread_mutex_unlock(&b->lock);
	if (r < 0)
		book_free(b);
	else
		*out = b;
	return r;
}

struct book *book_ref(struct book *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void book_put(struct book *b)
{
	if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

struct book *book_free(struct book *b)
{
	if (!b)
		return NULL;
	struct list dirty;
	list_init(&dirty);
	book_sweep_stop(b);
	pthread_mutex_lock(&b->lock);
	b->stopping = b->closed = true;
	b->changed = NULL;
	b->fallback = NULL;
	book_forget_crashes(b);
	struct table accounts = b->accounts;
	b->accounts = (struct table){0};
	table_free(&b->groups);
	list_splice(&dirty, &b->dirty);
	pthread_mutex_unlock(&b->lock);
	list_for_each (link, &dirty) {
		list_remove(link);
		account_put(list_entry(link, struct account, dirty));
	}
	for (size_t i = 0; i < accounts.n; i++)
		account_put(accounts.rows[i].object);
	table_free(&accounts);
	book_put(b);
	return NULL;
}

void book_stop(struct book *b)
{
	pthread_mutex_lock(&b->lock);
	b->stopping = true;
	pthread_mutex_unlock(&b->lock);
}

void book_on_change(struct book *b, book_changed_fn *changed, void *arg)
{
	b->changed = changed;
	b->changed_arg = arg;
}

void book_tell_change(
	struct book *b, enum gateway_change_kind kind, const char *name, const char *file)
{
	if (b->changed)
		b->changed(b->changed_arg, kind, name, file);
}

uint64_t book_last_request(struct book *b)
{
	pthread_mutex_lock(&b->lock);
	uint64_t id = b->last_request;
	pthread_mutex_unlock(&b->lock);
	return id;
}

/* ---- accounts ---- */

struct account *book_find(struct book *b, const char *name)
{
	return table_find(&b->accounts, name);
}

struct account *book_have(struct book *b, const char *name)
{
	struct account *a = book_find(b, name);
	if (a)
		return a;
	a = account_make(b, name);
	if (!a || table_add(&b->accounts, a->name, a) < 0)
		return account_put(a);
	return a;
}

void book_forget_if_unused(struct book *b, struct account *a)
{
	bool used = a->ledger.next || a->events.next || a->last_request || a->in_flight;
	for (int r = 0; r < N_RATES; r++)
		used |= a->rates[r].used || a->rates[r].reserved;
	if (used || account_is_shown(a))
		return;
	table_remove(&b->accounts, a->name);
	account_put(a);
}

int book_add_group(struct book *b, struct account *a)
{
	int r = table_add(&b->groups, a->name, a);
	return r == -EEXIST ? 0 : r;
}

int book_find_groups(struct book *b, struct account *a)
{
	if (a->groups_age == b->groups_age)
		return 0;
	size_t n = 0;
	struct account **groups = calloc(b->groups.n + 1, sizeof(*groups));
	if (!groups)
		return -ENOMEM;
	for (size_t i = 0; i < b->groups.n; i++) {
		struct account *group = b->groups.rows[i].object;
		if (group != a && limits_has_member(&group->limits, a->name))
			groups[n++] = group;
	}
	free(a->groups);
	a->groups = groups;
	a->n_groups = n;
	a->groups_age = b->groups_age;
	return 0;
}

/* ---- watchers ---- */

static void count_log(struct book *b, struct ledger *l)
{
	bool big = l->text.cap > LEDGER_IDLE_BYTES + 1;
	list_remove(&l->link);
	b->log_bytes -= l->counted;
	l->counted = big ? l->text.cap : 0;
	b->log_bytes += l->counted;
	if (big)
		list_append(&b->big_logs, &l->link);
}

void book_log_counts(struct book *b, struct ledger *l)
{
	count_log(b, l);
	while (b->log_bytes > BOOK_LOGS_BYTES) {
		struct ledger *oldest = list_entry(b->big_logs.next, struct ledger, link);
		ledger_shrink(oldest);
		count_log(b, oldest);
	}
}

void book_log_grew(struct account *a, struct ledger *l)
{
	struct book *b = a->b;
	book_log_counts(b, l);
	if (!list_empty(&a->dirty) || !watch_any(b->watch, &l->watch))
		return;
	list_append(&b->dirty, &account_ref(a)->dirty);
	book_ref(b);
	if (!loop_post(b->loop, &b->tell))
		book_put(b);
}

static void fire(struct book *b, struct ledger *l)
{
	pthread_mutex_lock(&b->lock);
	uint64_t level = l->trimmed ? WATCH_ALL : l->text.len;
	l->trimmed = false;
	pthread_mutex_unlock(&b->lock);
	watch_fire(b->watch, &l->watch, level);
}

/* On the loop, with a reference of its own. */
static void tell_watchers(struct loop_work *work)
{
	struct book *b = list_entry(work, struct book, tell);
	for (;;) {
		struct account *a = NULL;
		pthread_mutex_lock(&b->lock);
		if (!list_empty(&b->dirty)) {
			a = list_entry(b->dirty.next, struct account, dirty);
			list_remove(&a->dirty);
		}
		pthread_mutex_unlock(&b->lock);
		if (!a)
			break;
		fire(b, &a->ledger);
		fire(b, &a->events);
		account_put(a);
	}
	book_put(b);
}
