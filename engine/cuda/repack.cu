/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of a file to the chunks of quant.h: when a model is loaded, on the device, because a host
 * would take longer than the copy. A warp makes a chunk of a tile of 16 rows; its lanes write what
 * the lanes of products will read, 16 bytes and 16 bytes, and fetch the integers byte by byte out
 * of rows that may lie at any even address. Nobody waits for this kernel but the file.
 */
#include "engine/cuda/chunk_device.h"

#define WARPS 4

struct source {
	const uint8_t *rows; /* as in the file */
	size_t row_bytes;
	uint32_t n, cols; /* rows there are, columns */
};

/* Block `block` of row r as in the file; NULL when there is no such row or column. */
template <int BLOCK_BYTES, int BLOCK_COLS>
static __device__ __forceinline__ const uint8_t *block_of(
	const source &s, uint32_t r, uint32_t block)
{
	if (r >= s.n || block * BLOCK_COLS >= s.cols)
		return nullptr;
	return s.rows + r * s.row_bytes + static_cast<size_t>(block) * BLOCK_BYTES;
}

static __device__ __forceinline__ uint32_t half_at(const uint8_t *p)
{
	return p ? p[0] | p[1] << 8 : 0;
}

/* How a type lies in a file. at(): the integer of column c of row r in the form of quant.h,
 * unsigned, 0 where there is none. */
template <int TYPE> struct file_form;

template <> struct file_form<TENSOR_Q8_0> {
	enum { BYTES = 34, COLS = 32 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 32);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		return b ? b[2 + c % 32] : 0;
	}
};

template <> struct file_form<TENSOR_Q4_0> {
	enum { BYTES = 18, COLS = 32 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 32);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		return b ? (b[2 + c % 16] >> c % 32 / 16 * 4 & 15) ^ 8 : 0;
	}
};

/* Integer i of a block with fifth bits in 4 bytes at p, the halves behind them. */
static __device__ __forceinline__ uint32_t five_bits(const uint8_t *p, uint32_t i)
{
	return (p[4 + i % 16] >> i / 16 * 4 & 15) | (p[i / 8] >> i % 8 & 1) << 4;
}

template <> struct file_form<TENSOR_Q4_1> {
	enum { BYTES = 20, COLS = 32 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 32);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		return b ? b[4 + c % 16] >> c % 32 / 16 * 4 & 15 : 0;
	}
};

/* As 8 bits with a sign. */
template <> struct file_form<TENSOR_Q5_0> {
	enum { BYTES = 22, COLS = 32 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 32);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		return b ? (five_bits(b + 2, c % 32) - 16) & 255 : 0;
	}
};

template <> struct file_form<TENSOR_Q5_1> {
	enum { BYTES = 24, COLS = 32 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 32);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		return b ? five_bits(b + 4, c % 32) : 0;
	}
};

template <> struct file_form<TENSOR_Q4_K> {
	enum { BYTES = 144, COLS = 256 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 256);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		return b ? b[16 + c % 256 / 64 * 32 + c % 32] >> c % 64 / 32 * 4 & 15 : 0;
	}
};

template <> struct file_form<TENSOR_Q5_K> {
	enum { BYTES = 176, COLS = 256 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 256);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		if (!b)
			return 0;
		return (b[48 + c % 256 / 64 * 32 + c % 32] >> c % 64 / 32 * 4 & 15) |
		       (b[16 + c % 32] >> c % 256 / 32 & 1) << 4;
	}
};

template <> struct file_form<TENSOR_Q6_K> {
	enum { BYTES = 210, COLS = 256 }; /* of a block */
	static __device__ __forceinline__ const uint8_t *block(
		const source &s, uint32_t r, uint32_t c)
	{
		return block_of<BYTES, COLS>(s, r, c / 256);
	}

	static __device__ __forceinline__ uint32_t at(const source &s, uint32_t r, uint32_t c)
	{
		const uint8_t *b = block(s, r, c);
		if (!b)
			return 0;
		uint32_t half = c % 256 / 128, i = c % 128;
		uint32_t low = b[half * 64 + i % 64] >> i / 64 * 4 & 15;
		uint32_t high = b[128 + half * 32 + i % 32] >> i / 32 * 2 & 3;
		return (low | high << 4) ^ 32;
	}
};

