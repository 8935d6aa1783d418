/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TREE_GUARDS_H
#define FS_TREE_GUARDS_H

#include "fs/tree.h"
#include "fs/tree_file.h"

/*
 * The texts of TREE/guards, bytes as they are. `file` is a name below guards/, as the gateway has
 * it: "input/NAME.rules", "output/NAME.rules", "moderation". Safe for any number of threads. What
 * does not say that it lasts does so in the file system's own time.
 */

#define TREE_GUARDS_MAX ((size_t)256 << 10) /* of one text */
#define TREE_GUARDS_NAME 288                /* room for a name below guards/ */

/* Appends the text. -ENOENT; -EINVAL: not a regular file; -EFBIG. */
int tree_guards_get(const struct tree *t, const char *file, struct buf *out);
/* -ENOENT; -EINVAL: not a regular file, *out is filled. */
int tree_guards_stat(const struct tree *t, const char *file, struct stat *out);
/* The first step of replacing it (tree_file_write, *file is borrowed); makes the directories that
 * are missing. */
int tree_guards_write(struct tree_file_write *w, const struct tree *t, const char *file,
	const char *text, size_t len);
/* Makes an empty one. -EEXIST. */
int tree_guards_create(const struct tree *t, const char *file);
/* 0 also when there is none. */
int tree_guards_remove(const struct tree *t, const char *file);
/* Within one directory; replaces what is there. */
int tree_guards_rename(const struct tree *t, const char *file, const char *to);
/* Gives it a name in its directory by which it is no rules: `wanted`, or, where TREE has a file of
 * that name, `wanted`.1 and so on; *kept gets it, with the directory. -EEXIST: all are taken. */
int tree_guards_put_aside(
	const struct tree *t, const char *file, const char *wanted, char kept[TREE_GUARDS_NAME]);

/* Whether the directory "input" or "output" can hold rules: 0, also when it, or guards, is not
 * there; -ENOTDIR, -ELOOP: one of the two is something else, or a symlink, which is not followed;
 * -EACCES; others, such as -EMFILE or -EIO: nobody knows now. */
int tree_guards_dir_check(const struct tree *t, const char *stage);
/* new: names of what may be rules, whatever kind of file it is, sorted; NULL when memory is out or
 * a directory cannot be read now. */
char **tree_guards_names(const struct tree *t);
/* new: those beside them that end in .rules and that no rule file may have. NULL as above. */
char **tree_guards_bad_names(const struct tree *t);
#define TREE_GUARDS_BAD_NAME                                                                       \
	"not a name of a file of rules, and not in force: at most 64 of A-Z a-z 0-9 . _ -, "       \
	"NAME.rules"
/* A text of no bytes is what a crash has left of one, or somebody's slip. */
#define TREE_GUARDS_EMPTY "the file is empty: delete it, or write a comment into it"

#endif
