/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_KEYS_SEEN_H
#define FS_KEYS_SEEN_H

#include <stdbool.h>

struct fs;

/* Keys of models that have gone from TREE: how long they are kept, and which of them go at all. */

/* The part of keys_pass (keys.h) that looks after them. there: the models of TREE; NULL: they
 * cannot be read. True: another pass is due soon. */
bool keys_seen_pass(struct fs *fs, char *const *there);
/* In how many milliseconds another one is due, because a model that one has seen in TREE has gone
 * and has a key still; -1: none has. */
int keys_seen_due_ms(void);
/* How long such a key is kept, and after how long is tried again what could not be done:
 * KEYS_SEEN_KEEP_MS, unless this says otherwise. For tests, which cannot wait that long. */
#define KEYS_SEEN_KEEP_MS 60000
void keys_seen_keep(unsigned ms);

/* In the turn of its model: a key was written in the mount, and has that time of its own. */
void keys_seen_new_key(const char *name);
/* In its turn: a model of that name was made in the mount. It is another one. */
void keys_seen_forget(const char *name);

#endif
