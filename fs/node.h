/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_NODE_H
#define FS_NODE_H

#include "fs/table.h"

#include "base/list.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct account;
struct api_key;
struct model;
struct scratch;
struct session;

/*
 * Inode numbers. A number is an object (a session, a model, a scratch file, or the fixed tree) and
 * a row of the table, so files of a session have no memory of their own. Numbers are never used
 * twice; they stay the same as long as the object exists.
 */

enum object_kind {
	OBJECT_FIXED,
	OBJECT_MODEL,
	OBJECT_ACCOUNT,
	OBJECT_API_KEY,
	OBJECT_SESSION,
	OBJECT_RULES,
	OBJECT_SCRATCH,
};

/* Views of one object whose last rendering is remembered. */
#define OBJECT_VIEWS 8

struct object {
	/* never changes */
	uint64_t id;
	enum object_kind kind;
	union {
		void *theirs;            /* a reference of the gateway's object, or: */
		struct session *session; /* OBJECT_SESSION */
		struct model *model;     /* OBJECT_MODEL */
		struct account *account; /* OBJECT_ACCOUNT */
		struct api_key *api_key; /* OBJECT_API_KEY */
		struct scratch *scratch; /* OBJECT_SCRATCH: owned */
	};
	uint64_t created_ns;

	/* under the lock of nodes */
	char *name; /* OBJECT_RULES: as guards.h says, and never changes */
	unsigned refs;
	uint64_t lookups;                /* what the kernel holds, summed over all rows */
	bool listed;                     /* can be found by name */
	struct object *dir;              /* OBJECT_SCRATCH: what it lies in, a reference; ... */
	const struct table_row *dir_row; /* ... and as which directory of that */
	struct list siblings, scratches;
	struct list by_id, by_name;
	unsigned n_scratches; /* of all its directories */

	/* hashes of the last renderings and when they first came out so (CLOCK_REALTIME), by
	 * row->view % OBJECT_VIEWS (view.c); a time of 0: never rendered */
	_Atomic uint64_t view_hash[OBJECT_VIEWS], view_ns[OBJECT_VIEWS];
};

/* One inode. A value: fill it with a node_* function, give it back with node_put. */
struct node {
	struct object *object; /* a reference */
	const struct table_row *row;
	unsigned sub; /* row of plain numbers: which one, from 1; else 0 */
};

struct gateway;
struct tree;

/* new; borrows both; tree may be NULL: there are no rule files. NULL when memory is out. */
struct nodes *nodes_new(struct gateway *gateway, const struct tree *tree);
/* Frees it with all objects, whatever the kernel still held. Accepts NULL, returns NULL. */
struct nodes *nodes_free(struct nodes *nodes);

uint64_t node_ino(const struct node *node);
/* Those of the object and of all that is in it. */
void node_inos(const struct node *node, uint64_t *first, uint64_t *last);
/* 0; -ESTALE: no such number (any more). */
int node_of_ino(struct nodes *nodes, uint64_t ino, struct node *out);
/* The child `name` of a directory. 0; -ENOENT; -ENOTDIR; -ENAMETOOLONG; -ENOMEM. */
int node_child(struct nodes *nodes, const struct node *dir, const char *name, struct node *out);
/* The same object, another row; a reference more. */
struct node node_with_row(
	struct nodes *nodes, const struct node *node, const struct table_row *row);
/* A copy; a reference more. */
struct node node_ref(struct nodes *nodes, const struct node *node);
void node_put(struct nodes *nodes, struct node *node); /* accepts a zeroed one, zeroes it */

/* The inode numbers of a directory's inside, for invalidation: of what the kernel may hold only, so
 * nothing is made. 0 when unknown. file NULL: the directory itself. */
uint64_t node_find_ino(
	struct nodes *nodes, enum object_kind kind, const char *name, const char *file);
/* The number of a fixed row (models/, sessions/, models/default). */
uint64_t node_fixed_ino(const struct table_row *row);

/* borrows: of a rule file, its name below guards/. */
const char *node_rules_file(const struct node *node);
/* Whether it can still be found by its name: no longer once that was unlisted. */
bool node_is_listed(struct nodes *nodes, const struct node *node);

/* The kernel was told of it in a reply that counts as a look-up / has forgotten n of them. */
void node_looked_up(struct nodes *nodes, const struct node *node);
void node_forget(struct nodes *nodes, uint64_t ino, uint64_t n);

/* What has that name is gone: its name stands for nothing (or for a newer one). */
void node_unlist(struct nodes *nodes, enum object_kind kind, const char *name);

/* What a directory holds; TABLE_NOWHERE: it is none. */
static inline enum table_place node_inside(const struct node *dir)
{
	return dir->row->kind == TABLE_DIR ? (enum table_place)dir->row->view : TABLE_NOWHERE;
}

/* Scratch files of a directory (scratch.h says what they hold). */

/* Whether there may be any in that directory. */
bool node_has_scratch(const struct node *dir);

/* Adds one; steals scratch, also on failure. -EEXIST; -ENOSPC: too many in this directory; -ENOENT:
 * the directory is gone; -ENOMEM. */
int node_scratch_add(struct nodes *nodes, const struct node *dir, const char *name,
	struct scratch *scratch, struct node *out);
/* -ENOENT. Handles that are open keep it alive. */
int node_scratch_remove(struct nodes *nodes, const struct node *dir, const char *name);
/* Gives it another name; one of that name is replaced unless `noreplace` (-EEXIST). -ENOENT,
 * -ENOMEM. */
int node_scratch_rename(struct nodes *nodes, const struct node *dir, const char *from,
	const char *to, bool noreplace);
/* new: array of names as gateway_session_names. */
char **node_scratch_names(struct nodes *nodes, const struct node *dir);
/* Calls tell for each there is, with the directory it lies in, under a lock: tell calls nothing of
 * this header. */
void node_scratch_each(struct nodes *nodes,
	void (*tell)(void *arg, const struct node *dir, const char *name, struct scratch *scratch),
	void *arg);

#endif
