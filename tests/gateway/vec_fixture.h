/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_VEC_FIXTURE_H
#define TESTS_GATEWAY_VEC_FIXTURE_H

/* A gateway with "vec", an embedding model at a server that fails as told (faulty.h). A token costs
 * a dollar. */

#include "gateway/model.h"
#include "tests/gateway/harness.h"
#include "tests/gateway/upstream_fixture.h"

extern struct faulty vec_server; /* main starts and stops it */
extern struct harness vec_h;

#define VEC_WORDS "one two three\n"
extern const char vec_words[sizeof VEC_WORDS]; /* three tokens, the server says */
enum { VEC_WORDS_TOK = 3, VEC_WORDS_MOST = sizeof VEC_WORDS - 2 + 2 };

void vec_setup(void);
void vec_teardown(void);
/* Opens the gateway, again after a harness_close, and makes the model. */
void vec_open(void);

void vec_set(const char *file, const char *value); /* of vec */
/* A channel of this user's: vec's embed, or the cache's lookup. new */
struct session *vec_channel(enum gateway_channel kind);
/* What this user has spent, in dollars. */
double vec_spent(void);

#endif
