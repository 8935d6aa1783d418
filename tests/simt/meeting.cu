/* SPDX-License-Identifier: Apache-2.0 */
/* What lanes do together, and conversions: device.h laid open. Fragments are filled element by
 * element, from the manual's formulas for element i of a lane, not register by register.
 */
#include "tests/simt/meeting.h"

#include "engine/cuda/device.h"

__global__ static void shuffle(const int *in, int *out, enum meeting_shuffle how, int by, int width)
{
	device_begin();
	uint32_t t = threadIdx.x;
	int v = in[t];
	switch (how) {
	case MEETING_INDEX:
		v = __shfl_sync(0xffffffffu, v, by, width);
		break;
	case MEETING_UP:
		v = __shfl_up_sync(0xffffffffu, v, (unsigned)by, width);
		break;
	case MEETING_DOWN:
		v = __shfl_down_sync(0xffffffffu, v, (unsigned)by, width);
		break;
	case MEETING_XOR:
		v = __shfl_xor_sync(0xffffffffu, v, by, width);
		break;
	}
	out[t] = v;
}

extern "C" int meeting_shuffle(const int *in, int *out, enum meeting_shuffle how, int by, int width)
{
	return CUDA_LAUNCH(shuffle, 1, 32, 0, 0, in, out, how, by, width);
}

__global__ static void vote(const int *in, uint32_t *out)
{
	device_begin();
	uint32_t t = threadIdx.x, mask = t < 16 ? 0xffffu : 0xffff0000u;
	int mine = in[t];
	out[3 * t] = __ballot_sync(mask, mine);
	out[3 * t + 1] = (uint32_t)(__any_sync(mask, mine) != 0);
	out[3 * t + 2] = (uint32_t)(__all_sync(mask, mine) != 0);
}

extern "C" int meeting_vote(const int *in, uint32_t *out)
{
	return CUDA_LAUNCH(vote, 1, 32, 0, 0, in, out);
}

__global__ static void reduce(const float *in, float *out)
{
	device_begin();
	uint32_t t = threadIdx.x;
	out[t] = warp_sum(in[t]);
	out[32 + t] = warp_max(in[t]);
}

extern "C" int meeting_reduce(const float *in, float *out)
{
	return CUDA_LAUNCH(reduce, 1, 32, 0, 0, in, out);
}

/* ---- tensor cores ---- */

template <bool BF16>
__global__ static void mma_16(const uint16_t *a, const uint16_t *b, float *d, bool by_matrix)
{
	device_begin();
	__shared__ uint4 shared_a[16 * 16 / 8], shared_b[16 * 16 / 8];
	uint16_t *sa = reinterpret_cast<uint16_t *>(shared_a);
	uint16_t *sb = reinterpret_cast<uint16_t *>(shared_b); /* [16][16], 8 columns used */
	uint32_t lane = threadIdx.x, group = lane / 4, place = lane % 4;
	uint32_t ra[4] = {0, 0, 0, 0}, rb[4] = {0, 0, 0, 0};
	float rd[4];
	if (by_matrix) {
		for (uint32_t i = lane; i < 256; i += 32) {
			sa[i] = a[i];
			sb[i] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : 0;
		}
		__syncwarp();
		uint32_t row = lane % 8 + lane / 8 % 2 * 8, column = lane / 16 * 8;
		ldmatrix_x4(ra, sa + row * 16 + column);
		ldmatrix_x4_trans(rb, sb + row * 16 + column);
	} else {
		for (uint32_t i = 0; i < 8; i++) {
			uint32_t row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
			uint32_t column = place * 2 + (i & 1) + (i >= 4 ? 8 : 0);
			ra[i / 2] |= (uint32_t)a[row * 16 + column] << 16 * (i % 2);
		}
		for (uint32_t i = 0; i < 4; i++) {
			uint32_t row = place * 2 + (i & 1) + (i >= 2 ? 8 : 0);
			rb[i / 2] |= (uint32_t)b[row * 8 + group] << 16 * (i % 2);
		}
	}
	for (uint32_t i = 0; i < 4; i++)
		rd[i] = d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)];
	if (BF16)
		mma_bf16(rd, ra, rb);
	else
		mma_f16(rd, ra, rb);
	for (uint32_t i = 0; i < 4; i++)
		d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)] = rd[i];
}

