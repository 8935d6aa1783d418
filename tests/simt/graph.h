/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_GRAPH_H
#define SIMT_GRAPH_H

/* Captured work. */

#include "tests/simt/stream.h"

cudaGraph_t graph_new(void);
cudaError_t graph_add(cudaGraph_t graph, struct work *w); /* steals w */

#endif
