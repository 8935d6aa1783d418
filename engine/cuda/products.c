/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The products of a step. Those that read the same rows and whose weights lie one behind the other
 * are launched as one.
 *
 * Where rows are few a product may do what follows it, so it waits until that is known: the one of
 * gate and up for the activation, and one that adds to x for the norm and for the type that the
 * product behind the norm reads. What else comes next has it launched first.
 *
 * A product has one of these ways: quantised weights by quant.h, times q8 or, with more rows on
 * devices that are better at it, bf16, or, with hundreds, made bf16 piece by piece; others with few
 * rows by gemv.h, which is bound by memory alone; with more by cuBLASLt, after which a small kernel
 * scales, adds a bias or changes the type where that is needed.
 */
#include "engine/cuda/gemv.h"
#include "engine/cuda/state.h"

/* Where a product goes. */
struct target {
	uint8_t *data;
	enum cuda_type type;
	size_t ld;
	bool add;
};

static struct target target_of(struct cuda_model *s, const struct backend_product *p)
{
	const struct cuda_buffers *b = &s->buf;
	size_t act = cuda_type_bytes(s->act);
	struct target qkv = {b->qkv, s->act, b->ld_qkv, false},
		      glu_rows = {b->glu, s->act, b->ld_glu, false};

	switch (p->out) {
	case BACKEND_X:
		return (struct target){
			(uint8_t *)s->issue.x, CUDA_TYPE_F32, s->m->config.n_embd, p->add};
	case BACKEND_Q:
		break;
	case BACKEND_K:
		qkv.data += b->k_at * act;
		break;
	case BACKEND_V:
		qkv.data += b->v_at * act;
		break;
	case BACKEND_UP:
		glu_rows.data += b->up_at * act;
		return glu_rows;
	case BACKEND_GATE:
		return glu_rows;
	case BACKEND_LOGITS:
		return (struct target){(uint8_t *)b->logits, CUDA_TYPE_F32, b->ld_logits, false};
	}
	return qkv;
}

/* As quant.h and gemv.h are told. */
static struct cuda_product product_of(struct cuda_model *s, const struct cuda_matrix *w,
	const struct target *t, enum cuda_asker asker)
{
	return (struct cuda_product){
		.x = s->issue.h,
		.n_rows = s->issue.rows,
		.out = t->data,
		.ld = t->ld,
		.type = t->type,
		.add = t->add,
		.bias = w->bias,
		.workspace = s->buf.product_workspace,
		.n_sm = s->context.n_sm,
		.ahead = cuda_ahead_take(s, asker),
	};
}

/* Whether the type can be what products of `reads` leave. */
static bool leaves(enum cuda_type reads, enum cuda_type type)
{
	return type == CUDA_TYPE_F32 || type == reads ||
	       (reads == CUDA_TYPE_E4M3 && type == CUDA_TYPE_BF16);
}

static bool is_unpacked(
	const struct cuda_model *s, const struct cuda_matrix *w, const struct target *t)
{
	return w->reads == CUDA_TYPE_Q8 && s->issue.rows >= s->limits.dense &&
	       leaves(CUDA_TYPE_BF16, t->type);
}

/* Where is_unpacked() says no: quantised weights made bf16 in registers; h is bf16. */
static bool is_wide(const struct cuda_model *s, const struct cuda_matrix *w)
{
	return w->reads == CUDA_TYPE_Q8 && cuda_products_read_bf16(s, s->issue.rows);
}

/* Whether gemv.h or gemv_q.cu multiply it, which read rows of the type that w reads. */
static bool is_few(const struct cuda_model *s, const struct cuda_matrix *w)
{
	uint32_t multiple = w->reads == CUDA_TYPE_E4M3 ? 16 : w->reads == CUDA_TYPE_F32 ? 4 : 8;

	return s->issue.rows <= CUDA_GEMV_MAX_ROWS && w->cols % multiple == 0 && !is_wide(s, w);
}

