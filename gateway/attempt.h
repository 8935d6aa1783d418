/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ATTEMPT_H
#define GATEWAY_ATTEMPT_H

/* One model's try at a request: STAGE_GATE to STAGE_GENERATE. On the loop. */

#include "gateway/request.h"

/* Of a zeroed request. */
void attempt_init(struct request *r);

/* Tries it on that model (steals the reference). What it could not do ends the request, or is
 * routing_next's affair. */
void attempt_begin(struct request *r, struct model *m);
/* In STAGE_WEIGH: the text that was held back may be shown. */
void attempt_show(struct request *r);
/* The best answer that was held back is given, and no model is needed any more: it goes the way of
 * one. */
void attempt_serve_best(struct request *r);
/* Something came for it while it stands in one of these stages. */
void attempt_advance(struct request *r, const struct request_news *box);
/* It is over for this model: lets go of it, once nobody works for it any more (attempt_is_busy),
 * and notes in the model's numbers how it ended: `status` is a word as request_state_word's. */
void attempt_leave(struct request *r, const char *status, int code);
bool attempt_is_busy(const struct request *r);
/* Whoever works for it may stop: the answer has an end. */
void attempt_stop(struct request *r);

#endif
