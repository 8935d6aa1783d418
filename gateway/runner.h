/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_RUNNER_H
#define GATEWAY_RUNNER_H

/* A thread for what takes long: loading a model, rendering a long conversation. First in, first
 * out. */

#include <stdbool.h>

#include "base/err.h"
#include "gateway/loop.h"

struct runner;

/* new *out; the thread has that name (at most 15 bytes). */
int runner_new(struct runner **out, const char *name, struct err *err);
/* Runs everything posted, ends the thread, frees. Accepts NULL, returns NULL. */
struct runner *runner_free(struct runner *r);
/* As loop_post. */
bool runner_post(struct runner *r, struct loop_work *work);

#endif
