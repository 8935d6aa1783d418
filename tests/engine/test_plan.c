/* SPDX-License-Identifier: Apache-2.0 */
/* Planning without a model: the test plays the model and appends tokens itself. */
#include "engine/plan.h"

#include <stdlib.h>
#include <string.h>

#include "tests/run_suite.h"

#define CONTEXT_TOK 256
#define MOST 16

static uint32_t random_state;

static uint32_t next_random(void)
{
	random_state = random_state * 1664525u + 1013904223u;
	return random_state >> 8;
}

static void no_event(void *arg, const struct engine_event *event)
{
	(void)arg, (void)event;
}

/* A sequence of n_prompt tokens that all are `id` (or random ones with UINT32_MAX). */
static struct seq *make_seq(uint32_t n_prompt, uint32_t max_tokens, uint32_t id)
{
	uint32_t ids[CONTEXT_TOK];
	struct engine_request r = {
		.ids = ids, .n_ids = n_prompt, .max_tokens = max_tokens, .event = no_event};
	struct seq *q;

	for (uint32_t i = 0; i < n_prompt; i++)
		ids[i] = id == UINT32_MAX ? next_random() % 1000 : id;
	ck_assert_int_eq(seq_new(&q, &r, CONTEXT_TOK, 1000, NULL), 0);
	return q;
}

/* Plans a step and plays the model; how many took part. Sequences that are whole get a token. */
static uint32_t step(struct plan *p, struct seq **batch)
{
	uint32_t n = plan_step(p, batch);

	for (uint32_t i = 0; i < n; i++) {
		plan_computed(p, batch[i]);
		if (batch[i]->n_computed == batch[i]->n_tok)
			batch[i]->ids[batch[i]->n_tok++] = next_random() % 1000;
	}
	return n;
}

static void end(struct plan *p, struct seq *q)
{
	plan_remove(p, q);
	seq_free(q);
}

START_TEST(a_decode_never_waits_for_a_prefill)
{
	struct seq *batch[MOST], *reader = make_seq(5, 0, 1), *longer = make_seq(250, 2, 2);
	struct plan p;

	ck_assert_int_eq(plan_init(&p, MOST, 32, 100), 0);
	plan_add(&p, reader);
	ck_assert_uint_eq(step(&p, batch), 1);
	plan_add(&p, longer);
	for (int i = 0; i < 7; i++) {
		uint32_t before = reader->n_tok;

		ck_assert_uint_eq(step(&p, batch), 2);
		ck_assert_uint_eq(reader->n_tok, before + 1);
	}
	ck_assert_uint_gt(longer->n_computed, 100);
	end(&p, reader);
	end(&p, longer);
	plan_free(&p);
}
END_TEST

START_TEST(short_prompts_pass_a_long_one_which_still_gets_its_share)
{
	struct seq *batch[MOST], *longer = make_seq(250, 2, 1), *shorter[6];
	struct plan p;

	ck_assert_int_eq(plan_init(&p, MOST, 64, 100), 0);
	plan_add(&p, longer);
	step(&p, batch);
	ck_assert_uint_eq(longer->n_computed, 64);
	for (uint32_t i = 0; i < 6; i++) {
		shorter[i] = make_seq(15, 3, 10 + i);
		plan_add(&p, shorter[i]);
	}
	step(&p, batch);
	ck_assert_uint_eq(longer->n_computed, 80); /* a quarter of 64 */
	for (uint32_t i = 0; i < 3; i++)
		ck_assert_uint_eq(shorter[i]->n_tok, 16);
	step(&p, batch);
	for (uint32_t i = 0; i < 6; i++)
		ck_assert_uint_ge(shorter[i]->n_tok, 16);
	ck_assert_uint_ge(longer->n_computed, 80);
	for (uint32_t i = 0; i < 6; i++)
		end(&p, shorter[i]);
	end(&p, longer);
	plan_free(&p);
}
END_TEST

START_TEST(the_newest_is_preempted_and_comes_back_first)
{
	struct seq *batch[MOST], *q[4];
	struct plan p;

	/* Four of two blocks each fill the pool; every one grows. */
	ck_assert_int_eq(plan_init(&p, MOST, 256, 8), 0);
	for (uint32_t i = 0; i < 4; i++) {
		q[i] = make_seq(31, 60, 100 + i);
		plan_add(&p, q[i]);
	}
	while (p.n_preempted == 0)
		ck_assert_uint_gt(step(&p, batch), 0);
	ck_assert_uint_eq(q[3]->preemptions, 1);
	ck_assert(!q[3]->running && q[0]->running && q[1]->running);
	ck_assert_ptr_eq(p.waiting.next, &q[3]->link);
	ck_assert_uint_eq(q[3]->n_blocks, 0);
	while (q[0]->n_tok < q[0]->max_tok)
		ck_assert_uint_gt(step(&p, batch), 0);
	ck_assert_uint_eq(q[0]->preemptions, 0);
	end(&p, q[0]);
	step(&p, batch);
	ck_assert(q[1]->running);
	for (uint32_t i = 1; i < 4; i++)
		end(&p, q[i]);
	ck_assert_uint_eq(kv_n_used(p.kv), 0);
	plan_free(&p);
}
END_TEST

