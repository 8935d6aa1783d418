/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scratch files as objects: each belongs to a directory, which is an object and a row (guards/input
 * and models are rows of the one fixed object), and is found in that directory's list. It holds a
 * reference of the directory, and goes when the directory can no longer be found; handles that are
 * open keep it alive.
 */
#include "fs/node_parts.h"

#include "fs/scratch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SCRATCHES 16 /* a directory */

static struct object *scratch_named(const struct node *dir, const char *name)
{
	list_for_each (link, &dir->object->scratches) {
		struct object *o = list_entry(link, struct object, siblings);
		if (o->dir_row == dir->row && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

static unsigned count_scratches(const struct node *dir)
{
	unsigned n = 0;
	list_for_each (link, &dir->object->scratches)
		n += list_entry(link, struct object, siblings)->dir_row == dir->row;
	return n;
}

void node_scratch_detach(struct object *o, struct list *drop)
{
	o->dir->n_scratches--;
	o->listed = false;
	o->refs++; /* the caller's, so that it is put once more */
	list_remove(&o->siblings);
	list_append(drop, &o->siblings);
}

int node_scratch_find(
	struct nodes *nodes, const struct node *dir, const char *name, struct object **out)
{
	pthread_mutex_lock(&nodes->lock);
	*out = scratch_named(dir, name);
	if (*out)
		(*out)->refs++;
	pthread_mutex_unlock(&nodes->lock);
	return *out ? 0 : -ENOENT;
}

bool node_has_scratch(const struct node *dir)
{
	if (dir->row->kind != TABLE_DIR)
		return false;
	switch ((enum table_place)dir->row->view) {
	case TABLE_MODELS: /* the temporary link of ln -sfn */
	case TABLE_MODEL:
	case TABLE_SESSION:
	case TABLE_ACCOUNT:
	case TABLE_API_KEY:
	case TABLE_ROUTER:
	case TABLE_CACHE:
	case TABLE_GUARDS:
	case TABLE_GUARDS_INPUT:
	case TABLE_GUARDS_OUTPUT:
		return true;
	default:
		return false;
	}
}

int node_scratch_add(struct nodes *nodes, const struct node *dir, const char *name,
	struct scratch *scratch, struct node *out)
{
	struct object *o = node_object_new(nodes, OBJECT_SCRATCH, name);
	if (!o) {
		scratch_free(scratch);
		return -ENOMEM;
	}
	o->scratch = scratch;
	struct object *d = dir->object;
	int r = 0;
	pthread_mutex_lock(&nodes->lock);
	if (d->kind != OBJECT_FIXED && !d->listed)
		r = -ENOENT;
	else if (scratch_named(dir, name))
		r = -EEXIST;
	else if (count_scratches(dir) >= MAX_SCRATCHES)
		r = -ENOSPC;
	if (r == 0) {
		node_enlist(nodes, o);
		list_append(&d->scratches, &o->siblings);
		d->n_scratches++;
		o->dir = d;
		o->dir_row = dir->row;
		d->refs++;
	}
	pthread_mutex_unlock(&nodes->lock);
	if (r < 0)
		node_object_free(o);
	else
		*out = (struct node){o, table_scratch(), 0};
	return r;
}

int node_scratch_remove(struct nodes *nodes, const struct node *dir, const char *name)
{
	struct list drop = LIST_INIT(drop);
	pthread_mutex_lock(&nodes->lock);
	struct object *o = scratch_named(dir, name);
	if (o)
		node_scratch_detach(o, &drop);
	pthread_mutex_unlock(&nodes->lock);
	node_drop_all(nodes, &drop);
	return o ? 0 : -ENOENT;
}

int node_scratch_rename(struct nodes *nodes, const struct node *dir, const char *from,
	const char *to, bool noreplace)
{
	char *name = strdup(to);
	if (!name)
		return -ENOMEM;
	struct list drop = LIST_INIT(drop);
	int r = 0;
	pthread_mutex_lock(&nodes->lock);
	struct object *o = scratch_named(dir, from), *old = scratch_named(dir, to);
	if (!o) {
		r = -ENOENT;
	} else if (old && noreplace) {
		r = -EEXIST;
	} else if (o != old) {
		if (old)
			node_scratch_detach(old, &drop);
		char *was = o->name;
		o->name = name;
		name = was;
	}
	pthread_mutex_unlock(&nodes->lock);
	free(name);
	node_drop_all(nodes, &drop);
	return r;
}

char **node_scratch_names(struct nodes *nodes, const struct node *dir)
{
	size_t n = 0;
	pthread_mutex_lock(&nodes->lock);
	char **names = calloc(dir->object->n_scratches + 1, sizeof *names);
	if (names) {
		list_for_each (link, &dir->object->scratches) {
			const struct object *o = list_entry(link, struct object, siblings);
			names[n] = o->dir_row == dir->row ? strdup(o->name) : NULL;
			if (names[n])
				n++;
		}
	}
	pthread_mutex_unlock(&nodes->lock);
	return names;
}

void node_scratch_each(struct nodes *nodes,
	void (*tell)(void *arg, const struct node *dir, const char *name, struct scratch *scratch),
	void *arg)
{
	pthread_mutex_lock(&nodes->lock);
	for (size_t i = 0; i < N_BUCKETS; i++) {
		list_for_each (link, &nodes->by_id[i]) {
			const struct object *o = list_entry(link, struct object, by_id);
			const struct node dir = {o->dir, o->dir_row, 0};
			if (o->kind == OBJECT_SCRATCH && o->listed)
				tell(arg, &dir, o->name, o->scratch);
		}
	}
	pthread_mutex_unlock(&nodes->lock);
}
