/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_ASK_ERRORS_H
#define GATEWAY_ASK_ERRORS_H

/* Why the last thing that a user asked without a session has failed: of a model, or of one of the
 * gateway's own channels. `model` is model_serial's, or ASK_ERRORS_OF that channel. Any thread; its
 * lock is a leaf. */

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct ask_errors;

/* In place of a model: guards/test, router/explain, cache/lookup (enum gateway_channel). No model
 * has that serial. */
#define ASK_ERRORS_OF(channel) (UINT64_MAX - (uint64_t)(channel))

struct ask_errors *ask_errors_new(void);                  /* NULL when memory is out */
struct ask_errors *ask_errors_free(struct ask_errors *a); /* accepts NULL, returns NULL */

/* What came of it: sentence NULL: it went well, and nothing is kept of that user there. channel:
 * static, "ask", "embed", "test" ... */
void ask_errors_note(
	struct ask_errors *a, uint64_t model, uid_t uid, const char *channel, const char *sentence);
/* Appends "ask: sentence\n", or nothing. *changed_ns (may be NULL): CLOCK_REALTIME of its end; 0
 * when there is none. */
int ask_errors_render(
	struct ask_errors *a, uint64_t model, uid_t uid, struct buf *out, uint64_t *changed_ns);
/* The model has gone. */
void ask_errors_forget(struct ask_errors *a, uint64_t model);

#endif
