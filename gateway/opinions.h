/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_OPINIONS_H
#define GATEWAY_OPINIONS_H

/* What a model said of the class of a prompt, for a while: so that the same prompt, asked again or
 * explained, does not ask it twice. Any thread; its lock is a leaf. */

#include <sys/types.h>

#include "gateway/router.h"
#include "gateway/text.h"

#define OPINIONS_MAX 256
#define OPINIONS_MS 600000 /* how long one is good: the model may have changed */

struct opinions;

struct opinions *opinions_new(void);                /* NULL when memory is out */
struct opinions *opinions_free(struct opinions *o); /* accepts NULL, returns NULL */

/* Borrowed for the call: of the question only a digest is kept. */
struct opinions_key {
	uid_t uid;             /* whose prompt: nobody learns what others have asked */
	uint64_t model;        /* model_serial */
	struct text *question; /* all that the model saw */
};

/* True: class and shares are put into *out, whose is_remembered becomes true. now_ms: any clock
 * that does not go back. */
bool opinions_find(struct opinions *o, const struct opinions_key *key, uint64_t now_ms,
	struct router_opinion *out);
/* Of OPINIONS_MAX the one that was not wanted for the longest time makes room. Without memory it is
 * not kept. */
void opinions_note(struct opinions *o, const struct opinions_key *key, uint64_t now_ms,
	const struct router_opinion *opinion);

#endif
