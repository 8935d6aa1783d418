/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STORE_DATABASE_H
#define GATEWAY_STORE_DATABASE_H

/* The store's LevelDB. One thread's at a time. */

#include <leveldb/c.h>

#include "gateway/state_dir.h"
#include "gateway/store.h"

struct store_database {
	const struct state_dir *dir; /* borrowed */
	char *path;                  /* DIR/store */
	leveldb_options_t *options;
	leveldb_writeoptions_t *plain, *synced;
	leveldb_t *db; /* NULL while it cannot be opened */
};

/* -ENOTSUP: another version of llmfs wrote it; -EIO, -ENOSPC, -ENOMEM. store_database_close in any
 * case. */
int store_database_open(struct store_database *b, const struct state_dir *dir, struct err *err);
/* Accepts a zeroed one; zeroes it. */
void store_database_close(struct store_database *b);
/* new *value, for leveldb_free; NULL: there is no such key. -EIO: nobody knows. Before the first
 * write. */
int store_database_get(
	struct store_database *b, const char *key, char **value, size_t *len, struct err *err);
/* As store_scan_from. */
int store_database_scan(struct store_database *b, const char *prefix, const char *from,
	store_entry_fn *entry, void *arg);
/* Writes the group, and (`sync`) waits for the disk. -EIO, -ENOSPC: whether some of it was written
 * is not known; the next write opens the database anew first. */
int store_database_write(
	struct store_database *b, leveldb_writebatch_t *group, bool sync, struct err *err);
/* What the sweep is to delete, as deletions in group; none while the database cannot be opened. */
void store_database_find_old(
	struct store_database *b, struct store_sweep *w, leveldb_writebatch_t *group);

#endif
