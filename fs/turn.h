/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TURN_H
#define FS_TURN_H

#include <stdbool.h>
#include <stdint.h>

struct collection;

/*
 * Whose turn it is to say what one thing of TREE is: a model, a budget, an API key, router/ or
 * cache/ with all its settings, where models/default points, or all that is in guards/. Any thread.
 *
 * A change through the mount has its turn from before it changes TREE until the gateway has been
 * told. A pass must not have it while it asks TREE, which may take long: it counts the changes
 * before it asks, and what it has found is good if there are no more of them when it has its turn.
 */
struct turn;

/* borrows, for ever: that of one of a collection; of a single one (name is "") */
struct turn *turn_of(const struct collection *c, const char *name);
/* borrows, for ever: models/default's. Who has it begins none of another one. */
struct turn *turn_of_default(void);

/* borrows, for ever: that of guards/. */
struct turn *turn_of_guards(void);

/* A change's: waits for its turn; no other change and no pass has one until turn_end. */
void turn_begin(struct turn *t);
void turn_end(struct turn *t);

/* A pass's, before it asks TREE: how many changes there were. Waits for the one under way. */
uint64_t turn_count(struct turn *t);
/* And when it knows: true: no change began since it counted, and it is its turn until turn_end. */
bool turn_begin_if(struct turn *t, uint64_t count);
/* A pass's that was overtaken so: what it finds from now until turn_end is good. It asks TREE a
 * second time, in its turn: where changes go on coming they would overtake it for ever, and one has
 * just come through, so TREE does answer. */
void turn_begin_overtaken(struct turn *t);

#endif
