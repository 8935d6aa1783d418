/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_VERDICT_H
#define GATEWAY_VERDICT_H

/* guards/test: the answer to a "request" there is what the guards say of its prompt. */

#include "gateway/request.h"

/* On the loop. The request is answered with a JSON object, now or when the judge has spoken:
 *	{"input": STAGE, "output": STAGE, "moderation": null or
 *		{"verdict": "safe" | "unsafe" | "none", "p": 0.97, "categories": "S1", "error":
 *...}} with STAGE {"verdict": "pass" | "warn" | "redact" | "block", "text": what would go on,
 *	"findings": [{"guard": FILE, "rule": NAME, "action": ..., "why": ...}]}. */
void verdict_begin(struct request *r);

#endif
