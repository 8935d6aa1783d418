/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotation inside of decode attention beside rows_rope and attention: the same bits in the output
 * and in the whole cache. What those two compute is held against f64 by tests of their own.
 */
#include "tests/simt/attention_data.h"

#define MOST_STEPS 20

/* Both ways, each with memory of its own. */
struct both {
	const struct attention_case *c;
	struct attention_data d;
	struct attention_device two, one; /* launches; one */
	struct rows_rope rope;            /* q, k and v are those of `two` */
	uint32_t n_steps;                 /* of a token a sequence; the last as c has it */
};

/* Rows as products leave them; a cache in which the positions of these steps are still NaN. */
static void make_new(struct both *b)
{
	const struct attention_case *c = b->c;
	size_t size = c->head_dim * cuda_type_bytes(c->kv);

	for (size_t i = 0; i < (b->d.n_rows - c->n_padding) * b->d.ld_q; i++)
		values_set(b->d.q, c->act, i, 2 * kernel_test_random_float());
	for (uint32_t r = 0; r < c->n_runs; r++) {
		uint32_t len = c->runs[r].first_pos + 1;
		for (uint32_t pos = len < b->n_steps ? 0 : len - b->n_steps; pos < len; pos++) {
			uint32_t block = b->d.blocks[r * b->d.max_blocks + pos / 16];
			for (uint32_t h = 0; h < c->n_kv_heads; h++) {
				size_t at = kv_at(c, block, h, pos % 16) * cuda_type_bytes(c->kv);
				memset(b->d.k + at, 0xff, size);
				memset(b->d.v + at, 0xff, size);
			}
		}
	}
}

static void open_both(
	struct both *b, const struct attention_case *c, uint32_t rope_dim, uint32_t n_steps)
{
	size_t size = cuda_type_bytes(c->act), n_q = (size_t)c->n_heads * c->head_dim,
	       n_kv = (size_t)c->n_kv_heads * c->head_dim, n = (size_t)MAX_CONTEXT * rope_dim;
	float *cs = kernel_test_host(n * sizeof *cs);

	for (size_t i = 0; i < n; i += 2) {
		float angle = 3.2f * kernel_test_random_float();
		cs[i] = cosf(angle);
		cs[i + 1] = sinf(angle);
	}
	b->c = c;
	b->d = make(c);
	b->n_steps = n_steps;
	make_new(b);
	bring(c, &b->d, &b->two);
	bring(c, &b->d, &b->one);
	b->rope = (struct rows_rope){
		.act = c->act,
		.q = b->two.q,
		.k = b->two.q + n_q * size,
		.v = b->two.q + (n_q + n_kv) * size,
		.ld_q = b->d.ld_q,
		.ld_kv = b->d.ld_q,
		.n_rows = b->d.n_rows,
		.n_heads = c->n_heads,
		.rope_dim = rope_dim,
		.scale = 1 / sqrtf((float)c->head_dim),
		.cs = kernel_test_upload(cs, n * sizeof *cs),
		.pos = b->two.rows.pos,
		.slot = b->two.rows.slot,
	};
}

static int rope_and_run(struct both *b, cudaStream_t stream)
{
	struct rows_rope r = b->rope;
	size_t k = (size_t)((const uint8_t *)r.k - (uint8_t *)r.q),
	       v = (size_t)((const uint8_t *)r.v - (uint8_t *)r.q);

	r.q = b->one.q;
	r.k = b->one.q + k;
	r.v = b->one.q + v;
	r.pos = r.slot = NULL; /* nobody looks */
	return attention_rope_and_run(&b->one.step, &r, &b->one.kv, &b->one.out, stream);
}

static void in_two(struct both *b)
{
	EXPECT_CUDA(cudaMemcpy(b->two.q, b->d.q, b->d.q_bytes, cudaMemcpyHostToDevice));
	EXPECT_CUDA(attention_plan(&b->two.step, NULL));
	EXPECT_CUDA(rows_rope(&b->rope, &b->two.kv, NULL));
	EXPECT_CUDA(
		attention_run(&b->two.step, &b->two.kv, b->two.q, b->d.ld_q, &b->two.out, NULL));
}