START_TEST(slow_rows_make_small_steps)
{
	struct seq *batch[MOST], *longer = make_seq(250, 2, 1);
	struct plan p;

	ck_assert_int_eq(plan_init(&p, MOST, 250, 100), 0);
	plan_measured(&p, 1000000, 64); /* 16 us a row: as many as may be */
	plan_add(&p, longer);
	ck_assert_uint_eq(plan_step(&p, batch), 1);
	ck_assert_uint_eq(longer->n_planned, 250);
	for (int i = 0; i < 40; i++)
		plan_measured(&p, 64000000u * 10, 64); /* 10 ms a row */
	ck_assert_uint_eq(plan_step(&p, batch), 1);
	ck_assert_uint_eq(longer->n_planned, 64);
	end(&p, longer);
	plan_free(&p);
}
END_TEST

/* Nobody writes into a block that another one holds, and everyone has the blocks it writes to. */
static void check_step(struct plan *p, struct seq **batch, uint32_t n)
{
	uint32_t n_rows = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct seq *q = batch[i];
		uint32_t first = q->n_computed / KV_BLOCK_TOK;
		uint32_t last = (q->n_computed + q->n_planned - 1) / KV_BLOCK_TOK;

		n_rows += q->n_planned;
		if (last >= q->n_blocks || q->n_computed + q->n_planned > q->n_tok + q->n_ahead)
			ck_abort_msg("too few blocks, or tokens that are not there");
		list_for_each (at, &p->running) {
			const struct seq *other = list_entry(at, struct seq, link);

			for (uint32_t k = 0; k < other->n_blocks && other != q; k++)
				for (uint32_t b = first; b <= last; b++)
					if (other->blocks[k] == q->blocks[b])
						ck_abort_msg("a block is written and shared");
		}
	}
	if (n_rows > p->max_rows)
		ck_abort_msg("%u rows", n_rows);
}

START_TEST(in_ten_thousand_random_steps_no_block_is_written_by_two_and_everything_ends)
{
	struct seq *batch[MOST];
	struct plan p;
	uint32_t n_begun = 0, n_ended = 0, n_idle = 0;

	random_state = 7;
	ck_assert_int_eq(plan_init(&p, MOST, 48, 40), 0);
	for (uint32_t round = 0; round < 10000 || p.n_running + p.n_waiting > 0; round++) {
		uint32_t n;

		if (round < 10000 && next_random() % 4 == 0 && p.n_waiting < 30) {
			/* Half of them are prefixes of one another. */
			plan_add(&p, make_seq(1 + next_random() % 200, 1 + next_random() % 50,
					     next_random() % 2 ? next_random() % 3 : UINT32_MAX));
			n_begun++;
		}
		n = plan_step(&p, batch);
		check_step(&p, batch, n);
		n_idle = n == 0 && p.n_running + p.n_waiting > 0 ? n_idle + 1 : 0;
		ck_assert_uint_lt(n_idle, 2);
		for (uint32_t i = 0; i < n; i++) {
			struct seq *q = batch[i];

			plan_computed(&p, q);
			if (q->n_computed < q->n_tok)
				continue;
			q->ids[q->n_tok++] = next_random() % 3;
			if (q->n_tok == q->max_tok || next_random() % 64 == 0) {
				end(&p, q);
				n_ended++;
			}
		}
		if (round > 100000)
			ck_abort_msg("no end");
	}
	ck_assert_uint_eq(n_begun, n_ended);
	ck_assert_uint_gt(p.n_preempted, 20);
	ck_assert_uint_gt(p.n_cached_tok, 1000);
	ck_assert_uint_eq(kv_n_used(p.kv), 0);
	plan_free(&p);
}
END_TEST

/* ---- plans made while the step before is under way ---- */

/* A step of a model that is played: the tokens it picks, and for whom (NULL: for nobody any more).
 */
struct flight {
	struct seq *q[MOST];
	uint32_t id[MOST], n;
};

static uint32_t rows[40][KV_BLOCK_TOK]; /* the ids whose rows lie in each block */

/* The id at a position of q, of which `before` may pick the last. */
static uint32_t id_at(const struct seq *q, uint32_t pos, const struct flight *before)
{
	if (pos < q->n_tok)
		return q->ids[pos];
	for (uint32_t i = 0; i < before->n; i++)
		if (before->q[i] == q)
			return before->id[i];
	ck_abort_msg("a row of a token that nobody picks");
	return 0;
}

