/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_ASKED_H
#define GATEWAY_SHIM_ASKED_H

/* POST /v1/chat/completions and /v1/completions. */

struct shim_call;

/* As shim_path's begin. */
int shim_asked_chat(struct shim_call *c);
int shim_asked_completion(struct shim_call *c);

#endif
