/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_DETOK_H
#define ENGINE_DETOK_H

/*
 * From the bytes of tokens to the text of an answer: whole UTF-8 sequences only, and nothing of a
 * stop string. What comes out in the end does not depend on how the bytes were split.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct detok;

/*
 * new *out; copies the stop strings. -EINVAL: a stop string that is empty or not UTF-8, or more
 * than DETOK_MAX_STOPS of them or DETOK_MAX_STOP_BYTES in one; -ENOMEM.
 */
#define DETOK_MAX_STOPS 64
#define DETOK_MAX_STOP_BYTES 4096
int detok_new(struct detok **out, const char *const *stops, size_t n_stops, struct err *err);
/* Accepts NULL, returns NULL. */
struct detok *detok_free(struct detok *d);

/*
 * Takes the bytes of the next token and appends to `text` what may be shown: not a sequence that is
 * not whole yet, not text that may still become a stop string. Bytes that cannot be UTF-8 become
 * U+FFFD, one for each longest beginning of a sequence, once that is certain.
 * 0, DETOK_STOP, or -ENOMEM, -EFBIG from text.
 */
#define DETOK_STOP 1 /* a stop string ended; nothing comes any more */
int detok_feed(struct detok *d, const char *bytes, size_t n, struct buf *text);

/* The answer is over: appends what was held back. After a stop: nothing. Errors as detok_feed, and
 * DETOK_STOP when the U+FFFD of a broken last sequence completes a stop string. */
int detok_finish(struct detok *d, struct buf *text);

#endif
