/* SPDX-License-Identifier: Apache-2.0 */
/* Work that is given to a stream is not done there and then: it lies in the stream's queue until
 * somebody waits for it (a synchronise, an event, a copy that blocks) or asks often enough (a query
 * does one piece). So a host that reads results too early, reuses a staging buffer too soon, or
 * forgets that another stream must be waited for finds the old bytes, every time.
 *
 * A wait for an event drains the event's stream up to the record. The default stream is the legacy
 * one: it waits for all that were made without cudaStreamNonBlocking, and they for it.
 *
 * Capture: while a stream is captured, its work goes to the graph. An event recorded in a captured
 * stream takes the streams that wait for it into the same capture, as it does on the card; the
 * graph keeps everything in the order in which it was issued, which is one of the orders allowed.
 */
#include "stream.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/simt/fault.h"
#include "tests/simt/graph.h"
#include "tests/simt/lock.h"
#include "tests/simt/order.h"

struct CUstream_st {
	struct CUstream_st *next;
	struct work_list queue; /* n counts from the start; `done` are through */
	size_t done;
	unsigned flags;
	bool draining;
	cudaGraph_t capture, origin; /* origin: the capture began here */
};

struct CUevent_st {
	unsigned refs;
	struct CUstream_st *stream; /* of the last record that was issued */
	unsigned long long issued, reached;
	cudaGraph_t capture;
	double when_ms;
};

static struct CUstream_st legacy;
static struct CUstream_st *all = &legacy;

/* ---- work ---- */

struct work *work_new(enum work_kind kind, size_t size, void (*run)(struct work *))
{
	struct work *w = NULL;
	if (posix_memalign((void **)&w, 16, sizeof *w + size))
		return NULL;
	memset(w, 0, sizeof *w + size);
	w->refs = 1;
	w->kind = kind;
	w->run = run;
	return w;
}

void work_drop(struct work *w)
{
	if (!w || --w->refs)
		return;
	if (w->end)
		w->end(w);
	free(w);
}

cudaError_t work_append(struct work_list *l, struct work *w)
{
	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		struct work **grown = realloc(l->item, room * sizeof *grown);
		if (!grown) {
			work_drop(w);
			return cudaErrorMemoryAllocation;
		}
		l->item = grown;
		l->room = room;
	}
	l->item[l->n++] = w;
	return cudaSuccess;
}

void work_free_list(struct work_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		work_drop(l->item[i]);
	free(l->item);
	memset(l, 0, sizeof *l);
}

/* ---- queues ---- */

static struct CUstream_st *of(cudaStream_t stream)
{
	/* cudaStreamLegacy and cudaStreamPerThread are not used */
	return stream ? stream : &legacy;
}

/* Does one piece. False: there was none. After a fault the rest of every queue is dropped undone.
 */
static bool step(struct CUstream_st *s)
{
	if (s->done == s->queue.n) {
		s->done = s->queue.n = 0;
		return false;
	}
	struct work *w = s->queue.item[s->done++];
	if (!fault_error() || w->kind == WORK_RECORD)
		w->run(w);
	work_drop(w);
	return true;
}

void stream_drain(cudaStream_t stream)
{
	struct CUstream_st *s = of(stream);
	if (s->draining) /* a host function that waits for its own stream */
		return;
	s->draining = true;
	while (step(s))
		;
	s->draining = false;
}

void stream_drain_all(void)
{
	for (struct CUstream_st *s = all; s; s = s->next)
		stream_drain(s);
}

void stream_reset(void)
{
	for (struct CUstream_st *s = all; s; s = s->next) {
		for (size_t i = s->done; i < s->queue.n; i++)
			work_drop(s->queue.item[i]);
		s->queue.n = s->done = 0;
		s->capture = s->origin = NULL;
	}
}

