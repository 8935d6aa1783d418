/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_PATHS_H
#define ENGINE_CPU_PATHS_H

/* The tables of the CPU paths; only cpu_paths.c may choose among them, since it asks the processor
 * first. */

#include "engine/ops.h"

extern const struct ops cpu_scalar;
extern const struct ops cpu_avx2;   /* needs AVX2, FMA, F16C; only built for x86-64 */
extern const struct ops cpu_avx512; /* needs AVX-512 F, BW, DQ, VL, VNNI; only built for x86-64 */

#endif