static void expect_same(const void *got, const void *want, size_t bytes)
{
	uint8_t *a = kernel_test_host(bytes), *b = kernel_test_host(bytes);
	size_t n = 0;

	kernel_test_download(a, got, bytes);
	kernel_test_download(b, want, bytes);
	for (size_t i = 0; i < bytes; i++)
		n += a[i] != b[i];
	EXPECT_EQUAL(n, 0);
}

static void expect_both_same(const struct both *b)
{
	const struct attention_case *c = b->c;
	size_t n = (size_t)(b->d.n_rows - c->n_padding) * c->n_heads * c->head_dim;
	uint8_t *out = kernel_test_host(b->one.out_bytes), *q = kernel_test_host(b->d.q_bytes);

	expect_same(b->one.out.data, b->two.out.data, b->one.out_bytes);
	expect_same(b->one.kv.k, b->two.kv.k, b->d.kv_bytes);
	expect_same(b->one.kv.v, b->two.kv.v, b->d.kv_bytes);
	kernel_test_download(out, b->one.out.data, b->one.out_bytes);
	for (size_t i = 0; c->out != CUDA_TYPE_Q8 && i < n; i++)
		EXPECT(!isnan(values_get(out, c->out, i)));
	kernel_test_download(q, b->one.q, b->d.q_bytes);
	EXPECT(memcmp(q, b->d.q, b->d.q_bytes) == 0);
}

/* One step, of which the launch is done twice. */
static void check_step(struct attention_case *c, uint32_t rope_dim)
{
	struct both b;

	c->decode = c->one_matrix = true;
	open_both(&b, c, rope_dim, 1);
	in_two(&b);
	EXPECT_CUDA(attention_plan(&b.one.step, NULL));
	for (int i = 0; i < 2; i++)
		EXPECT_CUDA(rope_and_run(&b, NULL));
	expect_both_same(&b);
}

struct rope_shape {
	uint32_t n_heads, n_kv_heads, head_dim, rope_dim;
};

/* Groups of 1 to 16; heads that fill a kernel's columns or do not; all of a head rotates, or some
 * of it, to the middle of a thread's eight columns too. */
static const struct rope_shape rope_shapes[] = {
	{2, 2, 32, 32},
	{4, 1, 64, 20},
	{8, 2, 128, 128},
	{7, 1, 80, 64},
	{3, 1, 96, 12},
	{2, 1, 256, 256},
	{16, 1, 64, 64},
	{15, 1, 112, 112},
	{2, 1, 208, 36},
};

/* Around KV blocks, and around as many of them as are set out at once, 4 and 8. A case takes every
 * third. */
static const uint32_t contexts[] = {1, 2, 16, 17, 33, 64, 128, 65, 150, 129, 144};

static void check_contexts(uint32_t n_processors, uint32_t every)
{
	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (size_t s = t % every; s < COUNT(rope_shapes); s += every) {
			const struct rope_shape *shape = rope_shapes + s;
			struct attention_case c = new_case(
				fast_types[t], shape->n_heads, shape->n_kv_heads, shape->head_dim);
			c.n_processors = n_processors;
			c.n_padding = s % 3;
			for (size_t i = (t + s) % 3; i < COUNT(contexts); i += 3)
				add_run(&c, contexts[i] - 1, 1);
			check_step(&c, shape->rope_dim);
		}
	}
}

KERNEL_TEST(one_launch_gives_the_bits_of_two_where_a_row_is_one_item)
{
	check_contexts(1, 1);
}

KERNEL_TEST(one_launch_gives_the_bits_of_two_where_rows_are_split)
{
	check_contexts(60, 2);
}

KERNEL_TEST(one_launch_gives_the_bits_of_two_as_q8_and_of_one_long_sequence)
{
	for (size_t t = 0; t < COUNT(fast_types); t++) {
		for (uint32_t i = 0; i < 3; i++) {
			struct attention_case c = new_case(fast_types[t], 8, 2, 128);
			c.out = CUDA_TYPE_Q8;
			c.n_processors = 1 + i * 7;
			add_run(&c, 511 + i, 1); /* the end of a block, then the next one */
			check_step(&c, 128);
		}
	}
}

