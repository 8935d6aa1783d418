/* SPDX-License-Identifier: Apache-2.0 */
/* Which settings of the sampler, and which biases, are taken. */
#include <errno.h>

#include "engine/sampler.h"

static bool in_range(float x, float low, float high)
{
	return x >= low && x <= high;
}

int sampler_check(const struct engine_sampling *how, struct err *err)
{
	if (!in_range(how->temperature, 0, 100))
		return err_set(err, -EINVAL, "temperature must be a number from 0 to 100");
	if (!in_range(how->top_p, 0, 1))
		return err_set(err, -EINVAL, "top_p must be a number from 0 to 1");
	if (!in_range(how->min_p, 0, 1))
		return err_set(err, -EINVAL, "min_p must be a number from 0 to 1");
	if (how->repetition_penalty != 0 && !in_range(how->repetition_penalty, 0.1f, 10))
		return err_set(err, -EINVAL, "repetition_penalty must be a number from 0.1 to 10");
	if (!in_range(how->presence_penalty, -2, 2))
		return err_set(err, -EINVAL, "presence_penalty must be a number from -2 to 2");
	if (!in_range(how->frequency_penalty, -2, 2))
		return err_set(err, -EINVAL, "frequency_penalty must be a number from -2 to 2");
	return 0;
}

int sampler_check_bias(const struct engine_bias *bias, size_t n, uint32_t n_vocab, struct err *err)
{
	if (n > ENGINE_BIAS_MAX)
		return err_set(
			err, -EINVAL, "a request has at most %d logit biases", ENGINE_BIAS_MAX);
	for (size_t i = 0; i < n; i++) {
		if (bias[i].id >= n_vocab)
			return err_set(err, -EINVAL,
				"a logit bias for token %u is beyond the vocabulary of %u",
				bias[i].id, n_vocab);
		if (!in_range(bias[i].bias, -100, 100))
			return err_set(
				err, -EINVAL, "a logit bias must be a number from -100 to 100");
		for (size_t k = 0; k < i; k++)
			if (bias[k].id == bias[i].id)
				return err_set(
					err, -EINVAL, "token %u has two logit biases", bias[i].id);
	}
	return 0;
}
