/* SPDX-License-Identifier: Apache-2.0 */
/* Planted faults, for the tests of the emulator itself. */
#include "tests/simt/faults.h"

#include "engine/cuda/ahead_device.h"
#include "engine/cuda/device.h"

#define THREADS 64

__global__ static void neighbour(uint32_t *out, bool barrier)
{
	device_begin();
	__shared__ uint32_t s[THREADS];
	uint32_t t = threadIdx.x;
	s[t] = 100 + t;
	if (barrier)
		__syncthreads();
	out[t] = s[t == 0 ? 0 : t - 1];
}

extern "C" int faults_neighbour(uint32_t *out, bool barrier)
{
	return CUDA_LAUNCH(neighbour, 1, THREADS, 0, 0, out, barrier);
}

__global__ static void warp_neighbour(uint32_t *out, bool barrier)
{
	device_begin();
	__shared__ uint32_t s[32];
	uint32_t t = threadIdx.x;
	s[t] = 100 + t;
	if (barrier)
		__syncwarp();
	out[t] = s[t ^ 1];
}

extern "C" int faults_warp_neighbour(uint32_t *out, bool barrier)
{
	return CUDA_LAUNCH(warp_neighbour, 1, 32, 0, 0, out, barrier);
}

__global__ static void count(uint32_t *out, bool for_all)
{
	device_begin();
	__shared__ uint32_t n;
	if (threadIdx.x == 0)
		n = 0;
	__syncthreads();
	atomicAdd(&n, 1u);
	if (for_all || threadIdx.x < THREADS / 2)
		__syncthreads();
	out[threadIdx.x] = atomicAdd(&n, 0u);
}

extern "C" int faults_barrier(uint32_t *out, bool for_all)
{
	return CUDA_LAUNCH(count, 1, THREADS, 0, 0, out, for_all);
}

__global__ static void copy(const uint32_t *in, uint32_t *out, bool wait, bool barrier)
{
	device_begin();
	DEVICE_SHARED(uint32_t, s);
	uint32_t t = threadIdx.x;
	cp_async_16(s + 4 * t, in + 4 * t, true);
	cp_async_commit();
	if (wait)
		cp_async_wait<0>();
	if (barrier)
		__syncthreads();
	for (uint32_t i = 0; i < 4; i++)
		out[i * THREADS + t] = s[i * THREADS + t];
}

extern "C" int faults_copy(const uint32_t *in, uint32_t *out, bool wait, bool barrier)
{
	return CUDA_LAUNCH(copy, 1, THREADS, 16 * THREADS, 0, in, out, wait, barrier);
}

__global__ static void read(const uint32_t *in, uint32_t *out)
{
	device_begin();
	out[threadIdx.x] = in[threadIdx.x];
}

extern "C" int faults_read(const uint32_t *in, uint32_t *out, uint32_t n)
{
	return CUDA_LAUNCH(read, 1, n, 0, 0, in, out);
}

__global__ static void shared(uint32_t *out)
{
	device_begin();
	DEVICE_SHARED(uint32_t, s);
	s[threadIdx.x] = threadIdx.x;
	out[threadIdx.x] = s[threadIdx.x];
}

extern "C" int faults_shared(uint32_t *out, uint32_t n, uint32_t bytes)
{
	return CUDA_LAUNCH(shared, 1, n, bytes, 0, out);
}

__global__ static void last_block(const uint32_t *in, uint32_t *partial, uint32_t *counter,
	uint32_t *sum, bool before, bool behind)
{
	device_begin();
	uint32_t mine = in[blockIdx.x * 32 + threadIdx.x];
	for (int by = 16; by; by >>= 1)
		mine += __shfl_xor_sync(0xffffffffu, mine, by);
	bool last = false;
	if (threadIdx.x == 0) {
		partial[blockIdx.x] = mine;
		if (before)
			__threadfence();
		last = atomicAdd(counter, 1u) == gridDim.x - 1;
	}
	if (last) {
		if (behind)
			__threadfence();
		uint32_t all = 0;
		for (uint32_t b = 0; b < gridDim.x; b++)
			all += partial[b];
		*sum = all;
	}
}

extern "C" int faults_last_block(const uint32_t *in, uint32_t *partial, uint32_t *counter,
	uint32_t *sum, uint32_t n_blocks, bool before, bool behind)
{
	return CUDA_LAUNCH(
		last_block, n_blocks, 32, 0, 0, in, partial, counter, sum, before, behind);
}

/* The block that is last of a pair counts for both. */
__global__ static void last_pair(
	const uint32_t *in, uint32_t *partial, uint32_t *counters, uint32_t *sum, bool fence)
{
	device_begin();
	if (threadIdx.x > 0)
		return;
	partial[blockIdx.x] = in[blockIdx.x];
	__threadfence();
	if (atomicInc(counters + 1 + blockIdx.x / 2, 1) == 0)
		return;
	if (fence)
		__threadfence();
	if (atomicInc(counters, gridDim.x / 2 - 1) < gridDim.x / 2 - 1)
		return;
	__threadfence();
	uint32_t all = 0;
	for (uint32_t i = 0; i < gridDim.x; i++)
		all += partial[i];
	*sum = all;
}

