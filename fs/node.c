/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects by number and by name. The gateway is the truth about which sessions and models exist;
 * an object here is only the number that the kernel knows one by. It is made at the first look-up
 * or listing and lives as long as it can be found by name, the kernel holds one of its inodes, or a
 * handle holds a reference. A name that was removed and made again is another object: the pointer
 * of the gateway's object tells them apart, and a reference keeps that pointer from being reused.
 *
 * An inode number is id << 16 | sub << 8 | (row + 1): the root, object 0 and row 0, is 1, as FUSE
 * wants it.
 *
 * One lock, a leaf: nothing of the gateway is called with it held. Scratch files are
 * node_scratch.c's.
 */
#include "fs/node_parts.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/guards.h"
#include "fs/scratch.h"

#include "base/clock.h"
#include "base/hash.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_sessions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct list *id_bucket(struct nodes *nodes, uint64_t id)
{
	return &nodes->by_id[id % N_BUCKETS];
}

static struct list *name_bucket(struct nodes *nodes, enum object_kind kind, const char *name)
{
	return &nodes->by_name[hash_text(HASH_BEGIN + kind, name) % N_BUCKETS];
}

struct nodes *nodes_new(struct gateway *gateway, const struct tree *tree)
{
	struct nodes *nodes = calloc(1, sizeof *nodes);
	if (!nodes)
		return NULL;
	nodes->gateway = gateway;
	nodes->tree = tree;
	nodes->next_id = 1;
	pthread_mutex_init(&nodes->lock, NULL);
	nodes->fixed.refs = 1;
	nodes->fixed.created_ns = clock_real_ns();
	list_init(&nodes->fixed.scratches);
	for (size_t i = 0; i < N_BUCKETS; i++) {
		list_init(&nodes->by_id[i]);
		list_init(&nodes->by_name[i]);
	}
	return nodes;
}

/* A reference of the gateway's object. */
static void theirs_put(enum object_kind kind, void *theirs)
{
	const struct collection *c = collection_of(kind);
	if (!theirs)
		return;
	if (c)
		c->put(theirs);
	else if (kind == OBJECT_SESSION)
		session_put(theirs);
	else if (kind == OBJECT_SCRATCH)
		scratch_free(theirs);
}

struct object *node_object_free(struct object *o)
{
	if (!o)
		return NULL;
	theirs_put(o->kind, o->theirs);
	free(o->name);
	free(o);
	return NULL;
}

struct nodes *nodes_free(struct nodes *nodes)
{
	if (!nodes)
		return NULL;
	for (size_t i = 0; i < N_BUCKETS; i++)
		list_for_each (link, &nodes->by_id[i])
			node_object_free(list_entry(link, struct object, by_id));
	pthread_mutex_destroy(&nodes->lock);
	free(nodes);
	return NULL;
}

/* ---- life of an object; all under the lock ---- */

/* Takes o out of the tables if nothing holds it. True: the caller frees it, without the lock. */
static bool unused(struct object *o)
{
	if (o->kind == OBJECT_FIXED || o->refs || o->lookups || o->listed)
		return false;
	list_remove(&o->by_id);
	return true;
}

static void unlist(struct object *o)
{
	o->listed = false;
	list_remove(&o->by_name);
}

