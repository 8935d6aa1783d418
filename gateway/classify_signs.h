/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CLASSIFY_SIGNS_H
#define GATEWAY_CLASSIFY_SIGNS_H

/* Words of Chinese and Japanese, which stand in a text without spaces: found at a sign. For
 * classify.c. */

#include "gateway/classify_words.h"

/* The kind of the longest word of the lists that text[0..n) begins with, N_CLASSIFY_KINDS where
 * there is none; *len: its bytes. Any thread. O(words with that first sign), which are few. */
enum classify_kind classify_signs_find(const char *text, size_t n, size_t *len);

#endif
