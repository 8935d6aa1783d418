/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_COLLECTION_H
#define FS_COLLECTION_H

#include "fs/node.h"
#include "fs/table.h"

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct gateway;

/*
 * A directory of configured things: in TREE and in the mount a directory each, with a file for each
 * setting. TREE is the truth about which there are and what their settings say; the gateway has
 * them, each as an object behind the functions here. `it` is a reference of such an object.
 *
 * Or (`single`) a directory that is one such thing itself, and always there: router/, cache/. Its
 * name is "", and what is said below of making, removing and naming does not apply.
 */
struct collection {
	const char *dir; /* its name in TREE and in the mount */
	const char *one; /* what one of it is called in sentences */
	enum object_kind kind;
	enum table_place outside, inside; /* where its directories stand; what is in one of them */
	bool single;
	/* A setting that was not set shows what is in force. */
	bool shows_defaults;
	/* What is no value now may be one later without a change in TREE: whom the system knows. */
	bool asks_system;
	bool default_is_link; /* `default` is a symlink there, and no name */
	const char *always;   /* exists with or without a directory in TREE, or NULL */
	/* Settings whose values are paths below its directory in TREE; ends with NULL. Or NULL. */
	const char *const *paths;
	const char *key; /* a file in TREE that is no setting (keys.h) and goes with it, or NULL */
	const char *secret; /* what the gateway keeps by its name, also when it has gone, or NULL */

	const char *const *(*settings)(void); /* names of files, ends with NULL */
	int (*name_check)(const char *name, struct err *err);
	int (*create)(struct gateway *g, const char *name, struct err *err);
	int (*remove)(struct gateway *g, const char *name, struct err *err);
	void *(*find)(struct gateway *g, const char *name); /* a new reference, or NULL */
	void (*put)(void *it);
	const char *(*name)(const void *it);
	char **(*names)(struct gateway *g); /* as gateway_model_names */
	/* False: the gateway has it for reasons of its own, and TREE knows nothing of it. The first
	 * setting makes it a configured one. */
	bool (*is_configured)(void *it);
	/* It can be neither made nor removed nor set, and what TREE has of its name is ignored.
	 * NULL: none is like that. */
	bool (*is_fixed)(void *it);
	int (*check)(const char *file, const char *value, size_t len, struct err *err);
	/* As session_setting_is_hopeless. */
	bool (*hopeless)(const char *file, const char *value, size_t len);
	int (*set)(void *it, const char *file, const char *value, size_t len, struct err *err);
	int (*get)(void *it, const char *file, struct buf *out);
	/* What its file in TREE holds is no value. NULL: nothing follows. */
	void (*fail)(void *it, const char *file);

	/* With a secret only (keys_seen.h): whether one that has gone has it still; it goes, 0 also
	 * where there is none. */
	bool (*has_secret)(struct gateway *g, const char *name);
	int (*forget_secret)(struct gateway *g, const char *name, struct err *err);
	/* new: those that have gone with a secret, which is to go also where this daemon has not
	 * seen them in TREE, as `names`. NULL: such a one stays. */
	char **(*names_gone)(struct gateway *g);
};

extern const struct collection collection_models, collection_budgets, collection_keys,
	collection_router, collection_cache;

/* All of them; ends with NULL. */
enum { COLLECTIONS = 5 };
extern const struct collection *const collections[COLLECTIONS + 1];

/* The one whose objects are of that kind, or NULL. */
const struct collection *collection_of(enum object_kind kind);
/* The one whose directories stand in that place, or NULL. */
const struct collection *collection_at(enum table_place outside);
/* The one whose settings stand in that place, or NULL. */
const struct collection *collection_inside(enum table_place inside);
/* The single one of that directory, or NULL. */
const struct collection *collection_single(const char *dir);

/* Whether the gateway has one of that name, and it is like that. */
bool collection_is_configured(const struct collection *c, struct gateway *g, const char *name);
bool collection_is_fixed(const struct collection *c, struct gateway *g, const char *name);
/* Whether it is the one that the gateway has of its name now: there may be another, or none. */
bool collection_has(const struct collection *c, struct gateway *g, void *it);
/* Whether the value of that setting is a path, see `paths`. */
bool collection_is_path(const struct collection *c, const char *file);
/* Where a file of one is below TREE: "models/NAME/FILE", "router/FILE". */
#define COLLECTION_PATH 176
void collection_path(
	const struct collection *c, const char *name, const char *file, char path[COLLECTION_PATH]);

#endif
