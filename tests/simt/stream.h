/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_STREAM_H
#define SIMT_STREAM_H

/* Streams as queues of work that nobody has done yet. */

#include <stddef.h>

#include "tests/simt/include/cuda_runtime_api.h"

enum work_kind {
	WORK_LAUNCH,
	WORK_COPY,
	WORK_SET,
	WORK_RECORD,
	WORK_WAIT,
	WORK_HOST,
	WORK_GRAPH,
	WORK_CALL
};

/* One piece of work; counted, since a captured one is in a graph and in every exec of it. */
struct work {
	unsigned refs;
	enum work_kind kind;
	const void *what;             /* launches and calls: the function; for comparing graphs */
	void (*run)(struct work *w);  /* errors by fault_set() */
	void (*end)(struct work *w);  /* NULL: nothing but the memory */
	_Alignas(16) char argument[]; /* run's own */
};

/* New, refs 1, with an argument of `size` zeroed bytes; NULL: no memory. */
struct work *work_new(enum work_kind kind, size_t size, void (*run)(struct work *));
void work_drop(struct work *w);

struct work_list {
	struct work **item;
	size_t n, room;
};

/* Steals w, also when it fails. */
cudaError_t work_append(struct work_list *l, struct work *w);
void work_free_list(struct work_list *l);

/* Puts it at the end of the stream's queue or, while that is captured, of the graph. Steals w.
 * Lock held.
 */
cudaError_t stream_add(cudaStream_t stream, struct work *w);

/* Does everything that the stream has. Lock held. */
void stream_drain(cudaStream_t stream);
void stream_drain_all(void);

/* Forgets all that is queued and every capture: the device was reset. Lock held. */
void stream_reset(void);

/* An error while anything is captured that a call that waits would break; else success. */
cudaError_t stream_may_wait(cudaStream_t stream);

#endif
