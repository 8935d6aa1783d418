/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CHANCE_H
#define ENGINE_CHANCE_H

/*
 * The arithmetic of sampling, the same to the bit on every machine, for C and for CUDA.
 *
 * A token's chance is exp((logit - greatest) / temperature) as an integer in units of 2^-39: the
 * greatest logit has CHANCE_ONE. Sums of integers do not depend on their order, so which tokens
 * reach top_p, and which one is drawn, are comparisons of integers that come out alike however many
 * threads added them up. 2^24 tokens, the most a model may have, cannot overflow 64 bits.
 *
 * What that costs: chances are rounded to the nearest unit, 1.8e-12, so tokens 2^40 times less
 * likely than the most likely one are never drawn; 262,144 such tokens have together less than
 * 2.4e-7 of its chance, as much as a float's rounding. The exponential itself has a relative error
 * below 1e-7, and the rounding of its argument adds up to 1.2e-7 * |ln chance|.
 *
 * Floats are added and multiplied one at a time (no fma), which IEEE 754 rounds in one way only.
 * Files that include this in C are compiled with -ffp-contract=off.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#	define CHANCE_FN static __host__ __device__ __forceinline__
#else
#	define CHANCE_FN static inline
#endif

#ifdef __CUDA_ARCH__
#	define CHANCE_MUL(a, b) __fmul_rn(a, b)
#	define CHANCE_ADD(a, b) __fadd_rn(a, b)
#	define CHANCE_DIV(a, b) __fdiv_rn(a, b)
#else
#	define CHANCE_MUL(a, b) ((a) * (b))
#	define CHANCE_ADD(a, b) ((a) + (b))
#	define CHANCE_DIV(a, b) ((a) / (b))
#endif

#define CHANCE_BITS 39
#define CHANCE_ONE ((uint64_t)1 << CHANCE_BITS)
#define CHANCE_FLOOR (-40.0f) /* chances of 2^this and less are 0 */
#define CHANCE_BINS 1024
#define CHANCE_MAGIC 12582912.0f   /* 1.5 * 2^23: x + it - it is the integer next to x */
#define CHANCE_NO_SHARE UINT32_MAX /* top_p is off */
#define CHANCE_MOST_COUNT 0x7fff   /* a token that came more often counts as this often */
#define CHANCE_IN_PROMPT 0x8000    /* beside the count: it is in the prompt */

/* 2^f = 1 + f (C1 + f (C2 + ...)) for f in [-1/2, 1/2]. */
#define CHANCE_C1 0.693147182f
#define CHANCE_C2 0.240226507f
#define CHANCE_C3 0.0555035695f
#define CHANCE_C4 0.00961808302f
#define CHANCE_C5 0.00133908633f
#define CHANCE_C6 0.000154531634f

CHANCE_FN uint32_t chance_bits(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	return u;
}

CHANCE_FN float chance_float(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof(x));
	return x;
}

/* log2 of the chance, times `scale` = chance_scale(temperature): <= 0, -INFINITY or NaN. Does not
 * fall where the logit rises. */
CHANCE_FN float chance_log2(float logit, float best, float scale)
{
	return CHANCE_MUL(CHANCE_ADD(logit, -best), scale);
}

/* 2^y as a float, y = chance_log2(); 0 for y <= CHANCE_FLOOR and NaN. */
CHANCE_FN float chance_exp2(float y)
{
	float n, f, p;

	if (!(y > CHANCE_FLOOR))
		return 0;
	n = CHANCE_ADD(y, CHANCE_MAGIC);
	f = CHANCE_ADD(y, -CHANCE_ADD(n, -CHANCE_MAGIC));
	p = CHANCE_ADD(CHANCE_MUL(CHANCE_C6, f), CHANCE_C5);
	p = CHANCE_ADD(CHANCE_MUL(p, f), CHANCE_C4);
	p = CHANCE_ADD(CHANCE_MUL(p, f), CHANCE_C3);
	p = CHANCE_ADD(CHANCE_MUL(p, f), CHANCE_C2);
	p = CHANCE_ADD(CHANCE_MUL(p, f), CHANCE_C1);
	p = CHANCE_ADD(CHANCE_MUL(p, f), 1.0f);
	return chance_float(chance_bits(p) + (chance_bits(n) << 23)); /* times 2^n */
}

/* Which of CHANCE_BINS an element with y = chance_log2() falls into: a higher logit never into a
 * later one. What has no chance is in the last. */
CHANCE_FN uint32_t chance_bin(float y)
{
	return y > CHANCE_FLOOR ? (uint32_t)CHANCE_MUL(y, -25.5f) : CHANCE_BINS - 1;
}

