/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_STRAY_H
#define FS_STRAY_H

/*
 * What lies in TREE under a name that means nothing there, and looks as if it were to: a slip in
 * the name of a setting, of a directory or of a file of rules. What is people's and editors' (other
 * letters, a dot first or within, a model's files) is not.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "fs/table.h"

struct fs;
struct tree;

/* Calls tell for each, path below TREE, sentence without it. False: nothing is there of which a
 * TREE is made, and nothing was told. */
bool stray_each(const struct tree *tree,
	void (*tell)(void *arg, const char *path, const struct stat *st, const char *sentence),
	void *arg);

/* Names them in `status`, the first STRAY_MOST, for as long as they are there; once the mount has
 * started each new one is logged, too. True: one was made this moment, and may be on its way to
 * another name: ask again soon. The passes' thread (sync.h). */
#define STRAY_MOST 64
bool stray_pass(struct fs *fs);
/* So do scratch files of the mount (scratch.h) that lie among settings for longer than this. In how
 * many milliseconds another pass is due because there are such; -1: there are none. */
#define STRAY_SETTLED_MS 5000
int stray_due_ms(void);

/* A name in the manner of settings: lower-case letters, - and _ alone. */
bool stray_looks_like_setting(const char *name);
/* The name that a person can set there which is a slip or two away; NULL: none, or the name has no
 * more letters than that. */
const char *stray_meant(enum table_place place, const char *name);

/* Bytes that are no text or speak to a terminal become '?': names are of any bytes, and a line is
 * one line. */
void stray_clean(char *text);

#endif
