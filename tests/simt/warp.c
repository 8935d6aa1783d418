/* SPDX-License-Identifier: Apache-2.0 */
/* What the lanes of a warp do together. Each puts what it brings and where it wants the result into
 * a slot on its own stack; the last that arrives does the work for all. The operations of the
 * tensor cores gather the fragments of the 32 lanes into matrices, multiply in plain loops and hand
 * the results out again. Layouts of fragments are those of the PTX manual, "Warp-level matrix
 * instructions" (mma.m16n8k16, mma.m16n8k32, ldmatrix); a lane's group is lane / 4, its place in
 * the group lane % 4.
 */
#include <math.h>
#include <string.h>

#include "tests/simt/block.h"
#include "tests/simt/number.h"
#include "tests/simt/order.h"
#include "tests/simt/race.h"
#include "tests/simt/warp.h"

#define ALL 0xffffffffu
#define NOBODY 0x7fffdeadu /* what a lane reads from one that takes no part */

/* ---- shuffles and votes ---- */

enum how { INDEX, UP, DOWN, XOR };

struct shuffle {
	uint64_t value, result;
	int how, by, width;
};

static int source(const struct shuffle *s, int lane)
{
	int first = lane & ~(s->width - 1), from;
	switch (s->how) {
	case INDEX:
		return first + (s->by & (s->width - 1));
	case UP:
		from = lane - s->by;
		return from < first ? lane : from;
	case DOWN:
		from = lane + s->by;
		return from >= first + s->width ? lane : from;
	default:
		from = lane ^ s->by;
		return from >= first + s->width ? lane : from;
	}
}

static void shuffle_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		if (!(mask >> lane & 1))
			continue;
		struct shuffle *s = slot[lane];
		int from = source(s, lane);
		s->result = mask >> from & 1 ? ((struct shuffle *)slot[from])->value
					     : (uint64_t)NOBODY << 32 | NOBODY;
	}
}

uint64_t simt_shuffle(int how, uint32_t mask, uint64_t value, int by, int width)
{
	if (width < 1 || width > BLOCK_WARP || width & (width - 1))
		block_fault(cudaErrorLaunchFailure, "a shuffle over %d lanes", width);
	struct shuffle s = {.value = value, .how = how, .by = by, .width = width};
	block_meet(shuffle_all, mask, &s);
	return s.result;
}

struct vote {
	int predicate;
	uint32_t result;
};

static void vote_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	uint32_t votes = 0;
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		if (mask >> lane & 1 && ((struct vote *)slot[lane])->predicate)
			votes |= 1u << lane;
	}
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		if (mask >> lane & 1)
			((struct vote *)slot[lane])->result = votes;
	}
}

uint32_t simt_ballot(uint32_t mask, int predicate)
{
	struct vote v = {.predicate = predicate};
	block_meet(vote_all, mask, &v);
	return v.result;
}

static void barrier_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)slot;
	order_warp_barrier(block_thread() / BLOCK_WARP * BLOCK_WARP, mask);
}

void simt_warp_barrier(uint32_t mask)
{
	block_meet(barrier_all, mask, NULL);
}

/* The butterfly of device.h, each step for all lanes at once. */
static void sum_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	for (int by = 16; by; by >>= 1) {
		float old[BLOCK_WARP];
		for (int lane = 0; lane < BLOCK_WARP; lane++)
			old[lane] = *(float *)slot[lane];
		for (int lane = 0; lane < BLOCK_WARP; lane++)
			*(float *)slot[lane] = old[lane] + old[lane ^ by];
	}
}

float simt_warp_sum(float value)
{
	block_meet(sum_all, ALL, &value);
	return value;
}

static void max_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	float most = *(float *)slot[0];
	for (int lane = 1; lane < BLOCK_WARP; lane++)
		most = fmaxf(most, *(float *)slot[lane]);
	for (int lane = 0; lane < BLOCK_WARP; lane++)
		*(float *)slot[lane] = most;
}

float simt_warp_max(float value)
{
	block_meet(max_all, ALL, &value);
	return value;
}

/* ---- ldmatrix ---- */

struct rows {
	const void *row;
	uint32_t *r;
};

/* Lane 8 i + j brings row j of matrix i: eight 16-bit values. */
static void load_matrices(void *const slot[BLOCK_WARP], int transposed)
{
	uint16_t m[4][8][8];
	for (int lane = 0; lane < BLOCK_WARP; lane++)
		memcpy(m[lane / 8][lane % 8], ((struct rows *)slot[lane])->row, 16);
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		int group = lane / 4, place = lane % 4 * 2;
		for (int i = 0; i < 4; i++) {
			uint16_t low = transposed ? m[i][place][group] : m[i][group][place];
			uint16_t high =
				transposed ? m[i][place + 1][group] : m[i][group][place + 1];
			((struct rows *)slot[lane])->r[i] = low | (uint32_t)high << 16;
		}
	}
}

static void load_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	load_matrices(slot, 0);
}

static void load_all_transposed(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	load_matrices(slot, 1);
}

void simt_ldmatrix(uint32_t r[4], const void *row, int transposed)
{
	if ((uintptr_t)row % 16)
		block_fault(cudaErrorMisalignedAddress, "ldmatrix of a row at %p", row);
	race_access(row, 16, RACE_READ);
	struct rows s = {.row = row, .r = r};
	block_meet(transposed ? load_all_transposed : load_all, ALL, &s);
}

/* ---- mma ---- */

struct fragments {
	const uint32_t *a, *b;
	void *d;
};

static const uint32_t *a_of(void *const slot[BLOCK_WARP], int lane)
{
	return ((struct fragments *)slot[lane])->a;
}

static const uint32_t *b_of(void *const slot[BLOCK_WARP], int lane)
{
	return ((struct fragments *)slot[lane])->b;
}

