/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sixteen lanes as two AVX2 registers. There is no instruction for a dot product of bytes that
 * keeps 32 bits: vpmaddubsw adds two products of an unsigned and a signed byte into 16 bits and
 * saturates, so the magnitude of the weight is the unsigned side and its sign moves to the
 * activation; 2 * 128 * 127 still fits. Nibbles are small enough to go in as they are.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "engine/ops.h"

typedef struct {
	__m256 lo, hi;
} v16;

#define LANE static inline __attribute__((always_inline))

LANE v16 v16_set(float f)
{
	return (v16){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}

LANE v16 v16_load(const float *p)
{
	return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

LANE v16 v16_load_n(const float *p, uint32_t n)
{
	float some[16] = {0};

	memcpy(some, p, n * sizeof *p);
	return v16_load(some);
}

LANE void v16_store(float *p, v16 v)
{
	_mm256_storeu_ps(p, v.lo);
	_mm256_storeu_ps(p + 8, v.hi);
}

LANE void v16_store_n(float *p, v16 v, uint32_t n)
{
	float some[16];

	v16_store(some, v);
	memcpy(p, some, n * sizeof *p);
}

#define BOTH(name, instruction)                                                                    \
	LANE v16 name(v16 a, v16 b)                                                                \
	{                                                                                          \
		return (v16){instruction(a.lo, b.lo), instruction(a.hi, b.hi)};                    \
	}

BOTH(v16_add, _mm256_add_ps)
BOTH(v16_sub, _mm256_sub_ps)
BOTH(v16_mul, _mm256_mul_ps)
BOTH(v16_div, _mm256_div_ps)
BOTH(v16_max, _mm256_max_ps)
BOTH(v16_min, _mm256_min_ps)

LANE v16 v16_fma(v16 a, v16 b, v16 c)
{
	return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

LANE v16 v16_keep(uint32_t n, v16 a, v16 b)
{
	float some[16];

	v16_store(some, b);
	v16_store_n(some, a, n);
	return v16_load(some);
}

LANE v16 v16_at_least(v16 a, v16 b, v16 v)
{
	return (v16){_mm256_and_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ), v.lo),
		_mm256_and_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ), v.hi)};
}

LANE v16 v16_abs(v16 v)
{
	__m256 sign = _mm256_set1_ps(-0.0f);

	return (v16){_mm256_andnot_ps(sign, v.lo), _mm256_andnot_ps(sign, v.hi)};
}

LANE v16 v16_round(v16 v)
{
	return (v16){_mm256_round_ps(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
		_mm256_round_ps(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

LANE __m256 power8(__m256 n)
{
	__m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));

	return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

LANE v16 v16_power(v16 n)
{
	return (v16){power8(n.lo), power8(n.hi)};
}

LANE __m256 rotate8(__m256 x, __m256 cs)
{
	__m256 swapped = _mm256_permute_ps(x, 0xb1);

	return _mm256_fmaddsub_ps(
		x, _mm256_moveldup_ps(cs), _mm256_mul_ps(swapped, _mm256_movehdup_ps(cs)));
}

LANE v16 v16_rotate(v16 x, v16 cs)
{
	return (v16){rotate8(x.lo, cs.lo), rotate8(x.hi, cs.hi)};
}

LANE float v16_sum(v16 v)
{
	__m256 a = _mm256_add_ps(v.lo, v.hi);
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

LANE float v16_largest(v16 v)
{
	__m256 a = _mm256_max_ps(v.lo, v.hi);
	__m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

LANE __m128i half_at(const void *p, int i)
{
	return _mm_loadu_si128((const __m128i *)p + i);
}

LANE v16 v16_from_f16(const void *p)
{
	return (v16){_mm256_cvtph_ps(half_at(p, 0)), _mm256_cvtph_ps(half_at(p, 1))};
}

LANE __m256 from_bf16(__m128i v)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

LANE v16 v16_from_bf16(const void *p)
{
	return (v16){from_bf16(half_at(p, 0)), from_bf16(half_at(p, 1))};
}

LANE void v16_to_f16(uint16_t *p, v16 v)
{
	_mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT));
	_mm_storeu_si128(
		(__m128i *)(void *)(p + 8), _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT));
}

LANE int32_t v16_to_i8(int8_t *p, v16 v)
{
	__m256i lo = _mm256_cvtps_epi32(v.lo), hi = _mm256_cvtps_epi32(v.hi);
	__m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
	__m256i sum = _mm256_add_epi32(lo, hi);

	_mm_storeu_si128((__m128i *)(void *)p,
		_mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

LANE __m128i eight_at(const uint8_t *p)
{
	return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

LANE v16 v16_from_u8(const uint8_t *p)
{
	return (v16){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight_at(p))),
		_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight_at(p + 8)))};
}

LANE v16 v16_from_i8(const uint8_t *p)
{
	return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight_at(p))),
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight_at(p + 8)))};
}

/* The weights stay in memory: sixteen registers do not hold a block. */
struct wblock {
	const uint8_t *at;
	int bits;
};

LANE struct wblock wblock_q8(const uint8_t *p)
{
	return (struct wblock){p, 8};
}

LANE struct wblock wblock_q4(const uint8_t *p)
{
	return (struct wblock){p, 4};
}

