/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ROUTER_PARTS_H
#define GATEWAY_ROUTER_PARTS_H

/* Inside of the router, for router*.c. */

#include <pthread.h>

#include "gateway/router.h"

enum router_setting {
	ROUTER_SETTING_POLICY,
	ROUTER_SETTING_WEIGHTS,
	ROUTER_SETTING_CLASSES,
	ROUTER_SETTING_THRESHOLD,
	ROUTER_SETTING_CASCADE_JUDGE,
	ROUTER_SETTING_CASCADE_JUDGE_TIMEOUT,
	ROUTER_SETTING_CLASSIFIER,
	ROUTER_SETTING_CLASSIFIER_TIMEOUT,
	N_ROUTER_SETTINGS
};

struct router {
	pthread_mutex_t lock; /* a leaf; guards what is below */
	struct router_config config;
	struct text *value[N_ROUTER_SETTINGS]; /* as written; NULL is the default */
	struct text *identity; /* of these; NULL: not asked for since the last change */
	unsigned n_changes;
};

/* A decision under way. */
struct router_choice {
	const struct router_ask *ask;
	struct router_config config;
	struct router_decision *d;
	const struct router_facts **facts; /* [d->n], of d->tried */
	size_t most;                       /* that may be dropped */
	bool out_of_memory;
};

/* One that cannot take it, and why. */
__attribute__((format(printf, 3, 4))) void router_drop(
	struct router_choice *c, const char *name, const char *format, ...);
/* Scores d->tried and brings it into the order in which it is tried, facts with it; those that a
 * cascade cannot pay are dropped. 0 or -ENOMEM. facts[n]: of all models, in any order. */
int router_order(struct router_choice *c, const struct router_facts *facts, size_t n);

void router_setting_defaults(struct router_config *config);
const char *router_setting_policy_name(enum router_policy policy);

#endif
