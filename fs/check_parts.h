/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_CHECK_PARTS_H
#define FS_CHECK_PARTS_H

/* What the files of check.h share: one look at a TREE. */

#include <stdio.h>

#include "fs/collection.h"
#include "fs/tree.h"

struct check {
	struct tree *tree;
	char **models; /* that there are */
	FILE *out;
	int n;       /* faults */
	size_t line; /* check_models.c: where the name stands that is looked at; 0: its file has no
			lines */
};

/* A fault of a file of TREE; line 0: of all of it. */
__attribute__((format(printf, 4, 5))) void check_say(
	struct check *k, const char *path, size_t line, const char *format, ...);

/* check_setting.c: a file of a collection, which may not be there. */
void check_setting(struct check *k, const struct collection *c, const char *name, const char *file);

/* check_models.c. What is named must be there, and be able to do that, as far as can be known: each
 * word of a list of models to answer who did not name it (what `model` falls back to: not itself;
 * ""); one that llmfs asks; one to give embeddings. */
void check_models_answers(struct check *k, const char *path, const char *model, const char *names);
void check_models_judges(struct check *k, const char *path, const char *name);
void check_models_embeds(struct check *k, const char *path, const char *name);
/* The model's own file. */
void check_models_file(struct check *k, const char *name);

#endif
