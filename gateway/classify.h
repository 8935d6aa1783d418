/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CLASSIFY_H
#define GATEWAY_CLASSIFY_H

/*
 * How much a prompt asks of a model: simple (any does it), moderate, complex (several steps,
 * proofs, designs, faults to be found). Told from features of the text by a weighted sum and two
 * thresholds; no model is asked. Word lists are English, German, French and Spanish, with or
 * without accents, Chinese and Japanese; in other languages what can be counted without words
 * counts more.
 */

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum classify_class { CLASSIFY_SIMPLE, CLASSIFY_MODERATE, CLASSIFY_COMPLEX };
#define CLASSIFY_CLASSES 3

/* Each from 0 (nothing of it) to 1 (no more would make a difference). */
struct classify_features {
	double length;      /* words: 8 are 0.125, 120 are 0.5, 2,000 are 1 (logarithmic) */
	double sentences;   /* 10 are 1; lines count */
	double code;        /* fences, the share of signs that programs are made of, words */
	double mathematics; /* signs, LaTeX, words */
	double reasoning;   /* analyse, design, justify ... 4 are 1; prove, derive: 2 are */
	double tasks;       /* explain, summarise, compare, write ... 3 are 1 */
	double constraints; /* must, at least, without, each ... and items of lists; 6 are 1 */
	double questions;   /* question marks behind the first; 3 are 1 */
	double numbers;     /* 10 are 1 */
	double simple;      /* who, define, translate, thanks ... in short texts; 2 are 1 */
	double foreign;     /* `length` when the language is none of the known, else 0 */
};

/* The score is the sum of features times weights; it is moderate or complex from these on. */
struct classify_weights {
	struct classify_features weight;
	double moderate, complex; /* moderate < complex */
};

struct classify_result {
	enum classify_class class;
	double score;
	const char *language; /* static: "en", "de", "fr", "es", "zh", "ja" or "other" */
	struct classify_features features;
};

/* Any bytes. Looks at the first and the last 16 KiB, each byte once; any thread. */
void classify_text(const char *text, size_t len, const struct classify_weights *w,
	struct classify_result *out);
#define CLASSIFY_BYTES ((size_t)16 << 10) /* at the beginning and at the end */

/* "simple", "moderate", "complex" */
const char *classify_name(enum classify_class class);

/* borrows the names of the features, NULL-terminated, in the order of the struct. */
const char *const *classify_feature_names(void);
double classify_feature(const struct classify_features *f, size_t i);

struct classify_weights classify_weights_default(void);
/*
 * The file router/classes: `name value` lines (gateway/numbers.h) with the names of the features,
 * each a weight from -100 to 100, and the two thresholds `moderate` and `complex`, from -100 to
 * 100, the first below the second. What is not named has its default. -EINVAL names the line and
 * what is allowed; *out is untouched then.
 */
int classify_weights_parse(
	const char *text, size_t len, struct classify_weights *out, struct err *err);
/* As a file that classify_weights_parse reads. Errors as buf_append. */
int classify_weights_print(const struct classify_weights *w, struct buf *out);

#endif