LANE struct wblock wblock_q5(const uint8_t *p)
{
	return (struct wblock){p, 5};
}

LANE struct wblock wblock_q6(const uint8_t *p)
{
	return (struct wblock){p, 6};
}

/* Adds the products of four columns of eight rows. w: as packed; a: the same four activations
 * everywhere. */
LANE __m256i add_q8(__m256i sum, __m256i w, __m256i a)
{
	__m256i value = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
	__m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(a, value));

	return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

LANE __m256i add_q4(__m256i sum, __m256i nibbles, __m256i a)
{
	__m256i pairs = _mm256_maddubs_epi16(nibbles, a);

	return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

LANE __m256i four_at(const uint8_t *a, int k)
{
	int32_t four;

	memcpy(&four, a + 4 * k, 4);
	return _mm256_set1_epi32(four);
}

LANE __m256 dot_q8(const uint8_t *w, const uint8_t *a)
{
	__m256i sum = _mm256_setzero_si256();

#pragma GCC unroll 8
	for (int k = 0; k < 8; k++)
		sum = add_q8(sum, _mm256_load_si256((const void *)(w + 64 * k)), four_at(a, k));
	return _mm256_cvtepi32_ps(sum);
}

LANE __m256 dot_q4(const uint8_t *w, const uint8_t *a, int32_t init)
{
	const __m256i low = _mm256_set1_epi8(15);
	__m256i sum = _mm256_set1_epi32(init);

#pragma GCC unroll 4
	for (int k = 0; k < 4; k++) {
		__m256i both = _mm256_load_si256((const void *)(w + 64 * k));
		sum = add_q4(sum, _mm256_and_si256(both, low), four_at(a, k));
		sum = add_q4(
			sum, _mm256_and_si256(_mm256_srli_epi16(both, 4), low), four_at(a, k + 4));
	}
	return _mm256_cvtepi32_ps(sum);
}

/* Piece k of 8 of eight rows of a q5 or q6. */
LANE __m256i piece_at(const uint8_t *w, const int k, const int bits)
{
	__m256i low = _mm256_load_si256((const void *)(w + 64 * (k & 3)));
	__m256i high = _mm256_load_si256((const void *)(w + 256 + (bits == 6 ? k / 4 * 64 : 0)));
	const int up = bits == 6 ? 4 - 2 * (k & 3) : 4 - k; /* how far the bits are to go */

	low = k < 4 ? low : _mm256_srli_epi16(low, 4);
	high = up >= 0 ? _mm256_slli_epi16(high, up < 0 ? 0 : up)
		       : _mm256_srli_epi16(high, up < 0 ? -up : 0);
	return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)),
		_mm256_and_si256(high, _mm256_set1_epi8(bits == 6 ? 48 : 16)));
}

/* Of pieces first .. first + n - 1. */
LANE __m256 dot_pieces(const uint8_t *w, const uint8_t *a, const int first, const int n,
	const int bits, int32_t init)
{
	__m256i sum = _mm256_set1_epi32(init);

#pragma GCC unroll 8
	for (int k = first; k < first + n; k++)
		sum = add_q4(sum, piece_at(w, k, bits), four_at(a, k));
	return _mm256_cvtepi32_ps(sum);
}

LANE v16 wblock_half(const struct wblock *w, const int half, const uint8_t *a, int32_t init)
{
	return (v16){dot_pieces(w->at, a, 4 * half, 4, 6, init),
		dot_pieces(w->at + 32, a, 4 * half, 4, 6, init)};
}

LANE v16 wblock_dot(const struct wblock *w, const uint8_t *a, int32_t init)
{
	if (w->bits == 5)
		return (v16){dot_pieces(w->at, a, 0, 8, 5, init),
			dot_pieces(w->at + 32, a, 0, 8, 5, init)};
	if (w->bits == 4)
		return (v16){dot_q4(w->at, a, init), dot_q4(w->at + 32, a, init)};
	return (v16){dot_q8(w->at, a), dot_q8(w->at + 32, a)};
}

LANE void v16_to_i16(int16_t *p, v16 v)
{
	__m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));

	_mm256_storeu_si256((__m256i *)(void *)p, _mm256_permute4x64_epi64(words, 0xd8));
}

typedef struct {
	__m256i lo, hi;
} wsum;

LANE wsum wsum_zero(void)
{
	return (wsum){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

LANE wsum wsum_add(wsum s, const uint8_t *w, const uint8_t *a)
{
	__m256i pair = four_at(a, 0);
	__m256i lo = _mm256_madd_epi16(_mm256_load_si256((const void *)w), pair);
	__m256i hi = _mm256_madd_epi16(_mm256_load_si256((const void *)(w + 32)), pair);

	return (wsum){_mm256_add_epi32(s.lo, lo), _mm256_add_epi32(s.hi, hi)};
}

LANE v16 wsum_float(wsum s)
{
	return (v16){_mm256_cvtepi32_ps(s.lo), _mm256_cvtepi32_ps(s.hi)};
}

#define WIDE_ROWS 2
#define FLOAT_ROWS 2
#define FLOAT_COLS 2
#define SIMD_OPS cpu_avx2
#define SIMD_NAME "cpu/avx2"

#include "engine/cpu_simd.h"
