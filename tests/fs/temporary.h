/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FS_TEMPORARY_H
#define TESTS_FS_TEMPORARY_H

/* A directory of its own for each test. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char temporary[64]; /* its path */

void temporary_make(void);
void temporary_remove(void);
/* Empties a file of it, at once. */
void temporary_empty(const char *name);
/* Runs a shell in it. */
void temporary_sh(const char *script);

#endif
