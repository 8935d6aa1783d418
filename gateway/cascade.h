/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CASCADE_H
#define GATEWAY_CASCADE_H

/* Whether an answer of models/cascade is good enough to be shown: by its estimate (quality.h) and,
 * where router/cascade_judge names one, by a model's verdict. On the loop. */

#include "gateway/request.h"

/* Whether text is held back until it is complete and weighed: of a cascade that has another model
 * to try. */
bool cascade_holds(const struct request *r);

enum cascade_word {
	CASCADE_GOOD,  /* it may be shown */
	CASCADE_NEXT,  /* another model is tried: STAGE_NEXT */
	CASCADE_WAITS, /* a model judges it, STAGE_WEIGH; then attempt_show, or as above */
};
/* Of a complete text that was held back (request.held). */
enum cascade_word cascade_weigh(struct request *r, const char *finish, double mean_logprob);

#endif