/* Bits first .. first + n - 1 of the integers of word Ak of a lane, as bytes: k, row and columns as
 * in quant.h. c: the first column of the block. */
template <int TYPE>
static __device__ __forceinline__ uint32_t word_of(const source &s, uint32_t r, uint32_t c, int k,
	unsigned lane, uint32_t first, uint32_t mask)
{
	uint32_t row = r + lane / 4 + k % 2 * 8, t = lane % 4, word = 0;
	uint32_t col = c + (TYPE == TENSOR_Q6_K ? k / 2 * 16 + 4 * t : 8 * t + k / 2 * 4);

#pragma unroll
	for (uint32_t i = 0; i < 4; i++)
		word |= (file_form<TYPE>::at(s, row, col + i) >> first & mask) << 8 * i;
	return word;
}

/* Two words of half bytes of a block. */
template <int TYPE>
static __device__ __forceinline__ uint2 half_bytes(
	const source &s, uint32_t r, uint32_t c, unsigned lane)
{
	return make_uint2(word_of<TYPE>(s, r, c, 0, lane, 0, 15) |
				  word_of<TYPE>(s, r, c, 1, lane, 0, 15) << 4,
		word_of<TYPE>(s, r, c, 2, lane, 0, 15) | word_of<TYPE>(s, r, c, 3, lane, 0, 15)
								 << 4);
}

/* A pair of blocks from column c on. */
template <int TYPE>
static __device__ __forceinline__ void put_pair(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
	uint2 a = half_bytes<TYPE>(s, r, c, lane), b = half_bytes<TYPE>(s, r, c + 32, lane);

	*reinterpret_cast<uint4 *>(dst + 16 * lane) = make_uint4(a.x, a.y, b.x, b.y);
}

/* The scales of types with blocks of 32. */
template <int TYPE>
static __device__ __forceinline__ void put_plain_head(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
	for (uint32_t i = lane; i < 64; i += 32) { /* g, row, block */
		uint32_t row = r + i / 8 + i / 4 % 2 * 8;
		uint32_t half = half_at(file_form<TYPE>::block(s, row, c + i % 4 * 32));
		reinterpret_cast<uint16_t *>(dst)[i] = static_cast<uint16_t>(half);
	}
}

/* The minima of Q4_1 and Q5_1, negated. */
template <int TYPE>
static __device__ __forceinline__ void put_minima(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
#pragma unroll 1
	for (uint32_t i = lane; i < 64; i += 32) {
		const uint8_t *b =
			file_form<TYPE>::block(s, r + i / 8 + i / 4 % 2 * 8, c + i % 4 * 32);
		uint32_t half = b ? half_at(b + 2) ^ 0x8000 : 0;
		reinterpret_cast<uint16_t *>(dst)[i] = static_cast<uint16_t>(half);
	}
}

/* The j-th scale (i = 0) or minimum of a Q4_K or Q5_K block: see quant.c. */
static __device__ __forceinline__ uint32_t six_bits(const uint8_t *scales, uint32_t j, uint32_t i)
{
	if (j < 4)
		return scales[j + 4 * i] & 63;
	return (scales[j + 4] >> 4 * i & 15) | scales[j - 4 + 4 * i] >> 6 << 4;
}

template <int TYPE>
static __device__ __forceinline__ void put_k_head(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
	if (lane < 16) {
		const uint8_t *b = file_form<TYPE>::block(s, r + lane / 2 + lane % 2 * 8, c);
		reinterpret_cast<uint32_t *>(dst)[lane] = b ? half_at(b) | half_at(b + 2) << 16 : 0;
	}
	for (uint32_t i = lane; i < 256; i += 32) {
		const uint8_t *b = file_form<TYPE>::block(s, r + i / 32 + i / 16 % 2 * 8, c);
		dst[64 + i] = b ? static_cast<uint8_t>(six_bits(b + 4, i % 8, i / 8 % 2)) : 0;
	}
}

