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
struct collection;
struct tree;

#define TREE_MAX_BYTES ((size_t)64 << 10) /* of one file */

/* new *out. -EPERM with a sentence: run by root, and somebody else can write it. */
int tree_open(struct tree **out, const char *path, struct err *err);
struct tree *tree_free(struct tree *t); /* accepts NULL, returns NULL */
/* borrows: the absolute path, without a slash at its end. */
const char *tree_path(const struct tree *t);
/* borrows: TREE's descriptor, for tree_file.h. */
int tree_fd(const struct tree *t);

/* Appends the text of TREE/README. -ENOENT and others. */
int tree_readme(const struct tree *t, struct buf *out);

/* [A-Za-z0-9._-]{1,64}, and none of ".", ".." and the collection's own. */
int tree_name_ok(const struct collection *c, const char *name);
/* new: names of the directories in TREE/models (or what c is) that can be its names, sorted,
 * NULL-terminated; NULL when memory is out or it cannot be read. Without the directory there are
 * none. */
char **tree_names(const struct tree *t, const struct collection *c);

/* new: names of the symlinks beside them, but `default` and what tree_default_set has there for a
 * moment, as above. They are nobody's directory. */
char **tree_links(const struct tree *t, const struct collection *c);
#define TREE_LINK "a symlink, which is not followed: it must be a directory"
/* Whether the directory of all of them can be one: 0, also when it is not there; -ENOTDIR, -ELOOP:
 * it is something else, or a symlink; -EACCES: what is in it cannot be looked up. */
int tree_dir_check(const struct tree *t, const struct collection *c);
#define TREE_NO_DIR "is not a directory (symlinks are not followed)"
#define TREE_NO_ACCESS "cannot be read"
/* Whether there is a directory of that name, that is, one of them: 1; 0; -errno: nobody knows now.
 */
int tree_has(const struct tree *t, const struct collection *c, const char *name);
/* The directory of all of them, opened to look for names in it, and which one that is: another one
 * may have its name later. */
struct tree_place {
	int fd; /* -errno: it cannot be read */
	dev_t dev;
	ino_t ino;
};
struct tree_place tree_place_open(const struct tree *t, const struct collection *c);
void tree_place_close(struct tree_place *in);
/* Whether it can be read and has nothing of that name: 1; 0: something of that name is there, of
 * whatever kind; -errno: nobody knows now. */
int tree_has_gone(const struct tree_place *in, const char *name);
/* -EEXIST: there is one; -EINVAL: not a name. */
int tree_make(const struct tree *t, const struct collection *c, const char *name);
/* Removes its settings, its key and its directory. -ENOTEMPTY, and nothing was removed, when there
 * are other files (a GGUF) in it: they are the user's; -EACCES and others, likewise: the directory
 * may not be removed. 0 when there was none. Temporary files (tree_file.h) are nobody's. */
int tree_remove(const struct tree *t, const struct collection *c, const char *name);

/* Appends the text of TREE/models/NAME/FILE (of a single collection: TREE/router/FILE, name is "")
 * without the end of its last line and, of one line, blanks around it. -ENOENT: there is none;
 * -EINVAL: not a regular file; -EFBIG. */
int tree_setting_get(const struct tree *t, const struct collection *c, const char *name,
	const char *file, struct buf *out);
/* Time and size of that file. */
int tree_setting_stat(const struct tree *t, const struct collection *c, const char *name,
	const char *file, struct stat *out);
/* The first step of replacing it (tree_file_write; *file is borrowed): a newline is added, and of
 * an empty text there is to be none. Makes the directory of a single collection. -ENOENT: another
 * one has no directory. */
struct tree_file_write;
int tree_setting_write(struct tree_file_write *w, const struct tree *t, const struct collection *c,
	const char *name, const char *file, const char *text, size_t len);
/* All steps. 0 also when there is none to be removed. */
int tree_setting_set(const struct tree *t, const struct collection *c, const char *name,
	const char *file, const char *text, size_t len);

/* How long a symlink's target is without the slash behind it, with which shells complete the name
 * of a directory. */
size_t tree_target_length(const char *target);
/* Appends where TREE/models/default points; nothing when there is no such (bare) symlink. */
int tree_default_get(const struct tree *t, struct buf *out);
int tree_default_set(const struct tree *t, const char *name); /* NULL removes it */

/* Appends what `text`, the value of that setting, stands for: of a path (collection.h) the absolute
 * one, of all others itself. */
int tree_resolve(const struct tree *t, const struct collection *c, const char *name,
	const char *file, const char *text, size_t len, struct buf *out);

/* Refuses (-EPERM, sentence) a file or directory below TREE, such as "models/a/path", that an
 * unprivileged user other than us could have written, or could have put into its directory. */
int tree_trusted(const struct tree *t, const char *below, struct err *err);

/* Removes the temporary files that a daemon left which was killed while it wrote. Before this one
 * writes anything, and when no other can; what cannot be removed stays. */
void tree_sweep(const struct tree *t);

#endif
