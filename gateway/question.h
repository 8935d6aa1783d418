/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_QUESTION_H
#define GATEWAY_QUESTION_H

/*
 * What the router asks a model (judge.h does the asking), and what its answer means: whether an
 * answer is good, and how much a prompt asks of a model. Knows texts and probabilities only.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum question_kind {
	QUESTION_QUALITY, /* is that a good answer to that prompt: yes or no */
	QUESTION_CLASS,   /* simple, moderate or complex: in the order of enum classify_class */
	QUESTION_KINDS
};

#define QUESTION_CHOICES_MAX 3
#define QUESTION_WORDS_MAX 4        /* a choice may have two: "yes" and "Yes" */
enum { QUESTION_YES, QUESTION_NO }; /* the choices of QUESTION_QUALITY */

struct question_said {
	unsigned choice;                    /* the likeliest */
	double share[QUESTION_CHOICES_MAX]; /* of the choices: their sum is 1; a 1 where it only
					       wrote */
};

/* borrows, static: the words whose probabilities as the first of the answer are wanted, [*n]. */
const char *const *question_words(enum question_kind kind, size_t *n);

/*
 * Appends the question, as one user message. The texts are UTF-8 and are cut where they are long:
 * of a prompt 4 KiB stay, of an answer 12, the first and the last half. A text must not pass for
 * the form around it: in both "<BEGIN" and "<END" (in any case) become "< BEGIN" and "< END".
 * Errors as buf_append.
 */
int question_quality(
	const char *prompt, size_t len, const char *answer, size_t answer_len, struct buf *out);
int question_class(const char *prompt, size_t len, struct buf *out);
#define QUESTION_BYTES ((size_t)24 << 10) /* no question is longer */
#define QUESTION_FORM_BYTES 600           /* about what one has beside the texts */

/* From the probabilities of question_words. False: they are not known, or one in ten thousand
 * together: it says something else. */
bool question_weigh(enum question_kind kind, const float *p, struct question_said *out);
/* From what it wrote, so far or (ended) in all: its first line, but for empty ones, must be one of
 * the words and nothing else, whatever their case, but for white space, quotes or asterisks around
 * it and a full stop behind. 1; 0: that line is not complete yet; -1: it is none of the words, or
 * there is none. */
int question_read(enum question_kind kind, const char *text, size_t len, bool ended,
	struct question_said *out);

/* "neither yes nor no", for a sentence about one that says something else. static */
const char *question_else(enum question_kind kind);

#endif
