/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_SEQ_TABLE_H
#define ENGINE_SEQ_TABLE_H

/* Sequences under way, by id. Whoever has one sees to its lock. Zeroed memory is an empty one. */

#include <stdint.h>

#include "engine/seq.h"

struct seq_table {
	struct seq **at;       /* [n]; NULL: free */
	uint32_t *free_places; /* [n], n_free of them valid */
	uint32_t n, n_free, n_live;
	uint32_t count; /* of sequences so far */
};

/* Borrows q and gives it an id, which no other ever had. 0 or -ENOMEM. O(1), now and then O(n). */
int seq_table_add(struct seq_table *t, struct seq *q);
void seq_table_remove(struct seq_table *t, const struct seq *q);
/* NULL: there is none of that id any more. */
struct seq *seq_table_find(const struct seq_table *t, uint64_t id);
void seq_table_end(struct seq_table *t); /* frees what is inside */

#endif
