/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SETTING_H
#define FS_SETTING_H

#include "fs/fs.h"
#include "fs/node.h"

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Files that are written whole: settings of sessions and collections, and messages.json. */

/* True for messages.json: it changes by itself, and is JSON. */
bool setting_is_messages(const struct table_row *row);

/* Appends the text as the file shows it (a newline at the end of a value that is not empty). Files
 * of sessions, router/ and cache/ show defaults. */
int setting_text(struct fs *fs, const struct node *node, struct buf *out);
/* The same without a default: only what was set. */
int setting_text_set(struct fs *fs, const struct node *node, struct buf *out);
/* Puts a whole text in force; one trailing newline is not part of the value, and an empty text
 * resets. 0 or -errno, and nothing changed. */
int setting_store(struct fs *fs, const struct node *node, const char *text, size_t len);
/* The same of who has unlinked it and puts a text in its place. What was in force before, if that
 * is it, is as before the unlink: an editor that was told of a fault puts its backup back, and the
 * reason is told again. */
int setting_store_over(
	struct fs *fs, const struct node *node, const struct buf *text, const struct buf *unlinked);
/* To its default, and the reason of the last refusal is withdrawn; nothing happens to
 * messages.json. */
int setting_reset(struct fs *fs, const struct node *node);
/* The handle has just been opened, by who has unlinked the file and makes it anew. Steals *before,
 * what was set: it comes back if what is written now is refused, unless somebody else has set
 * another value before it was opened. */
struct handle;
void setting_made_anew(struct handle *h, struct buf *before);
/* The same of who wanted to rename another file to its name. */
void setting_put_back(struct fs *fs, const struct node *node, const struct buf *before);
/* Size and time. */
void setting_size(struct fs *fs, const struct node *node, uint64_t *bytes, uint64_t *changed_ns);

#endif
