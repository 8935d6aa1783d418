/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_QUALITY_H
#define GATEWAY_QUALITY_H

/* How good an answer looks, by itself and, where one has judged it, by a model's verdict: what a
 * cascade goes on by. */

#include <stdbool.h>
#include <stddef.h>

#include "gateway/classify.h"

struct quality_answer {
	const char *text; /* any bytes */
	size_t len;
	enum classify_class class; /* of the question: how long an answer it calls for */
	bool was_cut;              /* finish is "length" */
	bool wants_json;           /* the session's format is json */
	double mean_logprob;       /* of its tokens, natural, at most 0; NAN: not known */
};

/* Each from 0 to 1 (nothing to complain about). The estimate is their product. */
struct quality_reasons {
	double length;     /* 0 without a word; to 1 at 1, 20 or 60 words, by the class */
	double repetition; /* by the share of four words in a row that were there before */
	double refusal;    /* its first words are "I cannot help", "as an AI", "no lo sé" ... */
	double finish;     /* 0.7 where it was cut */
	double certainty;  /* by the mean probability: 1 from 0.75 up, 0.2 from 0.25 down */
	double json;       /* 0.1 where JSON was wanted and it is none */
	double judge;      /* a model's verdict (quality_judged); 1: none */
	/* static: which of them is the lowest: "ok" (all are 1), "empty", "short", "repeats",
	 * "refuses", "cut", "unsure", "not-json", "judged" */
	const char *why;
};

/* 0 to 1. *why may not be NULL. Linear in the text, of which repetition looks at the last 24 KiB.
 * Any thread. */
double quality_estimate(const struct quality_answer *a, struct quality_reasons *why);
/* A model has judged it: what the estimate becomes by a verdict from 0 (bad) to 1 (good). */
double quality_judged(double estimate, double verdict, struct quality_reasons *why);

#endif
