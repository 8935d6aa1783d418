/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_CPU_MATH_H
#define ENGINE_CPU_MATH_H

/*
 * exp() as every CPU path computes it. libm's differs from machine to machine and has no vector
 * form we may count on, and a row's bits must not depend on either. x = n ln 2 + r with |r| <= ln 2
 * / 2; e^r by its Taylor series to the 7th power (relative error below 2^-26); 2^n by its exponent
 * bits. Below CPU_EXP_MIN, and for a NaN: 0. Above CPU_EXP_MAX: e^CPU_EXP_MAX.
 */
#define CPU_EXP_MIN -87.0f
#define CPU_EXP_MAX 88.0f
#define CPU_EXP_LOG2E 0x1.715476p+0f
#define CPU_EXP_LN2_HI 0x1.62e400p-1f /* 15 bits: n * hi is exact */
#define CPU_EXP_LN2_LO 0x1.7f7d1cp-20f
#define CPU_EXP_C2 (1.0f / 2)
#define CPU_EXP_C3 (1.0f / 6)
#define CPU_EXP_C4 (1.0f / 24)
#define CPU_EXP_C5 (1.0f / 120)
#define CPU_EXP_C6 (1.0f / 720)
#define CPU_EXP_C7 (1.0f / 5040)

/*
 * erf() for GELU, after Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: for z >=
 * 0, 1 - erf(z) = t (a1 + t (a2 + t (a3 + t (a4 + t a5)))) exp(-z^2) with t = 1 / (1 + p z); off by
 * at most 1.5e-7. With z = |x| / sqrt 2 the function is max(x, 0) - |x| / 2 * (1 - erf(z)), where
 * nothing cancels.
 */
#define CPU_ERF_P (0.3275911f * 0x1.6a09e6p-1f) /* p / sqrt 2: of |x| */
#define CPU_ERF_A1 0.254829592f
#define CPU_ERF_A2 -0.284496736f
#define CPU_ERF_A3 1.421413741f
#define CPU_ERF_A4 -1.453152027f
#define CPU_ERF_A5 1.061405429f

#endif