/* A graph is captured before the first step and runs all of them. */
static void check_steps(struct attention_case *c, uint32_t rope_dim, uint32_t n_steps)
{
	struct both b;
	cudaStream_t stream;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	uint32_t pos[MOST_STEPS], slot[MOST_STEPS];
	size_t bytes;

	c->decode = c->one_matrix = true;
	open_both(&b, c, rope_dim, n_steps);
	bytes = c->n_runs * sizeof *pos;
	EXPECT_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	EXPECT_CUDA(attention_plan(&b.one.step, stream));
	EXPECT_CUDA(rope_and_run(&b, stream));
	EXPECT_CUDA(cudaStreamEndCapture(stream, &graph));
	EXPECT_CUDA(cudaGraphInstantiate(&exec, graph, 0));
	for (uint32_t i = 0; i < n_steps; i++) {
		for (uint32_t r = 0; r < c->n_runs; r++) {
			pos[r] = c->runs[r].first_pos + 1 + i - n_steps;
			slot[r] = b.d.blocks[r * b.d.max_blocks + pos[r] / 16] * 16 + pos[r] % 16;
		}
		for (int k = 0; k < 2; k++) {
			const struct cuda_rows *rows = k ? &b.one.rows : &b.two.rows;
			EXPECT_CUDA(cudaMemcpy(rows->pos, pos, bytes, cudaMemcpyHostToDevice));
			EXPECT_CUDA(cudaMemcpy(rows->slot, slot, bytes, cudaMemcpyHostToDevice));
		}
		in_two(&b);
		EXPECT_CUDA(cudaGraphLaunch(exec, stream));
		EXPECT_CUDA(cudaStreamSynchronize(stream));
		expect_both_same(&b);
	}
	EXPECT_CUDA(cudaGraphExecDestroy(exec));
	EXPECT_CUDA(cudaGraphDestroy(graph));
	EXPECT_CUDA(cudaStreamDestroy(stream));
}

KERNEL_TEST(a_captured_launch_goes_on_while_contexts_grow_over_blocks)
{
	for (size_t t = 0; t < COUNT(fast_types); t++) {
		struct attention_case c = new_case(fast_types[t], 4, 2, 64);
		c.n_padding = 2;
		c.n_processors = t % 2 ? 12 : 1;
		add_run(&c, 18, 1);
		add_run(&c, 130, 1);
		add_run(&c, 18 + 64, 1);
		check_steps(&c, 64, MOST_STEPS - 1);
	}
}

KERNEL_TEST(it_is_refused_where_rows_rope_is_needed)
{
	struct attention_shape shape = {.act = CUDA_TYPE_BF16,
		.kv = CUDA_TYPE_BF16,
		.n_heads = 16,
		.n_kv_heads = 1,
		.head_dim = 64,
		.max_rows = 1,
		.max_runs = 1};
	struct attention_step step = {.shape = &shape, .decode = true, .n_rows = 1, .n_runs = 1};
	struct cuda_kv kv = {NULL, NULL, CUDA_TYPE_BF16, 1, 64};
	struct rows_out out = {.type = CUDA_TYPE_BF16};
	struct rows_rope r = {
		.act = CUDA_TYPE_BF16, .k = &out, .n_rows = 1, .n_heads = 16, .rope_dim = 66};

	EXPECT(attention_ropes(&step, 64));
	EXPECT_EQUAL(attention_rope_and_run(&step, &r, &kv, &out, NULL), cudaErrorInvalidValue);
	r.rope_dim = 64;
	step.decode = false;
	EXPECT(!attention_ropes(&step, 64));
	EXPECT_EQUAL(attention_rope_and_run(&step, &r, &kv, &out, NULL), cudaErrorInvalidValue);
	step.decode = true;
	EXPECT(!attention_ropes(&step, 62));
	shape.n_heads = 17; /* two blocks would read a KV head */
	EXPECT(!attention_ropes(&step, 64));
	shape.n_heads = 16;
	shape.head_dim = 60;
	EXPECT(!attention_ropes(&step, 64));
	shape.head_dim = 64;
	shape.act = shape.kv = CUDA_TYPE_F32;
	EXPECT(!attention_ropes(&step, 64));
}
