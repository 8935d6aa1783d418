/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step, written down for the device: one contiguous piece of pinned memory that is brought over
 * by one copy. Rows and runs have fixed places in it, so kernels read them where they arrive; the
 * runs' block tables follow one behind the other, and spread.cu lays them out, as copying all of
 * the tables' room each time would cost more than the step.
 *
 * Decode steps are rounded up to a ladder of sizes, for each of which there may be a graph; others
 * to sizes that are few, as each costs an entry in the table of products. What is added is padding:
 * rows without a slot, runs without blocks, picks that pick nothing.
 */
#include <string.h>

#include "engine/cuda/state.h"
#include "engine/sampler.h"

static const uint32_t ladder[CUDA_N_BUCKETS] = {
	1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256};

#define LARGEST 256 /* of the ladder */

int cuda_upload_bucket(uint32_t n)
{
	for (int i = 0; i < CUDA_N_BUCKETS; i++)
		if (ladder[i] == n)
			return i;
	return -1;
}

uint32_t cuda_upload_round(uint32_t n, bool decode)
{
	if (n > LARGEST)
		return (n + 63) / 64 * 64;
	if (n > 16 && !decode)
		return (n + 15) / 16 * 16;
	for (int i = 0; i < CUDA_N_BUCKETS; i++)
		if (n <= ladder[i])
			return n == 0 ? 0 : ladder[i];
	return n;
}

/* The parts of an upload, as arrays. */
struct parts {
	uint32_t *given, *source, *pos, *slot, *run;
	uint32_t *first_row, *first_pos, *block_from, *logit_row, *blocks;
	struct sample_row *sample;
};

static uint32_t *words(uint8_t *base, size_t at)
{
	return (uint32_t *)(void *)(base + at);
}

static struct parts parts_of(const struct cuda_layout *l, uint8_t *base)
{
	return (struct parts){
		.given = words(base, l->given),
		.source = words(base, l->source),
		.pos = words(base, l->pos),
		.slot = words(base, l->slot),
		.run = words(base, l->run),
		.first_row = words(base, l->first_row),
		.first_pos = words(base, l->first_pos),
		.block_from = words(base, l->block_from),
		.logit_row = words(base, l->logit_row),
		.blocks = words(base, l->blocks),
		.sample = (struct sample_row *)(void *)(base + l->sample),
	};
}

/* The rows of run r; the first is `row`. */
static void write_run(const struct parts *p, const struct batch_run *run, uint32_t r, uint32_t row)
{
	for (uint32_t i = 0; i < run->n; i++) {
		uint32_t pos = run->first_pos + i;
		bool follows = run->follows && i + 1 == run->n;

		p->given[row + i] = follows ? 0 : run->ids[i];
		p->source[row + i] = follows ? run->follows - 1 : CUDA_SPREAD_NONE;
		p->pos[row + i] = pos;
		p->slot[row + i] =
			run->blocks[pos / KV_BLOCK_TOK] * KV_BLOCK_TOK + pos % KV_BLOCK_TOK;
		p->run[row + i] = r;
	}
	p->first_row[r] = row;
	p->first_pos[r] = run->first_pos;
}

static void write_padding(const struct parts *p, const struct backend_batch *b,
	const struct cuda_issue *issue, uint32_t n_blocks)
{
	for (uint32_t i = b->n_rows; i < issue->n_rows; i++) {
		p->given[i] = p->pos[i] = 0;
		p->source[i] = CUDA_SPREAD_NONE;
		p->slot[i] = CUDA_NO_SLOT;
		p->run[i] = issue->decode ? i : 0;
	}
	for (uint32_t i = b->n_runs; i <= issue->n_runs; i++) {
		p->first_row[i] = b->n_rows;
		p->block_from[i] = n_blocks;
		if (i < issue->n_runs)
			p->first_pos[i] = 0;
	}
	for (uint32_t i = b->n_picks; i < issue->n_picks; i++) {
		p->logit_row[i] = issue->decode ? i : 0;
		memset(&p->sample[i], 0, sizeof(p->sample[i]));
	}
}

static void write_asked(struct sample_row *row, const struct sampler_asked *asked)
{
	row->flags |= SAMPLE_FACTS;
	row->n_top = asked->n_top;
	row->n_candidates = asked->n_candidates;
	if (asked->n_candidates > 0)
		memcpy(row->candidates, asked->candidates,
			asked->n_candidates * sizeof(*asked->candidates));
}

