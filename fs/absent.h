/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_ABSENT_H
#define FS_ABSENT_H

/* Files of models that are not there, for `status`: a slip in a `path` shows before the first
 * request. */

struct fs;

/* Looks for each, and tells the models. The passes' thread (sync.h), while requests are served. */
void absent_pass(struct fs *fs);
/* In how many milliseconds another look is due, because the last one has missed a file, and no
 * change of TREE says when it comes; -1: it has missed none. */
int absent_due_ms(void);

#endif
