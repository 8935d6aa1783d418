/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel invalidations have a thread of their own: they take locks in the kernel (of an inode, of a
 * directory) that the very request may hold which made the change, so they are never sent from a
 * request.
 *
 * A name that exists is never invalidated, only its directory's attributes: dropping the entry of a
 * directory in which a shell stands would make its `pwd` fail.
 */
#include "fs/notify.h"

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/node.h"

#include "base/queue.h"
#include "gateway/gateway_sessions.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 1024

struct item {
	uint64_t ino;
	char name[FS_NAME_MAX + 1]; /* "": the inode itself */
};

struct notify {
	struct fs *fs;
	struct queue *queue;
	pthread_t thread;
	bool running; /* its owner's */
};

static void *run(void *arg)
{
	struct notify *n = arg;
	struct item item;
	while (queue_pop_wait(n->queue, &item) == 0) {
		/* Answers like ENOENT (the kernel does not know it) are fine. */
		if (*item.name)
			fuse_lowlevel_notify_inval_entry(
				n->fs->session, item.ino, item.name, strlen(item.name));
		fuse_lowlevel_notify_inval_inode(n->fs->session, item.ino, 0, 0);
	}
	return NULL;
}

struct notify *notify_new(struct fs *fs)
{
	struct notify *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	n->fs = fs;
	n->queue = queue_new(sizeof(struct item), CAPACITY);
	if (!n->queue || pthread_create(&n->thread, NULL, run, n) != 0) {
		queue_free(n->queue);
		free(n);
		return NULL;
	}
	n->running = true;
	return n;
}

void notify_stop(struct notify *n)
{
	if (!n || !n->running)
		return;
	struct item item;
	while (queue_pop(n->queue, &item) == 0)
		;
	queue_close(n->queue);
	pthread_join(n->thread, NULL);
	n->running = false;
}

struct notify *notify_free(struct notify *n)
{
	if (!n)
		return NULL;
	notify_stop(n);
	queue_free(n->queue);
	free(n);
	return NULL;
}

void notify_inode(struct notify *n, uint64_t ino)
{
	if (!n || !ino)
		return;
	struct item item = {.ino = ino};
	queue_push(n->queue, &item);
}

void notify_entry(struct notify *n, uint64_t dir, const char *name)
{
	size_t length = strlen(name);
	if (!n || !dir || length > FS_NAME_MAX)
		return;
	struct item item = {.ino = dir};
	memcpy(item.name, name, length + 1);
	queue_push(n->queue, &item);
}

/* ---- what the gateway says ---- */

static void sessions_changed(struct fs *fs, const char *name)
{
	uint64_t dir = node_fixed_ino(table_dir_of(TABLE_SESSIONS));
	struct session *s = gateway_session_find(fs->gateway, name);
	if (s) {
		session_put(s);
		notify_inode(fs->notify, dir);
	} else {
		node_unlist(fs->nodes, OBJECT_SESSION, name);
		notify_entry(fs->notify, dir, name);
	}
}

static void collection_changed(struct fs *fs, const struct collection *c, const char *name)
{
	uint64_t dir = node_fixed_ino(table_dir_of(c->outside));
	if (c->default_is_link && strcmp(name, "default") == 0) {
		notify_inode(fs->notify, node_fixed_ino(table_row_named(c->outside, "default")));
		notify_inode(fs->notify, dir);
		return;
	}
	void *it = c->find(fs->gateway, name);
	if (it) {
		c->put(it);
		notify_inode(fs->notify, dir);
	} else {
		node_unlist(fs->nodes, c->kind, name);
		notify_entry(fs->notify, dir, name);
	}
}

static void part_changed(struct fs *fs, const struct gateway_change *change)
{
	const struct collection *c = collection_single(change->name);
	const struct table_row *row =
		c && change->file ? table_row_named(c->inside, change->file) : NULL;
	if (row)
		notify_inode(fs->notify, node_fixed_ino(row));
}

/* All that the kernel may have cached of a session: owner and mode of each file follow. */
static void owner_changed(struct fs *fs, const char *name)
{
	notify_inode(fs->notify, node_find_ino(fs->nodes, OBJECT_SESSION, name, NULL));
	for (size_t i = 0; i < table_n_rows; i++)
		if (table_rows[i].place == TABLE_SESSION)
			notify_inode(fs->notify,
				node_find_ino(fs->nodes, OBJECT_SESSION, name, table_rows[i].name));
}

void notify_change(void *arg, const struct gateway_change *change)
{
	struct fs *fs = arg;
	if (!atomic_load(&fs->serving))
		return;
	switch (change->kind) {
	case GATEWAY_CHANGE_SESSIONS:
		sessions_changed(fs, change->name);
		break;
	case GATEWAY_CHANGE_MODELS:
		collection_changed(fs, &collection_models, change->name);
		break;
	case GATEWAY_CHANGE_SESSION:
		if (change->file)
			notify_inode(fs->notify, node_find_ino(fs->nodes, OBJECT_SESSION,
							 change->name, change->file));
		else
			owner_changed(fs, change->name);
		break;
	case GATEWAY_CHANGE_MODEL:
		notify_inode(fs->notify,
			node_find_ino(fs->nodes, OBJECT_MODEL, change->name, change->file));
		break;
	case GATEWAY_CHANGE_ACCOUNTS:
		collection_changed(fs, &collection_budgets, change->name);
		break;
	case GATEWAY_CHANGE_KEYS:
		collection_changed(fs, &collection_keys, change->name);
		break;
	case GATEWAY_CHANGE_KEY:
		notify_inode(fs->notify,
			node_find_ino(fs->nodes, OBJECT_API_KEY, change->name, change->file));
		break;
	case GATEWAY_CHANGE_PART:
		part_changed(fs, change);
		break;
	case GATEWAY_CHANGE_ACCOUNT:
		notify_inode(fs->notify,
			node_find_ino(fs->nodes, OBJECT_ACCOUNT, change->name, change->file));
		break;
	}
}
