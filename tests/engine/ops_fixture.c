/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of operations compute with. */
#include "tests/engine/ops_fixture.h"

#include <stdint.h>
#include <stdlib.h>

const enum tensor_type ops_types[OPS_N_TYPES] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0,
	TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};

static uint64_t state;

float ops_uniform(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (float)(state >> 40) * 0x1p-23f - 1.0f;
}

float ops_normal(void)
{
	float sum = 0;

	for (int i = 0; i < 6; i++)
		sum += ops_uniform();
	return sum * 0.70710678f;
}

float *ops_random(size_t n, float (*draw)(void))
{
	float *v = malloc(n * sizeof *v);

	for (size_t i = 0; i < n; i++)
		v[i] = draw();
	return v;
}
