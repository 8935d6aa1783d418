/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_EMBED_H
#define GATEWAY_SHIM_EMBED_H

/* POST /v1/embeddings. */

#include <stddef.h>

struct shim_call;

/* As shim_path's begin. */
int shim_embed_begin(struct shim_call *c);

/* A JSON array of numbers, NUL-terminated: new *x of *n. 0; -EPROTO: it is none; -ENOMEM. Pure. */
int shim_embed_vector(const char *json, float **x, size_t *n);

#endif
