/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TREE_H
#define FS_TREE_H

#include "base/buf.h"
#include "base/err.h"

#include <stddef.h>
#include <sys/stat.h>

/*
 * TREE: the directory of plain configuration files. Reading and writing them; what they mean is
 * sync.h's. Safe for any number of threads: files are replaced whole, so no lock is needed.
 */
struct tree;

#define TREE_MAX_BYTES ((size_t)64 << 10) /* of one file */

/* new *out. -EPERM with a sentence: run by root, and somebody else can write it. */
int tree_open(struct tree **out, const char *path, struct err *err);
struct tree *tree_free(struct tree *t); /* accepts NULL, returns NULL */
/* borrows: the absolute path, without a slash at its end. */
const char *tree_path(const struct tree *t);

/* Appends the text of TREE/README. -ENOENT and others. */
int tree_readme(const struct tree *t, struct buf *out);

/* new: names of the directories in TREE/models that can be models' names, sorted, NULL-terminated;
 * NULL when memory is out or TREE/models cannot be read. Without TREE/models there are none. */
char **tree_models(const struct tree *t);
/* [A-Za-z0-9._-]{1,64}, and none of ".", "..", "default". */
int tree_name_ok(const char *name);

int tree_model_make(const struct tree *t, const char *name);
/* Removes its settings and its directory. -ENOTEMPTY, and nothing was removed, when there are other
 * files (a GGUF) in it: they are the user's. 0 when there was none. */
int tree_model_remove(const struct tree *t, const char *name);

/* Appends the text of TREE/models/NAME/FILE without a trailing newline. -ENOENT: there is none;
 * -EINVAL: not a regular file; -EFBIG. */
int tree_setting_get(const struct tree *t, const char *name, const char *file, struct buf *out);
/* Time and size of that file. */
int tree_setting_stat(const struct tree *t, const char *name, const char *file, struct stat *out);
/* Replaces it, atomically and lasting; a newline is added. An empty text removes it. */
int tree_setting_set(
	const struct tree *t, const char *name, const char *file, const char *text, size_t len);

/* Appends where TREE/models/default points; nothing when there is no such (bare) symlink. */
int tree_default_get(const struct tree *t, struct buf *out);
int tree_default_set(const struct tree *t, const char *name); /* NULL removes it */

/* Appends the absolute path that `text`, the value of models/NAME/path, stands for. */
int tree_resolve(
	const struct tree *t, const char *name, const char *text, size_t len, struct buf *out);

/* Refuses (-EPERM, sentence) what an unprivileged user other than us could have written. */
int tree_trusted(const struct tree *t, const char *name, const char *file, struct err *err);

#endif
