/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_GUARDS_H
#define FS_GUARDS_H

#include "fs/fs.h"

#include "fs/table.h"
#include "fs/tree_guards.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * The texts below guards/: between TREE, which keeps what was saved, and the gateway, which decides
 * what is in force. All changes go to TREE first.
 */

/* An editor that has renamed a file away is done with it by then. */
#define GUARDS_AWAY_NS ((uint64_t)2000000000)

/* Whether the directory of that place holds rule files. */
bool guards_at(enum table_place place);
/*
 * What the gateway calls the file `name` of a directory. 0; -ENOENT: no text of the guards may have
 * that name, it is a scratch file's; -EINVAL: it ends in .rules and cannot be a rule file's.
 */
int guards_file(enum table_place place, const char *name, char file[TREE_GUARDS_NAME]);
/* new: names of the rule files of a directory, as gateway_session_names. */
char **guards_names(struct fs *fs, enum table_place place);

/*
 * One pass: what TREE has is set, what it no longer has is removed. deleted (may be NULL): files
 * that were deleted since the pass before, and so go at once; others are taken for renamed away.
 * True: another pass is due soon: a file was too young to be believed (tree_file.h), or one that
 * was renamed away is still in force. Called by one thread at a time.
 */
bool guards_pass(struct fs *fs, char *const *deleted);

/*
 * Saves a text and puts it in force. 0; 1: it is saved and has a fault; -errno: TREE could not take
 * it. still(arg) is asked at the instant of the change whether it is wanted, and must not wait; an
 * -errno of it is returned, and nothing was done. NULL: yes, and the name stands for another file
 * from now on.
 */
int guards_save(struct fs *fs, const char *file, const char *text, size_t len,
	int (*still)(const void *arg), const void *arg);
/* Whether its text had a fault when it was set last: what is in force then is another. */
bool guards_has_fault(const char *file);
/* Makes an empty file, which is not put in force: somebody is going to write it. Until then what
 * stood in it stays in force: if it was renamed away a moment ago, or `before` (may be NULL).
 * -EEXIST.
 */
int guards_create(struct fs *fs, const char *file, const struct buf *before);
/* A file that was put aside comes back, with `text`, if that is what TREE keeps of it; 0 and 1 as
 * guards_save, and nothing is written; with 0 the fault that was noted last stays. -ESTALE,
 * -ENOENT: it is not. */
int guards_put_back(
	struct fs *fs, const char *kept, const char *file, const char *text, size_t len);
/* Deletes a file: it is out of force at once, unless it was renamed away a moment ago. What was
 * wrong with it is forgotten then, and not with that. */
int guards_delete(struct fs *fs, const char *file);
/* To another rule file's name in the same directory. */
int guards_rename(struct fs *fs, const char *file, const char *to);
/* To a name (without directory) that is no rule file's: it stays in force for two seconds, and its
 * text in TREE under a name that *kept gets (tree_guards_put_aside). */
int guards_put_aside(
	struct fs *fs, const char *file, const char *wanted, char kept[TREE_GUARDS_NAME]);

#endif