static __device__ __forceinline__ void put_q6_head(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
	if (lane < 16) {
		const uint8_t *b = file_form<TENSOR_Q6_K>::block(s, r + lane / 2 + lane % 2 * 8, c);
		reinterpret_cast<uint16_t *>(dst)[lane] =
			static_cast<uint16_t>(b ? half_at(b + 208) : 0);
	}
	for (uint32_t i = lane; i < 256; i += 32) {
		const uint8_t *b = file_form<TENSOR_Q6_K>::block(s, r + i / 32 + i / 16 % 2 * 8, c);
		dst[32 + i] = b ? b[192 + i % 16] ^ 0x80 : 0x80;
	}
}

/* The fifth bits of a pair of blocks from column c on: a word of a lane's. */
template <int TYPE>
static __device__ __forceinline__ uint32_t fifth_bits(
	const source &s, uint32_t r, uint32_t c, unsigned lane)
{
	uint32_t word = 0;

	for (int k = 0; k < 4; k++)
		word |= word_of<TYPE>(s, r, c, k, lane, 4, 1) << k |
			word_of<TYPE>(s, r, c + 32, k, lane, 4, 1) << (4 + k);
	return word;
}

/* A chunk of a type with blocks of 32, of four blocks. */
template <int TYPE>
static __device__ __forceinline__ void put_plain_chunk(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
	put_plain_head<TYPE>(s, r, c, lane, dst);
	dst += 128;
	if (TYPE == TENSOR_Q8_0 || TYPE == TENSOR_Q5_0) {
		for (uint32_t b = 0; b < 4; b++) {
			uint32_t at = c + 32 * b;
			*reinterpret_cast<uint4 *>(dst + 512 * b + 16 * lane) =
				make_uint4(word_of<TYPE>(s, r, at, 0, lane, 0, 255),
					word_of<TYPE>(s, r, at, 1, lane, 0, 255),
					word_of<TYPE>(s, r, at, 2, lane, 0, 255),
					word_of<TYPE>(s, r, at, 3, lane, 0, 255));
		}
		return;
	}
	if (TYPE != TENSOR_Q4_0) {
		put_minima<TYPE>(s, r, c, lane, dst);
		dst += 128;
	}
	put_pair<TYPE>(s, r, c, lane, dst);
	put_pair<TYPE>(s, r, c + 64, lane, dst + 512);
	if (TYPE == TENSOR_Q5_1)
		*reinterpret_cast<uint2 *>(dst + 1024 + 8 * lane) = make_uint2(
			fifth_bits<TYPE>(s, r, c, lane), fifth_bits<TYPE>(s, r, c + 64, lane));
}

/* A chunk of a K type, beginning at column c of the tile beginning at row r. */
template <int TYPE>
static __device__ __forceinline__ void put_k_chunk(
	const source &s, uint32_t r, uint32_t c, unsigned lane, uint8_t *dst)
{
	if (TYPE == TENSOR_Q6_K)
		put_q6_head(s, r, c, lane, dst);
	else
		put_k_head<TYPE>(s, r, c, lane, dst);
	dst += TYPE == TENSOR_Q6_K ? 288 : 320;
	for (uint32_t pair = 0; pair < 4; pair++, dst += 512)
		put_pair<TYPE>(s, r, c + 64 * pair, lane, dst);
	if (TYPE == TENSOR_Q5_K) {
		for (uint32_t b = 0; b < 8; b += 2) {
			*reinterpret_cast<uint32_t *>(dst + 16 * lane + 2 * b) =
				fifth_bits<TYPE>(s, r, c + 32 * b, lane);
		}
	}
	if (TYPE == TENSOR_Q6_K) {
		for (uint32_t b = 0; b < 8; b++) {
			uint32_t word = 0;
			for (int k = 0; k < 4; k++)
				word |= word_of<TYPE>(s, r, c + 32 * b, k, lane, 4, 3) << 2 * k;
			*reinterpret_cast<uint32_t *>(dst + b / 4 * 512 + 16 * lane + b % 4 * 4) =
				word;
		}
	}
}

