/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_HARNESS_H
#define TESTS_GATEWAY_HARNESS_H

/* A gateway with a random model behind it, in a directory of its own, and the patience of a reader
 * at a shell. */

#include <stdbool.h>
#include <stddef.h>

#include "gateway/gateway_accounts.h"
#include "gateway/gateway_guards.h"
#include "gateway/gateway_models.h"
#include "gateway/gateway_parts.h"
#include "gateway/gateway_sessions.h"

struct harness {
	char dir[64], state[96], model[96], long_model[96];
	struct gateway *g;
	struct gateway_options options; /* to be changed before harness_open */
};

/* Makes the directory and the model file (context_tok 0: 2048). */
void harness_make(struct harness *h, unsigned context_tok);
/* Opens the gateway; model `tiny` is the default; `long` has 16,384 tokens of context: seconds to
 * be caught in the act. */
void harness_open(struct harness *h);
/* gateway_free. */
void harness_close(struct harness *h);
/* harness_close, and the directory goes. */
void harness_end(struct harness *h);

/* A session with max_tokens as given (NULL: the default). */
struct session *harness_session(struct harness *h, const char *id, const char *max_tokens);
/* Writes and commits a prompt; the result of the write. */
int harness_say(struct session *s, const char *prompt);
/* Waits like `cat out`: all of the newest answer, NUL-terminated; its errno in *status. free() it.
 */
char *harness_read(struct session *s, int *status);
/* The same for an answer in hand. */
char *harness_read_answer(struct answer *a, int *status);
/* A view as a string. free() it. */
char *harness_view(struct session *s, enum session_view view);
/* Waits (10 s) until the newest request's status is that word. */
bool harness_status(struct session *s, const char *word);
/* One `name value` line of usage; -1 when it is not there. */
double harness_usage(struct session *s, const char *name);

/* A setting of a model, which must be good. */
void harness_model_set(struct model *m, const char *file, const char *value);
/* Says a verb to it, which must be known. */
void harness_model_verb(struct model *m, const char *verb);
/* Waits (10 s) until its state begins with that. */
bool harness_model_state(struct model *m, const char *word);

/* A view of the whole as a string. free() it. */
char *harness_whole(struct harness *h, enum gateway_view view);
/* Sets a file below guards/, which must be good. */
void harness_guard(struct harness *h, const char *file, const char *text);
/* A dollar for each token of `model`, of whatever kind. */
void harness_price(struct harness *h, const char *model);
/* A setting of an account, which is made when there is none. */
void harness_account(struct harness *h, const char *name, const char *file, const char *value);
/* A text of an account that exists; free() it. The account of this user: harness_me. */
char *harness_account_view(struct harness *h, const char *name, enum account_view view);
const char *harness_me(struct harness *h);

#endif
