/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_EMBEDDER_H
#define ENGINE_EMBEDDER_H

/* The worker of an encoder: texts that wait, and the thread that turns them into vectors. */

#include "base/err.h"
#include "engine/encoder.h"
#include "engine/engine.h"
#include "engine/tokenizer.h"

struct embedder;

#define EMBEDDER_MAX_WAITING 16384u /* texts */

struct embedder_options { /* all borrowed, and must outlive it */
	struct encoder *encoder;
	const struct gguf *gguf;
	const struct tokenizer *tokenizer; /* "bert" */
	uint32_t context_tok;              /* <= that of the encoder */
	uint32_t max_rows, max_texts; /* as the encoder was made with; max_rows >= context_tok */
};

/* new *out, with a thread of its own. -ENOMEM, -EAGAIN (no thread). */
int embedder_new(struct embedder **out, const struct embedder_options *options, struct err *err);
/* Every request that waits gets its done with -ECANCELED first. Accepts NULL, returns NULL. */
struct embedder *embedder_free(struct embedder *m);

/* engine_embed. */
int embedder_submit(
	struct embedder *m, const struct engine_embed *q, uint64_t *id, struct err *err);
/* engine_cancel. Not with a lock held that `done` takes. */
void embedder_cancel(struct embedder *m, uint64_t id);

/* running: texts in the step under way; waiting: all others. */
void embedder_stats(const struct embedder *m, struct engine_stats *out);

#endif