/* What q attends to is there, and what it computes comes behind it. */
static void play(struct seq *q, const struct flight *before)
{
	for (uint32_t pos = 0; pos < q->n_computed; pos++)
		if (rows[q->blocks[pos / KV_BLOCK_TOK]][pos % KV_BLOCK_TOK] !=
			id_at(q, pos, before))
			ck_abort_msg("a block with rows of other tokens");
	for (uint32_t i = 0; i < q->n_planned; i++) {
		uint32_t pos = q->n_computed + i;

		rows[q->blocks[pos / KV_BLOCK_TOK]][pos % KV_BLOCK_TOK] = id_at(q, pos, before);
	}
}

static void begin_flight(struct plan *p, struct seq **batch, uint32_t n,
	const struct flight *before, struct flight *f)
{
	f->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct seq *q = batch[i];

		if (q->n_ahead && q->waits)
			ck_abort_msg("one that waits was planned");
		play(q, before);
		plan_computed(p, q);
		if (q->n_computed < q->n_tok + q->n_ahead)
			continue;
		q->n_ahead++;
		q->waits = q->json || q->n_tok + q->n_ahead == q->max_tok;
		f->q[f->n] = q;
		f->id[f->n++] = next_random() % 3;
	}
}

/* Tells the tokens of f; those that end leave `next` too. How many ended. */
static uint32_t finish_flight(struct plan *p, struct flight *f, struct flight *next)
{
	uint32_t n_ended = 0;

	for (uint32_t i = 0; i < f->n; i++) {
		struct seq *q = f->q[i];

		if (!q)
			continue;
		q->n_ahead--;
		q->ids[q->n_tok++] = f->id[i];
		plan_known(p, q);
		if (q->n_tok < q->max_tok && next_random() % 64)
			continue;
		for (uint32_t k = 0; k < next->n; k++)
			if (next->q[k] == q)
				next->q[k] = NULL;
		end(p, q);
		n_ended++;
	}
	f->n = 0;
	return n_ended;
}

START_TEST(in_ten_thousand_overlapping_steps_all_attend_to_rows_of_their_own_tokens)
{
	struct seq *batch[MOST];
	static struct flight flights[2];
	struct plan p;
	uint32_t n_begun = 0, n_ended = 0, n_ahead = 0;

	random_state = 8;
	ck_assert_int_eq(plan_init(&p, MOST, 48, 40), 0);
	for (uint32_t round = 0; round < 10000 || p.n_running + p.n_waiting > 0; round++) {
		struct flight *f = &flights[round % 2], *before = &flights[1 - round % 2];
		uint32_t n;

		if (round < 10000 && next_random() % 4 == 0 && p.n_waiting < 30) {
			struct seq *q = make_seq(1 + next_random() % 200, 1 + next_random() % 50,
				next_random() % 2 ? next_random() % 3 : UINT32_MAX);

			q->json = next_random() % 5 == 0;
			plan_add(&p, q);
			n_begun++;
		}
		n = plan_step(&p, batch);
		check_step(&p, batch, n);
		for (uint32_t i = 0; i < n; i++)
			n_ahead += batch[i]->n_ahead;
		begin_flight(&p, batch, n, before, f);
		n_ended += finish_flight(&p, before, f);
		if (round > 100000)
			ck_abort_msg("no end");
	}
	ck_assert_uint_eq(n_begun, n_ended);
	ck_assert_uint_gt(p.n_preempted, 20);
	ck_assert_uint_gt(p.n_cached_tok, 1000);
	ck_assert_uint_gt(n_ahead, 1000);
	ck_assert_uint_eq(kv_n_used(p.kv), 0);
	plan_free(&p);
}
END_TEST

START_TEST(one_with_a_token_to_come_is_not_let_in_before_it)
{
	struct seq *batch[MOST], *q = make_seq(20, 10, 1);
	struct plan p;

	ck_assert_int_eq(plan_init(&p, MOST, 48, 40), 0);
	plan_add(&p, q); /* as if preempted while it was sampled */
	q->n_ahead = 1;
	ck_assert_uint_eq(plan_step(&p, batch), 0);
	ck_assert(!q->running);
	q->n_ahead = 0;
	ck_assert_uint_eq(plan_step(&p, batch), 1);
	end(&p, q);
	plan_free(&p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("engine/plan");
	TCase *t = tcase_create("plan");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_decode_never_waits_for_a_prefill);
	tcase_add_test(t, short_prompts_pass_a_long_one_which_still_gets_its_share);
	tcase_add_test(t, the_newest_is_preempted_and_comes_back_first);
	tcase_add_test(t, slow_rows_make_small_steps);
	tcase_add_test(
		t, in_ten_thousand_random_steps_no_block_is_written_by_two_and_everything_ends);
	tcase_add_test(t, in_ten_thousand_overlapping_steps_all_attend_to_rows_of_their_own_tokens);
	tcase_add_test(t, one_with_a_token_to_come_is_not_let_in_before_it);
	suite_add_tcase(s, t);
	return run_suite(s);
}
