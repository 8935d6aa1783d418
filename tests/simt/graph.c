/* SPDX-License-Identifier: Apache-2.0 */
/* A graph is the list of the work that was captured, in the order of its issue, and an exec is a
 * counted copy of that list: the arguments of kernels were copied when they were issued, so a
 * replay reads from and writes to the same addresses. An update takes another graph's list when
 * kind and function agree piece by piece, as the runtime does.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

#include "tests/simt/fault.h"
#include "tests/simt/lock.h"

struct CUgraph_st {
	struct work_list list;
};

/* Shared by an exec and its launches that have not run yet. */
struct body {
	unsigned refs;
	struct work_list list;
};

struct CUgraphExec_st {
	struct body *body;
};

cudaGraph_t graph_new(void)
{
	return calloc(1, sizeof(struct CUgraph_st));
}

cudaError_t graph_add(cudaGraph_t graph, struct work *w)
{
	return work_append(&graph->list, w);
}

static void body_drop(struct body *b)
{
	if (!b || --b->refs)
		return;
	work_free_list(&b->list);
	free(b);
}

static struct body *body_of(const struct CUgraph_st *g)
{
	struct body *b = calloc(1, sizeof *b);
	if (!b)
		return NULL;
	b->refs = 1;
	for (size_t i = 0; i < g->list.n; i++) {
		g->list.item[i]->refs++;
		if (work_append(&b->list, g->list.item[i])) {
			body_drop(b);
			return NULL;
		}
	}
	return b;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
	(void)flags;
	lock_enter();
	cudaError_t rc = lock_error();
	struct CUgraphExec_st *e = rc ? NULL : calloc(1, sizeof *e);
	if (e && !(e->body = body_of(graph))) {
		free(e);
		e = NULL;
	}
	*exec = e;
	return lock_result(rc ? rc : e ? cudaSuccess : cudaErrorMemoryAllocation);
}

static cudaGraphExecUpdateResult compare(const struct work_list *a, const struct work_list *b)
{
	if (a->n != b->n)
		return cudaGraphExecUpdateErrorTopologyChanged;
	for (size_t i = 0; i < a->n; i++) {
		if (a->item[i]->kind != b->item[i]->kind)
			return cudaGraphExecUpdateErrorNodeTypeChanged;
		if (a->item[i]->what != b->item[i]->what)
			return cudaGraphExecUpdateErrorFunctionChanged;
	}
	return cudaGraphExecUpdateSuccess;
}

cudaError_t cudaGraphExecUpdate(
	cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
	lock_enter();
	cudaError_t rc = lock_error();
	cudaGraphExecUpdateResult result = compare(&exec->body->list, &graph->list);
	if (info) {
		memset(info, 0, sizeof *info);
		info->result = result;
	}
	if (!rc && result != cudaGraphExecUpdateSuccess)
		rc = cudaErrorGraphExecUpdateFailure;
	struct body *fresh = rc ? NULL : body_of(graph);
	if (!rc && !fresh)
		rc = cudaErrorMemoryAllocation;
	if (!rc) {
		body_drop(exec->body);
		exec->body = fresh;
	}
	return lock_result(rc);
}

static void run_body(struct work *w)
{
	struct body *b;
	memcpy(&b, w->argument, sizeof b);
	for (size_t i = 0; i < b->list.n && !fault_error(); i++)
		b->list.item[i]->run(b->list.item[i]);
}

static void end_body(struct work *w)
{
	struct body *b;
	memcpy(&b, w->argument, sizeof b);
	body_drop(b);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	lock_enter();
	struct work *w = work_new(WORK_GRAPH, sizeof(struct body *), run_body);
	if (w) {
		exec->body->refs++;
		memcpy(w->argument, &exec->body, sizeof exec->body);
		w->end = end_body;
	}
	return lock_result(stream_add(stream, w));
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
	(void)exec, (void)stream;
	lock_enter();
	return lock_result(lock_error());
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *n_nodes)
{
	lock_enter();
	for (size_t i = 0; nodes && i < *n_nodes && i < graph->list.n; i++)
		nodes[i] = (cudaGraphNode_t)(void *)graph->list.item[i];
	*n_nodes = graph->list.n;
	return lock_result(lock_error());
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	lock_enter();
	if (exec) {
		body_drop(exec->body);
		free(exec);
	}
	return lock_result(exec ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	lock_enter();
	if (graph) {
		work_free_list(&graph->list);
		free(graph);
	}
	return lock_result(graph ? cudaSuccess : cudaErrorInvalidValue);
}