template <typename T, bool E4M3>
__global__ static void mma_8(const uint8_t *a, const uint8_t *b, T *d)
{
	device_begin();
	uint32_t lane = threadIdx.x, group = lane / 4, place = lane % 4;
	uint32_t ra[4] = {0, 0, 0, 0}, rb[2] = {0, 0};
	T rd[4];
	for (uint32_t i = 0; i < 16; i++) {
		uint32_t row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
		uint32_t column = place * 4 + (i & 3) + (i >= 8 ? 16 : 0);
		ra[i / 4] |= (uint32_t)a[row * 32 + column] << 8 * (i % 4);
	}
	for (uint32_t i = 0; i < 8; i++) {
		uint32_t row = place * 4 + (i & 3) + (i >= 4 ? 16 : 0);
		rb[i / 4] |= (uint32_t)b[row * 8 + group] << 8 * (i % 4);
	}
	for (uint32_t i = 0; i < 4; i++)
		rd[i] = d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)];
	if constexpr (E4M3)
		mma_e4m3(rd, ra, rb);
	else
		mma_s8(rd, ra, rb);
	for (uint32_t i = 0; i < 4; i++)
		d[(i < 2 ? group : group + 8) * 8 + place * 2 + (i & 1)] = rd[i];
}

extern "C" int meeting_mma(
	enum meeting_mma kind, const void *a, const void *b, void *d, bool by_matrix)
{
	const uint16_t *a16 = static_cast<const uint16_t *>(a);
	const uint16_t *b16 = static_cast<const uint16_t *>(b);
	const uint8_t *a8 = static_cast<const uint8_t *>(a), *b8 = static_cast<const uint8_t *>(b);
	float *df = static_cast<float *>(d);
	switch (kind) {
	case MEETING_F16:
		return CUDA_LAUNCH(mma_16<false>, 1, 32, 0, 0, a16, b16, df, by_matrix);
	case MEETING_BF16:
		return CUDA_LAUNCH(mma_16<true>, 1, 32, 0, 0, a16, b16, df, by_matrix);
	case MEETING_S8:
		return CUDA_LAUNCH((mma_8<int, false>), 1, 32, 0, 0, a8, b8, static_cast<int *>(d));
	case MEETING_E4M3:
		return CUDA_LAUNCH((mma_8<float, true>), 1, 32, 0, 0, a8, b8, df);
	}
	return cudaErrorInvalidValue;
}

/* ---- each thread for itself ---- */

__device__ static uint32_t converted(enum meeting_convert how, const uint32_t *in, uint32_t i)
{
	float f = __uint_as_float(in[i]), next = __uint_as_float(in[i + 1]);
	switch (how) {
	case MEETING_TO_F16:
		return f32_to_f16(f);
	case MEETING_TO_BF16:
		return f32_to_bf16(f);
	case MEETING_TO_E4M3:
		return f32_to_e4m3(f);
	case MEETING_FROM_F16:
		return __float_as_uint(f16_to_f32((uint16_t)in[i]));
	case MEETING_FROM_BF16:
		return __float_as_uint(bf16_to_f32((uint16_t)in[i]));
	case MEETING_FROM_E4M3:
		return __float_as_uint(e4m3_to_f32((uint8_t)in[i]));
	case MEETING_PACK_F16:
		return f32x2_to_f16x2(f, next);
	case MEETING_PACK_BF16:
		return f32x2_to_bf16x2(f, next);
	case MEETING_PACK_E4M3:
		return f32x2_to_e4m3x2(f, next);
	}
	return 0;
}

__global__ static void convert(
	enum meeting_convert how, const uint32_t *in, uint32_t *out, uint32_t n)
{
	device_begin();
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n)
		out[i] = converted(how, in, i);
}

extern "C" int meeting_convert(
	enum meeting_convert how, const uint32_t *in, uint32_t *out, uint32_t n)
{
	return CUDA_LAUNCH(convert, (n + 255) / 256, 256, 0, 0, how, in, out, n);
}

__global__ static void dot(const int *a, const int *b, const int *c, int *out, uint32_t n)
{
	device_begin();
	uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i < n)
		out[i] = dp4a(a[i], b[i], c[i]);
}

extern "C" int meeting_dp4a(const int *a, const int *b, const int *c, int *out, uint32_t n)
{
	return CUDA_LAUNCH(dot, (n + 255) / 256, 256, 0, 0, a, b, c, out, n);
}

__global__ static void copy(const uint32_t *in, uint32_t *out, uint32_t n_valid)
{
	device_begin();
	DEVICE_SHARED(uint32_t, s);
	uint32_t t = threadIdx.x;
	for (uint32_t half = 0; half < 2; half++) {
		uint32_t first = half * 128 + 4 * t;
		cp_async_16(s + first, in + first, first < n_valid);
		cp_async_commit();
	}
	cp_async_wait<1>();
	__syncwarp();
	for (uint32_t i = t; i < 128; i += 32)
		out[i] = s[i];
	cp_async_wait<0>();
	__syncwarp();
	for (uint32_t i = 128 + t; i < 256; i += 32)
		out[i] = s[i];
}

extern "C" int meeting_copy(const uint32_t *in, uint32_t *out, uint32_t n_valid)
{
	return CUDA_LAUNCH(copy, 1, 32, 256 * 4, 0, in, out, n_valid);
}
