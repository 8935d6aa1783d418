/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps under way. begin writes a step to pinned memory and puts its copy into the stream; the
 * stages follow; end has the results copied back and marks the place with an event; finish waits
 * for that event alone. So the next step can be begun, with tokens that this one only picks on the
 * device, before this one is finished: the stream keeps them in order, and each of the two has
 * pinned memory of its own.
 *
 * After a fault nothing is begun any more. What a step hands out lies in ordinary memory, as pinned
 * memory goes with a reset of the device.
 *
 * Waiting. The runtime's own way to wait for an event keeps a processor busy until it comes, 5 ms a
 * step of 8B, which the threads of other models could use. So finish looks a moment, as a step that
 * is nearly over costs least when it is looked at, and then sleeps until the device's interrupt.
 * A token is expected to be some 20 to 50 us late by that, and the device not to notice, as the
 * next step is in its queue already; neither was measured. Only where the host must see a step
 * before it can begin the next one (a grammar) does it add to each step.
 *
 * Of rows of logits the host gets what it asks for, found on the device: 208 bytes of each row of a
 * step in which somebody asks, beside its token. Whole rows are copied of steps without picks
 * alone, which are those of tests and benchmarks.
 *
 * A step lies between two events: one directly before its first launch or its graph, behind the
 * copies to the device, and one behind its last launch, before the copies to the host. What is
 * between two steps is the gap: those copies, histories that are new, and a host that comes late.
 * Launches that a host issues too slowly, one by one, count as the step. The sum of steps divided
 * by the time that passed is the utilisation.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/cuda/state.h"
#include "engine/sampler.h"

#define WINDOW_NS 1000000000u /* of the utilisation */
#define LOOK_NS 20000u        /* before sleeping: about what it is expected to cost to be woken */

/* Those of a step, by its number. */
static cudaEvent_t computed(const struct cuda_model *s, uint32_t number)
{
	return s->computed[number % CUDA_N_COMPUTED];
}

static cudaEvent_t ended(const struct cuda_model *s, uint32_t number)
{
	return s->flight[number % CUDA_N_FLIGHTS].ended;
}

/* ---- made and ended ---- */

static int init_flight(struct cuda_model *s, struct cuda_flight *f, struct err *err)
{
	struct cuda_context *c = &s->context;
	size_t picks = s->max_picks;
	void *p;
	int r = cuda_memory_pin(c, &p, s->layout.bytes, err);

	f->upload = p;
	if (r == 0) {
		memset(f->upload, 0, s->layout.bytes);
		r = cuda_memory_pin(c, &p, picks * s->n_words * sizeof(uint32_t), err);
		f->masks = p;
	}
	if (r == 0) {
		memset(f->masks, 0, picks * s->n_words * sizeof(uint32_t));
		r = cuda_memory_pin(c, &p, picks * sizeof(uint32_t), err);
		f->picked = p;
	}
	if (r == 0) {
		r = cuda_memory_pin(c, &p, picks * sizeof(*f->facts), err);
		f->facts = p;
	}
	if (r == 0)
		r = cuda_context_fault(c, cudaEventCreate(&f->started), "making an event", err);
	if (r == 0)
		r = cuda_context_fault(c,
			cudaEventCreateWithFlags(
				&f->ended, cudaEventBlockingSync | cudaEventDisableTiming),
			"making an event", err);
	f->asks = calloc(picks, sizeof(*f->asks));
	f->tokens = calloc(picks, sizeof(*f->tokens));
	f->told = calloc(picks, sizeof(*f->told));
	if (r == 0 && (!f->asks || !f->tokens || !f->told))
		r = err_set(err, -ENOMEM, "not enough memory for a step");
	return r;
}

int cuda_flight_init(struct cuda_model *s, struct err *err)
{
	int r = 0;

	for (int i = 0; r == 0 && i < CUDA_N_FLIGHTS; i++)
		r = init_flight(s, &s->flight[i], err);
	for (int i = 0; r == 0 && i < CUDA_N_COMPUTED; i++)
		r = cuda_context_fault(
			&s->context, cudaEventCreate(&s->computed[i]), "making an event", err);
	atomic_store(&s->window_ns, clock_mono_ns());
	return r;
}

static void end_event(cudaEvent_t *e)
{
	if (*e)
		cudaEventDestroy(*e);
	*e = NULL;
}

void cuda_flight_let_go(struct cuda_model *s)
{
	cuda_graphs_let_go(s);
	for (int i = 0; i < CUDA_N_FLIGHTS; i++) {
		struct cuda_flight *f = &s->flight[i];

		f->upload = cuda_memory_unpin(f->upload);
		f->masks = cuda_memory_unpin(f->masks);
		f->picked = cuda_memory_unpin(f->picked);
		f->facts = cuda_memory_unpin(f->facts);
		f->said = cuda_memory_unpin(f->said);
		f->said_bytes = 0;
		f->logits = cuda_memory_unpin(f->logits);
		f->logits_rows = 0;
		end_event(&f->started);
		end_event(&f->ended);
	}
	for (int i = 0; i < CUDA_N_COMPUTED; i++)
		end_event(&s->computed[i]);
}

