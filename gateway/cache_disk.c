/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front of L2. The index has each entry's digest, serial, age, size and who stored it, so that
 * a miss is decided, and eviction and flushing are in force, without a read and without the thread.
 * What the thread has in hand meanwhile is checked against the index afterwards: an answer that was
 * read while it was flushed is nobody's any more.
 *
 * An entry is in the index from the moment at which it is queued, and the queue is first in, first
 * out: what is looked for is written before it is read.
 */
#include "gateway/cache_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/cache_disk_parts.h"
#include "gateway/cache_place.h"

enum { FLUSHES_MAX = 256 };
static const size_t max_queued_bytes = (size_t)32 << 20, soon_bytes = (size_t)1 << 20;
static const uint64_t put_delay_ns = 100000000;

/* ---- jobs ---- */

void cache_disk_free_nodes(struct cache_node *chain)
{
	while (chain) {
		struct cache_node *next = chain->next;
		free(chain);
		chain = next;
	}
}

struct cache_disk_job *cache_disk_job_free(struct cache_disk_job *job)
{
	if (!job)
		return NULL;
	cache_prompt_put(job->prompt);
	cache_item_put(job->item);
	cache_disk_free_nodes(job->nodes);
	free(job);
	return NULL;
}

static void read_free(struct cache_disk_read *r)
{
	leveldb_free(r->bytes);
	free(r);
}

/* With the lock held. */
static void queue(struct cache_disk *d, struct cache_disk_job *job)
{
	list_append(&d->jobs, &job->link);
	pthread_cond_signal(&d->filled);
}

/* Nobody waits for what is put: the thread is woken a moment later, once for all that came
 * meanwhile. (Not much sooner: where the loop would be the next to be woken of all, each of its
 * sleeps sets the processor's timer, which costs some microseconds on a virtual one.) With the lock
 * held. */
static void queue_put(struct cache_disk *d, struct cache_disk_job *job)
{
	list_append(&d->jobs, &job->link);
	if (d->queued_bytes >= soon_bytes ||
		!loop_arm_earlier(d->g->loop, &d->put_timer, clock_mono_ns() + put_delay_ns))
		pthread_cond_signal(&d->filled);
}

static void put_is_due(struct loop_timer *t)
{
	struct cache_disk *d = list_entry(t, struct cache_disk, put_timer);
	pthread_cond_signal(&d->filled);
}

static struct cache_disk_job *job_new(enum cache_disk_kind kind)
{
	struct cache_disk_job *job = calloc(1, sizeof *job);
	if (!job)
		return NULL;
	job->kind = kind;
	list_init(&job->link);
	return job;
}

/* ---- the index ---- */

struct cache_node *cache_disk_node(
	const struct cache_disk *d, const struct cache_id *id, uint64_t serial)
{
	struct cache_node *node = cache_shelf_find(&d->index, id, NULL);
	return node && (!serial || node->serial == serial) ? node : NULL;
}

void cache_disk_forget(struct cache_disk *d)
{
	cache_disk_free_nodes(cache_shelf_take(&d->index, NULL, UINT64_MAX));
}

struct cache_node *cache_disk_evict(struct cache_disk *d, struct cache_node *chain)
{
	while (d->index.n > d->limits.max_n || d->index.bytes > d->limits.max_bytes) {
		struct cache_node *node = cache_shelf_oldest(&d->index);
		cache_shelf_remove(&d->index, node);
		node->next = chain;
		chain = node;
		d->counts.evicted++;
	}
	return chain;
}

bool cache_disk_has(
	struct cache_disk *d, const struct cache_id *id, uint64_t serial, uint64_t *stored_s)
{
	pthread_mutex_lock(&d->lock);
	const struct cache_node *node = cache_disk_node(d, id, serial);
	if (node && stored_s)
		*stored_s = node->stored_s;
	pthread_mutex_unlock(&d->lock);
	return node;
}

/* ---- reading ---- */

/* On the loop. */
static void deliver(struct loop_work *work)
{
	struct cache_disk_read *r = list_entry(work, struct cache_disk_read, work);
	struct cache_record record;
	if (r->done) {
		bool good = r->bytes && cache_record_read(&record, CACHE_RECORD_ANSWER, &r->id,
						r->bytes, r->len);
		good = good && cache_disk_has(r->disk, &r->id, record.serial, NULL);
		r->done(r->arg, good ? &record : NULL);
	}
	read_free(r);
}

void cache_disk_answer(struct cache_disk_read *r)
{
	if (!loop_post(r->disk->g->loop, &r->work))
		read_free(r); /* the loop has ended: so have those who asked */
}

