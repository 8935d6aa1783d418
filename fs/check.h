/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_CHECK_H
#define FS_CHECK_H

#include <stdio.h>

/* Reads all of TREE as a mount would, and writes each fault as a line "FILE: reason", of files with
 * lines "FILE:LINE: reason" (rules: with the column, too), FILE below TREE. Opens no store, asks no
 * server, loads no model. The number of faults; -errno, with a sentence in the line, when TREE
 * cannot be read. */
int check_tree(const char *path, FILE *out);

#endif
