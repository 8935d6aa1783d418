/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_EMBEDDING_H
#define GATEWAY_EMBEDDING_H

/* One text as a vector, by a model, whose gate it passes as a request does: loads it if need be.
 * The loop's, but for what it says. */

#include "gateway/core.h"
#include "gateway/provider.h"

struct embedding;

/* Who pays for one that is made on the way to something else. On the loop. */
struct embedding_payer {
	/* embedding_ask.begins. */
	int (*begins)(void *arg, struct model *m, uint64_t tok, struct err *err);
	/* It is over, as embedding_ask.done has it; also of one that never began. */
	void (*took)(void *arg, int status, const struct trace_usage *usage);
};

struct embedding_ask {
	const char *model, *text; /* copied */
	size_t len;
	uid_t uid;           /* whose turn it is at the gate */
	uint64_t timeout_ms; /* from the beginning; 0: none */
	/* The model is to be asked now: `tok` is what it may use of it at most. On the loop, at
	 * most once; NULL: nothing to say. < 0: it is not asked, and done has this and the
	 * sentence. */
	int (*begins)(void *arg, struct model *m, uint64_t tok, struct err *err);
	/* Once. vector: [dim], unit length, borrowed; or status < 0 and the sentence. usage: what
	 * is known to be used; all 0 when the model was given up. */
	void (*done)(void *arg, int status, const char *sentence, const float *vector, size_t dim,
		const struct trace_usage *usage);
	void *arg;
};

/* new *out, to be ended with embedding_cancel, also after done. done comes on the loop, never
 * inside this call, unless embedding_cancel came before. -EHOSTUNREACH: there is no such model, or
 * it cannot be loaded; -EBUSY: too many wait for it; -ENOTSUP (done's): it gives no embeddings;
 * -ENOMEM. */
int embedding_begin(struct embedding **out, struct gateway *g, const struct embedding_ask *ask,
	struct err *err);
/* done does not come any more, and whoever works for it may stop. Accepts NULL, returns NULL. */
struct embedding *embedding_cancel(struct embedding *e);

#endif
