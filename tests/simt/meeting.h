/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_MEETING_H
#define TESTS_SIMT_MEETING_H

/* Launchers that show what device.h does, one warp each, for test_meeting.c. Memory is the
 * device's; results are cudaError_t.
 */

#include <stdbool.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum meeting_shuffle { MEETING_INDEX, MEETING_UP, MEETING_DOWN, MEETING_XOR };

/* out[lane] = what the lane gets of in[] by this shuffle. */
int meeting_shuffle(const int *in, int *out, enum meeting_shuffle how, int by, int width);

/* out[lane][3] = ballot, any, all of in[lane] != 0. The upper and the lower 16 lanes vote apart. */
int meeting_vote(const int *in, uint32_t *out);

/* out[lane] = warp_sum, out[32 + lane] = warp_max of in. */
int meeting_reduce(const float *in, float *out);

/* d[16][8] += a[16][k] b[k][8]; a, b, k by the kind. The left operand element by element or, of the
 * 16-bit kinds, by ldmatrix_x4; the right one then by ldmatrix_x4_trans.
 */
enum meeting_mma { MEETING_F16, MEETING_BF16, MEETING_S8, MEETING_E4M3 };
int meeting_mma(enum meeting_mma kind, const void *a, const void *b, void *d, bool by_matrix);

/* out[i] of n: bits of number i after a conversion there (f32 to the type) or back. */
enum meeting_convert {
	MEETING_TO_F16,
	MEETING_TO_BF16,
	MEETING_TO_E4M3,
	MEETING_FROM_F16,
	MEETING_FROM_BF16,
	MEETING_FROM_E4M3,
	MEETING_PACK_F16, /* of in[i] and in[i + 1] */
	MEETING_PACK_BF16,
	MEETING_PACK_E4M3
};
int meeting_convert(enum meeting_convert how, const uint32_t *in, uint32_t *out, uint32_t n);

/* out[i] = dp4a(a[i], b[i], c[i]) */
int meeting_dp4a(const int *a, const int *b, const int *c, int *out, uint32_t n);

/* out[n]: through cp.async in two groups, valid only for i < n_valid of 128. */
int meeting_copy(const uint32_t *in, uint32_t *out, uint32_t n_valid);

#ifdef __cplusplus
}
#endif

#endif
