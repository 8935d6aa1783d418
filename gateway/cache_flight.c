/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single flight. The one that leads computes into its own answer, which any number may read as it
 * grows; those that follow hold a reference of it and need nothing else from here. So nothing is
 * sent to them: when the leader is dropped they see its answer break off, come again, and the first
 * of them leads. A flight exists as long as its leader does; one that took off before a flush is
 * not boarded after it.
 */
#include "gateway/cache_flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/gateway_sessions.h"

struct cache_flight {
	struct cache_flight *next; /* of the same bucket */
	uint64_t serial;
	struct cache_flyer *leads;
	struct answer *answer;
	struct list followers; /* struct cache_flyer */
	size_t n;
	const struct cache_key *key; /* that of who leads */
};

enum { N_BUCKETS = 1024 }; /* requests under way are few */

struct cache_flights {
	struct cache_flight *buckets[N_BUCKETS];
};

struct cache_flights *cache_flights_new(void)
{
	return calloc(1, sizeof(struct cache_flights));
}

struct cache_flights *cache_flights_free(struct cache_flights *f)
{
	free(f);
	return NULL;
}

static struct cache_flight **bucket(struct cache_flights *f, const struct cache_id *id)
{
	return &f->buckets[id->a % N_BUCKETS];
}

/* The newest one of the key, unless that is too old. */
static struct cache_flight *find(
	struct cache_flights *f, const struct cache_key *key, uint64_t not_before)
{
	struct cache_flight *flight = *bucket(f, &key->id);
	while (flight && !(flight->key->id.b == key->id.b && cache_key_is_same(key, flight->key)))
		flight = flight->next;
	return flight && flight->serial >= not_before ? flight : NULL;
}

int cache_flight_board(struct cache_flights *f, struct cache_flyer *flyer,
	const struct cache_key *key, uint64_t serial, uint64_t not_before, struct answer *answer,
	struct answer **leader)
{
	struct cache_flight *flight = find(f, key, not_before);
	list_init(&flyer->link);
	if (flight) {
		flyer->flight = flight;
		list_append(&flight->followers, &flyer->link);
		flight->n++;
		*leader = answer_ref(flight->answer);
		return 1;
	}
	flight = malloc(sizeof *flight);
	if (!flight)
		return -ENOMEM;
	struct cache_flight **at = bucket(f, &key->id);
	*flight = (struct cache_flight){.next = *at,
		.serial = serial,
		.leads = flyer,
		.answer = answer_ref(answer),
		.key = key};
	list_init(&flight->followers);
	*at = flight;
	flyer->flight = flight;
	return 0;
}

size_t cache_flight_leave(struct cache_flights *f, struct cache_flyer *flyer)
{
	struct cache_flight *flight = flyer->flight;
	flyer->flight = NULL;
	if (!flight)
		return 0;
	if (flight->leads != flyer) {
		list_remove(&flyer->link);
		flight->n--;
		return 0;
	}
	struct cache_flight **at = bucket(f, &flight->key->id);
	while (*at != flight)
		at = &(*at)->next;
	*at = flight->next;
	list_for_each (link, &flight->followers) {
		list_entry(link, struct cache_flyer, link)->flight = NULL;
		list_remove(link);
	}
	size_t n = flight->n;
	answer_put(flight->answer);
	free(flight);
	return n;
}
