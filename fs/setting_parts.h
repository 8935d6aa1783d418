/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SETTING_PARTS_H
#define FS_SETTING_PARTS_H

/* What setting.c, the open file, has of setting_value.c. */

#include "fs/collection.h"
#include "fs/setting.h"

/* The collection in whose object a setting is, NULL: in a session; *it: that object, borrowed. */
const struct collection *setting_owner(struct fs *fs, const struct node *node, void **it);
/* setting_store, with the sentence. */
int setting_store_and_note(
	struct fs *fs, const struct node *node, const char *text, size_t len, struct err *err);
/* In force again, empty: the default; the refusal of another value stays told. */
int setting_restore(struct fs *fs, const struct node *node, const struct buf *before);
/* Whether it is not at its default any more, where one has left it: somebody else wrote. */
bool setting_is_set(struct fs *fs, const struct node *node);

#endif
