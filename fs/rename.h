/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_RENAME_H
#define FS_RENAME_H

#include "fs/fs.h"
#include "fs/node.h"

/*
 * rename(2), as editors use it:
 * a scratch file over a setting (or messages.json) puts its text in force; refused, nothing has
 * moved; a scratch symlink over `default` moves that; a setting to an unknown name leaves a scratch
 * copy there and stays; a scratch file to an unknown name. In guards/ a scratch file over a rule
 * file's name is saved as that, also with faults; a rule file to another's name, or to an unknown
 * name, where it is a scratch file. Everything else is -EPERM, and -EXDEV between directories, so
 * that mv copies. To the thread `pid` that has just unlinked the other one nothing is in the way.
 */
int rename_any(struct fs *fs, const struct node *dir, const char *name, const struct node *new_dir,
	const char *new_name, unsigned flags, pid_t pid);

/* Unlinks a scratch file, and what TREE keeps of it. */
int rename_drop_scratch(
	struct fs *fs, const struct node *dir, const char *name, const struct node *scratch);

#endif
