/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of runs of several tokens. */
#include "tests/simt/attention_case.h"

KERNEL_TEST(prefill_from_the_beginning_is_that_of_f64)
{
	static const uint32_t lengths[] = {2, 15, 16, 17, 33, 100};

	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t s = t % 2; s < COUNT(shapes); s += 2) {
			struct attention_case c =
				new_case(fast_types[t], shapes[s][0], shapes[s][1], shapes[s][2]);
			c.one_matrix = s % 2;
			c.n_padding = s % 3;
			add_run(&c, 0, lengths[s % COUNT(lengths)]);
			add_run(&c, 0, lengths[(s + t + 2) % COUNT(lengths)]);
			check(&c);
		}
	}
}

KERNEL_TEST(prefill_goes_on_from_any_position)
{
	static const struct run runs[] = {
		{1, 2}, {15, 3}, {16, 20}, {17, 31}, {100, 65}, {1000, 5}, {63, 64}, {31, 33}};

	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t i = 0; i < COUNT(runs); i++) {
			struct attention_case c = new_case(fast_types[t], i % 3 == 2 ? 7 : 4, 1,
				shapes[(i + t) % COUNT(shapes)][2]);
			add_run(&c, runs[i].first_pos, runs[i].n);
			check(&c);
		}
	}
}

KERNEL_TEST(prefill_writes_q8_where_it_says_so)
{
	static const uint32_t q8_shapes[][3] = {{4, 2, 32}, {4, 1, 64}, {8, 1, 128}, {4, 2, 96}};

	for (size_t s = 0; s < COUNT(q8_shapes); s++) {
		struct attention_case c =
			new_case(fast_types[0], q8_shapes[s][0], q8_shapes[s][1], q8_shapes[s][2]);
		c.out = CUDA_TYPE_Q8;
		add_run(&c, 30, 19);
		add_run(&c, 0, 9);
		check(&c);
	}
}
