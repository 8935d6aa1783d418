/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of L2: does what is queued, in its order, writes what can be written together in one
 * group, and between jobs tells L3 what there is and looks for what has grown too old.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/background.h"
#include "base/clock.h"
#include "gateway/cache_place.h"
#include "gateway/cache_store.h"
#include "gateway/compaction.h"

enum { GROUP_BYTES = 1 << 20, TOLD_AT_ONCE = 32, SWEPT_AT_ONCE = 4096 /* buckets */ };
static const uint64_t sweep_interval_ns = 60000000000u;

/* ---- the jobs ---- */

static void do_put(
	struct cache_disk *d, struct cache_store_group *g, const struct cache_disk_job *job)
{
	const struct cache_item *i = job->item;
	pthread_mutex_lock(&d->lock);
	bool wanted = cache_disk_node(d, &i->id, i->answer.serial);
	d->queued_bytes -= cache_item_disk_bytes(i, job->prompt);
	pthread_mutex_unlock(&d->lock);
	if (!d->db)
		return;
	if (wanted)
		cache_store_add(g, i, job->prompt);
	cache_store_add_deletes(d, g, job->nodes);
	if (g->bytes >= GROUP_BYTES)
		cache_store_write(d, g);
}

static void do_read(struct cache_disk *d, struct cache_disk_read *r)
{
	char key[CACHE_STORE_KEY_LEN], *message = NULL;
	cache_store_key(key, CACHE_RECORD_ANSWER, &r->id);
	if (d->db)
		r->bytes = leveldb_get(d->db, d->checked, key, sizeof key, &r->len, &message);
	struct cache_record record;
	bool good = !r->bytes ||
		    cache_record_read(&record, CACHE_RECORD_ANSWER, &r->id, r->bytes, r->len);
	if (!good) {
		pthread_mutex_lock(&d->lock);
		struct cache_node *node = cache_disk_node(d, &r->id, 0);
		if (node) {
			cache_shelf_remove(&d->index, node);
			free(node);
		}
		d->counts.damaged++;
		pthread_mutex_unlock(&d->lock);
	}
	cache_disk_answer(r);
	if (message && cache_store_is_damage(message))
		cache_store_set_aside(d, message);
	else if (message)
		cache_store_broke(d, message);
	if (message)
		leveldb_free(message);
}

/* All of it: the files go, and with them every trace. */
static void destroy(struct cache_disk *d)
{
	char *message = NULL;
	if (d->near_it)
		leveldb_iter_destroy(d->near_it);
	d->near_it = NULL;
	if (d->db)
		leveldb_close(d->db);
	d->db = NULL;
	leveldb_destroy_db(d->options, d->database_dir, &message);
	if (!message && cache_place_make(d->dir, NULL) == 0)
		d->db = compaction_open(d->options, d->database_dir, &message);
	if (!d->db)
		cache_store_broke(d, message ? message : "it cannot be made again");
	if (message)
		leveldb_free(message);
	pthread_mutex_lock(&d->lock);
	d->counts.telling = false;
	d->near_wanted = false;
	pthread_mutex_unlock(&d->lock);
}

static void do_flush(struct cache_disk *d, const struct cache_disk_job *job)
{
	struct cache_store_group g = {0};
	if (!d->db)
		return; /* the next opening does it */
	if (job->all) {
		destroy(d);
		d->aside[0] = '\0'; /* somebody looked after it */
		if (d->db)
			cache_store_report(d, NULL);
	} else {
		cache_store_add_deletes(d, &g, job->nodes);
		cache_store_write(d, &g);
	}
	if (d->db)
		cache_store_end_flushes(d, job->below, job->all);
}

static void do_jobs(struct cache_disk *d, struct list *jobs)
{
	struct cache_store_group g = {0};
	list_for_each (link, jobs) {
		struct cache_disk_job *job = list_entry(link, struct cache_disk_job, link);
		list_remove(link);
		if (job->kind == CACHE_DISK_PUT) {
			do_put(d, &g, job);
		} else if (job->kind == CACHE_DISK_REMOVE && d->db) {
			cache_store_add_deletes(d, &g, job->nodes);
		} else {
			cache_store_write(d, &g);
		}
		if (job->kind == CACHE_DISK_FLUSH)
			do_flush(d, job);
		if (job->kind == CACHE_DISK_READ)
			do_read(d, (struct cache_disk_read *)job);
		else
			cache_disk_job_free(job);
	}
	cache_store_write(d, &g);
}

/* ---- what goes on beside them ---- */