/* w, in [0, 1], in units of 2^-CHANCE_BITS, to the nearest, of two the even one. */
CHANCE_FN uint64_t chance_fixed(float w)
{
	uint32_t bits = chance_bits(w), shift = (bits >> 23) - (127 - 16);
	/* From 2^-16 a float's last bit is worth a unit or more; below, that of 2^-16 + w is. */
	uint64_t high = (uint64_t)((bits & 0x7fffff) | 0x800000) << (shift & 31);
	uint64_t low = chance_bits(CHANCE_ADD(w, 0x1p-16f)) - chance_bits(0x1p-16f);

	return w >= 0x1p-16f ? high : low;
}

CHANCE_FN uint64_t chance_of(float logit, float best, float scale)
{
	return chance_fixed(chance_exp2(chance_log2(logit, best, scale)));
}

/* The high half of a * b. */
CHANCE_FN uint64_t chance_high(uint64_t a, uint64_t b)
{
#ifdef __CUDA_ARCH__
	return __umul64hi(a, b);
#else
	return (uint64_t)((unsigned __int128)a * b >> 64);
#endif
}

/* `share` = chance_share(top_p): the sum that the most likely ones of `total` must reach. */
CHANCE_FN uint64_t chance_needed(uint64_t total, uint32_t share)
{
	uint64_t needed = chance_high(total, (uint64_t)share << 32);

	return needed > 0 ? needed : 1;
}

/* The place of the draw in [0, total), total > 0. */
CHANCE_FN uint64_t chance_draw(uint64_t total, uint64_t random)
{
	return chance_high(total, random);
}

/* A logit after bias and penalties. `seen`: how often the token is in the answer, at most
 * CHANCE_MOST_COUNT, and CHANCE_IN_PROMPT. */
CHANCE_FN float chance_adjust(
	float x, uint32_t seen, float repetition, float presence, float frequency)
{
	uint32_t count = seen & CHANCE_MOST_COUNT;

	if (seen)
		x = x > 0 ? CHANCE_DIV(x, repetition) : CHANCE_MUL(x, repetition);
	if (count)
		x = CHANCE_ADD(x, -CHANCE_ADD(CHANCE_MUL(frequency, (float)count), presence));
	return x;
}

/* Numbers that order logits: a < b as floats if and only if as integers; 0 for NaN and -INFINITY,
 * which are no choice. -0 is 0. */
CHANCE_FN uint32_t chance_order(float logit)
{
	uint32_t u = chance_bits(CHANCE_ADD(logit, 0.0f));

	u ^= (0 - (u >> 31)) | 0x80000000u;
	return logit > chance_float(0xff800000u) ? u : 0;
}

/* Orders tokens: the greater key has the greater logit, of equal ones the lower id. At least 2^32
 * but for a logit that is no choice. */
CHANCE_FN uint64_t chance_key(float logit, uint32_t id)
{
	return (uint64_t)chance_order(logit) << 32 | (UINT32_MAX - id);
}

/* The logit of a key that is a choice; -0 comes out as 0, which has the same chances. */
CHANCE_FN float chance_logit(uint64_t key)
{
	uint32_t u = (uint32_t)(key >> 32);

	return chance_float(u & 0x80000000u ? u ^ 0x80000000u : ~u);
}

CHANCE_FN uint32_t chance_id(uint64_t key)
{
	return UINT32_MAX - (uint32_t)key;
}

/* ---- what a request's settings mean ---- */

/* log2(e) / temperature; temperatures below 2^-100 count as that. */
CHANCE_FN float chance_scale(float temperature)
{
	double scale = 1.4426950408889634 / (double)temperature;

	return scale < 0x1p100 ? (float)scale : 0x1p100f;
}

/* top_p in units of 2^-32; CHANCE_NO_SHARE from 1. */
CHANCE_FN uint32_t chance_share(float top_p)
{
	return top_p < 1 ? (uint32_t)((double)top_p * 0x1p32) : CHANCE_NO_SHARE;
}

/* The least chance that min_p lets pass; 1 when it is off, as a chance of 0 is none. */
CHANCE_FN uint64_t chance_least(float min_p)
{
	double x = (double)min_p * (double)CHANCE_ONE;
	uint64_t least = (uint64_t)x;

	least += x > (double)least;
	return least > 0 ? least : 1;
}

CHANCE_FN uint64_t chance_scramble(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
	return x ^ (x >> 31);
}

/* The random number of a position: a hash, not a state that advances, so that a sequence that is
 * preempted and computed again, or in other company, draws the same. */
CHANCE_FN uint64_t chance_random(uint64_t seed, uint64_t position)
{
	uint64_t x = chance_scramble(seed + 0x9E3779B97F4A7C15u);

	return chance_scramble(x ^ (position * 0xD1342543DE82EF95u + 0x2545F4914F6CDD1Du));
}

#endif