static struct object *by_name(struct nodes *nodes, enum object_kind kind, const char *name)
{
	list_for_each (link, name_bucket(nodes, kind, name)) {
		struct object *o = list_entry(link, struct object, by_name);
		if (o->kind == kind && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

static struct object *by_id(struct nodes *nodes, uint64_t id)
{
	if (id == 0)
		return &nodes->fixed;
	list_for_each (link, id_bucket(nodes, id)) {
		struct object *o = list_entry(link, struct object, by_id);
		if (o->id == id)
			return o;
	}
	return NULL;
}

/* Drops a reference and what hangs on it: the last of a scratch file drops one of its directory. */
void node_object_put(struct nodes *nodes, struct object *o)
{
	while (o) {
		pthread_mutex_lock(&nodes->lock);
		o->refs--;
		bool dead = unused(o);
		struct object *dir = dead ? o->dir : NULL;
		pthread_mutex_unlock(&nodes->lock);
		if (dead)
			node_object_free(o);
		o = dir;
	}
}

static void unlist_dir(struct object *o, struct list *drop)
{
	unlist(o);
	list_for_each (link, &o->scratches)
		node_scratch_detach(list_entry(link, struct object, siblings), drop);
}

void node_drop_all(struct nodes *nodes, struct list *drop)
{
	while (!list_empty(drop)) {
		struct object *o = list_entry(drop->next, struct object, siblings);
		list_remove(&o->siblings);
		node_object_put(nodes, o);
	}
}

struct object *node_object_new(struct nodes *nodes, enum object_kind kind, const char *name)
{
	struct object *o = calloc(1, sizeof *o);
	if (o)
		o->name = strdup(name);
	if (!o || !o->name) {
		free(o);
		return NULL;
	}
	o->kind = kind;
	o->refs = 1;
	o->created_ns = clock_real_ns();
	list_init(&o->siblings);
	list_init(&o->scratches);
	list_init(&o->by_id);
	list_init(&o->by_name);
	return o;
}

/* Gives it a number and, but for scratch files, a name to be found by. */
void node_enlist(struct nodes *nodes, struct object *o)
{
	o->id = nodes->next_id++;
	o->listed = true;
	list_append(id_bucket(nodes, o->id), &o->by_id);
	if (o->kind != OBJECT_SCRATCH)
		list_append(name_bucket(nodes, o->kind, o->name), &o->by_name);
}

/* ---- numbers ---- */

static uint64_t number(uint64_t id, unsigned sub, const struct table_row *row)
{
	return id << 16 | (uint64_t)sub << 8 | (uint64_t)(row - table_rows + 1);
}

uint64_t node_ino(const struct node *node)
{
	return number(node->object->id, node->sub, node->row);
}

void node_inos(const struct node *node, uint64_t *first, uint64_t *last)
{
	*first = node->object->id << 16;
	*last = *first | 0xffff;
}

uint64_t node_fixed_ino(const struct table_row *row)
{
	return number(0, 0, row);
}

int node_of_ino(struct nodes *nodes, uint64_t ino, struct node *out)
{
	size_t row = ino & 0xff;
	if (row == 0 || row > table_n_rows)
		return -ESTALE;
	pthread_mutex_lock(&nodes->lock);
	struct object *o = by_id(nodes, ino >> 16);
	if (o)
		o->refs++;
	pthread_mutex_unlock(&nodes->lock);
	if (!o)
		return -ESTALE;
	*out = (struct node){o, &table_rows[row - 1], ino >> 8 & 0xff};
	return 0;
}

uint64_t node_find_ino(
	struct nodes *nodes, enum object_kind kind, const char *name, const char *file)
{
	const struct collection *c = collection_of(kind);
	enum table_place place = c ? c->inside : TABLE_SESSION;
	const struct table_row *row = file ? table_row_named(place, file) : table_dir_of(place);
	if (!row)
		return 0;
	pthread_mutex_lock(&nodes->lock);
	struct object *o = by_name(nodes, kind, name);
	uint64_t ino = o && o->lookups ? number(o->id, 0, row) : 0;
	pthread_mutex_unlock(&nodes->lock);
	return ino;
}

struct node node_ref(struct nodes *nodes, const struct node *node)
{
	pthread_mutex_lock(&nodes->lock);
	node->object->refs++;
	pthread_mutex_unlock(&nodes->lock);
	return *node;
}

struct node node_with_row(struct nodes *nodes, const struct node *node, const struct table_row *row)
{
	struct node copy = node_ref(nodes, node);
	copy.row = row;
	copy.sub = 0;
	return copy;
}

const char *node_rules_file(const struct node *node)
{
	return node->object->name;
}

bool node_is_listed(struct nodes *nodes, const struct node *node)
{
	pthread_mutex_lock(&nodes->lock);
	bool is = node->object->listed;
	pthread_mutex_unlock(&nodes->lock);
	return is;
}

void node_put(struct nodes *nodes, struct node *node)
{
	if (node->object)
		node_object_put(nodes, node->object);
	*node = (struct node){0};
}

void node_looked_up(struct nodes *nodes, const struct node *node)
{
	pthread_mutex_lock(&nodes->lock);
	node->object->lookups++;
	pthread_mutex_unlock(&nodes->lock);
}

void node_forget(struct nodes *nodes, uint64_t ino, uint64_t n)
{
	pthread_mutex_lock(&nodes->lock);
	struct object *o = by_id(nodes, ino >> 16);
	if (o) {
		o->lookups -= n < o->lookups ? n : o->lookups;
		o->refs++;
	}
	pthread_mutex_unlock(&nodes->lock);
	node_object_put(nodes, o);
}

/* ---- names ---- */

/* The object of one of the gateway's; steals that reference. */
static int object_of(struct nodes *nodes, enum object_kind kind, const char *name, void *theirs,
	struct object **out)
{
	struct object *fresh = node_object_new(nodes, kind, name);
	struct list drop = LIST_INIT(drop);
	pthread_mutex_lock(&nodes->lock);
	struct object *o = by_name(nodes, kind, name);
	struct object *old = NULL;
	if (o && o->theirs == theirs) {
		o->refs++;
	} else if (fresh) {
		if (o) {
			old = o;
			old->refs++;
			unlist_dir(old, &drop);
		}
		o = fresh;
		fresh = NULL;
		o->theirs = theirs;
		theirs = NULL;
		node_enlist(nodes, o);
	} else {
		o = NULL;
	}
	pthread_mutex_unlock(&nodes->lock);
	node_drop_all(nodes, &drop);
	node_object_put(nodes, old);
	node_object_free(fresh);
	theirs_put(kind, theirs);
	*out = o;
	return o ? 0 : -ENOMEM;
}

static int child_object(
	struct nodes *nodes, enum object_kind kind, const char *name, struct object **out)
{
	/* models/default is a name of the gateway's too, but here it is the symlink. */
	const struct collection *c = collection_of(kind);
	void *theirs = c ? c->find(nodes->gateway, name)
			 : (void *)gateway_session_find(nodes->gateway, name);
	if (theirs)
		return object_of(nodes, kind, name, theirs, out);
	node_unlist(nodes, kind, name);
	return -ENOENT;
}

/* Whether there is a rule file TREE says. */
static int child_rules(struct nodes *nodes, const char *file, struct object **out)
{
	struct stat st;
	int r = nodes->tree ? tree_guards_stat(nodes->tree, file, &st) : -ENOENT;
	return r < 0 ? -ENOENT : object_of(nodes, OBJECT_RULES, file, NULL, out);
}

static int child_number(const char *name, unsigned *sub)
{
	const char *const *names = gateway_metric_names();
	for (unsigned i = 0; names[i] && i < 254; i++) {
		if (strcmp(names[i], name) == 0) {
			*sub = i + 1;
			return 0;
		}
	}
	return -ENOENT;
}

static bool exists(const struct nodes *nodes, const struct table_row *row)
{
	if (row->kind != TABLE_LINK)
		return true;
	struct buf name = {0};
	gateway_default(nodes->gateway, &name);
	bool is = name.len > 0;
	buf_free(&name);
	return is;
}

int node_child(struct nodes *nodes, const struct node *dir, const char *name, struct node *out)
{
	*out = (struct node){0};
	if (dir->row->kind != TABLE_DIR)
		return -ENOTDIR;
	if (strlen(name) > FS_NAME_MAX)
		return -ENAMETOOLONG;
	enum table_place place = (enum table_place)dir->row->view;
	const struct table_row *row = table_row_named(place, name);
	const struct collection *c = collection_at(place);
	/* Rule files, models/auto and models/cascade have a row by name and yet are objects. */
	if (row && row->kind != TABLE_RULES && !(c && row->kind == TABLE_DIR)) {
		if (!exists(nodes, row))
			return -ENOENT;
		*out = node_with_row(nodes, dir, row);
		return 0;
	}
	char file[TREE_GUARDS_NAME];
	int r = -ENOENT;
	if (!row)
		row = table_pattern(place);
	if (guards_file(place, name, file) == 0)
		r = child_rules(nodes, file, &out->object);
	else if (c || place == TABLE_SESSIONS)
		r = child_object(nodes, c ? c->kind : OBJECT_SESSION, name, &out->object);
	else if (place == TABLE_METRICS && (r = child_number(name, &out->sub)) == 0)
		out->object = node_ref(nodes, dir).object;
	if (r == -ENOENT && node_has_scratch(dir)) {
		row = table_scratch();
		r = node_scratch_find(nodes, dir, name, &out->object);
	}
	out->row = row;
	return r;
}

void node_unlist(struct nodes *nodes, enum object_kind kind, const char *name)
{
	struct list drop = LIST_INIT(drop);
	pthread_mutex_lock(&nodes->lock);
	struct object *o = by_name(nodes, kind, name);
	if (o) {
		o->refs++;
		unlist_dir(o, &drop);
	}
	pthread_mutex_unlock(&nodes->lock);
	node_drop_all(nodes, &drop);
	node_object_put(nodes, o);
}
