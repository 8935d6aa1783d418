/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_LOOK_H
#define GATEWAY_CACHE_LOOK_H

/* A request in the cache's hands, and the steps that it takes behind L1. The loop's. */

#include "gateway/cache_parts.h"

enum cache_step {
	CACHE_STEP_DISK,   /* reads the entry of its key */
	CACHE_STEP_EMBED,  /* has its prompt made a vector */
	CACHE_STEP_SEARCH, /* looks for near ones */
	CACHE_STEP_NEAR,   /* reads the entry of a near one */
	CACHE_STEP_OVER,
};

struct cache_ticket {
	struct cache *c;
	struct cache_ask ask; /* user and prompt are those behind it */
	char user[TEXT_NAME_SIZE];
	char *prompt;         /* NULL: it is not semantic */
	struct cache_key key; /* of ask.key */
	struct cache_flyer flyer;
	enum cache_step step;
	bool served, computes; /* it was a hit; a miss */
	uint64_t serial;
	char model[TEXT_NAME_SIZE]; /* of its vector */
	float *vector;              /* [dim] of its prompt */
	size_t dim;
	struct cache_near near[CACHE_NEAR_MAX];
	size_t n_near, at_near;
	struct cache_disk_read *read;
	struct embedding *embedding;
	struct cache_search *search;
	struct loop_timer timer;
	void (*done)(void *arg, const struct cache_found *found);
	void *arg;
};

/* What was found, of an answer whose reference it takes over. */
void cache_look_fill(struct cache_found *found, enum cache_level level, double score,
	const struct cache_answer *a);
/* The ticket's way is over; counts. */
void cache_look_conclude(struct cache_ticket *t, const struct cache_found *found);
/* Looks in L2, and then in L3. 0: *found is the outcome; 1: the ticket is told. */
int cache_look_on_disk(struct cache_ticket *t, struct cache_found *found);
/* The ticket's timer. */
void cache_look_late(struct loop_timer *timer);

#endif
