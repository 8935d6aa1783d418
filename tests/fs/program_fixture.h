/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FS_PROGRAM_FIXTURE_H
#define TESTS_FS_PROGRAM_FIXTURE_H

/* What programs do with files of rules, without a kernel: handles, scratch files and renames over a
 * TREE and a real gateway, and what is then in TREE, in force and to be seen. */

#include "fs/handle.h"
#include "fs/node.h"

extern struct fs program_fs;
extern struct node program_guards, program_input; /* the directories */
/* Rules; the last has a fault. */
extern const char program_one[18], program_two[18], program_bad[15];

/* Must be there; node_put it. */
struct node program_child(const struct node *dir, const char *name);
/* What guards_save returned. */
int program_saved_as(const char *file, const char *text);
/* The two of a checked fixture: input/a.rules is saved, with program_one. */
void program_begin(void);
void program_end(void);
/* What programs do, below input/. Opening must succeed; the others return what the handle's do. */
struct handle *program_opens(const char *name, int flags);
int program_writes(struct handle *h, uint64_t offset, const char *text);
int program_flushes(struct handle *h);
/* The last close. */
void program_closes(struct handle *h);
int program_cuts(struct handle *h, uint64_t size);
/* In TREE. */
void program_saved_is(const char *file, const char *text);
/* In the gateway. */
bool program_set_is(const char *file, const char *text);
/* guards/status has that line, and the stage is not closed. */
bool program_status_has(const char *line);
/* What is to be read there, and its size. */
void program_shows(const char *name, const char *text);
/* Below input/, as the next two. */
bool program_exists(const char *name);
void program_scratch(const char *name, const char *text);
/* What rename_any returned. */
int program_moves(const char *from, const char *to, unsigned flags);

#endif
