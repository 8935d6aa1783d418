/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TREE_FILE_H
#define FS_TREE_FILE_H

#include "base/buf.h"

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/*
 * Files and directories below TREE, each named in an open directory: nothing that is not a regular
 * file is opened, no symlink is followed, nothing blocks on what it opens.
 */

/* A descriptor, or -errno. */
int tree_file_dir(int at, const char *name);
/* The same, after making it if it is missing. */
int tree_file_dir_make(int at, const char *name);
/* The listing of an open directory, which stays open: closedir ends it. 0 or -errno. */
int tree_file_list(int dir, DIR **out);

/* Appends the whole text. -ENOENT; -EINVAL: not a regular file; -EFBIG: longer than max. On failure
 * nothing was added. */
int tree_file_read(int at, const char *name, size_t max, struct buf *out);
/* Whether it was changed so lately that, if it is empty, somebody may have truncated it and not yet
 * written it. */
bool tree_file_is_young(const struct stat *st);
#define TREE_FILE_YOUNG_MS 200
/*
 * Replaces it, atomically and lasting (a reader sees the old text or the new one, also after a
 * crash), in three steps: writes the text beside it, which takes its time; gives it the name, at
 * once; makes that last, or, where there was no second step, forgets the text. NULL for a text:
 * there is to be none of that name; then `dir` may be negative: it is not there, and all is done.
 * `dir` is stolen, name borrowed until the end. After a first step that failed there is no other.
 */
#define TREE_FILE_BESIDE 288
struct tree_file_write {
	int dir;
	const char *name; /* 255 bytes less what the name beside it is longer */
	char beside[TREE_FILE_BESIDE];
};
int tree_file_write(
	struct tree_file_write *w, int dir, const char *name, const char *text, size_t len);
int tree_file_write_take(struct tree_file_write *w);
void tree_file_write_end(struct tree_file_write *w);
/* The name beside it, this thread's. A symlink that is replaced by a rename has one, too. */
void tree_file_name_beside(const char *name, char beside[TREE_FILE_BESIDE]);
/* Whether it is one, of any thread or daemon: it is there for a moment, or was left by a kill, and
 * is nothing of a person's. */
bool tree_file_is_beside(const char *name);
/* Removes those in a directory that belong to no process but this one, or (all) to any: where
 * nothing is being written by this one, or what is may be lost. 0, or -errno of the listing. */
int tree_file_sweep(int dir, bool all);
/* Removes it. 0 also when there is none. */
int tree_file_remove(int at, const char *name);

#endif
