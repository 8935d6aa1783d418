/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PROTOCOL_CHUNK_H
#define GATEWAY_PROTOCOL_CHUNK_H

/* The usual chunk of an OpenAI stream, read without a tree of objects. */

#include "gateway/protocol_parts.h"

/* 1: it is a usual one, and what it says is taken, as reading it with the JSON library would. 0: it
 * is not, perhaps no JSON at all, and nothing is taken: it is to be read in the long way. -ENOMEM,
 * -EPROTO (too much text), with a sentence. */
int protocol_chunk_take(const char *json, size_t len, const struct protocol_sink *to);

#endif
