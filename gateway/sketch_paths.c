/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums of products of bytes: in plain C, which is the definition, with AVX2, and with AVX-512 and
 * its VNNI. Each function is compiled for its instruction set and called only where the processor
 * was asked. The products want one side without a sign: it is made by moving signs to the other
 * side (a * b = |a| * (b with a's sign)), or by adding 128 and taking 128 * sum off again.
 */
#include "gateway/sketch.h"

#if defined(__x86_64__)
#	include <immintrin.h>
#endif

/* ---- plain C ---- */

static bool has_scalar(void)
{
	return true;
}

static int32_t scalar_dot(const int8_t *a, const int8_t *b, uint32_t n)
{
	int32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += a[i] * b[i];
	return sum;
}

/* Numbers [from, to) of a group's heads onto the sums. */
static void scalar_sums(const int8_t *x, const int8_t *query, uint32_t from, uint32_t to,
	int32_t sums[SKETCH_LANES])
{
	for (uint32_t i = from; i < to; i += 4) {
		for (uint32_t k = 0; k < SKETCH_LANES * 4; k++)
			sums[k / 4] += x[i * SKETCH_LANES + k] * query[i + k % 4];
	}
}

/* Bounds where `left` is the length of what has not been looked at, `query_left` that of the
 * query's. */
static uint32_t scalar_bounds(const struct sketch_query *q, const int32_t *sums,
	const struct sketch_lanes *lanes, const float *left, float query_left, float least,
	float *bounds)
{
	uint32_t mask = 0;

	for (uint32_t k = 0; k < SKETCH_LANES; k++) {
		const float scale = lanes->scale[k];
		bounds[k] = (float)sums[k] * (q->head_scale * scale) + q->head_slack * scale +
			    q->rest + query_left * left[k];
		mask |= (uint32_t)(bounds[k] >= least) << k;
	}
	return mask;
}

static size_t scalar_next(const struct sketch_query *q, const int8_t *heads,
	const struct sketch_lanes *lanes, size_t from, size_t n, float least, uint32_t *mask,
	float *bounds)
{
	const uint32_t head = q->shape->head, early = q->shape->early;

	for (size_t g = from; g < n; g++) {
		int32_t sums[SKETCH_LANES] = {0};
		const int8_t *x = heads + g * SKETCH_LANES * head;
		scalar_sums(x, q->head, 0, early, sums);
		if (!scalar_bounds(
			    q, sums, &lanes[g], lanes[g].late, q->late_length, least, bounds))
			continue;
		scalar_sums(x, q->head, early, head, sums);
		*mask = scalar_bounds(
			q, sums, &lanes[g], lanes[g].tail, q->tail_length, least, bounds);
		if (*mask)
			return g;
	}
	return n;
}

#if defined(__x86_64__)

/* Bytes that will be read soon. The processor asks ahead by itself, but stops at pages, and does
 * not know what of a group is skipped. */
static inline void ask_ahead(const int8_t *from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += 64)
		_mm_prefetch((const char *)from + i, _MM_HINT_T0);
}

/* ---- AVX2 ---- */

static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}

#	define AVX2 __attribute__((target("avx2")))

/* 8 sums of 4 products. |a| and b stay within 127, so two products fit 16 bits. */
AVX2 static inline __m256i avx2_products(__m256i a, __m256i b)
{
	const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));

	return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

AVX2 static int32_t avx2_dot(const int8_t *a, const int8_t *b, uint32_t n)
{
	__m256i sum = _mm256_setzero_si256();
	int32_t parts[8], all = 0;

	for (uint32_t i = 0; i < n; i += 32)
		sum = _mm256_add_epi32(sum, avx2_products(_mm256_loadu_si256((const void *)(a + i)),
						    _mm256_loadu_si256((const void *)(b + i))));
	_mm256_storeu_si256((void *)parts, sum);
	for (uint32_t i = 0; i < 8; i++)
		all += parts[i];
	return all;
}

