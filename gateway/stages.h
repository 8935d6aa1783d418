/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STAGES_H
#define GATEWAY_STAGES_H

/* The machine that carries a request from its queue to its answer. */

#include "gateway/request.h"

/* Of a zeroed request: what the machine posts and waits with. */
void stages_init(struct request *r);
/* On the loop, without locks: its turn has come. */
void stages_start(struct request *r);
/* A model is going to work for it, if only a judge: its ticket is used, also when nothing comes of
 * it. On the loop. */
void stages_start_claim(struct request *r);
/* Lets the machine look at its state and inbox. Any thread. */
void stages_post(struct request *r);

#endif
