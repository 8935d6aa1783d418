/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_RULES_H
#define FS_RULES_H

#include "fs/fs.h"
#include "fs/node.h"

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct handle;

/* Files of rules, below guards/. */

/* Appends the text as the file shows it: what was saved, or nothing while it is truncated and not
 * yet written again. */
int rules_text(struct fs *fs, const struct node *node, struct buf *out);
/* Size and time. */
void rules_size(struct fs *fs, const struct node *node, uint64_t *bytes, uint64_t *changed_ns);
/* Whether a program has made or truncated the file and may still write it: what TREE has is not
 * what is wanted. Any thread. */
bool rules_pending(const char *file);
/* Said by guards.c at the instant of the change: the file was saved, or (replaced) the name stands
 * for another file from now on, or for none, and what handles of the one it was still write reaches
 * nobody. */
void rules_saved(struct fs *fs, const char *file, bool replaced);

/* The size of a file of rules as a handle sees it that has written and not saved. */
void rules_size_written(struct handle *h, struct stat *st);

#endif
