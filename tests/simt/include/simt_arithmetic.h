/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_ARITHMETIC_H
#define SIMT_ARITHMETIC_H

/* What CUDA C++ computes with numbers alone, for the host compiler: bits, arithmetic and number
 * types. Only simt_device.h includes this. */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ---- bits ---- */

template <typename To, typename From> static inline To simt_bits(From from)
{
	static_assert(sizeof(To) == sizeof(From), "of the same size");
	To to;
	memcpy(&to, &from, sizeof to);
	return to;
}

static inline unsigned __float_as_uint(float x)
{
	return simt_bits<unsigned>(x);
}

static inline int __float_as_int(float x)
{
	return simt_bits<int>(x);
}

static inline float __uint_as_float(unsigned x)
{
	return simt_bits<float>(x);
}

static inline float __int_as_float(int x)
{
	return simt_bits<float>(x);
}

static inline int __popc(unsigned x)
{
	return __builtin_popcount(x);
}

static inline int __popcll(unsigned long long x)
{
	return __builtin_popcountll(x);
}

static inline int __ffs(int x)
{
	return __builtin_ffs(x);
}

static inline int __clz(int x)
{
	return x ? __builtin_clz((unsigned)x) : 32;
}

static inline int __clzll(long long x)
{
	return x ? __builtin_clzll((unsigned long long)x) : 64;
}

static inline unsigned __brev(unsigned x)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i++)
		r |= (x >> i & 1u) << (31 - i);
	return r;
}

static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
	uint64_t both = (uint64_t)y << 32 | x;
	unsigned r = 0;
	for (int i = 0; i < 4; i++) {
		unsigned s = selector >> 4 * i & 15;
		unsigned byte = (unsigned)(both >> 8 * (s & 7)) & 255;
		if (s & 8)
			byte = byte & 128 ? 255 : 0;
		r |= byte << 8 * i;
	}
	return r;
}

static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by)
{
	return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}

static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by)
{
	return (unsigned)(((uint64_t)high << 32 | low) << (by & 31) >> 32);
}

static inline unsigned __umulhi(unsigned x, unsigned y)
{
	return (unsigned)((uint64_t)x * y >> 32);
}

static inline unsigned __vsub4(unsigned x, unsigned y)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i += 8)
		r |= (((x >> i) - (y >> i)) & 255u) << i;
	return r;
}

static inline unsigned __vadd4(unsigned x, unsigned y)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i += 8)
		r |= (((x >> i) + (y >> i)) & 255u) << i;
	return r;
}

static inline unsigned __vsubss4(unsigned x, unsigned y)
{
	unsigned r = 0;
	for (int i = 0; i < 32; i += 8) {
		int d = (int8_t)(x >> i) - (int8_t)(y >> i);
		r |= ((unsigned)(d > 127 ? 127 : d < -128 ? -128 : d) & 255u) << i;
	}
	return r;
}

/* ---- arithmetic ---- */

#define SIMT_MIN_MAX(type)                                                                         \
	static inline type min(type a, type b)                                                     \
	{                                                                                          \
		return b < a ? b : a;                                                              \
	}                                                                                          \
	static inline type max(type a, type b)                                                     \
	{                                                                                          \
		return a < b ? b : a;                                                              \
	}
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX

static inline unsigned min(int a, unsigned b)
{
	return min((unsigned)a, b);
}

static inline unsigned min(unsigned a, int b)
{
	return min(a, (unsigned)b);
}

static inline unsigned max(int a, unsigned b)
{
	return max((unsigned)a, b);
}

static inline unsigned max(unsigned a, int b)
{
	return max(a, (unsigned)b);
}

static inline float min(float a, float b)
{
	return fminf(a, b);
}

static inline float max(float a, float b)
{
	return fmaxf(a, b);
}

static inline double min(double a, double b)
{
	return fmin(a, b);
}

static inline double max(double a, double b)
{
	return fmax(a, b);
}

