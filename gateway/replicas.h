/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_REPLICAS_H
#define GATEWAY_REPLICAS_H

/*
 * Which of a model's servers a request goes to: of those that can take one, that with the least
 * outstanding work for its weight, where equals take turns by their weights; but the one that had
 * the beginning of the same conversation before is preferred as long as it has at most 2 requests
 * more than its share would be, because its KV cache has that beginning.
 *
 * Pure: its caller says what time it is, and locks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/breaker.h"

enum { REPLICAS_MAX = 16, REPLICAS_REMEMBERED = 1024, REPLICAS_SLACK = 2 };

struct replica {
	struct breaker breaker;
	uint32_t weight;        /* 1 to 1000 */
	uint32_t outstanding;   /* requests that it has */
	bool down;              /* it does not pass its health checks */
	uint64_t hold_until_ns; /* it asked to be left alone until then */
	double turn;            /* when it is its turn among equals */
	bool out;               /* it could not take the last request */
};

struct replicas {
	size_t n;
	struct replica list[REPLICAS_MAX];
	double turn; /* of the one that had the last */
	struct replicas_memory {
		uint64_t affinity;
		uint32_t replica;
		bool known;
	} remembered[REPLICAS_REMEMBERED];
};

struct replicas_pick {
	size_t replica;
	enum breaker_pass pass;
};

/* Adds one: n < REPLICAS_MAX. Zeroed memory is none. */
void replicas_add(struct replicas *r, uint32_t weight, const struct breaker *breaker);

/*
 * affinity: a number of the conversation's beginning; 0: none. tried: bits of replicas that this
 * request was sent to already; one of them only if there is no other. 0: it counts as outstanding
 * there until replicas_done; 1: none can take it.
 */
int replicas_choose(struct replicas *r, uint64_t affinity, uint32_t tried, uint64_t now_ns,
	struct replicas_pick *out);
void replicas_done(struct replicas *r, const struct replicas_pick *pick, enum breaker_end end,
	uint64_t now_ns);

/* It asked not to be sent anything until then: that binds all requests, not the one that heard it.
 * An earlier time than one that is known changes nothing. */
void replicas_hold(struct replicas *r, size_t replica, uint64_t until_ns);

bool replicas_can_take(const struct replica *p, uint64_t now_ns);
/* Whether one can take a request now. Or: the one that may be the first to, and in how many
 * nanoseconds (UINT64_MAX: nobody knows, all are down). */
bool replicas_can(const struct replicas *r, uint64_t now_ns);
size_t replicas_next(const struct replicas *r, uint64_t now_ns, uint64_t *wait_ns);

#endif