/* By cuBLASLt, and what is to be done behind it. */
static void run_dense(
	struct cuda_model *s, const struct cuda_matrix *w, uint32_t rows, const struct target *t)
{
	bool scaled = w->reads == CUDA_TYPE_E4M3;
	bool aside = (scaled && t->add) || !leaves(w->reads, t->type);
	struct cuda_matmul_product p = {
		.w = w->data,
		.x = s->issue.h,
		.out = aside ? (void *)s->buf.scratch : t->data,
		.type = w->reads,
		.out_type = aside ? CUDA_TYPE_F32 : t->type,
		.ld = aside ? rows : t->ld,
		.n_rows = s->issue.rows,
		.rows = rows,
		.cols = w->cols,
		.add = t->add && !aside,
	};
	struct cuda_finish f = {
		.in = p.out,
		.in_type = p.out_type,
		.ld_in = p.ld,
		.row_scale = scaled ? s->buf.h_scale : NULL,
		.col_scale = w->scale,
		.bias = w->bias,
		.out = t->data,
		.type = t->type,
		.ld = t->ld,
		.add = t->add && aside,
		.n_rows = s->issue.rows,
		.cols = rows,
	};

	int r = cuda_matmul_run(s->matmul, &p, &s->issue.err);
	if (r < 0)
		s->issue.fault = r;
	else if (aside || scaled || w->bias)
		cuda_stages_check(s, cuda_finish(&f, s->context.stream), "a product was finished");
}

/* Quantised weights made bf16 a piece at a time, where many rows share the work; h is bf16. */
static void run_unpacked(struct cuda_model *s, const struct cuda_quant_matrix *q, const float *bias,
	const struct target *t)
{
	uint32_t most = (uint32_t)(CUDA_UNPACKED_BYTES / 2 / q->cols) / CUDA_QUANT_TILE_ROWS *
			CUDA_QUANT_TILE_ROWS;
	struct cuda_matrix piece = {
		.reads = CUDA_TYPE_BF16, .cols = q->cols, .data = s->buf.unpacked};

	for (uint32_t first = 0, n; first < q->rows && !cuda_stages_is_over(s); first += n) {
		struct target part = *t;

		n = q->rows - first < most ? q->rows - first : most;
		part.data += first * cuda_type_bytes(t->type);
		piece.bias = bias ? bias + first : NULL;
		if (cuda_stages_check(s,
			    cuda_quant_unpack(q, first, n, CUDA_TYPE_BF16, s->buf.unpacked,
				    s->context.stream),
			    "weights were unpacked"))
			run_dense(s, &piece, n, &part);
	}
}

/* By own kernels, of h as it is. `rows` outputs of w and those that join it, up to that of number
 * `last`. tail: or NULL. */
static void run_own(struct cuda_model *s, const struct cuda_matrix *w, uint32_t last, uint32_t rows,
	const struct target *t, const struct cuda_tail *tail)
{
	struct cuda_quant_matrix q = {cuda_quant_form(w->file_type), rows, w->cols, w->data};
	bool norms = tail && tail->kind == CUDA_TAIL_NORM;
	cudaStream_t stream = s->context.stream;
	int r;

	cuda_ahead_pass(s, last);
	struct cuda_product p = product_of(s, w, t, norms ? CUDA_ASKER_NORMED : CUDA_ASKER_PRODUCT);
	if (tail)
		p.tail = *tail;
	if (w->reads == CUDA_TYPE_Q8)
		r = is_wide(s, w) ? cuda_gemm_wide(&q, &p, stream)
				  : cuda_quant_product(&q, &p, stream);
	else if (w->reads == CUDA_TYPE_E4M3)
		r = cuda_gemv_fp8(w->data, w->scale, rows, w->cols, s->buf.h_scale, &p, stream);
	else
		r = cuda_gemv(w->reads, w->data, rows, w->cols, &p, stream);
	cuda_stages_check(s, r, "a product was computed");
}

/* Whether a product may wait for the norm of what it adds to. */
static bool is_late(const struct cuda_model *s, const struct cuda_matrix *w, const struct target *t)
{
	return s->tails && t->add && is_few(s, w) && w->rows <= CUDA_TAIL_MAX_COLS &&
	       w->reads != CUDA_TYPE_F32;
}