cudaError_t stream_may_wait(cudaStream_t stream)
{
	struct CUstream_st *s = of(stream);
	return s->capture ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t stream_add(cudaStream_t stream, struct work *w)
{
	if (!w)
		return cudaErrorMemoryAllocation;
	struct CUstream_st *s = of(stream);
	cudaError_t rc = lock_error();
	if (rc) {
		work_drop(w);
		return rc;
	}
	if (s->capture)
		return graph_add(s->capture, w);
	/* What the legacy stream orders. */
	for (struct CUstream_st *o = all; o; o = o->next) {
		bool waits = s == &legacy ? !(o->flags & cudaStreamNonBlocking)
					  : o == &legacy && !(s->flags & cudaStreamNonBlocking);
		if (o != s && waits && !o->capture)
			stream_drain(o);
	}
	return work_append(&s->queue, w);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
	lock_enter();
	struct CUstream_st *s = calloc(1, sizeof *s);
	cudaError_t rc = s ? lock_error() : cudaErrorMemoryAllocation;
	if (!rc) {
		s->flags = flags;
		s->next = all->next;
		all->next = s;
	} else {
		free(s);
		s = NULL;
	}
	*stream = s;
	return lock_result(rc);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
	return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
	lock_enter();
	struct CUstream_st *before = all;
	while (before && before->next != stream)
		before = before->next;
	if (!stream || !before)
		return lock_result(cudaErrorInvalidResourceHandle);
	stream_drain(stream);
	before->next = stream->next;
	free(stream->queue.item);
	free(stream);
	return lock_result(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
	lock_enter();
	cudaError_t rc = stream_may_wait(stream);
	if (rc)
		return lock_result(rc);
	stream_drain(stream);
	order_host_has_waited();
	return lock_result(lock_error());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
	lock_enter();
	struct CUstream_st *s = of(stream);
	cudaError_t rc = stream_may_wait(stream);
	if (!rc && !s->draining)
		step(s);
	if (!rc)
		rc = lock_error();
	return lock_result(rc ? rc : s->done < s->queue.n ? cudaErrorNotReady : cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
	lock_enter();
	for (struct CUstream_st *s = all; s; s = s->next) {
		if (s->capture)
			return lock_result(cudaErrorStreamCaptureUnsupported);
	}
	stream_drain_all();
	order_host_has_waited();
	return lock_result(lock_error());
}

/* ---- host functions ---- */

struct host_call {
	cudaHostFn_t function;
	void *data;
};

static void run_host_call(struct work *w)
{
	struct host_call *h = (struct host_call *)(void *)w->argument;
	h->function(h->data);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
	lock_enter();
	struct work *w = work_new(WORK_HOST, sizeof(struct host_call), run_host_call);
	if (w)
		*(struct host_call *)(void *)w->argument = (struct host_call){function, data};
	return lock_result(stream_add(stream, w));
}

/* ---- events ---- */

struct moment {
	struct CUevent_st *event;
	unsigned long long number;
};

static void event_drop(struct CUevent_st *e)
{
	if (e && !--e->refs)
		free(e);
}

static void run_record(struct work *w)
{
	struct moment *m = (struct moment *)(void *)w->argument;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	m->event->when_ms = (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
	if (m->event->reached < m->number)
		m->event->reached = m->number;
}

static bool reached(const struct CUevent_st *e, unsigned long long number)
{
	return e->reached >= number;
}

static void run_until(struct CUevent_st *e, unsigned long long number)
{
	struct CUstream_st *s = e->stream;
	if (!s || s->draining)
		return;
	s->draining = true;
	while (!reached(e, number) && step(s))
		;
	s->draining = false;
}

static void run_wait(struct work *w)
{
	struct moment *m = (struct moment *)(void *)w->argument;
	run_until(m->event, m->number);
}

static void end_moment(struct work *w)
{
	event_drop(((struct moment *)(void *)w->argument)->event);
}

static struct work *moment_new(enum work_kind kind, struct CUevent_st *e)
{
	struct work *w =
		work_new(kind, sizeof(struct moment), kind == WORK_RECORD ? run_record : run_wait);
	if (!w)
		return NULL;
	e->refs++;
	w->end = end_moment;
	*(struct moment *)(void *)w->argument = (struct moment){e, e->issued};
	return w;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
	(void)flags;
	lock_enter();
	cudaError_t rc = lock_error();
	*event = rc ? NULL : calloc(1, sizeof **event);
	if (*event)
		(*event)->refs = 1;
	return lock_result(rc ? rc : *event ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
	lock_enter();
	event_drop(event);
	return lock_result(event ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	lock_enter();
	struct CUstream_st *s = of(stream);
	event->capture = s->capture;
	if (s->capture) /* orders the graph, which keeps its order anyway */
		return lock_result(lock_error());
	event->issued++;
	event->stream = s;
	return lock_result(stream_add(stream, moment_new(WORK_RECORD, event)));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
	(void)flags;
	lock_enter();
	struct CUstream_st *s = of(stream);
	if (event->capture) {
		if (s->capture && s->capture != event->capture)
			return lock_result(cudaErrorStreamCaptureUnsupported);
		s->capture = event->capture;
		return lock_result(lock_error());
	}
	if (s->capture) /* a wait for what is outside of the graph */
		return lock_result(cudaErrorStreamCaptureUnsupported);
	if (reached(event, event->issued))
		return lock_result(lock_error());
	return lock_result(stream_add(stream, moment_new(WORK_WAIT, event)));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
	lock_enter();
	run_until(event, event->issued);
	order_host_has_waited();
	return lock_result(lock_error());
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
	lock_enter();
	if (!reached(event, event->issued) && event->stream && !event->stream->draining)
		step(event->stream);
	cudaError_t rc = lock_error();
	if (!rc && !reached(event, event->issued))
		rc = cudaErrorNotReady;
	return lock_result(rc);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
	lock_enter();
	cudaError_t rc = lock_error();
	if (!rc && (!from->issued || !to->issued))
		rc = cudaErrorInvalidResourceHandle;
	if (!rc && (!reached(from, from->issued) || !reached(to, to->issued)))
		rc = cudaErrorNotReady;
	*ms = rc ? 0 : (float)(to->when_ms - from->when_ms);
	return lock_result(rc);
}

/* ---- capture ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
	(void)mode;
	lock_enter();
	cudaError_t rc = lock_error();
	if (!rc && (!stream || stream->capture))
		rc = cudaErrorStreamCaptureUnsupported;
	if (!rc && !(stream->capture = stream->origin = graph_new()))
		rc = cudaErrorMemoryAllocation;
	return lock_result(rc);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	lock_enter();
	*graph = NULL;
	if (!stream || !stream->origin)
		return lock_result(cudaErrorInvalidValue);
	*graph = stream->origin;
	stream->origin = NULL;
	for (struct CUstream_st *s = all; s; s = s->next) {
		if (s->capture == *graph)
			s->capture = NULL;
	}
	return lock_result(lock_error());
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
	lock_enter();
	*status = of(stream)->capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
	return lock_result(cudaSuccess);
}
