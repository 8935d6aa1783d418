/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_VERDICT_H
#define GATEWAY_VERDICT_H

/* guards/test: the answer to a "request" there is what the guards say of its prompt. */

#include "gateway/request.h"

/* On the loop. The request is answered with a JSON object, now or when the judge has spoken:
 *	{"verdict": "pass" | "warn" | "redact" | "block", "text": what is left of it,
 *	 "input": STAGE, "output": STAGE, "moderation": null or
 *		{"verdict": "safe" | "unsafe" | "none", "p": 0.97, "categories": "S1", "error":
 *...}} with STAGE {"verdict": ..., "text": what would go on, "findings": [{"guard": FILE, "rule":
 *NAME, "action": ..., "why": ...}]}. The first verdict is the strictest of all three, with a judge
 *that has the text replaced as "redact"; its text is one that passed the input rules and then the
 *output rules, or the judge's replacement, or, blocked, "". */
void verdict_begin(struct request *r);

#endif