void cuda_flight_end(struct cuda_model *s)
{
	for (int i = 0; i < CUDA_N_FLIGHTS; i++) {
		free(s->flight[i].asks);
		free(s->flight[i].tokens);
		free(s->flight[i].told);
		free(s->flight[i].copied);
		s->flight[i] = (struct cuda_flight){0};
	}
}

/* ---- begin ---- */

/* Keeps the first fault; the model is of no use any more. */
static int fail(struct cuda_model *s, int r, const struct err *why)
{
	if (!s->failed)
		s->failure = *why;
	s->failed = true;
	return r;
}

static bool copy_to(struct cuda_model *s, void *to, const void *from, size_t n)
{
	return cuda_stages_check(s,
		cudaMemcpyAsync(to, from, n, cudaMemcpyHostToDevice, s->context.stream),
		"a step was copied to it");
}

/* Room for the logits of a step without picks. */
static int make_room(struct cuda_model *s, struct cuda_flight *f, struct err *err)
{
	size_t row = s->m->config.n_vocab * sizeof(float), n = f->sampled ? 0 : f->n_picks;
	void *p;

	if (n > f->logits_rows) {
		f->logits = cuda_memory_unpin(f->logits);
		f->logits_rows = 0;
		int r = cuda_memory_pin(&s->context, &p, n * row, err);
		if (r < 0)
			return r;
		f->logits = p;
		f->logits_rows = n;
	}
	if (n > f->copied_rows) {
		free(f->copied);
		f->copied = malloc(n * row);
		f->copied_rows = f->copied ? n : 0;
		if (!f->copied)
			return err_set(err, -ENOMEM, "not enough memory for logits");
	}
	return 0;
}

/* Inside. */
static int begin(struct cuda_model *s, const struct backend_batch *b, struct err *err)
{
	struct cuda_flight *f = &s->flight[s->n_begun % CUDA_N_FLIGHTS];
	struct cuda_issue *i = &s->issue;

	*i = (struct cuda_issue){.graph = -1, .sampled = b->picks != NULL};
	size_t bytes = cuda_upload_write(s, f, b);
	i->rows = i->n_rows;
	f->n_picks = b->n_picks;
	f->sampled = i->sampled;
	f->has_facts = i->facts;
	int r = make_room(s, f, err);
	if (r == 0)
		r = cuda_upload_make_room(s, f, b, err);
	if (r < 0)
		return r;
	i->fault = cuda_upload_histories(s, f, b, &i->err);
	if (i->fault == 0 && copy_to(s, s->buf.upload, f->upload, bytes) && f->n_masks > 0)
		copy_to(s, s->buf.masks, f->masks,
			(size_t)f->n_masks * s->n_words * sizeof(uint32_t));
	return i->fault ? 0 : cuda_graphs_choose(s);
}

int cuda_flight_begin(struct model *m, const struct backend_batch *b, struct err *err)
{
	struct cuda_model *s = m->state;
	int r;

	if (s->failed) {
		if (err)
			*err = s->failure;
		return -EIO;
	}
	if (s->n_begun - s->n_finished >= CUDA_N_FLIGHTS)
		return err_set(err, -EINVAL, "two steps are under way already");
	r = cuda_context_enter(&s->context, err);
	if (r < 0)
		return r;
	r = begin(s, b, err);
	if (r < 0)
		cuda_context_leave(&s->context);
	return r;
}

/* ---- end ---- */

static bool copy_from(struct cuda_model *s, void *to, const void *from, size_t n, const char *doing)
{
	return cuda_stages_check(
		s, cudaMemcpyAsync(to, from, n, cudaMemcpyDeviceToHost, s->context.stream), doing);
}

/* All rows, without what is between them on the device. */
static bool copy_logits(struct cuda_model *s, struct cuda_flight *f)
{
	size_t width = s->m->config.n_vocab;
	bool ok = true;

	for (uint32_t k = 0; ok && k < f->n_picks; k++)
		ok = copy_from(s, f->logits + k * width, s->buf.logits + k * s->buf.ld_logits,
			width * sizeof(float), "logits were copied from it");
	return ok;
}

static bool copy_picked(struct cuda_model *s, struct cuda_flight *f)
{
	size_t n = f->n_picks;

	if (n == 0)
		return true;
	if (f->has_facts && !copy_from(s, f->facts, s->buf.facts, n * sizeof(*f->facts),
				    "what rows say was copied from it"))
		return false;
	return copy_from(
		s, f->picked, s->buf.picked, n * sizeof(*f->picked), "tokens were copied from it");
}

int cuda_flight_start(struct cuda_model *s, struct err *err)
{
	return cuda_context_fault(&s->context,
		cudaEventRecord(s->flight[s->n_begun % CUDA_N_FLIGHTS].started, s->context.stream),
		"a step was started", err);
}

