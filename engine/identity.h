/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_IDENTITY_H
#define ENGINE_IDENTITY_H

/* What answers depend on beside the file and the options: so that one that somebody kept is not
 * given for a question that would be put to the model in other words today. */

#include "base/buf.h"

struct engine_parts;

/*
 * To be raised, by one, by whoever changes what comes out of the same file, conversation and
 * sampling: which tokens a conversation becomes (chat, chat_opening, tokenizers), in which order
 * sums are made, which token is taken of which logits, and what text tokens become. Answers that
 * were kept then miss. tests/engine/test_identity.c knows this number beside digests of what is
 * rendered and sampled, and fails when one of them changed alone.
 */
#define IDENTITY_REVISION "1"

/* engine_identity; p NULL: of no model. */
int identity_append(const struct engine_parts *p, struct buf *out);

#endif
