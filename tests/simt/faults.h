/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIMT_FAULTS_H
#define TESTS_SIMT_FAULTS_H

/* Kernels that are wrong in one way each, some beside the right way of doing the same. Launchers
 * give cudaError_t as int. Memory is the device's.
 */

#include <stdbool.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[t] = 100 + the neighbour below, by way of shared memory; 64 threads. Planted: no barrier. */
int faults_neighbour(uint32_t *out, bool barrier);

/* The same within one warp: no __syncwarp(). The neighbour is lane ^ 1. */
int faults_warp_neighbour(uint32_t *out, bool barrier);

/* out[t] = how many threads have run, counted by atomics; planted: the barrier stands in a branch
 * that only the first half takes.
 */
int faults_barrier(uint32_t *out, bool for_all);

/* Copies 64 x 4 values by cp.async. Planted: no wait; no barrier after the wait. */
int faults_copy(const uint32_t *in, uint32_t *out, bool wait, bool barrier);

/* out[t] = in[t] for n threads of one block, whatever the size of in. */
int faults_read(const uint32_t *in, uint32_t *out, uint32_t n);

/* The same through dynamic shared memory of `bytes` bytes. */
int faults_shared(uint32_t *out, uint32_t n, uint32_t bytes);

/* sum = the sum of in[n_blocks][32], by the block that is last. Planted: no fence before the
 * counter, none behind it. */
int faults_last_block(const uint32_t *in, uint32_t *partial, uint32_t *counter, uint32_t *sum,
	uint32_t n_blocks, bool before, bool behind);
/* sum = the sum of in[n_blocks], an even number, by the last block of those that are the last of
 * two neighbours. counters [1 + n_blocks / 2] are zero. Planted: those have no fence between theirs
 * and the common counter. */
int faults_last_pair(const uint32_t *in, uint32_t *partial, uint32_t *counters, uint32_t *sum,
	uint32_t n_blocks, bool fence);

/* Lanes below 16 vote, the others shuffle, all with the mask of all. */
int faults_meeting(uint32_t *out);

/* Reads 16 bytes at in + offset values. */
int faults_aligned(const uint32_t *in, uint32_t *out, uint32_t offset);

/* Each thread reads a static shared variable of a template that nobody wrote. */
int faults_unwritten(uint32_t *out);

/* out[b] = b; with planted, every block writes out[0] too. */
int faults_blocks(uint32_t *out, uint32_t n_blocks, bool planted);

/* w[t] = 7 + t in one launch, and out[t] = w[t] in the next, which reads before device_begin().
 * Planted: nobody waits between the two. */
int faults_early(uint32_t *w, uint32_t *out, bool wait);

/* The second of these alone. */
int faults_read_early(const uint32_t *w, uint32_t *out);

/* Writes before device_begin(). */
int faults_early_write(uint32_t *out);

/* Asks for bytes, of which nothing comes. */
int faults_ask(const void *from, uint32_t bytes);

/* The same of 128 bytes that a launch has written. Planted: nobody waits for it. */
int faults_ask_of_written(uint32_t *w, bool wait);

/* The same by blocks that are there for nothing else. Planted: all of them are. */
int faults_aside(const void *from, uint32_t bytes, bool all);

#ifdef __cplusplus
}
#endif

#endif
