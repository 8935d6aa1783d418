/* SPDX-License-Identifier: Apache-2.0 */
/* Attention of runs of one token. */
#include "tests/simt/attention_case.h"

static const uint32_t contexts[] = {1, 15, 16, 17, 100, 1000};

KERNEL_TEST(decode_of_every_context_length_is_that_of_f64)
{
	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t s = t % 2; s < COUNT(shapes); s += 2) {
			struct attention_case c =
				new_case(fast_types[t], shapes[s][0], shapes[s][1], shapes[s][2]);
			c.decode = true;
			c.n_padding = s % 3;
			c.one_matrix = s % 2;
			for (size_t i = 0; i < COUNT(contexts) - (s > 1);
				i++) /* the emulator is slow */
				add_run(&c, contexts[i] - 1, 1);
			check(&c);
		}
	}
}

KERNEL_TEST(decode_of_one_sequence_is_split_and_added_up)
{
	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t i = 0; i < COUNT(contexts); i++) {
			struct attention_case c = new_case(fast_types[t], 4, 1, i % 2 ? 64 : 128);
			c.decode = true;
			c.n_processors = 20; /* 40 pieces: all but the shortest are split */
			add_run(&c, contexts[i] - 1, 1);
			check(&c);
		}
	}
}

/* Each row and each KV head has a counter of its own. */
KERNEL_TEST(decode_of_several_sequences_with_several_heads_is_split_and_added_up)
{
	for (size_t t = 0; t < 2; t++) {
		struct attention_case c = new_case(fast_types[t], 6, 3, 64);
		c.decode = true;
		c.n_processors = 60; /* pieces of four blocks */
		add_run(&c, 299, 1);
		add_run(&c, 332, 1);
		add_run(&c, 200, 1);
		add_run(&c, 70, 1);
		check(&c);
	}
}

KERNEL_TEST(decode_writes_q8_where_it_says_so)
{
	static const uint32_t q8_shapes[][3] = {{4, 2, 32}, {4, 1, 64}, {8, 1, 128}, {4, 2, 96}};

	for (size_t s = 0; s < COUNT(q8_shapes); s++) {
		struct attention_case c =
			new_case(fast_types[0], q8_shapes[s][0], q8_shapes[s][1], q8_shapes[s][2]);
		c.out = CUDA_TYPE_Q8;
		c.decode = true;
		c.n_padding = 2;
		c.n_processors = 1 + 9 * (s % 2);
		add_run(&c, 200, 1);
		add_run(&c, 3, 1);
		add_run(&c, 63, 1);
		check(&c);
	}
}

KERNEL_TEST(a_captured_decode_step_goes_on_while_contexts_grow)
{
	for (size_t t = 0; t < 2; t++) {
		struct attention_case c = new_case(fast_types[t], 4, 2, 64);
		c.decode = true;
		c.captured = true;
		c.n_padding = 3;
		c.n_processors = 12;
		add_run(&c, 299, 1);
		add_run(&c, 16, 1);
		add_run(&c, 0, 1);
		add_run(&c, 130, 1);
		check(&c);
	}
}
