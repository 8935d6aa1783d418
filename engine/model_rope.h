/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_MODEL_ROPE_H
#define ENGINE_MODEL_ROPE_H

/* Rotary position embedding: the angle of each pair of dimensions, as a file asks for it. */

#include "engine/model.h"

/*
 * inv_freq[i], i < rope_dim / 2: radians a position for the pair (2i, 2i + 1), base^(-2i /
 * rope_dim), scaled:
 *  - by the tensor rope_freqs.weight when there is one: divided by its values (how files carry
 * Llama 3's scaling);
 *  - else by the keys llama.rope.scaling.*: type none; linear (divided by factor); llama3 (factor,
 * low_freq_factor, high_freq_factor, original_context_length). -ENOTSUP: another type; -EBADMSG: a
 * factor out of range, a tensor of another shape.
 */
int model_rope_frequencies(
	float *inv_freq, const struct model_config *c, const struct gguf *g, struct err *err);

#endif
