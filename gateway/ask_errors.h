/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ASK_ERRORS_H
#define GATEWAY_ASK_ERRORS_H

/* Why the last thing that a user asked of a model without a session has failed. `model` is
 * model_serial's. Any thread; its lock is a leaf. */

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct ask_errors;

struct ask_errors *ask_errors_new(void);                  /* NULL when memory is out */
struct ask_errors *ask_errors_free(struct ask_errors *a); /* accepts NULL, returns NULL */

/* What came of it: sentence NULL: it went well, and nothing is kept of that user there. channel:
 * static, "ask" or "embed". */
void ask_errors_note(
	struct ask_errors *a, uint64_t model, uid_t uid, const char *channel, const char *sentence);
/* Appends "ask: sentence\n", or nothing. *changed_ns (may be NULL): CLOCK_REALTIME of its end; 0
 * when there is none. */
int ask_errors_render(
	struct ask_errors *a, uint64_t model, uid_t uid, struct buf *out, uint64_t *changed_ns);
/* The model has gone. */
void ask_errors_forget(struct ask_errors *a, uint64_t model);

#endif
