/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_ENGINE_OPS_FIXTURE_H
#define TESTS_ENGINE_OPS_FIXTURE_H

/* What tests of operations compute with. */

#include <stddef.h>

#include "engine/gguf.h"

enum { OPS_N_TYPES = 11 };
extern const enum tensor_type ops_types[OPS_N_TYPES]; /* of weights: all */

float ops_uniform(void); /* [-1, 1); the same numbers in each run */
float ops_normal(void);  /* about normal, as activations are */
/* new */
float *ops_random(size_t n, float (*draw)(void));

#endif
