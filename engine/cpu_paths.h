/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_PATHS_H
#define ENGINE_CPU_PATHS_H

/* The tables of the CPU paths; only cpu_paths.c may choose among them, since it asks the processor
 * first. CPU_WATCHED: in a build with the thread sanitizer it gives those of cpu_watched.c, which
 * call these. */

#include "engine/ops.h"

extern const struct ops cpu_scalar;
extern const struct ops cpu_avx2;   /* needs AVX2, FMA, F16C; only built for x86-64 */
extern const struct ops cpu_avx512; /* needs AVX-512 F, BW, DQ, VL, VNNI; only built for x86-64 */

/* Bytes of 32 columns of 16 rows as ops_pack() leaves them, without their scales. */
static inline size_t cpu_paths_part_bytes(enum tensor_type type)
{
	return type == TENSOR_Q8_0                                                 ? 512
	       : type == TENSOR_Q6_K                                               ? 384
	       : type == TENSOR_Q5_0 || type == TENSOR_Q5_1 || type == TENSOR_Q5_K ? 320
										   : 256;
}

#ifdef CPU_WATCHED
extern const struct ops cpu_watched_scalar, cpu_watched_avx2, cpu_watched_avx512;
#endif

#endif
