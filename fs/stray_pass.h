/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_STRAY_PASS_H
#define FS_STRAY_PASS_H

/* Names that mean nothing (stray.h), in `status` for as long as they are there. */

#include <stdbool.h>

struct fs;
struct node;

/* Names them, the first STRAY_PASS_MOST; once the mount has started each new one is logged, too.
 * True: one was made this moment, and may be on its way to another name: ask again soon. The
 * passes' thread (sync.h). */
#define STRAY_PASS_MOST 64
bool stray_pass(struct fs *fs);
/* So it does with scratch files of the mount (scratch.h) that lie among settings or rules for
 * longer than this. In how many milliseconds another pass is due because the next of them has; -1:
 * none is to come. */
#define STRAY_PASS_SETTLED_MS 5000
int stray_pass_due_ms(void);
/* One of that name came or went there: has the passes look, where it matters. Any thread. */
void stray_pass_wake(struct fs *fs, const struct node *dir, const char *name);

#endif
