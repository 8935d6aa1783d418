/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen lanes as one AVX-512 register, and the integer dot product of VNNI: it multiplies four
 * unsigned by four signed bytes, so packed weights are the unsigned side (value + 128, or the
 * nibble) and the sum of the activations undoes the offset, exactly.
 */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops.h"

typedef __m512 v16;

#define LANE static inline __attribute__((always_inline))

LANE __mmask16 below(uint32_t n)
{
	return (__mmask16)((1u << n) - 1);
}

LANE v16 v16_set(float f)
{
	return _mm512_set1_ps(f);
}

LANE v16 v16_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

LANE v16 v16_load_n(const float *p, uint32_t n)
{
	return _mm512_maskz_loadu_ps(below(n), p);
}

LANE void v16_store(float *p, v16 v)
{
	_mm512_storeu_ps(p, v);
}

LANE void v16_store_n(float *p, v16 v, uint32_t n)
{
	_mm512_mask_storeu_ps(p, below(n), v);
}

LANE v16 v16_add(v16 a, v16 b)
{
	return _mm512_add_ps(a, b);
}

LANE v16 v16_sub(v16 a, v16 b)
{
	return _mm512_sub_ps(a, b);
}

LANE v16 v16_mul(v16 a, v16 b)
{
	return _mm512_mul_ps(a, b);
}

LANE v16 v16_div(v16 a, v16 b)
{
	return _mm512_div_ps(a, b);
}

LANE v16 v16_max(v16 a, v16 b)
{
	return _mm512_max_ps(a, b);
}

LANE v16 v16_min(v16 a, v16 b)
{
	return _mm512_min_ps(a, b);
}

LANE v16 v16_fma(v16 a, v16 b, v16 c)
{
	return _mm512_fmadd_ps(a, b, c);
}

LANE v16 v16_keep(uint32_t n, v16 a, v16 b)
{
	return _mm512_mask_mov_ps(b, below(n), a);
}

LANE v16 v16_at_least(v16 a, v16 b, v16 v)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), v);
}

LANE v16 v16_abs(v16 v)
{
	return _mm512_abs_ps(v);
}

LANE v16 v16_round(v16 v)
{
	return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

LANE v16 v16_power(v16 n)
{
	__m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));

	return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

LANE v16 v16_rotate(v16 x, v16 cs)
{
	v16 swapped = _mm512_permute_ps(x, 0xb1);

	return _mm512_fmaddsub_ps(
		x, _mm512_moveldup_ps(cs), _mm512_mul_ps(swapped, _mm512_movehdup_ps(cs)));
}

LANE float v16_sum(v16 v)
{
	__m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

LANE float v16_largest(v16 v)
{
	__m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

LANE v16 v16_from_f16(const void *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

LANE v16 v16_from_bf16(const void *p)
{
	return _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

LANE void v16_to_f16(uint16_t *p, v16 v)
{
	_mm256_storeu_si256((__m256i *)(void *)p,
		_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

LANE int32_t v16_to_i8(int8_t *p, v16 v)
{
	__m512i whole = _mm512_cvtps_epi32(v);

	_mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(whole));
	return _mm512_reduce_add_epi32(whole);
}

LANE v16 v16_from_u8(const uint8_t *p)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)));
}

LANE v16 v16_from_i8(const uint8_t *p)
{
	return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

struct wblock {
	__m512i piece[8];
};

LANE struct wblock wblock_q8(const uint8_t *p)
{
	struct wblock w;

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		w.piece[k] = _mm512_load_si512(p + 64 * k);
	return w;
}

LANE struct wblock wblock_q4(const uint8_t *p)
{
	const __m512i low = _mm512_set1_epi8(15);
	struct wblock w;

#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		__m512i both = _mm512_load_si512(p + 64 * k);
		w.piece[k] = _mm512_and_si512(both, low);
		w.piece[k + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
	}
	return w;
}

LANE struct wblock wblock_q5(const uint8_t *p)
{
	const __m512i bit = _mm512_set1_epi8(16);
	__m512i high = _mm512_load_si512(p + 256);
	struct wblock w = wblock_q4(p);

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		__m512i there = k < 4 ? _mm512_slli_epi16(high, 4 - (k & 3))
				      : _mm512_srli_epi16(high, k & 3);
		w.piece[k] = _mm512_or_si512(w.piece[k], _mm512_and_si512(there, bit));
	}
	return w;
}

LANE struct wblock wblock_q6(const uint8_t *p)
{
	const __m512i bits = _mm512_set1_epi8(48);
	struct wblock w = wblock_q4(p);

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		__m512i high = _mm512_load_si512(p + 256 + k / 4 * 64);
		__m512i there = (k & 3) < 2 ? _mm512_slli_epi16(high, 4 - 2 * (k & 1))
					    : _mm512_srli_epi16(high, 2 * (k & 1));
		w.piece[k] = _mm512_or_si512(w.piece[k], _mm512_and_si512(there, bits));
	}
	return w;
}

LANE v16 wblock_half(const struct wblock *w, const int half, const uint8_t *a, int32_t init)
{
	__m512i sum = _mm512_set1_epi32(init);

#pragma GCC unroll 4
	for (int k = 4 * half; k < 4 * half + 4; k++) {
		int32_t four;
		memcpy(&four, a + 4 * k, 4);
		sum = _mm512_dpbusd_epi32(sum, w->piece[k], _mm512_set1_epi32(four));
	}
	return _mm512_cvtepi32_ps(sum);
}

LANE v16 wblock_dot(const struct wblock *w, const uint8_t *a, int32_t init)
{
	__m512i sum = _mm512_set1_epi32(init);

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++) {
		int32_t four;
		memcpy(&four, a + 4 * k, 4);
		sum = _mm512_dpbusd_epi32(sum, w->piece[k], _mm512_set1_epi32(four));
	}
	return _mm512_cvtepi32_ps(sum);
}

LANE void v16_to_i16(int16_t *p, v16 v)
{
	_mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
}

typedef __m512i wsum;

LANE wsum wsum_zero(void)
{
	return _mm512_setzero_si512();
}

LANE wsum wsum_add(wsum s, const uint8_t *w, const uint8_t *a)
{
	int32_t pair;

	memcpy(&pair, a, 4);
	return _mm512_dpwssd_epi32(s, _mm512_load_si512(w), _mm512_set1_epi32(pair));
}

LANE v16 wsum_float(wsum s)
{
	return _mm512_cvtepi32_ps(s);
}

#define WIDE_ROWS 12
#define FLOAT_ROWS 4
#define FLOAT_COLS 4
#define SIMD_OPS cpu_avx512
#define SIMD_NAME "cpu/avx512"

#include "engine/cpu_simd.h"
