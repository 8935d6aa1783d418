/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_KEYS_SEEN_H
#define FS_KEYS_SEEN_H

#include <stdbool.h>

struct collection;
struct fs;

/* Keys of models, and secrets of API keys, that have gone from TREE: how long they are kept, and
 * which of them go at all. */

/* The part of keys_pass (keys.h) that looks after them. True: another pass is due soon. */
bool keys_seen_pass(struct fs *fs);
/* In how many milliseconds another one is due, because something that one has seen in TREE has gone
 * and has a secret still; -1: nothing has. */
int keys_seen_due_ms(void);
/* How long such a secret is kept, and after how long is tried again what could not be done:
 * KEYS_SEEN_KEEP_MS, unless this says otherwise. For tests, which cannot wait that long. */
#define KEYS_SEEN_KEEP_MS 60000
void keys_seen_keep(unsigned ms);

/* In the turn of its model: a key was written in the mount, and has that time of its own. */
void keys_seen_new_key(const char *name);
/* In its turn: one of that name was made in the mount. It is another one. */
void keys_seen_forget(const struct collection *c, const char *name);

#endif
