/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

/* The producer's side of an answer; the readers' side is in gateway_sessions.h. */

#include "gateway/core.h"

/* new; NULL when memory is out. Holds a reference of g. */
struct answer *answer_new(struct gateway *g);
/* new, complete with that text (one more reference is taken; NULL: empty) and status. */
struct answer *answer_of(struct gateway *g, struct text *text, int status);

/* More text: whole UTF-8 sequences. Any thread. 0, -ENOMEM, -EFBIG; nothing after the end. */
int answer_append(struct answer *a, const char *bytes, size_t n);
/* What is appended from now on is the same text from its start again, computed a second time: only
 * what goes beyond what is there is new. answer_append gives -EBADE where it is not the same. Any
 * thread. */
void answer_repeat(struct answer *a);
/* Why answer_append did not take a text: the errno and the sentence for a reader. */
int answer_fault(int code, struct err *err);
/* Whether less came again than was there: then the new text ends too early to be its continuation.
 */
bool answer_is_short(struct answer *a);
/* How a complete answer came to its end, for those that share it: static, "stop" or "length". */
void answer_set_finish(struct answer *a, const char *finish);
const char *answer_finish(struct answer *a);
/* It is complete (0) or broke off (-errno). Later ends are ignored. With `cut`, what no reader has
 * got yet is dropped first. Any thread. */
void answer_end(struct answer *a, int status, bool cut);
/* It will be complete as it stands, but its readers are not told yet: it is being stored. new
 * reference of its text; NULL when memory is out. With `cut` as above. */
struct text *answer_seal(struct answer *a, bool cut);
/* new: the text as far as readers got it; NULL: nothing, or memory is out. */
struct text *answer_got(struct answer *a);
/* As answer_read, but it does not count as having been read. */
int answer_peek(struct answer *a, uint64_t offset, char *bytes, size_t size, size_t *n);
/* Appends the text so far to out, which counts as having been read. */
int answer_copy(struct answer *a, struct buf *out);

#endif
