/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_REFUSE_H
#define GATEWAY_SHIM_REFUSE_H

/* What is said of a request before anything is asked: no such path, no key, too long; another model
 * than its key may name, more than the limits let begin. */

#include <stdbool.h>
#include <stddef.h>

struct shim_call;
struct shim_fault;

/* Finds the path and, where it wants one, the key; or c->refusal, and what is said. */
void shim_refuse_head(struct shim_call *c, const char *url, const char *method);
/* The body is too long; too much is being read just now. */
void shim_refuse_body(struct shim_call *c);
void shim_refuse_busy(struct shim_call *c);
/* Whether the refusal must not wait for the body. */
bool shim_refuse_is_urgent(struct shim_call *c);
/* Queues it: 0; < 0: the connection ends. */
int shim_refuse_reply(struct shim_call *c);

/* Whether the key may ask that, of the model of that name. 0: and *model is the name to ask it by,
 * borrowed of `named` or of *resolved, which is new or NULL: which model `default` is, where the
 * key may name that one alone. 1: not, and a reply is queued; < 0: the connection ends. */
int shim_refuse_model(struct shim_call *c, const char *named, const char **model, char **resolved);
/* Whether a request that is n to the limits may begin: none of them does where not all may. 0; 1: a
 * reply is queued; < 0: the connection ends. */
int shim_refuse_many(struct shim_call *c, size_t n);
/* What is wrong with the body. As shim_call_error. */
int shim_refuse_fault(struct shim_call *c, const struct shim_fault *fault);

#endif
