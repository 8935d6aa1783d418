/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_NODE_PARTS_H
#define FS_NODE_PARTS_H

/* What node.c and node_scratch.c share, and nobody else. */

#include "fs/node.h"

#include <pthread.h>

#define N_BUCKETS 4096

struct nodes {
	struct gateway *gateway;
	const struct tree *tree;
	pthread_mutex_t lock;
	uint64_t next_id;
	struct object fixed;
	struct list by_id[N_BUCKETS], by_name[N_BUCKETS];
};

/* new, with one reference and no number yet. NULL when memory is out. */
struct object *node_object_new(struct nodes *nodes, enum object_kind kind, const char *name);
struct object *node_object_free(struct object *o); /* one that was never enlisted */
/* Drops a reference and what hangs on it: the last of a scratch file drops one of its directory. */
void node_object_put(struct nodes *nodes, struct object *o);

/* Gives it a number and, but for scratch files, a name to be found by. Under the lock. */
void node_enlist(struct nodes *nodes, struct object *o);

/* A scratch file leaves its directory; what is to be put afterwards is added to *drop. Under the
 * lock. */
void node_scratch_detach(struct object *o, struct list *drop);
/* Without the lock. */
void node_drop_all(struct nodes *nodes, struct list *drop);

/* A reference of the scratch file `name`. 0 or -ENOENT. */
int node_scratch_find(
	struct nodes *nodes, const struct node *dir, const char *name, struct object **out);

#endif
