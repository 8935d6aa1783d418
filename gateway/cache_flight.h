/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_FLIGHT_H
#define GATEWAY_CACHE_FLIGHT_H

/* Requests of one key that are under way: one leads, the others read its answer. The loop's. */

#include "gateway/answer.h"
#include "gateway/cache_key.h"

struct cache_flights;
struct cache_flight;

/* A request in it; zeroed memory is in none. */
struct cache_flyer {
	struct cache_flight *flight; /* NULL: in none, or it is over */
	struct list link;            /* among those that follow */
};

struct cache_flights *cache_flights_new(void); /* NULL when memory is out */
/* Nobody is under way any more. Accepts NULL, returns NULL. */
struct cache_flights *cache_flights_free(struct cache_flights *f);

/* 1: it follows one whose serial is not below not_before; *leader is a new reference. 0: it leads
 * from now on, with that answer (a reference is taken), serial and key (borrowed until it leaves).
 * -ENOMEM: in none. */
int cache_flight_board(struct cache_flights *f, struct cache_flyer *flyer,
	const struct cache_key *key, uint64_t serial, uint64_t not_before, struct answer *answer,
	struct answer **leader);
/* Leaves; with the one that leads it is over: whoever boards next leads the next one. How many
 * followed it. Harmless for one in none. */
size_t cache_flight_leave(struct cache_flights *f, struct cache_flyer *flyer);

#endif
