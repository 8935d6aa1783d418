/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of steps with runs of all kinds, and where tensor cores do not go. */
#include "tests/simt/attention_case.h"

/* ---- both ---- */

KERNEL_TEST(runs_of_all_kinds_are_computed_in_one_step)
{
	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t s = 1 - t % 2; s < COUNT(shapes); s += 2) {
			struct attention_case c =
				new_case(fast_types[t], shapes[s][0], shapes[s][1], shapes[s][2]);
			c.n_padding = 3;
			add_run(&c, 99, 1);
			add_run(&c, 40, 37);
			add_run(&c, 0, 0);
			add_run(&c, 0, 1);
			add_run(&c, 16, 1);
			add_run(&c, 0, 18);
			add_run(&c, 300, 1);
			check(&c);
		}
	}
}

KERNEL_TEST(a_step_of_hundreds_of_runs_is_planned_to_the_last_one)
{
	for (int decode = 0; decode < 2; decode++) { /* the plan takes 256 of them at a time */
		struct attention_case c = new_case(fast_types[0], 2, 1, 32);
		c.decode = decode;
		for (uint32_t i = 0; i < 280; i++)
			add_run(&c, i == 270 ? 150 : i % 4, decode ? 1 : 1 + (i % 8 == 7));
		check(&c);
	}
}

/* ---- the plain kernel ---- */

KERNEL_TEST(plain_attention_of_all_kinds_of_runs_is_that_of_f64)
{
	static const enum cuda_type types[][3] = {
		{CUDA_TYPE_F32, CUDA_TYPE_F32, CUDA_TYPE_F32},
		{CUDA_TYPE_F32, CUDA_TYPE_E4M3, CUDA_TYPE_F32},
	};
	static const uint32_t dims[] = {2, 30, 64, 80, 256};

	for (size_t i = 0; i < COUNT(dims); i++) {
		for (size_t t = 0; t < COUNT(types); t++) {
			uint32_t n_heads = i % 2 ? 7 : 4;
			struct attention_case c =
				new_case(types[t], n_heads, i % 3 == 1 ? n_heads : 1, dims[i]);
			c.n_padding = 2;
			add_run(&c, 40, 1);
			add_run(&c, 0, 17);
			add_run(&c, 0, 1);
			add_run(&c, 14, 3);
			check(&c);
		}
	}
}

KERNEL_TEST(head_dimensions_that_tensor_cores_do_not_take_are_computed_too)
{
	static const uint32_t dims[] = {6, 30, 100};

	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t i = 0; i < COUNT(dims); i++) {
			struct attention_case c = new_case(fast_types[t], 4, 2, dims[i]);
			c.decode = i % 2;
			add_run(&c, 20, 1);
			add_run(&c, 0, c.decode ? 1 : 5);
			check(&c);
		}
	}
}

KERNEL_TEST(plain_decode_of_every_context_length_is_that_of_f64)
{
	static const uint32_t contexts[] = {1, 15, 16, 17, 100, 1000};
	struct attention_case c = new_case(
		(const enum cuda_type[3]){CUDA_TYPE_F32, CUDA_TYPE_F32, CUDA_TYPE_F32}, 4, 1, 64);

	c.decode = true;
	c.n_padding = 2;
	for (size_t i = 0; i < COUNT(contexts); i++)
		add_run(&c, contexts[i] - 1, 1);
	check(&c);
}
