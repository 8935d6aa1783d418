/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_AGREE_H
#define GATEWAY_AGREE_H

/*
 * May two prompts that an embedding calls alike share an answer? Cosine says that they are about
 * the same; it calls opposites alike, other numbers, other names, roles exchanged. So they must
 * also agree word for word in what they are about: the same numbers, names and words (but for words
 * of the same meaning that are known, and words that say nothing), in the same order or with one
 * phrase moved, denied or not, asking the same kind of question, in the same language. English,
 * German and French are known best, Spanish and Italian a little; words of others are compared as
 * they are.
 *
 * It refuses rather too much: a refusal costs an answer made twice, a wrong hit a wrong answer.
 * What is not known to agree does not.
 */

#include <stddef.h>

enum agree_reason {
	AGREE_OK,
	AGREE_LANGUAGE, /* in another language, or another one asked for */
	AGREE_NUMBERS,  /* numbers, dates, units, operators */
	AGREE_NEGATION, /* denied in one only, or the opposite */
	AGREE_NAMES,    /* names, files, code, quoted words, addresses */
	AGREE_WORDS,    /* a word with no counterpart */
	AGREE_QUESTION, /* who, when, where, why, how many, whether; now or then; mine or yours */
	AGREE_ORDER,    /* the same words with roles exchanged */
	AGREE_LONG,     /* one is too long for a signature, and they are not the same text */
	N_AGREE_REASONS
};

struct agree_sign; /* what there is to agree on in one text; immutable */

#define AGREE_SIGN_MAX ((size_t)4096) /* bytes, at most */

/* new: of text[0..len), any bytes. NULL when memory is out. O(len); about 4 us for 200 bytes. Texts
 * with more than 320 words that say something have a signature that agrees with that of the same
 * text only. */
struct agree_sign *agree_sign_new(const char *text, size_t len);
struct agree_sign *agree_sign_free(struct agree_sign *s); /* accepts NULL, returns NULL */

/* AGREE_OK, or why not: the first reason in the order above. Symmetric. */
enum agree_reason agree_compare(const struct agree_sign *a, const struct agree_sign *b);

/* "agree", "language", "numbers", "negation", "names", "words", "question", "order", "long". */
const char *agree_word(enum agree_reason reason);

#endif