/* With the lock held. */
static bool is_worth_reading(struct cache_disk *d, const struct cache_id *id, uint64_t serial)
{
	if (d->state != CACHE_DISK_READY)
		return d->state == CACHE_DISK_OPENING;
	struct cache_node *node = cache_disk_node(d, id, serial);
	if (!node || node->stored_s < cache_shelf_not_before_s(d->limits.ttl_s))
		return false;
	cache_shelf_bump(&d->index, node);
	return true;
}

int cache_disk_find(struct cache_disk *d, const struct cache_id *id, uint64_t serial,
	cache_disk_done_fn *done, void *arg, struct cache_disk_read **out)
{
	pthread_mutex_lock(&d->lock);
	bool worth = is_worth_reading(d, id, serial);
	pthread_mutex_unlock(&d->lock);
	struct cache_disk_read *r = worth ? calloc(1, sizeof *r) : NULL;
	if (!r)
		return 0;
	r->job.kind = CACHE_DISK_READ;
	list_init(&r->job.link);
	list_init(&r->work.link);
	r->work.run = deliver;
	r->disk = d;
	r->id = *id;
	r->done = done;
	r->arg = arg;
	*out = r;
	pthread_mutex_lock(&d->lock);
	queue(d, &r->job);
	pthread_mutex_unlock(&d->lock);
	return 1;
}

struct cache_disk_read *cache_disk_cancel(struct cache_disk_read *r)
{
	if (r)
		r->done = NULL;
	return NULL;
}

/* ---- writing ---- */

static struct cache_node *node_of(const struct cache_item *item, const struct cache_prompt *prompt)
{
	struct cache_node *node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	node->id = item->id;
	node->serial = item->answer.serial;
	node->stored_s = item->answer.stored_s;
	node->bytes = cache_item_disk_bytes(item, prompt);
	return node;
}

bool cache_disk_put(struct cache_disk *d, struct cache_item *item, struct cache_prompt *prompt)
{
	struct cache_disk_job *job = job_new(CACHE_DISK_PUT);
	struct cache_node *node = job ? node_of(item, prompt) : NULL, *old;
	bool taken = false;
	pthread_mutex_lock(&d->lock);
	if (node && d->state != CACHE_DISK_BROKEN && !d->closing && d->limits.max_n &&
		node->bytes <= d->limits.max_bytes && node->bytes < CACHE_RECORD_MAX &&
		d->queued_bytes + node->bytes <= max_queued_bytes)
		taken = cache_shelf_add(&d->index, node, item->user) == 0;
	if (taken) {
		while ((old = cache_shelf_find(&d->index, &item->id, node))) {
			cache_shelf_remove(&d->index, old);
			free(old);
		}
		job->item = cache_item_ref(item);
		job->prompt = cache_prompt_ref(prompt);
		job->nodes = cache_disk_evict(d, NULL);
		d->queued_bytes += cache_item_disk_bytes(item, prompt);
		queue_put(d, job);
	} else if (d->limits.max_n && d->limits.max_bytes) {
		d->counts.dropped++;
	}
	pthread_mutex_unlock(&d->lock);
	if (!taken) {
		free(node);
		cache_disk_job_free(job);
	}
	return taken;
}

void cache_disk_note_flush(struct cache_disk *d, const char *user, uint64_t below)
{
	size_t n = 0;
	for (const struct cache_disk_flush *f = d->flushes; f; f = f->next, n++)
		if (f->below == below)
			return;
	/* Too many that wait: everybody's, then. */
	bool merge = n >= FLUSHES_MAX;
	struct cache_disk_flush *f = merge ? d->flushes : calloc(1, sizeof *f);
	if (merge) {
		f->below = below > f->below ? below : f->below;
		*f->user = '\0';
	}
	if (merge || !f)
		return;
	f->below = below;
	snprintf(f->user, sizeof f->user, "%s", user);
	f->next = d->flushes;
	d->flushes = f;
}

/* With the lock held. All that is queued is going to be flushed: only reads are still to be
 * answered. So of any number of flushes of all, one waits at most. */
static void drop_queued(struct cache_disk *d)
{
	list_for_each (link, &d->jobs) {
		struct cache_disk_job *job = list_entry(link, struct cache_disk_job, link);
		if (job->kind == CACHE_DISK_READ)
			continue;
		list_remove(link);
		if (job->item)
			d->queued_bytes -= cache_item_disk_bytes(job->item, job->prompt);
		cache_disk_job_free(job);
	}
}

