/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_VIEW_H
#define FS_VIEW_H

#include "fs/fs.h"
#include "fs/node.h"

#include "base/buf.h"

#include <stdint.h>

/* Texts that are rendered: TABLE_VIEW and TABLE_LOG. */

/* Appends the whole text. uid: who reads; `ask_error` and its like are another text for each. */
int view_render(struct fs *fs, const struct node *node, uid_t uid, struct buf *out);

/* Its length now and when it last changed, as far as renderings show it. */
void view_size(
	struct fs *fs, const struct node *node, uid_t uid, uint64_t *bytes, uint64_t *changed_ns);

#endif