static inline float rsqrtf(float x)
{
	return 1.0f / sqrtf(x);
}

static inline float __fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}

static inline float __fadd_rn(float a, float b)
{
	return a + b;
}

static inline float __fsub_rn(float a, float b)
{
	return a - b;
}

static inline float __fmul_rn(float a, float b)
{
	return a * b;
}

static inline float __fdiv_rn(float a, float b)
{
	return a / b;
}

static inline float __fsqrt_rn(float a)
{
	return sqrtf(a);
}

static inline float __fdividef(float a, float b)
{
	return a / b;
}

static inline int __float2int_rn(float x)
{
	return (int)rintf(x);
}

static inline int __float2int_rz(float x)
{
	return (int)x;
}

static inline unsigned __float2uint_rn(float x)
{
	return (unsigned)rintf(x);
}

static inline float __int2float_rn(int x)
{
	return (float)x;
}

static inline float __uint2float_rn(unsigned x)
{
	return (float)x;
}

/* ---- number types ---- */

static inline float f16_to_f32(uint16_t h)
{
	unsigned sign = (unsigned)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
	if (exponent == 31)
		return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
	if (exponent)
		return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
	float tiny = (float)mantissa * 0x1p-24f;
	return sign ? -tiny : tiny;
}

static inline uint16_t f32_to_f16(float f)
{
	unsigned bits = __float_as_uint(f), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
	if (a > 0x7f800000u)
		return 0x7fff;
	if (a >= 0x477ff000u) /* 65520 rounds up */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000u) /* below the normal ones: the sum's last bit is worth 2^-24 */
		return (uint16_t)(sign |
				  (__float_as_uint(__uint_as_float(a) + 0.5f) - 0x3f000000u));
	a += 0xfffu + (a >> 13 & 1) - (112u << 23);
	return (uint16_t)(sign | a >> 13);
}

static inline float bf16_to_f32(uint16_t b)
{
	return __uint_as_float((unsigned)b << 16);
}

static inline uint16_t f32_to_bf16(float f)
{
	unsigned a = __float_as_uint(f);
	if ((a & 0x7fffffff) > 0x7f800000u)
		return 0x7fff;
	return (uint16_t)((a + 0x7fffu + (a >> 16 & 1)) >> 16);
}

static inline float e4m3_to_f32(uint8_t e)
{
	unsigned exponent = e >> 3 & 15, mantissa = e & 7;
	if ((e & 0x7f) == 0x7f)
		return __uint_as_float(0x7fffffffu);
	float f = exponent ? __uint_as_float((exponent + 120) << 23 | mantissa << 20)
			   : (float)mantissa * 0x1p-9f;
	return e & 0x80 ? -f : f;
}

static inline uint8_t f32_to_e4m3(float f)
{
	unsigned bits = __float_as_uint(f), sign = bits >> 24 & 0x80, a = bits & 0x7fffffff;
	if (a > 0x7f800000u)
		return 0x7f;
	if (a >= 0x43e00000u) /* 448, the largest */
		return (uint8_t)(sign | 0x7e);
	if (a < 0x3c800000u) /* the sum's last bit is worth 2^-9 */
		return (uint8_t)(sign |
				 (__float_as_uint(__uint_as_float(a) + 16384.0f) - 0x46800000u));
	a += 0x7ffffu + (a >> 20 & 1) - (120u << 23);
	return (uint8_t)(sign | a >> 20);
}

static inline uint32_t f32x2_to_f16x2(float low, float high)
{
	return f32_to_f16(low) | (uint32_t)f32_to_f16(high) << 16;
}

static inline uint32_t f32x2_to_bf16x2(float low, float high)
{
	return f32_to_bf16(low) | (uint32_t)f32_to_bf16(high) << 16;
}

static inline uint16_t f32x2_to_e4m3x2(float low, float high)
{
	return (uint16_t)(f32_to_e4m3(low) | f32_to_e4m3(high) << 8);
}

#endif
