/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_WARP_H
#define SIMT_WARP_H

/* What include/simt_device.h calls, with C's types. */

#include <stddef.h>
#include <stdint.h>

#include "tests/simt/include/simt_launch.h"

struct simt_index simt_thread_index(void);
struct simt_index simt_block_index(void);
struct simt_index simt_block_size(void);
struct simt_index simt_grid_size(void);
void *simt_shared(void);
void simt_barrier(void);
void simt_warp_barrier(uint32_t mask);
void simt_fence(void);
void simt_trap(void);
void simt_atomic(void *at, size_t size);
uint64_t simt_shuffle(int how, uint32_t mask, uint64_t value, int by, int width);
uint32_t simt_ballot(uint32_t mask, int predicate);
float simt_warp_sum(float value);
float simt_warp_max(float value);
void simt_cp_async(void *to, const void *from, size_t size, int valid);
void simt_cp_async_commit(void);
void simt_cp_async_wait(unsigned may_remain);
void simt_ldmatrix(uint32_t r[4], const void *row, int transposed);
void simt_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], int is_bf16);
void simt_mma_s8(int d[4], const uint32_t a[4], const uint32_t b[2]);
void simt_mma_e4m3(float d[4], const uint32_t a[4], const uint32_t b[2]);

#endif
