/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode steps as CUDA graphs. A step of a size of the ladder is captured the second time it comes,
 * and from the third on replayed: everything that differs lies in the upload. The first time it
 * runs without, as first launches load code and set attributes, which a capture may not contain.
 * A step in which somebody asks for more than tokens has two launches more. They could be in each
 * graph, as rows that do not ask leave them at once, but then everybody paid for them, in each
 * step; so each size has two graphs, and the second is made when it is wanted.
 *
 * A graph saves time and nothing else. So what cannot be captured, made ready or started as one is
 * issued again, launch by launch, and so are steps of that kind from then on: the model goes on, a
 * little slower, and its figures say why. Where capturing does not even begin, or a second graph
 * fails too, there are no graphs any more. Nothing of a captured step has run before its graph is
 * started, so it is not computed twice. Only a fault that takes the device along ends the model,
 * here as elsewhere.
 */
#include "engine/cuda/state.h"

void cuda_graphs_let_go(struct cuda_model *s)
{
	for (int i = 0; i < CUDA_N_GRAPHS; i++) {
		if (s->captured[i].exec)
			cudaGraphExecDestroy(s->captured[i].exec);
		s->captured[i] = (struct cuda_captured){0};
	}
}

/* Whether the device does not work any more, with why; perhaps since the step before this one,
 * which is under way. */
static bool is_lost(struct cuda_model *s, struct err *why)
{
	struct cuda_context *c = &s->context;
	struct err other = {""};

	if (cuda_context_is_broken(NULL))
		return true;
	if (cuda_context_fault(c, cudaStreamSynchronize(c->stream), "computing a step", &other) < 0)
		*why = other;
	return cuda_context_is_broken(NULL);
}

/* No more graphs of this kind, or none at all. False: it is the device that does not work. */
static bool give_up(struct cuda_model *s, bool wholly, struct err *why)
{
	struct cuda_captured *at = &s->captured[s->issue.graph];

	if (is_lost(s, why))
		return false;
	for (int i = 0; i < CUDA_N_GRAPHS; i++)
		wholly = wholly || s->captured[i].off; /* a second one */
	s->no_graphs = wholly;
	if (wholly)
		cuda_graphs_let_go(s);
	else if (at->exec)
		cudaGraphExecDestroy(at->exec);
	*at = (struct cuda_captured){.off = true};
	if (!atomic_load(&s->graphs_off))
		s->graphs_why = *why;
	atomic_store(&s->graphs_off, true);
	return true;
}

/* The step from its beginning, of which nothing has run. */
static void start_over(struct cuda_model *s)
{
	struct cuda_issue *i = &s->issue;

	i->err = (struct err){""};
	i->rows = i->n_rows;
	i->source = CUDA_FROM_NOTHING;
	i->made = i->replaying = false;
	i->gate = NULL;
	i->graph = -1;
	i->fault = cuda_flight_start(s, &i->err);
}

static void begin_capture(struct cuda_model *s)
{
	struct err why = {""};
	int r = cuda_context_fault(&s->context,
		cudaStreamBeginCapture(s->context.stream, cudaStreamCaptureModeThreadLocal),
		"a step was to be captured", &why);

	s->context.capturing = r == 0;
	if (r == 0 || give_up(s, true, &why))
		return;
	s->issue.fault = r;
	s->issue.err = why;
}

/* Of captured, for the step; -1: none. */
static int find_graph(const struct cuda_model *s)
{
	const struct cuda_issue *i = &s->issue;
	int bucket = cuda_upload_bucket(i->n_rows), graph = 2 * bucket + i->facts;

	if (!i->decode || !i->sampled || s->no_graphs || bucket < 0)
		return -1;
	return s->captured[graph].off ? -1 : graph;
}

int cuda_graphs_choose(struct cuda_model *s)
{
	struct cuda_issue *i = &s->issue;

	i->graph = find_graph(s);
	if (i->graph >= 0 && s->captured[i->graph].exec) {
		i->replaying = true;
		return 1;
	}
	atomic_fetch_add(&s->graph_misses, 1);
	if (i->graph >= 0 && s->captured[i->graph].warm)
		begin_capture(s);
	if (!s->context.capturing && i->fault == 0)
		i->fault = cuda_flight_start(s, &i->err);
	return 0;
}

static int start(struct cuda_model *s, struct err *why)
{
	int r = cuda_flight_start(s, why);

	return r ? r
		 : cuda_context_fault(&s->context,
			   cudaGraphLaunch(s->captured[s->issue.graph].exec, s->context.stream),
			   "a captured step was started", why);
}

/* A graph of what was captured, started. */
static int end_capture(struct cuda_model *s, struct err *why)
{
	struct cuda_issue *i = &s->issue;
	struct cuda_context *c = &s->context;
	cudaGraphExec_t exec = NULL;
	cudaGraph_t graph = NULL;
	int code = cudaStreamEndCapture(c->stream, &graph), r = i->fault;

	c->capturing = false;
	*why = i->err;
	if (r) /* and perhaps one that sticks, which was not known then */
		cuda_context_fault(c, cudaStreamSynchronize(c->stream), "computing a step", NULL);
	else
		r = cuda_context_fault(c, code, "a step was captured", why);
	if (r == 0)
		r = cuda_context_fault(c, cudaGraphInstantiate(&exec, graph, 0),
			"a captured step was made ready", why);
	if (graph)
		cudaGraphDestroy(graph);
	cudaGetLastError(); /* of a capture that was none: said above */
	if (r)
		return r;
	s->captured[i->graph].exec = exec;
	return start(s, why);
}

int cuda_graphs_end(struct cuda_model *s)
{
	struct cuda_issue *i = &s->issue;
	struct err why = {""};
	int r = 0;

	if (s->context.capturing) {
		r = end_capture(s, &why);
	} else if (i->replaying && i->fault == 0) {
		r = start(s, &why);
		if (r == 0)
			atomic_fetch_add(&s->graph_hits, 1);
		else
			atomic_fetch_add(&s->graph_misses, 1);
	} else if (i->graph >= 0) {
		s->captured[i->graph].warm = true;
	}
	if (r == 0)
		return 0;
	if (give_up(s, false, &why)) {
		start_over(s);
		return 1;
	}
	i->fault = r;
	i->err = why;
	return 0;
}
