/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/quant.h"
#include "tests/run_suite.h"

START_TEST(every_f16_survives_the_way_there_and_back)
{
	for (uint32_t h = 0; h < 65536; h++) {
		float f = quant_f16_to_f32((uint16_t)h);
		if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff)) {
			ck_assert(f != f);
			f = quant_f16_to_f32(quant_f32_to_f16(f));
			ck_assert(f != f);
		} else {
			ck_assert_uint_eq(quant_f32_to_f16(f), h);
		}
	}
}
END_TEST

START_TEST(f16_has_the_values_of_the_standard)
{
	ck_assert(quant_f16_to_f32(0x3c00) == 1.0f);
	ck_assert(quant_f16_to_f32(0xc000) == -2.0f);
	ck_assert(quant_f16_to_f32(0x7bff) == 65504.0f);
	ck_assert(quant_f16_to_f32(0x0001) == 0x1p-24f);
	ck_assert(quant_f16_to_f32(0x7c00) == INFINITY);
	ck_assert(signbit(quant_f16_to_f32(0x8000)));
}
END_TEST

/* Between two neighbours: below the middle the lower, above it the upper, in the middle the even
 * one. */
START_TEST(f16_rounds_to_the_nearest_and_ties_to_even)
{
	for (uint32_t h = 0; h < 0x7bff; h++) {
		float lower = quant_f16_to_f32((uint16_t)h),
		      upper = quant_f16_to_f32((uint16_t)(h + 1));
		float middle = (lower + upper) / 2;
		ck_assert_uint_eq(quant_f32_to_f16(nextafterf(middle, 0)), h);
		ck_assert_uint_eq(quant_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
		ck_assert_uint_eq(quant_f32_to_f16(middle), h % 2 ? h + 1 : h);
	}
	ck_assert_uint_eq(quant_f32_to_f16(65519.0f), 0x7bff);
	ck_assert_uint_eq(quant_f32_to_f16(65520.0f), 0x7c00);
	ck_assert_uint_eq(quant_f32_to_f16(-1e30f), 0xfc00);
}
END_TEST

START_TEST(blocks_are_read_at_any_address)
{
	uint8_t bytes[1 + 2 * 34] = {0};
	float x[64];
	static const uint16_t half = 0x3800; /* 0.5 */

	for (int b = 0; b < 2; b++) {
		memcpy(bytes + 1 + 34 * b, &half, 2);
		for (int i = 0; i < 32; i++)
			bytes[1 + 34 * b + 2 + i] = (uint8_t)(i - 100);
	}
	quant_to_f32(TENSOR_Q8_0, bytes + 1, 64, x);
	for (int i = 0; i < 64; i++)
		ck_assert(x[i] == (float)(i % 32 - 100) / 2);
	for (int i = 0; i < 16; i++)
		bytes[3 + i] = (uint8_t)(i | (15 - i) << 4);
	quant_to_f32(TENSOR_Q4_0, bytes + 1, 32, x);
	for (int i = 0; i < 16; i++) {
		ck_assert(x[i] == (float)(i - 8) / 2);
		ck_assert(x[i + 16] == (float)(15 - i - 8) / 2);
	}
	ck_assert_uint_eq(quant_bytes(TENSOR_Q5_1, 64), 48);
	ck_assert_uint_eq(quant_bytes(TENSOR_Q8_0, 64), 68);
	ck_assert_uint_eq(quant_bytes(TENSOR_Q4_0, 64), 36);
	ck_assert_uint_eq(quant_bytes(TENSOR_BF16, 7), 14);
}
END_TEST

/* The files of tests/reference/make_quant_fixtures.py: a block, then its values. */
START_TEST(blocks_have_the_values_of_another_implementation)
{
	static const struct {
		enum tensor_type type;
		const char *path;
	} files[] = {{TENSOR_Q4_1, FIXTURES "/quant/q4_1.bin"},
		{TENSOR_Q5_0, FIXTURES "/quant/q5_0.bin"},
		{TENSOR_Q5_1, FIXTURES "/quant/q5_1.bin"},
		{TENSOR_Q4_K, FIXTURES "/quant/q4_k.bin"},
		{TENSOR_Q5_K, FIXTURES "/quant/q5_k.bin"},
		{TENSOR_Q6_K, FIXTURES "/quant/q6_k.bin"}};
	const struct tensor_type_info *info = tensor_type_info(files[_i].type);
	size_t n_values = info->block_values, bytes = info->block_bytes, n = 0;
	FILE *f = fopen(files[_i].path, "rb");
	uint8_t block[1 + 256];
	float want[QUANT_K], got[QUANT_K];

	ck_assert_msg(f != NULL, "%s", files[_i].path);
	while (fread(block + 1, 1, bytes, f) == bytes) { /* at an odd address */
		ck_assert_uint_eq(fread(want, sizeof *want, n_values, f), n_values);
		quant_to_f32(files[_i].type, block + 1, n_values, got);
		for (size_t i = 0; i < n_values; i++)
			ck_assert_msg(got[i] == want[i], "block %zu, value %zu: %a for %a", n, i,
				(double)got[i], (double)want[i]);
		n++;
	}
	ck_assert_uint_eq(n, 4);
	fclose(f);
}
END_TEST

int main(void)
{
	if (run_suite_has_one_thread())
		return 77;
	Suite *s = suite_create("quant");
	TCase *t = tcase_create("quant");

	tcase_add_test(t, every_f16_survives_the_way_there_and_back);
	tcase_add_test(t, f16_has_the_values_of_the_standard);
	tcase_add_test(t, f16_rounds_to_the_nearest_and_ties_to_even);
	tcase_add_test(t, blocks_are_read_at_any_address);
	tcase_add_loop_test(t, blocks_have_the_values_of_another_implementation, 0, 6);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	return run_suite(s);
}
