/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PROMPT_JUDGE_H
#define GATEWAY_PROMPT_JUDGE_H

/* STAGE_JUDGE of a request: on the loop. */

#include "gateway/request.h"

void prompt_judge_begin(struct request *r);

#endif
