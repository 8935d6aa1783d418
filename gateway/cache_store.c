/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LevelDB, as L2 uses it. An entry is written in one atomic group: "n" and its digest, a note for
 * the index; "a", the answer; "v", the prompt with its vector. Groups are not synced: a kill loses
 * nothing that was written, and what a power cut loses is computed again.
 *
 * When a write fails the database is closed, the index emptied, and it is opened again from time to
 * time; meanwhile L2 has nothing and takes nothing. When what is read is damaged, the whole is set
 * aside and a new one begun: a store that is wrong in one place is not to be believed in others.
 */
#include "gateway/cache_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/cache_place.h"
#include "gateway/compaction.h"

enum { GROUP_DELETES = 2048 };
static const uint64_t first_pause_ns = 1000000000, longest_pause_ns = 60000000000u;

void cache_store_key(
	char key[CACHE_STORE_KEY_LEN], enum cache_record_kind kind, const struct cache_id *id)
{
	key[0] = (char)kind;
	memcpy(key + 1, id, sizeof *id);
}

static bool read_key(const char *key, size_t len, enum cache_record_kind kind, struct cache_id *id)
{
	if (len != CACHE_STORE_KEY_LEN || key[0] != (char)kind)
		return false;
	memcpy(id, key + 1, sizeof *id);
	return true;
}

/* ---- faults ---- */

void cache_store_report(struct cache_disk *d, const char *sentence)
{
	gateway_report_aloud(d->g, "cache", sentence);
}

static void report_aside(struct cache_disk *d)
{
	char sentence[256];
	if (!*d->aside)
		return;
	snprintf(sentence, sizeof sentence,
		"cache: what it had stored was damaged, and a new store was begun; the old one is "
		"%.100s",
		d->aside);
	cache_store_report(d, sentence);
}

void cache_store_close(struct cache_disk *d)
{
	if (d->near_it)
		leveldb_iter_destroy(d->near_it);
	d->near_it = NULL;
	if (d->db)
		leveldb_close(d->db);
	d->db = NULL;
	pthread_mutex_lock(&d->lock);
	if (d->state == CACHE_DISK_READY)
		d->state = CACHE_DISK_BROKEN;
	d->counts.telling = false;
	cache_disk_forget(d);
	pthread_mutex_unlock(&d->lock);
}

/* It does not work; it is tried again later. */
void cache_store_broke(struct cache_disk *d, const char *why)
{
	char sentence[256];
	cache_store_close(d);
	pthread_mutex_lock(&d->lock);
	d->state = CACHE_DISK_BROKEN;
	pthread_mutex_unlock(&d->lock);
	d->pause_ns = d->pause_ns ? 2 * d->pause_ns : first_pause_ns;
	if (d->pause_ns > longest_pause_ns)
		d->pause_ns = longest_pause_ns;
	d->retry_ns = clock_mono_ns() + d->pause_ns;
	snprintf(sentence, sizeof sentence,
		"cache: answers are kept in memory only, the store does not work: %.150s", why);
	cache_store_report(d, sentence);
}

static void broke_and_free(struct cache_disk *d, char *message)
{
	cache_store_broke(d, message);
	leveldb_free(message);
}

void cache_store_set_aside(struct cache_disk *d, const char *why)
{
	struct err err;
	cache_store_close(d);
	log_warn("cache: %s", why);
	if (cache_place_set_aside(d->dir, d->aside, sizeof d->aside, &err) < 0) {
		d->aside[0] = '\0';
		cache_store_broke(d, err.text);
		return;
	}
	cache_store_open(d, false);
}

/* ---- opening ---- */

