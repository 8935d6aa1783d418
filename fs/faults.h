/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_FAULTS_H
#define FS_FAULTS_H

#include "fs/collection.h"
#include "fs/fs.h"
#include "fs/node.h"

#include "base/buf.h"
#include "base/err.h"

/* What was wrong with the last write to a model, a budget, an API key, the router, the cache or the
 * guards: their file `error`. Any thread; a leaf lock. */

struct faults;

struct faults *faults_new(void);              /* new; NULL when memory is out */
struct faults *faults_free(struct faults *f); /* accepts NULL, returns NULL */

/* A write to that file, of a collection's, ended with r (0: well, which forgets what was noted) and
 * that sentence. Of other files nothing is noted. */
void faults_note(struct fs *fs, const struct node *node, int r, const struct err *err);
/* That file was unlinked: nothing is told of its directory, until something is noted or what was
 * unlinked comes back. */
void faults_withdraw(struct fs *fs, const struct node *node);
void faults_tell_again(struct fs *fs, const struct node *node);
/* The same of a file of the guards ("input/pii.rules"); r may be positive, too: it was saved, with
 * that fault. */
void faults_note_guard(struct fs *fs, const char *file, int r, const struct err *err);
/* models/default was to point to that model: noted there, as the link is in no directory that has
 * an `error`. */
void faults_note_default(struct fs *fs, const char *name, int r, const struct err *err);
/* Appends the sentence about what that file `error` lies in; nothing where nothing was wrong. */
int faults_render(struct fs *fs, const struct node *node, struct buf *out);
/* It is gone; one of that name later is another. */
void faults_forget(struct fs *fs, const struct collection *c, const char *name);
/* The same of a file of the guards: a fault of another one stays. */
void faults_forget_guard(struct fs *fs, const char *file);

#endif
