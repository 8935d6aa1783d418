/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_CHOICE_FIXTURE_H
#define TESTS_GATEWAY_CHOICE_FIXTURE_H

/* A router with three models to choose from. What a policy has to pick was computed by hand: 1,000
 * tokens of prompt and 1,000 of answer, so that a price is the mean of its two parts. */

#include "gateway/router.h"

#define CHOICE_DOLLAR INT64_C(1000000000)

/*            price   0.01 $/1k  quality  seconds for 1,000 tokens   dollars for the request
 *	small   0.2, 0.6   0.04     0.50    0.1 + 10 = 10.1            0.0008
 *	mid     2, 8       0.5      0.70    0.2 + 5 = 5.2              0.01
 *	big     10, 30     2        0.98    0.5 + 20 = 20.5            0.04
 */
enum { SMALL, MID, BIG, N_MODELS };

/* One text of each class. */
extern const char choice_simple[], choice_moderate[], choice_complex[];
extern const struct router_facts choice_three[N_MODELS]; /* what the table says */
extern struct router *choice_router;
extern struct router_facts choice_facts[4]; /* three, at first, and room for one */
extern struct router_ask choice_ask;
extern struct err choice_err;

/* Must be taken. */
void choice_set(const char *file, const char *value);
/* The text of choice_ask. */
void choice_ask_for(const char *text);
/* The two of a checked fixture. */
void choice_open(void);
void choice_close(void);
/* Of the three. */
void choice_expect(const char *order);
/* Must be decided. new. */
struct router_decision *choice_decided(size_t n);
/* Borrowed from d; must be there. */
const struct router_candidate *choice_candidate(const struct router_decision *d, const char *name);
void choice_near(double x, double y);
/* Why it was dropped, "" when it was not; until the next call. */
const char *choice_why(const char *name);

#endif
