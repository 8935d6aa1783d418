/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_BENCH_ASKING_H
#define TOOLS_BENCH_ASKING_H

/* What benchmarks of a gateway have in common: asking it from many threads at once with the time
 * taken, quantiles, and everything that can be configured, on and off. */

#include <stdbool.h>
#include <stddef.h>

#include "gateway/gateway_sessions.h"

/* Ends the program with a sentence when r is < 0. */
void bench_asking_check(int r, const struct err *err, const char *what);

/* Microseconds. */
struct bench_asking_times {
	double write_us; /* of the prompt and its flush: limits, budget and input rules are judged
			    in it */
	double first_us; /* from the commit until there was text, or it failed */
	double end_us;   /* from the commit until the answer's end was read, or it failed */
	int code;        /* what it ended with: 0 or -errno; also of the write */
};
/* Asks, and reads the answer to its end. Any thread, each with a session of its own. */
void bench_asking_ask(
	struct session *s, const char *prompt, size_t len, struct bench_asking_times *out);
/* Forgets the session's conversation. */
void bench_asking_clear(struct session *s);

/* The p-quantile of values, which are sorted. */
double bench_asking_quantile(double *values, size_t n, double p);

/* The rule files below dir/input and dir/output, in force or not. */
void bench_asking_rules(struct gateway *g, const char *dir, bool on);
/* Every limit and a budget for each user. */
void bench_asking_limits(struct gateway *g, bool on);
/* Sets a model's settings, pairs of name and value, up to a NULL. */
void bench_asking_model(struct gateway *g, const char *name, const char *const settings[][2]);

#endif
