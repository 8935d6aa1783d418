/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_HEAD_H
#define GATEWAY_SHIM_HEAD_H

/* Heads of requests and replies, as far as they are texts: pure, but for the last one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct MHD_Response;
struct gateway_rates;

/* The secret of "Bearer SECRET", in whatever case the first word is. borrows: of `value`, *len
 * bytes without blanks around them; NULL: there is none. value may be NULL. */
const char *shim_head_secret(const char *value, size_t *len);
/* A span as OpenAI writes it: "12ms", "1s", "6m0s", "1h0m5s"; above a minute to the second, rounded
 * up. */
void shim_head_span(char out[32], uint64_t ms);
/* retry-after: whole seconds, rounded up, at least one. */
uint64_t shim_head_retry_s(uint64_t ms);

/* x-ratelimit-*, of what has a limit. */
void shim_head_rates(struct MHD_Response *response, const struct gateway_rates *rates);

#endif
