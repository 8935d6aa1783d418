/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_SYNC_PASS_H
#define FS_SYNC_PASS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct collection;
struct fs;

/* A pass (sync.h) over collections[i]: its objects, their settings, models/default. True: ask again
 * soon. One thread at a time. */
bool sync_pass(struct fs *fs, size_t i);
/* In how many milliseconds passes are to be made again though nothing has changed; -1: not. */
#define SYNC_PASS_ASK_MS 30000
int sync_pass_due_ms(void);

/*
 * Its steps, two for each thing. The first looks at what TREE says, which takes as long as TREE
 * takes. The second brings the gateway in line with that and returns 0; 1, when nothing was done:
 * a change through the mount has begun since the look, or what TREE has is not to be believed yet;
 * -errno and sight->err: what TREE has is refused, or the gateway cannot take it.
 */
struct sync_pass_sight {
	uint64_t n_changes; /* before the look (turn.h) */
	int r;              /* what came of it */
	struct buf text;    /* to be freed */
	struct err err;
};

/* Whether there is a directory of that name; it is made in the gateway, or removed there. */
void sync_pass_look(
	struct fs *fs, const struct collection *c, const char *name, struct sync_pass_sight *sight);
int sync_pass_follow(
	struct fs *fs, const struct collection *c, const char *name, struct sync_pass_sight *sight);

/* In its turn: as c->remove, also where models/default points to it: TREE may have a link that
 * dangles. */
int sync_pass_remove(struct fs *fs, const struct collection *c, const char *name, struct err *err);

/* The text of a setting; it is set if it is another one than the gateway has, or always. */
void sync_pass_look_setting(struct fs *fs, const struct collection *c, const char *name,
	const char *file, struct sync_pass_sight *sight);
int sync_pass_follow_setting(struct fs *fs, const struct collection *c, void *it, const char *file,
	bool always, struct sync_pass_sight *sight);

/* Where models/default points. */
void sync_pass_look_default(struct fs *fs, struct sync_pass_sight *sight);
int sync_pass_follow_default(struct fs *fs, struct sync_pass_sight *sight);

#endif