extern "C" int faults_last_pair(const uint32_t *in, uint32_t *partial, uint32_t *counters,
	uint32_t *sum, uint32_t n_blocks, bool fence)
{
	return CUDA_LAUNCH(last_pair, n_blocks, 32, 0, 0, in, partial, counters, sum, fence);
}

__global__ static void meeting(uint32_t *out)
{
	device_begin();
	uint32_t t = threadIdx.x;
	if (t < 16)
		out[t] = __ballot_sync(0xffffffffu, 1);
	else
		out[t] = __shfl_sync(0xffffffffu, t, 0);
}

extern "C" int faults_meeting(uint32_t *out)
{
	return CUDA_LAUNCH(meeting, 1, 32, 0, 0, out);
}

__global__ static void aligned(const uint32_t *in, uint32_t *out, uint32_t offset)
{
	device_begin();
	uint4 v = *reinterpret_cast<const uint4 *>(in + offset);
	out[0] = v.x;
	out[1] = v.w;
}

extern "C" int faults_aligned(const uint32_t *in, uint32_t *out, uint32_t offset)
{
	return CUDA_LAUNCH(aligned, 1, 1, 0, 0, in, out, offset);
}

template <typename T> __device__ static T *scratch()
{
	__shared__ T s[32];
	return s;
}

template <typename T> __global__ static void unwritten(T *out, bool write)
{
	device_begin();
	T *s = scratch<T>();
	if (write)
		s[threadIdx.x] = 7;
	else
		out[threadIdx.x] = s[threadIdx.x];
}

extern "C" int faults_unwritten(uint32_t *out)
{
	int rc = CUDA_LAUNCH(unwritten<uint32_t>, 1, 32, 0, 0, out, true);
	return rc ? rc : CUDA_LAUNCH(unwritten<uint32_t>, 1, 32, 0, 0, out, false);
}

__global__ static void blocks(uint32_t *out, bool planted)
{
	device_begin();
	if (threadIdx.x == 0) {
		out[blockIdx.x + 1] = blockIdx.x;
		if (planted)
			out[0] = blockIdx.x;
	}
}

extern "C" int faults_blocks(uint32_t *out, uint32_t n_blocks, bool planted)
{
	return CUDA_LAUNCH(blocks, n_blocks, 32, 0, 0, out, planted);
}

/* Writes what the next launch reads. */
__global__ static void put(uint32_t *out, uint32_t value)
{
	device_begin();
	out[threadIdx.x] = value + threadIdx.x;
}

struct early_value {
	uint32_t x;

	__device__ __forceinline__ void load_weights(const uint32_t *p)
	{
		x = p[threadIdx.x];
	}
};

__global__ static void early(const uint32_t *w, uint32_t *out)
{
	early_value v;
	v.load_weights(w);
	device_begin();
	out[threadIdx.x] = v.x;
}

extern "C" int faults_read_early(const uint32_t *w, uint32_t *out)
{
	return CUDA_LAUNCH(early, 1, 32, 0, 0, w, out);
}

extern "C" int faults_early(uint32_t *w, uint32_t *out, bool wait)
{
	int rc = CUDA_LAUNCH(put, 1, 32, 0, 0, w, 7);
	if (!rc && wait)
		rc = cudaStreamSynchronize(0);
	return rc ? rc : faults_read_early(w, out);
}

struct early_write {
	__device__ __forceinline__ void load_weights(uint32_t *p)
	{
		p[threadIdx.x] = 1;
	}
};

__global__ static void writes_early(uint32_t *out)
{
	early_write v;
	v.load_weights(out);
	device_begin();
}

extern "C" int faults_early_write(uint32_t *out)
{
	return CUDA_LAUNCH(writes_early, 1, 32, 0, 0, out);
}

static __device__ __forceinline__ void ask_load_weights(const uint8_t *from, uint32_t bytes)
{
	device_ask(from, bytes);
}

__global__ static void ask(const uint8_t *from, uint32_t bytes)
{
	ask_load_weights(from, bytes);
	device_begin();
}

extern "C" int faults_ask(const void *from, uint32_t bytes)
{
	return CUDA_LAUNCH(ask, 1, 32, 0, 0, static_cast<const uint8_t *>(from), bytes);
}

extern "C" int faults_ask_of_written(uint32_t *w, bool wait)
{
	int rc = CUDA_LAUNCH(put, 1, 32, 0, 0, w, 7);
	if (!rc && wait)
		rc = cudaStreamSynchronize(0);
	return rc ? rc : faults_ask(w, 128);
}

__global__ static void aside(struct ahead_aside all)
{
	if (ahead_load_weights_aside(all))
		return;
	device_begin();
}

extern "C" int faults_aside(const void *from, uint32_t bytes, bool all)
{
	struct cuda_ahead a = {static_cast<const uint8_t *>(from), bytes, 2};
	struct ahead_aside s;
	dim3 grid = ahead_grid(dim3(1), 32, a, &s);

	s.first = all ? 0 : s.first;
	return CUDA_LAUNCH(aside, grid, 32, 0, 0, s);
}