/* Tables of the definitions in number.h: a product reads thousands. */
static float f16_table[1 << 16], e4m3_table[1 << 8];

static void fill_tables(void)
{
	static bool filled;
	if (filled)
		return;
	for (uint32_t i = 0; i < 1 << 16; i++)
		f16_table[i] = number_f16((uint16_t)i);
	for (uint32_t i = 0; i < 1 << 8; i++)
		e4m3_table[i] = number_e4m3((uint8_t)i);
	filled = true;
}

static float f16(uint16_t h)
{
	return f16_table[h];
}

/* m16n8: d += a b, a [16][k], b [k][8] as floats. Accumulates in double: the card's own order and
 * rounding of the sum are not documented.
 */
static void multiply(void *const slot[BLOCK_WARP], const float *a, const float *b, int k)
{
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		float *d = ((struct fragments *)slot[lane])->d;
		for (int i = 0; i < 4; i++) {
			int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
			double sum = d[i];
			for (int j = 0; j < k; j++)
				sum += (double)a[row * k + j] * (double)b[j * 8 + column];
			d[i] = (float)sum;
		}
	}
}

/* m16n8k16: register i of A holds row lane / 4 (+ 8 for i = 1, 3), columns 2 (lane % 4) and the
 * next (+ 8 for i = 2, 3); register i of B rows 2 (lane % 4) and the next (+ 8 for i = 1), column
 * lane / 4. The lower half of a register comes first.
 */
static inline __attribute__((always_inline)) void mma_16(
	void *const slot[BLOCK_WARP], float (*value)(uint16_t))
{
	float a[16 * 16], b[16 * 8];
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		int group = lane / 4, place = lane % 4 * 2;
		for (int i = 0; i < 4; i++) {
			int row = group + (i & 1 ? 8 : 0), column = place + (i & 2 ? 8 : 0);
			uint32_t r = a_of(slot, lane)[i];
			a[row * 16 + column] = value((uint16_t)r);
			a[row * 16 + column + 1] = value((uint16_t)(r >> 16));
		}
		for (int i = 0; i < 2; i++) {
			int row = place + (i ? 8 : 0);
			uint32_t r = b_of(slot, lane)[i];
			b[row * 8 + group] = value((uint16_t)r);
			b[(row + 1) * 8 + group] = value((uint16_t)(r >> 16));
		}
	}
	multiply(slot, a, b, 16);
}

static void mma_f16_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	fill_tables();
	mma_16(slot, f16);
}

static void mma_bf16_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	mma_16(slot, number_bf16);
}

void simt_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], int is_bf16)
{
	struct fragments s = {a, b, d};
	block_meet(is_bf16 ? mma_bf16_all : mma_f16_all, ALL, &s);
}

/* m16n8k32 of bytes: register i of A holds row lane / 4 (+ 8 for i = 1, 3), four columns from
 * 4 (lane % 4) (+ 16 for i = 2, 3); register i of B four rows from 4 (lane % 4) (+ 16 for i = 1),
 * column lane / 4. The lowest byte comes first.
 */
static void gather_bytes(void *const slot[BLOCK_WARP], uint8_t a[16 * 32], uint8_t b[32 * 8])
{
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		int group = lane / 4, place = lane % 4 * 4;
		for (int i = 0; i < 4; i++) {
			int row = group + (i & 1 ? 8 : 0), column = place + (i & 2 ? 16 : 0);
			for (int j = 0; j < 4; j++)
				a[row * 32 + column + j] = (uint8_t)(a_of(slot, lane)[i] >> 8 * j);
		}
		for (int i = 0; i < 2; i++) {
			int row = place + (i ? 16 : 0);
			for (int j = 0; j < 4; j++)
				b[(row + j) * 8 + group] = (uint8_t)(b_of(slot, lane)[i] >> 8 * j);
		}
	}
}

static void mma_s8_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	uint8_t a[16 * 32], b[32 * 8];
	gather_bytes(slot, a, b);
	for (int lane = 0; lane < BLOCK_WARP; lane++) {
		int *d = ((struct fragments *)slot[lane])->d;
		for (int i = 0; i < 4; i++) {
			int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + i % 2;
			uint32_t sum = (uint32_t)d[i]; /* wraps, as without .satfinite */
			for (int j = 0; j < 32; j++)
				sum += (uint32_t)((int8_t)a[row * 32 + j] *
						  (int8_t)b[j * 8 + column]);
			d[i] = (int)sum;
		}
	}
}

void simt_mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2])
{
	struct fragments s = {a, b, d};
	block_meet(mma_s8_all, ALL, &s);
}

static void mma_e4m3_all(void *const slot[BLOCK_WARP], uint32_t mask)
{
	(void)mask;
	uint8_t a[16 * 32], b[32 * 8];
	float af[16 * 32], bf[32 * 8];
	fill_tables();
	gather_bytes(slot, a, b);
	for (int i = 0; i < 16 * 32; i++)
		af[i] = e4m3_table[a[i]];
	for (int i = 0; i < 32 * 8; i++)
		bf[i] = e4m3_table[b[i]];
	multiply(slot, af, bf, 32);
}

void simt_mma_e4m3(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	struct fragments s = {a, b, d};
	block_meet(mma_e4m3_all, ALL, &s);
}

/* ---- single threads ---- */

void simt_fence(void)
{
	order_fence();
}

void simt_atomic(void *at, size_t size)
{
	if ((uintptr_t)at % size)
		block_fault(cudaErrorMisalignedAddress, "an atomic operation on %p", at);
	race_access(at, size, RACE_ATOMIC);
}

void simt_trap(void)
{
	block_fault(cudaErrorLaunchFailure, "__trap()");
}
