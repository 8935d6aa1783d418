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

struct tree;

/* Calls tell for each, path below TREE, sentence without it; not all: in TREE itself only for those
 * that are a slip away from another name. False: nothing is there of which a TREE is made, and
 * nothing was told. */
bool stray_each(const struct tree *tree, bool all,
	void (*tell)(void *arg, const char *path, const struct stat *st, const char *sentence),
	void *arg);

/* A name in the manner of settings: lower-case letters, - and _ alone. */
bool stray_looks_like_setting(const char *name);
/* One that was meant to end in .rules, and does not: what ends in another manner is people's, and
 * editors'. */
bool stray_looks_like_rules(const char *name);
/* The name that a person can set there which is a slip or two away; NULL: none, or the name has no
 * more letters than that. */
const char *stray_meant(enum table_place place, const char *name);

/* Bytes that are no text or speak to a terminal become '?': names are of any bytes, and a line is
 * one line. */
void stray_clean(char *text);

#endif