void cache_disk_flush(struct cache_disk *d, const char *user, uint64_t below)
{
	struct cache_disk_job *job = job_new(CACHE_DISK_FLUSH);
	pthread_mutex_lock(&d->lock);
	cache_disk_note_flush(d, user ? user : "", below);
	struct cache_node *nodes = cache_shelf_take(&d->index, user, below);
	if (job) {
		if (!user)
			drop_queued(d);
		job->nodes = nodes;
		job->below = below;
		job->all = !user;
		queue(d, job);
	} else {
		cache_disk_free_nodes(nodes); /* the next opening deletes them */
	}
	pthread_mutex_unlock(&d->lock);
}

void cache_disk_mark_flush(struct cache_disk *d, const char *user, uint64_t below)
{
	cache_place_flush(d->dir, user ? user : "", below); /* if not, d->flushes has it */
	bool waits = false;
	pthread_mutex_lock(&d->lock);
	for (const struct cache_disk_flush *f = d->flushes; f; f = f->next)
		waits = waits || f->below == below;
	pthread_mutex_unlock(&d->lock);
	if (!waits)
		cache_place_flushed(d->dir, below); /* it was quicker, or is one of many */
}

void cache_disk_limit(struct cache_disk *d, const struct cache_disk_limits *limits)
{
	struct cache_disk_job *job = job_new(CACHE_DISK_REMOVE);
	pthread_mutex_lock(&d->lock);
	d->limits = *limits;
	if (job) {
		job->nodes = cache_disk_evict(d, NULL);
		queue(d, job);
	}
	pthread_mutex_unlock(&d->lock);
}

void cache_disk_tell_near(struct cache_disk *d)
{
	pthread_mutex_lock(&d->lock);
	d->near_wanted = true;
	pthread_cond_signal(&d->filled);
	pthread_mutex_unlock(&d->lock);
}

void cache_disk_count(struct cache_disk *d, struct cache_disk_counts *out)
{
	pthread_mutex_lock(&d->lock);
	*out = d->counts;
	out->n = d->index.n;
	out->bytes = d->index.bytes;
	out->ready = d->state == CACHE_DISK_READY;
	pthread_mutex_unlock(&d->lock);
}

void cache_disk_settle(struct cache_disk *d)
{
	pthread_mutex_lock(&d->lock);
	pthread_cond_signal(&d->filled);
	while (d->state == CACHE_DISK_OPENING || d->working || !list_empty(&d->jobs) ||
		(d->state == CACHE_DISK_READY && (d->near_wanted || d->counts.telling)))
		pthread_cond_wait(&d->settled, &d->lock);
	pthread_mutex_unlock(&d->lock);
}

/* ---- the object ---- */

static int start(struct cache_disk *d, const char *dir, struct err *err)
{
	d->dir = strdup(dir);
	if (asprintf(&d->database_dir, "%s/db", dir) < 0)
		d->database_dir = NULL;
	if (!d->dir || !d->database_dir || cache_shelf_init(&d->index) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = -pthread_create(&d->thread, NULL, cache_disk_main, d);
	if (r < 0)
		return err_set(err, r, "cannot start a thread: %s", strerror(-r));
	d->started = true;
	pthread_setname_np(d->thread, "cache");
	return 0;
}

int cache_disk_open(struct cache_disk **out, struct gateway *g, const char *dir,
	const struct cache_disk_limits *limits, cache_disk_near_fn *near, void *arg,
	struct err *err)
{
	struct cache_disk *d = calloc(1, sizeof *d);
	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	d->g = g;
	d->near = near;
	d->near_arg = arg;
	d->limits = *limits;
	list_init(&d->jobs);
	list_init(&d->put_timer.link);
	d->put_timer.run = put_is_due;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->filled, &attr);
	pthread_cond_init(&d->settled, NULL);
	pthread_condattr_destroy(&attr);
	int r = start(d, dir, err);
	if (r < 0)
		cache_disk_free(d);
	else
		*out = d;
	return r;
}

struct cache_disk *cache_disk_free(struct cache_disk *d)
{
	if (!d)
		return NULL;
	pthread_mutex_lock(&d->lock);
	d->closing = true;
	pthread_cond_signal(&d->filled);
	pthread_mutex_unlock(&d->lock);
	if (d->started)
		pthread_join(d->thread, NULL);
	loop_disarm(d->g->loop, &d->put_timer);
	while (d->flushes) {
		struct cache_disk_flush *f = d->flushes;
		d->flushes = f->next;
		free(f);
	}
	if (d->index.buckets) {
		cache_disk_forget(d);
		cache_shelf_end(&d->index);
	}
	pthread_cond_destroy(&d->filled);
	pthread_cond_destroy(&d->settled);
	pthread_mutex_destroy(&d->lock);
	free(d->dir);
	free(d->database_dir);
	free(d);
	return NULL;
}
