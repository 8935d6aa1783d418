/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

/* The producer's side of an answer; the readers' side is in gateway.h. */

#include "gateway/core.h"

/* new; NULL when memory is out. Holds a reference of g. */
struct answer *answer_new(struct gateway *g);
/* new, complete with that text (one more reference is taken; NULL: empty) and status. */
struct answer *answer_of(struct gateway *g, struct text *text, int status);

/* More text: whole UTF-8 sequences. Any thread. 0, -ENOMEM, -EFBIG; nothing after the end. */
int answer_append(struct answer *a, const char *bytes, size_t n);
/* It is complete (0) or broke off (-errno). Later ends are ignored. With `cut`, what no reader has
 * got yet is dropped first. Any thread. */
void answer_end(struct answer *a, int status, bool cut);
/* It will be complete as it stands, but its readers are not told yet: it is being stored. new
 * reference of its text; NULL when memory is out. With `cut` as above. */
struct text *answer_seal(struct answer *a, bool cut);
/* new: the text as far as readers got it; NULL: nothing, or memory is out. */
struct text *answer_got(struct answer *a);
/* Appends the text so far to out, which counts as having been read. */
int answer_copy(struct answer *a, struct buf *out);

#endif
