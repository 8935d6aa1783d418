/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Places of a text, in lists that grow at their ends: what a pass of the prefilter leaves for the
 * rules. One array for all lists, and it is the thread's: made at the first use, freed with the
 * thread, empty again for each pass. It does not grow: what is behind the first places that it has
 * no room for counts as a place altogether (full_from).
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/guard_parts.h"

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;
static _Thread_local struct guard_places *mine;

static void places_free(void *places)
{
	struct guard_places *p = places;

	free(p->place);
	free(p->head);
	free(p->tail);
	free(p);
	mine = NULL;
}

static void make_key(void)
{
	has_key = pthread_key_create(&key, places_free) == 0;
}

static struct guard_places *places_new(void)
{
	struct guard_places *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	pthread_once(&once, make_key);
	p->place = malloc((GUARD_PLACES_MAX + 1) * sizeof(*p->place));
	if (!p->place || !has_key || pthread_setspecific(key, p)) {
		places_free(p);
		return NULL;
	}
	return p;
}

struct guard_places *guard_places_for(size_t n)
{
	if (!mine)
		mine = places_new();
	if (mine && mine->n_lists < n) {
		free(mine->head);
		free(mine->tail);
		mine->head = malloc(n * sizeof(*mine->head));
		mine->tail = malloc(n * sizeof(*mine->tail));
		mine->n_lists = mine->head && mine->tail ? n : 0;
	}
	if (!mine || mine->n_lists < n)
		return NULL;
	if (n)
		memset(mine->head, 0, n * sizeof(*mine->head));
	mine->n = 0;
	mine->full_from = SIZE_MAX;
	return mine;
}

void guard_places_note(struct guard_places *p, uint32_t list, uint32_t at)
{
	uint32_t next = p->n + 1;

	if (p->head[list] && p->place[p->tail[list]].at == at)
		return;
	if (next > GUARD_PLACES_MAX)
		return;
	p->place[next] = (struct guard_place){at, 0};
	if (p->head[list])
		p->place[p->tail[list]].next = next;
	else
		p->head[list] = next;
	p->tail[list] = next;
	p->n = next;
}