AVX2 static inline void avx2_sums(const int8_t *x, const int8_t *query, uint32_t from, uint32_t to,
	__m256i *low, __m256i *high)
{
	for (uint32_t i = from; i < to; i += 4) {
		const int8_t *y = x + i * SKETCH_LANES;
		int32_t piece;
		__builtin_memcpy(&piece, query + i, 4);
		const __m256i a = _mm256_set1_epi32(piece);
		*low = _mm256_add_epi32(
			*low, avx2_products(a, _mm256_loadu_si256((const void *)y)));
		*high = _mm256_add_epi32(
			*high, avx2_products(a, _mm256_loadu_si256((const void *)(y + 32))));
	}
}

/* Of 8 lanes. */
AVX2 static inline uint32_t avx2_bounds(const struct sketch_query *q, __m256i sum,
	const float *scales, const float *left, float query_left, float least, float *bounds)
{
	const __m256 scale = _mm256_loadu_ps(scales);
	__m256 x = _mm256_mul_ps(
		_mm256_cvtepi32_ps(sum), _mm256_mul_ps(_mm256_set1_ps(q->head_scale), scale));
	x = _mm256_add_ps(x, _mm256_mul_ps(_mm256_set1_ps(q->head_slack), scale));
	x = _mm256_add_ps(x, _mm256_set1_ps(q->rest));
	x = _mm256_add_ps(x, _mm256_mul_ps(_mm256_set1_ps(query_left), _mm256_loadu_ps(left)));
	_mm256_storeu_ps(bounds, x);
	return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_set1_ps(least), _CMP_GE_OQ));
}

AVX2 static size_t avx2_next(const struct sketch_query *q, const int8_t *heads,
	const struct sketch_lanes *lanes, size_t from, size_t n, float least, uint32_t *mask,
	float *bounds)
{
	const uint32_t head = q->shape->head, early = q->shape->early;
	uint32_t ahead = early;

	for (size_t g = from; g < n; g++) {
		const int8_t *x = heads + g * SKETCH_LANES * head;
		const struct sketch_lanes *l = &lanes[g];
		ask_ahead(x + 4 * SKETCH_LANES * head, ahead * SKETCH_LANES);
		ahead = early;
		__m256i low = _mm256_setzero_si256(), high = low;
		avx2_sums(x, q->head, 0, early, &low, &high);
		if (!(avx2_bounds(q, low, l->scale, l->late, q->late_length, least, bounds) |
			    avx2_bounds(q, high, l->scale + 8, l->late + 8, q->late_length, least,
				    bounds + 8)))
			continue;
		ahead = head;
		avx2_sums(x, q->head, early, head, &low, &high);
		*mask = avx2_bounds(q, low, l->scale, l->tail, q->tail_length, least, bounds) |
			avx2_bounds(q, high, l->scale + 8, l->tail + 8, q->tail_length, least,
				bounds + 8)
				<< 8;
		if (*mask)
			return g;
	}
	return n;
}

/* ---- AVX-512 with VNNI ---- */

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vnni");
}

#	define AVX512 __attribute__((target("avx512f,avx512bw,avx512vnni")))

AVX512 static int32_t avx512_dot(const int8_t *a, const int8_t *b, uint32_t n)
{
	__m512i sum = _mm512_setzero_si512();

	for (uint32_t i = 0; i < n; i += 64) {
		const __m512i x = _mm512_loadu_si512(a + i), y = _mm512_loadu_si512(b + i);
		sum = _mm512_dpbusd_epi32(sum, _mm512_abs_epi8(x),
			_mm512_mask_sub_epi8(y, _mm512_movepi8_mask(x), _mm512_setzero_si512(), y));
	}
	return _mm512_reduce_add_epi32(sum);
}

