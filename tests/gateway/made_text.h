/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_MADE_TEXT_H
#define TESTS_GATEWAY_MADE_TEXT_H

/* Texts made from the examples of rules, the same for the same state of *rng. */

#include <stdint.h>

#include "base/buf.h"
#include "tests/gateway/shipped.h"

uint64_t made_text_random(uint64_t *state);
/* 0..n-1; 0 when n is 0. */
size_t made_text_below(uint64_t *state, size_t n);
const struct shipped_rule *made_text_rule(const struct shipped *s, uint64_t *rng);
/* Valid UTF-8, mostly of examples of `about`. Replaces what is in *out. */
void made_text(
	struct buf *out, const struct shipped *s, const struct shipped_rule *about, uint64_t *rng);

#endif
