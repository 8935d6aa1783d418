/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The LevelDB that the store keeps, in a state directory that is locked.
 *
 * After a failed write the log's tail is not to be trusted, so the database is closed, and opened
 * again before the next write, which replays the good part. The errno of a failure comes from a
 * probe (state_dir.h), as LevelDB has only text.
 */
#include "gateway/store_database.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/compaction.h"

#define STORE_VERSION "3" /* 1 had no journal, in that of 2 was no jump: both are read */

/* The database is nobody else's to read, also when the state directory was made by others with
 * other bits. */
static void make_private(const struct store_database *b)
{
	struct stat st;
	mkdir(b->path, 0700);
	int fd = open(b->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return; /* opening the database says why */
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077))
		fchmod(fd, 0700);
	close(fd);
}

/* The sentence of a LevelDB failure; frees message. */
static int explain(const struct store_database *b, char *message, struct err *err)
{
	int r = state_dir_probe(b->dir);
	if (r == -ENOSPC)
		err_set(err, r, "the state directory cannot be written: no space left in %s",
			b->dir->path);
	else
		err_set(err, r = -EIO, "the state directory cannot be written: %s", message);
	leveldb_free(message);
	return r;
}

static int open_it(struct store_database *b, struct err *err)
{
	char *message = NULL;
	b->db = compaction_open(b->options, b->path, &message);
	return b->db ? 0 : explain(b, message, err);
}

int store_database_get(
	struct store_database *b, const char *key, char **value, size_t *len, struct err *err)
{
	char *message = NULL;
	leveldb_readoptions_t *options = leveldb_readoptions_create();
	leveldb_readoptions_set_verify_checksums(options, 1);
	*value = leveldb_get(b->db, options, key, strlen(key), len, &message);
	leveldb_readoptions_destroy(options);
	if (!message)
		return 0;
	int r = err_set(err, -EIO, "the state directory cannot be read: %s", message);
	leveldb_free(message);
	return r;
}

static int check_version(struct store_database *b, struct err *err)
{
	char *message = NULL, *value;
	size_t n;
	int r = store_database_get(b, "version", &value, &n, err);
	if (r < 0)
		return r;
	bool older = !value || (n == 1 && (*value == '1' || *value == '2'));
	bool ours = value && n == 1 && *value == *STORE_VERSION;
	leveldb_free(value);
	if (older) {
		leveldb_put(b->db, b->synced, "version", 7, STORE_VERSION, 1, &message);
		return message ? explain(b, message, err) : 0;
	}
	return ours ? 0
		    : err_set(err, -ENOTSUP,
			      "state directory %s was written by another version of llmfs",
			      b->dir->path);
}

int store_database_open(struct store_database *b, const struct state_dir *dir, struct err *err)
{
	b->dir = dir;
	if (asprintf(&b->path, "%s/store", dir->path) < 0) {
		b->path = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	make_private(b);
	b->options = leveldb_options_create();
	leveldb_options_set_create_if_missing(b->options, 1);
	leveldb_options_set_write_buffer_size(b->options, (size_t)1 << 20);
	leveldb_options_set_max_open_files(b->options, 64);
	b->plain = leveldb_writeoptions_create();
	b->synced = leveldb_writeoptions_create();
	leveldb_writeoptions_set_sync(b->synced, 1);
	int r = open_it(b, err);
	return r ? r : check_version(b, err);
}

void store_database_close(struct store_database *b)
{
	if (b->db)
		leveldb_close(b->db);
	if (b->options)
		leveldb_options_destroy(b->options);
	if (b->plain)
		leveldb_writeoptions_destroy(b->plain);
	if (b->synced)
		leveldb_writeoptions_destroy(b->synced);
	free(b->path);
	*b = (struct store_database){0};
}

int store_database_scan(struct store_database *b, const char *prefix, const char *from,
	store_entry_fn *entry, void *arg)
{
	size_t n = strlen(prefix), key_len, value_len;
	int r = 0;
	leveldb_readoptions_t *options = leveldb_readoptions_create();
	leveldb_iterator_t *it = leveldb_create_iterator(b->db, options);
	for (leveldb_iter_seek(it, from, strlen(from)); r == 0 && leveldb_iter_valid(it);
		leveldb_iter_next(it)) {
		const char *key = leveldb_iter_key(it, &key_len);
		if (key_len < n || memcmp(key, prefix, n))
			break;
		const char *value = leveldb_iter_value(it, &value_len);
		r = entry(arg, key, key_len, value, value_len);
	}
	char *message = NULL;
	leveldb_iter_get_error(it, &message);
	if (message) {
		log_warn("store: part of it cannot be read: %s", message);
		leveldb_free(message);
	}
	leveldb_iter_destroy(it);
	leveldb_readoptions_destroy(options);
	return r;
}

int store_database_write(
	struct store_database *b, leveldb_writebatch_t *group, bool sync, struct err *err)
{
	int r = b->db ? 0 : open_it(b, err);
	if (r < 0)
		return r;
	char *message = NULL;
	leveldb_write(b->db, sync ? b->synced : b->plain, group, &message);
	if (!message)
		return 0;
	r = explain(b, message, err);
	leveldb_close(b->db);
	b->db = NULL;
	return r;
}

void store_database_find_old(
	struct store_database *b, struct store_sweep *w, leveldb_writebatch_t *group)
{
	size_t key_len, len;
	if (!b->db)
		return;
	leveldb_readoptions_t *options = leveldb_readoptions_create();
	leveldb_readoptions_set_fill_cache(options, 0);
	leveldb_iterator_t *it = leveldb_create_iterator(b->db, options);
	leveldb_iter_seek(it, w->from, strlen(w->from));
	for (; w->n < w->most && leveldb_iter_valid(it); leveldb_iter_next(it)) {
		const char *key = leveldb_iter_key(it, &key_len);
		if (key_len >= sizeof w->last || key_len < w->prefix_len ||
			memcmp(key, w->from, w->prefix_len))
			break;
		const char *value = leveldb_iter_value(it, &len);
		if (!w->old(w, value, len))
			break;
		leveldb_writebatch_delete(group, key, key_len);
		memcpy(w->last, key, key_len);
		w->last[key_len] = '\0';
		w->n++;
	}
	leveldb_iter_destroy(it);
	leveldb_readoptions_destroy(options);
}