/* A few of the prompts that are found by meaning. */
static void tell_some(struct cache_disk *d)
{
	struct cache_record record;
	struct cache_id id;
	bool good, more = true;
	for (int i = 0; i < TOLD_AT_ONCE && more; i++) {
		more = cache_store_next(d->near_it, CACHE_RECORD_NEAR, &id, &record, &good);
		if (more && good && cache_disk_has(d, &id, record.serial, NULL))
			d->near(d->near_arg, &id, &record);
		if (more)
			leveldb_iter_next(d->near_it);
	}
	if (more)
		return;
	char *message = NULL;
	leveldb_iter_get_error(d->near_it, &message);
	leveldb_iter_destroy(d->near_it);
	d->near_it = NULL;
	pthread_mutex_lock(&d->lock);
	d->counts.telling = false;
	pthread_mutex_unlock(&d->lock);
	if (message) {
		cache_store_set_aside(d, message);
		leveldb_free(message);
	}
}

/* With the lock held. */
static struct cache_node *take_expired(struct cache_disk *d)
{
	struct cache_shelf *s = &d->index;
	uint64_t oldest_s = cache_shelf_not_before_s(d->limits.ttl_s);
	struct cache_node *gone = NULL;
	for (size_t n = 0; n < SWEPT_AT_ONCE && d->sweep_bucket < s->n_buckets; n++)
		for (struct cache_node *node = s->buckets[d->sweep_bucket++], *next; node;
			node = next) {
			next = node->next;
			if (node->stored_s >= oldest_s)
				continue;
			cache_shelf_remove(s, node);
			node->next = gone;
			gone = node;
			d->counts.expired++;
		}
	return gone;
}

static void sweep(struct cache_disk *d)
{
	pthread_mutex_lock(&d->lock);
	struct cache_node *gone = take_expired(d);
	bool over = d->sweep_bucket >= d->index.n_buckets;
	pthread_mutex_unlock(&d->lock);
	cache_store_delete(d, gone);
	if (!over)
		return;
	d->sweep_bucket = 0;
	d->sweep_ns = clock_mono_ns() + sweep_interval_ns;
	if (*d->aside && access(d->aside, F_OK) < 0) {
		d->aside[0] = '\0';
		cache_store_report(d, NULL);
	}
}

/* Takes what is queued; waits if there is nothing to do. True: the end. */
static bool take_jobs(struct cache_disk *d, struct list *jobs)
{
	pthread_mutex_lock(&d->lock);
	d->working = false;
	if (list_empty(&d->jobs))
		pthread_cond_broadcast(&d->settled); /* who waits looks at the rest */
	if (list_empty(&d->jobs) && !d->closing && !d->near_it && !(d->near_wanted && d->db)) {
		uint64_t at_ns = d->db ? d->sweep_ns : d->retry_ns;
		struct timespec at = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)};
		pthread_cond_timedwait(&d->filled, &d->lock, &at);
	}
	list_splice(jobs, &d->jobs);
	d->working = true;
	bool end = d->closing && list_empty(jobs);
	bool tell = d->near_wanted && d->db;
	if (tell) {
		d->near_wanted = false;
		d->counts.telling = true;
	}
	pthread_mutex_unlock(&d->lock);
	if (tell) {
		if (d->near_it)
			leveldb_iter_destroy(d->near_it);
		d->near_it = cache_store_iterate(d, CACHE_RECORD_NEAR);
	}
	return end;
}

static void make_options(struct cache_disk *d)
{
	d->options = leveldb_options_create();
	leveldb_options_set_create_if_missing(d->options, 1);
	leveldb_options_set_write_buffer_size(d->options, (size_t)4 << 20);
	leveldb_options_set_max_open_files(d->options, 64);
	d->checked = leveldb_readoptions_create();
	leveldb_readoptions_set_verify_checksums(d->checked, 1);
	leveldb_readoptions_set_fill_cache(d->checked, 0);
	d->plain = leveldb_writeoptions_create();
}

void *cache_disk_main(void *disk)
{
	struct cache_disk *d = disk;
	struct list jobs;
	list_init(&jobs);
	background_begin();
	make_options(d);
	d->sweep_ns = clock_mono_ns() + sweep_interval_ns;
	cache_store_open(d, true);
	while (!take_jobs(d, &jobs)) {
		do_jobs(d, &jobs);
		if (d->near_it)
			tell_some(d);
		if (d->db && clock_mono_ns() >= d->sweep_ns)
			sweep(d);
		if (!d->db && clock_mono_ns() >= d->retry_ns)
			cache_store_open(d, true);
	}
	cache_store_close(d);
	leveldb_options_destroy(d->options);
	leveldb_readoptions_destroy(d->checked);
	leveldb_writeoptions_destroy(d->plain);
	return NULL;
}
