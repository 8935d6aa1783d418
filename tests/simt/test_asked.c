/* SPDX-License-Identifier: Apache-2.0 */
/* What launches ask for ahead: all of the piece they are told of and nothing else, each byte once,
 * by the blocks that are meant and at the time that is meant. Only the emulator can say it. */
#include "tests/simt/ahead_case.h"
#include "tests/simt/include/simt.h"

#define UNIT 16

static void launch(const struct ahead_case *c, const struct ahead_data *d, struct cuda_ahead a)
{
	const struct simt_asked *list;

	simt_take_asked(&list);
	EXPECT_CUDA(c->run(d, a, c->type));
}

/* How often each 16 bytes were asked for. */
static void check_shares(const struct ahead_case *c, struct cuda_ahead a)
{
	static uint8_t times[AHEAD_NUMBER_BYTES / UNIT];
	const struct simt_asked *list;
	size_t n = simt_take_asked(&list), first = (size_t)c->product;

	memset(times, 0, sizeof(times));
	for (size_t i = 0; i < n; i++) {
		size_t at = (size_t)(list[i].from - (const char *)a.from);

		EXPECT(at < a.bytes && list[i].size <= a.bytes - at);
		EXPECT(list[i].early == (first == 0));
		EXPECT(list[i].launch == list[0].launch);
		for (size_t k = at / UNIT; k < (at + list[i].size) / UNIT; k++)
			times[k]++;
	}
	for (size_t k = 0; k < a.bytes / UNIT; k++)
		if (times[k] != 1)
			kernel_test_fail(__FILE__, __LINE__,
				"%s: bytes %zu on of %u: asked for %u "
				"times, by %u blocks",
				c->name, k * UNIT, a.bytes, times[k], a.blocks);
}

KERNEL_TEST(every_byte_of_a_piece_is_asked_for_once)
{
	static const uint32_t bytes[] = {0, 16, 112, 4080, 4096, 4112, 100000, 1 << 18};
	static const uint32_t blocks[] = {1, 3, 132};
	struct ahead_data d = ahead_data();

	for (size_t i = 0; i < AHEAD_CASES; i++)
		for (size_t b = 0; b < sizeof(bytes) / sizeof(bytes[0]); b++) {
			/* The end of the device's memory: one byte more is a fault. */
			struct cuda_ahead a = {d.numbers + AHEAD_NUMBER_BYTES - bytes[b], bytes[b],
				blocks[(i + b) % 3]};

			launch(&ahead_cases[i], &d, a);
			EXPECT_CUDA(cudaDeviceSynchronize());
			check_shares(&ahead_cases[i], a);
		}
}

/* Blocks that a launch has, as the list of who asked shows where each warp asks once at most. */
KERNEL_TEST(products_have_their_last_blocks_ask_and_no_others)
{
	struct ahead_data d = ahead_data();
	const struct simt_asked *list;
	size_t n_seen = 0;

	for (size_t i = 0; i < AHEAD_CASES; i++) {
		const struct ahead_case *c = &ahead_cases[i];
		struct cuda_ahead a = {d.numbers, 8 * 8 * 4096, 4};

		if (c->blocks == 0)
			continue;
		launch(c, &d, a);
		EXPECT_CUDA(cudaDeviceSynchronize());
		size_t n = simt_take_asked(&list);
		EXPECT_EQUAL(n, 64);
		for (size_t k = 0; k < n; k++)
			EXPECT(list[k].block >= list[k].n_blocks - c->blocks);
		n_seen++;
	}
	EXPECT(n_seen > 0);
}

KERNEL_TEST(a_launch_has_no_more_blocks_aside_than_there_is_to_ask_for)
{
	struct ahead_data d = ahead_data();
	const struct simt_asked *list;
	/* One row of 288 columns: a block of one warp. */
	struct rows_out out = {CUDA_TYPE_F32, d.out, NULL};
	struct rows_norm n = {.x = (float *)(void *)d.numbers,
		.weight = (float *)(void *)d.numbers,
		.n_rows = 1,
		.cols = 288,
		.ahead = {d.numbers, 3 * 4096 + 16, 132}};

	simt_take_asked(&list);
	EXPECT_CUDA(rows_norm(&n, &out, NULL));
	EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_EQUAL(simt_take_asked(&list), 4);
	EXPECT_EQUAL(list[0].n_blocks, 1 + 4);
	n.ahead.bytes = 0;
	unsigned long long before = simt_launches();
	EXPECT_CUDA(rows_norm(&n, &out, NULL));
	EXPECT_CUDA(cudaDeviceSynchronize());
	EXPECT_EQUAL(simt_launches() - before, 1);
	EXPECT_EQUAL(simt_take_asked(&list), 0);
}

/* The device's error, which is gone afterwards, as is all its memory. */
static const char *fault_of(const struct ahead_case *c, const uint8_t *from, uint32_t bytes)
{
	struct ahead_data d = ahead_data();
	struct cuda_ahead a = {from ? from : d.numbers + AHEAD_NUMBER_BYTES - bytes + 16, bytes, 2};

	EXPECT_CUDA(c->run(&d, a, c->type));
	EXPECT(cudaDeviceSynchronize() != cudaSuccess);
	const char *fault = simt_take_fault();
	EXPECT_CUDA(cudaDeviceReset());
	cudaGetLastError();
	return fault;
}

KERNEL_TEST(a_wrong_address_is_caught_in_every_launch)
{
	static const uint8_t here[64] __attribute__((aligned(16)));

	for (size_t i = 0; i < AHEAD_CASES; i++) {
		const char *fault = fault_of(&ahead_cases[i], NULL, 8192);

		EXPECT(fault && strstr(fault, "out of bounds of the device's memory"));
		fault = fault_of(&ahead_cases[i], here, 64);
		EXPECT(fault && strstr(fault, "out of bounds of the device's memory"));
	}
}