static void copy_results(struct cuda_model *s, struct cuda_flight *f)
{
	bool ok = cuda_stages_check(s, cudaEventRecord(computed(s, s->n_begun), s->context.stream),
		"a step was computed");

	if (ok)
		ok = f->sampled ? copy_picked(s, f) : copy_logits(s, f);
	if (ok)
		cuda_stages_check(s, cudaEventRecord(ended(s, s->n_begun), s->context.stream),
			"a step was ended");
}

int cuda_flight_finish_issue(struct model *m)
{
	struct cuda_model *s = m->state;
	struct cuda_issue *i = &s->issue;
	struct cuda_flight *f = &s->flight[s->n_begun % CUDA_N_FLIGHTS];

	cuda_products_run_late(s, NULL);
	if (cuda_graphs_end(s) > 0)
		return 1;
	if (i->fault == 0)
		copy_results(s, f);
	f->fault = i->fault;
	if (i->fault)
		fail(s, -EIO, &i->err);
	s->n_begun++;
	cuda_context_leave(&s->context);
	return 0;
}

/* ---- finish ---- */

/* Nanoseconds on the device; 0 where it does not say. */
static uint64_t between(cudaEvent_t from, cudaEvent_t to)
{
	float ms = 0;

	if (cudaEventElapsedTime(&ms, from, to) != cudaSuccess) {
		cudaGetLastError();
		return 0;
	}
	return ms > 0 ? (uint64_t)((double)ms * 1e6) : 0;
}

static void count_time(struct cuda_model *s, const struct cuda_flight *f, uint32_t number)
{
	uint64_t now = clock_mono_ns(), since = now - atomic_load(&s->window_ns);
	uint64_t step = between(f->started, computed(s, number));

	atomic_store(&s->step_ns, step);
	atomic_store(&s->gap_ns, number > 0 ? between(computed(s, number - 1), f->started) : 0);
	atomic_fetch_add(&s->busy_ns, step);
	if (since < WINDOW_NS)
		return;
	float share = (float)((double)atomic_exchange(&s->busy_ns, 0) / (double)since);
	atomic_store(&s->utilisation, share < 1 ? share : 1);
	atomic_store(&s->window_ns, now);
	cuda_flight_look(s);
}

void cuda_flight_look(struct cuda_model *s)
{
	size_t n_free, total;

	if (cudaMemGetInfo(&n_free, &total) != cudaSuccess)
		return;
	atomic_store(&s->memory_free, n_free);
	atomic_store(&s->memory_used, total - n_free);
}

/* Inside: the step is over. */
static void take_results(struct cuda_model *s, struct cuda_flight *f, uint32_t number)
{
	size_t n = f->n_picks;

	if (f->sampled)
		memcpy(f->tokens, f->picked, n * sizeof(*f->tokens));
	else if (n > 0)
		memcpy(f->copied, f->logits, n * s->m->config.n_vocab * sizeof(float));
	if (f->has_facts)
		memcpy(f->told, f->facts, n * sizeof(*f->told));
	count_time(s, f, number);
}

/* Until the step is over. */
static int wait_for(cudaEvent_t e)
{
	uint64_t until = clock_mono_ns() + LOOK_NS;
	int code;

	do {
		code = cudaEventQuery(e);
		if (code != cudaErrorNotReady)
			return code;
		cudaGetLastError(); /* it is kept as one */
	} while (clock_mono_ns() < until);
	return cudaEventSynchronize(e);
}

static void give_results(
	const struct cuda_model *s, const struct cuda_flight *f, struct model_result *results)
{
	size_t width = s->m->config.n_vocab;

	for (uint32_t k = 0; k < f->n_picks; k++) {
		results[k] = (struct model_result){.id = SAMPLER_NONE};
		if (!f->sampled) {
			results[k].logits = f->copied + k * width;
			continue;
		}
		results[k].id = f->tokens[k];
		if (f->asks[k])
			results[k].facts = &f->told[k];
	}
}

int cuda_flight_finish(struct model *m, struct model_result *results, struct err *err)
{
	struct cuda_model *s = m->state;
	struct cuda_flight *f = &s->flight[s->n_finished % CUDA_N_FLIGHTS];
	struct err said = {""};
	int r;

	if (s->n_finished == s->n_begun)
		return err_set(err, -EINVAL, "no step is under way");
	uint32_t number = s->n_finished++;
	r = f->fault ? -EIO : cuda_context_enter(&s->context, &said);
	if (r == 0) {
		r = cuda_context_fault(
			&s->context, wait_for(ended(s, number)), "computing a step", &said);
		if (r == 0)
			take_results(s, f, number);
		cuda_context_leave(&s->context);
	}
	if (r < 0) {
		fail(s, r, &said);
		if (err)
			*err = s->failure;
		return -EIO;
	}
	give_results(s, f, results);
	return 0;
}