/* How tokens are taken, and what else is asked of their rows. */
static void write_picks(struct cuda_model *s, struct cuda_flight *f, const struct parts *p,
	const struct backend_batch *b)
{
	uint32_t n_masks = 0;

	for (uint32_t i = 0; b->picks && i < b->n_picks; i++) {
		const struct model_pick *pick = &b->picks[i];

		p->sample[i] = sample_row_of(&pick->how, pick->position,
			pick->history ? pick->slot : SAMPLE_NONE,
			pick->history && pick->history->n_bias > 0, pick->ignore_eos);
		f->asks[i] = pick->asked != NULL;
		if (pick->asked)
			write_asked(&p->sample[i], pick->asked);
		s->issue.facts = s->issue.facts || pick->asked;
		if (!pick->mask)
			continue;
		/* What is behind the caller's last word is not looked at. */
		memcpy(f->masks + (size_t)n_masks * s->n_words, pick->mask,
			(s->m->config.n_vocab + 31) / 32 * sizeof(uint32_t));
		p->sample[i].mask = n_masks++;
	}
	f->n_masks = n_masks;
}

/* ---- histories ---- */

static const struct sampler_history *new_history(const struct backend_batch *b, uint32_t i)
{
	return b->picks && b->picks[i].fresh ? b->picks[i].history : NULL;
}

/* Bytes of biases and tokens, as they are copied. */
static size_t said_bytes(const struct sampler_history *h)
{
	return (sizeof(struct sample_bias) + h->n_tok * sizeof(uint32_t) + 15) / 16 * 16;
}

int cuda_upload_make_room(
	struct cuda_model *s, struct cuda_flight *f, const struct backend_batch *b, struct err *err)
{
	size_t bytes = 0;
	void *p;

	for (uint32_t i = 0; i < b->n_picks; i++)
		bytes += new_history(b, i) ? said_bytes(new_history(b, i)) : 0;
	if (bytes <= f->said_bytes)
		return 0;
	f->said = cuda_memory_unpin(f->said);
	f->said_bytes = 0;
	int r = cuda_memory_pin(&s->context, &p, bytes, err);
	if (r < 0)
		return r;
	f->said = p;
	f->said_bytes = bytes;
	return 0;
}

/* By way of pinned memory that is the step's until it is finished: ordinary memory would have to
 * stay as it is until the copy is done, on machines whose device reads it itself. */
static int open_history(
	struct cuda_model *s, const struct model_pick *pick, uint8_t *said, struct err *err)
{
	const struct sampler_history *h = pick->history;
	struct sample_bias *biases = (struct sample_bias *)(void *)said;
	uint32_t *ids = (uint32_t *)(void *)(said + sizeof(*biases));
	cudaStream_t stream = s->context.stream;

	biases->n = (uint32_t)h->n_bias;
	for (uint32_t i = 0; i < biases->n; i++) {
		biases->ids[i] = h->bias[i].id;
		biases->bias[i] = h->bias[i].bias;
	}
	memcpy(ids, h->ids, h->n_tok * sizeof(*ids));
	int code = cudaMemcpyAsync(
		s->buf.history, ids, h->n_tok * sizeof(*ids), cudaMemcpyHostToDevice, stream);
	if (code == cudaSuccess && biases->n > 0)
		code = cudaMemcpyAsync(
			s->buf.biases, biases, sizeof(*biases), cudaMemcpyHostToDevice, stream);
	if (code == cudaSuccess)
		code = sample_open(&s->sampler, pick->slot, s->buf.history, h->n_prompt, h->n_tok,
			biases->n > 0 ? s->buf.biases : NULL, stream);
	return cuda_context_fault(&s->context, code, "what was said was copied to it", err);
}

int cuda_upload_histories(
	struct cuda_model *s, struct cuda_flight *f, const struct backend_batch *b, struct err *err)
{
	uint8_t *said = f->said;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < b->n_picks; i++) {
		if (!new_history(b, i))
			continue;
		r = open_history(s, &b->picks[i], said, err);
		said += said_bytes(new_history(b, i));
	}
	return r;
}

/* ---- all of it ---- */

size_t cuda_upload_write(struct cuda_model *s, struct cuda_flight *f, const struct backend_batch *b)
{
	struct parts p = parts_of(&s->layout, f->upload);
	struct cuda_issue *issue = &s->issue;
	uint32_t row = 0, n_blocks = 0, n_logit_rows = 0;

	issue->decode = b->decode;
	issue->n_rows = cuda_upload_round(b->n_rows, b->decode);
	issue->n_runs = b->decode ? issue->n_rows : b->n_runs;
	issue->n_picks = b->decode ? issue->n_rows : cuda_upload_round(b->n_picks, false);
	issue->identity = b->decode;
	for (uint32_t r = 0; r < b->n_runs; r++) {
		const struct batch_run *run = &b->runs[r];
		uint32_t n = (run->first_pos + run->n + KV_BLOCK_TOK - 1) / KV_BLOCK_TOK;

		write_run(&p, run, r, row);
		p.block_from[r] = n_blocks;
		memcpy(p.blocks + n_blocks, run->blocks, n * sizeof(uint32_t));
		n_blocks += n;
		row += run->n;
		for (uint32_t i = row - run->n_logit_rows; i < row; i++)
			p.logit_row[n_logit_rows++] = i;
	}
	write_padding(&p, b, issue, n_blocks);
	write_picks(s, f, &p, b);
	return s->layout.blocks + n_blocks * sizeof(uint32_t);
}