/* dst: where the first of these tiles begins. */
template <int TYPE, int FORM>
__global__ void __launch_bounds__(32 * WARPS) repack(source s, uint32_t n_chunks, uint8_t *dst)
{
	device_begin();
	uint32_t c = blockIdx.x * WARPS + threadIdx.x / 32, tile = blockIdx.y;

	if (c >= n_chunks)
		return;
	dst += (static_cast<size_t>(tile) * n_chunks + c) * cuda_chunk<FORM>::BYTES;
	if constexpr (cuda_chunk<FORM>::STEPS == 1)
		put_plain_chunk<TYPE>(s, tile * 16, c * 128, threadIdx.x % 32, dst);
	else
		put_k_chunk<TYPE>(s, tile * 16, c * 256, threadIdx.x % 32, dst);
}

template <int TYPE, int FORM = TYPE>
static int launch(source s, uint32_t first, uint8_t *dst, cudaStream_t stream)
{
	const uint32_t chunk = 128 * cuda_chunk<FORM>::STEPS, most = 65535; /* of gridDim.y */
	uint32_t n_chunks = (s.cols + chunk - 1) / chunk, n_tiles = (s.n + 15) / 16;
	size_t tile_bytes = static_cast<size_t>(n_chunks) * cuda_chunk<FORM>::BYTES;
	int r = 0;

	s.row_bytes = static_cast<size_t>(s.cols) / file_form<TYPE>::COLS * file_form<TYPE>::BYTES;
	dst += first / 16 * tile_bytes;
	for (uint32_t t = 0; t < n_tiles && r == 0; t += most) {
		uint32_t n = n_tiles - t < most ? n_tiles - t : most;
		source part = s;
		part.rows += static_cast<size_t>(t) * 16 * s.row_bytes;
		part.n -= t * 16;
		r = CUDA_LAUNCH((repack<TYPE, FORM>), dim3((n_chunks + WARPS - 1) / WARPS, n),
			dim3(32 * WARPS), 0, stream, part, n_chunks, dst + t * tile_bytes);
	}
	return r;
}

extern "C" int cuda_quant_repack(enum tensor_type type, uint32_t rows, uint32_t cols,
	uint32_t first, uint32_t n, const void *src, void *dst, cudaStream_t stream)
{
	source s = {static_cast<const uint8_t *>(src), 0, n, cols};
	uint8_t *to = static_cast<uint8_t *>(dst);

	if (!cuda_quant_fits(type, cols) || n == 0 || first % 16 || first > rows ||
		n > rows - first || (n % 16 && first + n != rows))
		return cudaErrorInvalidValue;
	switch (type) {
	case TENSOR_Q8_0:
		return launch<TENSOR_Q8_0>(s, first, to, stream);
	case TENSOR_Q4_0:
		return launch<TENSOR_Q4_0>(s, first, to, stream);
	case TENSOR_Q4_1:
		return launch<TENSOR_Q4_1>(s, first, to, stream);
	case TENSOR_Q5_0:
		return launch<TENSOR_Q5_0, TENSOR_Q8_0>(s, first, to, stream);
	case TENSOR_Q5_1:
		return launch<TENSOR_Q5_1>(s, first, to, stream);
	case TENSOR_Q4_K:
		return launch<TENSOR_Q4_K>(s, first, to, stream);
	case TENSOR_Q5_K:
		return launch<TENSOR_Q5_K>(s, first, to, stream);
	case TENSOR_Q6_K:
		return launch<TENSOR_Q6_K>(s, first, to, stream);
	default:
		return cudaErrorInvalidValue;
	}
}