/* As run_own(), whichever way it goes. */
static void run_product(struct cuda_model *s, const struct cuda_matrix *w, uint32_t last,
	uint32_t rows, const struct target *t)
{
	struct cuda_quant_matrix q = {cuda_quant_form(w->file_type), rows, w->cols, w->data};
	bool unpacked = is_unpacked(s, w, t);

	if (!cuda_stages_h(s, unpacked || is_wide(s, w) ? CUDA_TYPE_BF16 : w->reads))
		return;
	if (is_late(s, w, t)) {
		s->issue.late = w;
		return;
	}
	if (!unpacked && (w->reads == CUDA_TYPE_Q8 || is_few(s, w)))
		return run_own(s, w, last, rows, t, NULL);
	cuda_ahead_pass(s, last);
	if (unpacked)
		run_unpacked(s, &q, w->bias, t);
	else
		run_dense(s, w, rows, t);
}

void cuda_products_run_late(struct cuda_model *s, const struct cuda_tail *tail)
{
	const struct cuda_matrix *w = s->issue.late;
	const struct backend_product into_x = {.out = BACKEND_X, .add = true};

	s->issue.late = NULL;
	if (!w || cuda_stages_is_over(s))
		return;
	struct target t = target_of(s, &into_x);
	run_own(s, w, (uint32_t)(w - s->matrix), w->rows, &t, tail);
}

/* Whether gate and up are multiplied and activated in one, which the product that reads the result
 * must be able to read as it is. That one is the matrix behind the two. */
static bool is_gated(
	const struct cuda_model *s, const struct backend_product *p, uint32_t n, bool joined)
{
	const struct cuda_matrix *gate = &s->matrix[p->w->number];

	if (!joined || n != 2 || p->out != BACKEND_GATE || !is_few(s, gate) ||
		s->act == CUDA_TYPE_F32 || gate[2].reads != gate->reads)
		return false;
	return gate->reads == s->act ||
	       (gate->reads == CUDA_TYPE_Q8 && s->tails && gate->rows % 32 == 0 &&
		       gate->rows <= CUDA_TAIL_MAX_FF);
}

/* Quantised: q8 by the product's last blocks. */
static void run_gated_q(
	struct cuda_model *s, const struct cuda_matrix *w, uint32_t up, enum rows_gate kind)
{
	struct target t = {s->buf.glu, s->act, s->buf.ld_glu, false};
	struct cuda_tail tail = {.kind = CUDA_TAIL_GLU,
		.h = {.type = CUDA_TYPE_Q8, .data = s->buf.gated},
		.gate = kind};

	run_own(s, w, up, 2 * w->rows, &t, &tail);
	s->issue.h = s->buf.gated;
}

void cuda_products_run_gated(struct cuda_model *s, enum rows_gate kind)
{
	const struct cuda_matrix *w = s->issue.gate;
	uint32_t up = (uint32_t)(w - s->matrix) + 1;
	struct target t = {s->buf.glu, s->act, w->rows, false};

	s->issue.gate = NULL;
	s->issue.made = true;
	s->issue.made_type = w->reads;
	if (w->reads == CUDA_TYPE_Q8)
		return run_gated_q(s, w, up, kind);
	cuda_ahead_pass(s, up);
	struct cuda_product p = product_of(s, w, &t, CUDA_ASKER_PRODUCT);
	cuda_stages_check(s,
		cuda_gemv_gated(w->reads, w->data, w->rows, w->cols, kind, &p, s->context.stream),
		"gate and up were computed");
	s->issue.h = s->buf.glu;
}

void cuda_products_run(struct model *m, const struct backend_product *p, uint32_t n)
{
	struct cuda_model *s = m->state;

	for (uint32_t i = 0, k; i < n && !cuda_stages_is_over(s); i = k) {
		const struct cuda_matrix *w = &s->matrix[p[i].w->number];
		struct target t = target_of(s, &p[i]);
		uint32_t rows = w->rows;

		if (s->issue.made) /* no norm came between */
			cuda_products_run_late(s, NULL);
		/* Those whose weights and whose outputs lie behind it. */
		for (k = i + 1; k < n; k++) {
			const struct cuda_matrix *last = &s->matrix[p[k - 1].w->number],
						 *next = &s->matrix[p[k].w->number];
			struct target o = target_of(s, &p[k]);
			if (!cuda_place_joins(last, next) || o.ld != t.ld ||
				o.data != t.data + rows * cuda_type_bytes(t.type))
				break;
			rows += next->rows;
		}
		if (!is_gated(s, &p[i], n, k == n))
			run_product(s, w, p[k - 1].w->number, rows, &t);
		else if (cuda_stages_h(s, w->reads))
			s->issue.gate = w;
	}
}
