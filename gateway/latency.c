/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Averages in which each older request counts a little less. Sums and the sum of their weights
 * decay together, so that the first request is the average and no start value pulls at it. The rate
 * is the decayed tokens by the decayed time: an answer of three tokens says less of it than one of
 * three hundred, which the mean of rates would not know.
 *
 * An answer that came in one burst is no measure of a rate: where all were such, nothing has to be
 * waited for behind the first token. Beside others its tokens and its time count like theirs, or a
 * server that mostly buffers would be slow for ever by the one answer that came in pieces.
 *
 * Lock order: latency->lock is a leaf.
 */
#include "gateway/latency.h"

#include <math.h>
#include <stdbool.h>

#include "gateway/trace.h"

void latency_init(struct latency *l, double half_life)
{
	*l = (struct latency){.decay = exp2(-1 / half_life)};
	pthread_mutex_init(&l->lock, NULL);
}

void latency_destroy(struct latency *l)
{
	pthread_mutex_destroy(&l->lock);
}

void latency_add(struct latency *l, double first_ms, uint64_t tok, double ms)
{
	if (!isfinite(first_ms) || first_ms <= 0)
		return;
	double decode_ms = ms - first_ms;
	bool has_rate = trace_has_rate(tok, decode_ms);
	pthread_mutex_lock(&l->lock);
	l->first_sum = l->first_sum * l->decay + first_ms;
	l->first_n = l->first_n * l->decay + 1;
	if (has_rate || trace_is_burst(tok, decode_ms)) {
		l->tok_sum = l->tok_sum * l->decay + (double)(tok - 1);
		l->ms_sum = l->ms_sum * l->decay + decode_ms;
	}
	l->has_rate = l->has_rate || has_rate;
	pthread_mutex_unlock(&l->lock);
}

void latency_get(struct latency *l, double *first_ms, double *tok_per_s)
{
	pthread_mutex_lock(&l->lock);
	*first_ms = l->first_n > 0 ? l->first_sum / l->first_n : 0;
	*tok_per_s = l->has_rate      ? l->tok_sum / l->ms_sum * 1000
		     : l->tok_sum > 0 ? (double)INFINITY
				      : 0;
	pthread_mutex_unlock(&l->lock);
}