/* Whether it is the database, and not the disk or our rights, that is at fault. */
bool cache_store_is_damage(const char *message)
{
	static const char *const others[] = {"No space left", "quota", "Permission denied",
		"Operation not permitted", "Read-only", "Too many open files", "Cannot allocate",
		"Input/output error", "/LOCK", "File too large"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (strstr(message, others[i]))
			return false;
	return true;
}

static void note_flush(void *arg, const char *user, uint64_t below)
{
	struct cache_disk *d = arg;
	pthread_mutex_lock(&d->lock);
	cache_disk_note_flush(d, user, below);
	pthread_mutex_unlock(&d->lock);
}

/* With the lock held. */
static bool was_flushed(const struct cache_disk *d, const struct cache_record *r)
{
	for (const struct cache_disk_flush *f = d->flushes; f; f = f->next)
		if (r->serial < f->below && (!*f->user || cache_record_is(r->user, f->user)))
			return true;
	return false;
}

/* With the lock held. Its note is in the store: into the index, or onto the chain of what is to be
 * deleted. */
static struct cache_node *load_note(struct cache_disk *d, const struct cache_id *id,
	const struct cache_record *r, struct cache_node *gone)
{
	char user[TEXT_NAME_SIZE];
	struct cache_node *node = calloc(1, sizeof *node);
	if (!node)
		return gone;
	*node = (struct cache_node){
		.id = *id, .serial = r->serial, .stored_s = r->stored_s, .bytes = r->bytes};
	snprintf(user, sizeof user, "%.*s", (int)r->user.len, r->user.bytes);
	if (r->serial > d->counts.newest)
		d->counts.newest = r->serial;
	bool expired = r->stored_s < cache_shelf_not_before_s(d->limits.ttl_s);
	/* One that is there already was queued while we opened: it is newer. */
	bool kept = !expired && !was_flushed(d, r) && !cache_disk_node(d, id, 0);
	d->counts.expired += expired;
	if (kept && cache_shelf_add(&d->index, node, user) == 0)
		return gone;
	if (cache_disk_node(d, id, 0)) {
		free(node);
		return gone;
	}
	node->next = gone;
	return node;
}

leveldb_iterator_t *cache_store_iterate(struct cache_disk *d, enum cache_record_kind kind)
{
	char first = (char)kind;
	leveldb_iterator_t *it = leveldb_create_iterator(d->db, d->checked);
	leveldb_iter_seek(it, &first, 1);
	return it;
}

/* The next record of a kind, with its id; false at the end. *good: it can be believed. */
bool cache_store_next(leveldb_iterator_t *it, enum cache_record_kind kind, struct cache_id *id,
	struct cache_record *record, bool *good)
{
	size_t key_len, len;
	if (!leveldb_iter_valid(it))
		return false;
	const char *key = leveldb_iter_key(it, &key_len);
	if (!key_len || key[0] != (char)kind)
		return false;
	const char *value = leveldb_iter_value(it, &len);
	*good = read_key(key, key_len, kind, id) && cache_record_read(record, kind, id, value, len);
	return true;
}

/* Fills the index. A message when it cannot be read. */
static char *load_index(struct cache_disk *d, struct cache_node **gone)
{
	leveldb_iterator_t *it = cache_store_iterate(d, CACHE_RECORD_NOTE);
	struct cache_record record;
	struct cache_id id;
	bool good;
	for (; cache_store_next(it, CACHE_RECORD_NOTE, &id, &record, &good);
		leveldb_iter_next(it)) {
		pthread_mutex_lock(&d->lock);
		if (good)
			*gone = load_note(d, &id, &record, *gone);
		else
			d->counts.damaged++;
		pthread_mutex_unlock(&d->lock);
	}
	char *message = NULL;
	leveldb_iter_get_error(it, &message);
	leveldb_iter_destroy(it);
	return message;
}

struct ended {
	const char *dir;
	uint64_t below;
};

static void end_before(void *arg, const char *user, uint64_t below)
{
	const struct ended *e = arg;
	(void)user;
	if (below <= e->below)
		cache_place_flushed(e->dir, below);
}

void cache_store_end_flushes(struct cache_disk *d, uint64_t below, bool and_before)
{
	struct cache_disk_flush *done = NULL, **at;
	pthread_mutex_lock(&d->lock);
	for (at = &d->flushes; *at;) {
		struct cache_disk_flush *f = *at;
		if (f->below != below && !(and_before && f->below < below)) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		f->next = done;
		done = f;
	}
	pthread_mutex_unlock(&d->lock);
	while (done) {
		struct cache_disk_flush *f = done;
		done = f->next;
		cache_place_flushed(d->dir, f->below);
		free(f);
	}
	if (and_before) /* also of those that the list had no room for */
		cache_place_flushes(d->dir, end_before, &(struct ended){d->dir, below});
}

static void opened(struct cache_disk *d, struct cache_node *gone)
{
	cache_store_delete(d, gone);
	if (!d->db)
		return;
	pthread_mutex_lock(&d->lock);
	struct cache_node *over = cache_disk_evict(d, NULL);
	bool queued = false; /* a flush that is in the queue ends itself */
	list_for_each (link, &d->jobs)
		queued = queued ||
			 list_entry(link, struct cache_disk_job, link)->kind == CACHE_DISK_FLUSH;
	d->state = CACHE_DISK_READY;
	d->near_wanted = true;
	pthread_mutex_unlock(&d->lock);
	cache_store_delete(d, over);
	if (!d->db)
		return;
	if (!queued)
		cache_store_end_flushes(d, UINT64_MAX, true);
	d->pause_ns = 0;
	if (*d->aside)
		report_aside(d);
	else
		cache_store_report(d, NULL);
}

bool cache_store_open(struct cache_disk *d, bool may_set_aside)
{
	struct err err = {0};
	char *message = NULL;
	struct cache_node *gone = NULL;
	int r = cache_place_make(d->dir, &err);
	if (r < 0) {
		if (may_set_aside && r == -ENOTDIR)
			cache_store_set_aside(d, err.text);
		else
			cache_store_broke(d, err.text);
		return d->db;
	}
	cache_place_flushes(d->dir, note_flush, d);
	d->db = compaction_open(d->options, d->database_dir, &message);
	if (d->db)
		message = load_index(d, &gone);
	if (!message) {
		opened(d, gone);
		return d->db;
	}
	cache_disk_free_nodes(gone);
	if (may_set_aside && cache_store_is_damage(message)) {
		cache_store_set_aside(d, message);
		leveldb_free(message);
	} else {
		broke_and_free(d, message);
	}
	return d->db;
}

/* ---- writing ---- */

void cache_store_write(struct cache_disk *d, struct cache_store_group *g)
{
	char *message = NULL;
	if (!g->batch)
		return;
	if (d->db && g->n)
		leveldb_write(d->db, d->plain, g->batch, &message);
	leveldb_writebatch_destroy(g->batch);
	*g = (struct cache_store_group){0};
	if (message)
		broke_and_free(d, message);
}

static leveldb_writebatch_t *batch_of(struct cache_store_group *g)
{
	if (!g->batch)
		g->batch = leveldb_writebatch_create();
	return g->batch;
}

void cache_store_add_deletes(
	struct cache_disk *d, struct cache_store_group *g, const struct cache_node *chain)
{
	static const enum cache_record_kind kinds[] = {
		CACHE_RECORD_NOTE, CACHE_RECORD_ANSWER, CACHE_RECORD_NEAR};
	char key[CACHE_STORE_KEY_LEN];
	for (; chain; chain = chain->next) {
		for (size_t i = 0; i < 3; i++) {
			cache_store_key(key, kinds[i], &chain->id);
			leveldb_writebatch_delete(batch_of(g), key, sizeof key);
		}
		if (++g->n >= GROUP_DELETES)
			cache_store_write(d, g);
	}
}

/* Frees the chain. */
void cache_store_delete(struct cache_disk *d, struct cache_node *chain)
{
	struct cache_store_group g = {0};
	cache_store_add_deletes(d, &g, chain);
	cache_store_write(d, &g);
	cache_disk_free_nodes(chain);
}

static int add_record(struct cache_store_group *g, const struct cache_record *r,
	const struct cache_id *id, struct buf *room)
{
	char key[CACHE_STORE_KEY_LEN];
	buf_clear(room);
	int e = cache_record_write(room, r, id);
	if (e < 0)
		return e;
	cache_store_key(key, r->kind, id);
	leveldb_writebatch_put(batch_of(g), key, sizeof key, room->data, room->len);
	g->bytes += room->len;
	return 0;
}

/* The item's three records, all or none (a record that has no room is not worth a group). */
void cache_store_add(
	struct cache_store_group *g, const struct cache_item *i, const struct cache_prompt *p)
{
	struct buf room = {.max = CACHE_RECORD_MAX};
	struct cache_record r = {
		.kind = CACHE_RECORD_ANSWER,
		.serial = i->answer.serial,
		.stored_s = i->answer.stored_s,
		.bytes = cache_item_disk_bytes(i, p),
		.prompt_tok = i->answer.prompt_tok,
		.output_tok = i->answer.output_tok,
		.finish = {i->answer.finish, strlen(i->answer.finish)},
		.user = {i->user, strlen(i->user)},
		.key = {i->key, i->key_len},
		.text = {i->answer.text->bytes, i->answer.text->len},
	};
	struct cache_record note = {.kind = CACHE_RECORD_NOTE,
		.serial = r.serial,
		.stored_s = r.stored_s,
		.bytes = r.bytes,
		.user = r.user};
	if (add_record(g, &r, &i->id, &room) == 0)
		add_record(g, &note, &i->id, &room);
	char key[CACHE_STORE_KEY_LEN];
	cache_store_key(key, CACHE_RECORD_NEAR, &i->id);
	if (p) {
		r.kind = CACHE_RECORD_NEAR;
		r.key = r.finish = (struct cache_record_text){0};
		r.model = (struct cache_record_text){p->model, strlen(p->model)};
		r.scope = (struct cache_record_text){p->scope.data, p->scope.len};
		r.text = (struct cache_record_text){p->text->bytes, p->text->len};
		r.vector = (struct cache_record_text){
			(const char *)p->vector, p->dim * sizeof *p->vector};
	}
	if (!p || add_record(g, &r, &i->id, &room) < 0)
		leveldb_writebatch_delete(batch_of(g), key, sizeof key);
	g->n++;
	buf_free(&room);
}