AVX512 static inline __m512i avx512_sums(
	const int8_t *x, const int8_t *query, uint32_t from, uint32_t to, __m512i sum)
{
	const __m512i flip = _mm512_set1_epi8((char)0x80);
	__m512i other = _mm512_setzero_si512();
	int32_t piece;
	uint32_t i = from;

	x += from * SKETCH_LANES;
	for (; i + 8 <= to; i += 8, x += 128) {
		__builtin_memcpy(&piece, query + i, 4);
		sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(_mm512_loadu_si512(x), flip),
			_mm512_set1_epi32(piece));
		__builtin_memcpy(&piece, query + i + 4, 4);
		other = _mm512_dpbusd_epi32(other,
			_mm512_xor_si512(_mm512_loadu_si512(x + 64), flip),
			_mm512_set1_epi32(piece));
	}
	if (i < to) {
		__builtin_memcpy(&piece, query + i, 4);
		sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(_mm512_loadu_si512(x), flip),
			_mm512_set1_epi32(piece));
	}
	return _mm512_add_epi32(sum, other);
}

AVX512 static inline __m512 avx512_bounds(const struct sketch_query *q, __m512i sum,
	const float *scales, const float *left, float query_left)
{
	const __m512 scale = _mm512_loadu_ps(scales);
	__m512 x = _mm512_mul_ps(
		_mm512_cvtepi32_ps(sum), _mm512_mul_ps(_mm512_set1_ps(q->head_scale), scale));
	x = _mm512_add_ps(x, _mm512_mul_ps(_mm512_set1_ps(q->head_slack), scale));
	x = _mm512_add_ps(x, _mm512_set1_ps(q->rest));
	return _mm512_add_ps(x, _mm512_mul_ps(_mm512_set1_ps(query_left), _mm512_loadu_ps(left)));
}

/* -128 times the sum of numbers [from, to): what adding 128 to the other side adds. */
static int32_t minus_128(const int8_t *query, uint32_t from, uint32_t to)
{
	int32_t sum = 0;

	for (uint32_t i = from; i < to; i++)
		sum -= 128 * query[i];
	return sum;
}

AVX512 static size_t avx512_next(const struct sketch_query *q, const int8_t *heads,
	const struct sketch_lanes *lanes, size_t from, size_t n, float least, uint32_t *mask,
	float *bounds)
{
	const uint32_t head = q->shape->head, early = q->shape->early;
	const __m512i begin = _mm512_set1_epi32(minus_128(q->head, 0, early));
	const __m512i later = _mm512_set1_epi32(minus_128(q->head, early, head));
	const __m512 limit = _mm512_set1_ps(least);
	uint32_t ahead = early; /* how much of a group is likely to be read */

	for (size_t g = from; g < n; g++) {
		const int8_t *x = heads + g * SKETCH_LANES * head;
		ask_ahead(x + 4 * SKETCH_LANES * head, ahead * SKETCH_LANES);
		__m512i sum = avx512_sums(x, q->head, 0, early, begin);
		__m512 y = avx512_bounds(q, sum, lanes[g].scale, lanes[g].late, q->late_length);
		ahead = early;
		if (!_mm512_cmp_ps_mask(y, limit, _CMP_GE_OQ))
			continue;
		ahead = head;
		sum = avx512_sums(x, q->head, early, head, _mm512_add_epi32(sum, later));
		y = avx512_bounds(q, sum, lanes[g].scale, lanes[g].tail, q->tail_length);
		*mask = _mm512_cmp_ps_mask(y, limit, _CMP_GE_OQ);
		if (*mask) {
			_mm512_storeu_ps(bounds, y);
			return g;
		}
	}
	return n;
}
#endif

/* ---- choosing ---- */

static const struct sketch_path paths[] = {
	{"scalar", has_scalar, scalar_next, scalar_dot},
#if defined(__x86_64__)
	{"avx2", has_avx2, avx2_next, avx2_dot},
	{"avx512", has_avx512, avx512_next, avx512_dot},
#endif
};

#define N_PATHS (sizeof(paths) / sizeof(paths[0]))

const struct sketch_path *sketch_path_at(size_t i)
{
	for (size_t k = 0; k < N_PATHS; k++) {
		if (paths[k].runs_here() && i-- == 0)
			return &paths[k];
	}
	return NULL;
}

const struct sketch_path *sketch_path_best(void)
{
	for (size_t k = N_PATHS; k-- > 0;) {
		if (paths[k].runs_here())
			return &paths[k];
	}
	return NULL;
}
