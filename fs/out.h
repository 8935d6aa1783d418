/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_OUT_H
#define FS_OUT_H

#include "fs/handle.h"

/* Reads an answer, as file_ops.read with `waits`. */
int out_bytes(struct answer *a, uint64_t offset, size_t size, struct reply *out, struct wait *w);

/* As file_ops.ready, for a reader that has read up to position. */
int out_answer_ready(struct answer *a, uint64_t position, struct wait *w);

/* Bytes of the newest answer so far; 0 while a newer prompt is about to be submitted. */
uint64_t out_size(struct session *s);

#endif
