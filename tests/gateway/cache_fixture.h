/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_CACHE_FIXTURE_H
#define TESTS_GATEWAY_CACHE_FIXTURE_H

/* A cache in a directory of its own, behind as much of a gateway as it needs, and requests that ask
 * it on the loop and wait for what it says. */

#include "gateway/cache_parts.h"

struct cache_fixture {
	struct gateway *g;
	struct cache *c;
	char dir[64], path[96]; /* path: the cache's, below dir */
};

void cache_fixture_make(struct cache_fixture *f); /* the directory and the gateway */
void cache_fixture_open(struct cache_fixture *f);
void cache_fixture_close(struct cache_fixture *f);
void cache_fixture_reopen(struct cache_fixture *f); /* waits until L2 and L3 are loaded */
void cache_fixture_end(struct cache_fixture *f);

void cache_fixture_on_loop(struct cache_fixture *f, void (*run)(void *arg), void *arg);
void cache_fixture_set(struct cache_fixture *f, const char *file, const char *value);
void cache_fixture_ctl(struct cache_fixture *f, const char *line);
double cache_fixture_stat(struct cache_fixture *f, const char *name);
/* What status would say of the cache: "" when all is well. Valid until the next call. */
const char *cache_fixture_fault(struct cache_fixture *f, const char *key);
void cache_fixture_settle(struct cache_fixture *f); /* L2 and L3 have done what they were told */

/* What is asked; NULLs and zeros are filled in: user "ada", system "", model "m", prompt "hi". */
struct question {
	const char *user, *model, *system, *prompt;
	const char *field, *value; /* one more field of the key */
	bool unstored, semantic;
	struct answer *answer; /* that it is going to fill */
};
void cache_fixture_make_ask(struct cache_ask *ask, const struct question *q);
/* new *t. Waits for the outcome. found.text and found.leader are the caller's. */
struct cache_found cache_fixture_ask(
	struct cache_fixture *f, const struct question *q, struct cache_ticket **t);
void cache_fixture_land(struct cache_fixture *f, struct cache_ticket *t, const char *text);
void cache_fixture_drop(struct cache_fixture *f, struct cache_ticket *t);

/* Asks, must be a miss, and stores. */
void cache_fixture_store(struct cache_fixture *f, const struct question *q, const char *text);
/* Asks, and lets go: the level that had this text (0: a miss). A hit with another text fails. */
int cache_fixture_hit(struct cache_fixture *f, const struct question *q, const char *text);
void cache_fixture_forget_memory(struct cache_fixture *f); /* L1 is empty afterwards */
char *cache_fixture_lookup(struct cache_fixture *f, const struct question *q, const float *vector,
	size_t dim); /* free() it */

#endif
