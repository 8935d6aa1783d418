/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_PRETOKENIZE_H
#define ENGINE_PRETOKENIZE_H

/* Cuts text into the words that byte-level BPE works on, by the pattern a vocabulary was trained
 * with. */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pretokenizer;

/* new *out, by the name in tokenizer.ggml.pre. -ENOTSUP: the sentence lists the known names.
 * -ENOMEM. Immutable afterwards. */
int pretokenizer_new(struct pretokenizer **out, const char *name, size_t len, struct err *err);
struct pretokenizer *pretokenizer_free(struct pretokenizer *p);

/* True when a word that is a token as a whole is taken so, whatever the merges would make of it. */
bool pretokenizer_ignores_merges(const struct pretokenizer *p);

/* Takes one word; anything but 0 ends the splitting and is returned by it. */
typedef int pretokenizer_word_fn(void *arg, const char *word, size_t n);

/* Hands on text[0..n), which is valid UTF-8, word by word, leaving out nothing. -ENOMEM, or what
 * the function returned; -ENOTSUP: a build without PCRE2. */
int pretokenizer_split(const struct pretokenizer *p, const char *text, size_t n,
	pretokenizer_word_fn *word, void *arg);

#endif
