/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_FAR_FIXTURE_H
#define TESTS_GATEWAY_FAR_FIXTURE_H

/* A gateway with a model, "far", that is at a server that fails as told (faulty.h). */

#include "gateway/model.h"
#include "tests/gateway/harness.h"
#include "tests/gateway/upstream_fixture.h"

extern struct faulty far_server; /* main starts and stops it */
extern struct harness far_h;
extern struct model *far_m;
extern const char far_whole[]; /* what it answers */

void far_setup(void);
void far_teardown(void);
/* Opens the gateway, again after a harness_close, and makes the model. */
void far_open(void);

void far_set(struct model *of, const char *file, const char *value);
void far_set_endpoint(const char *path); /* behind the server's host and port */
/* A session of that model: session_put it. */
struct session *far_session(const char *id);
void far_expect_answer(struct session *s, const char *text);
/* The status, and what stands in the session's error. */
void far_expect_failure(struct session *s, const char *prompt, int expected, const char *sentence);
/* free() it. */
char *far_view(struct model *of, enum model_view v);
/* The state begins with that. */
void far_expect_state(const char *word);

#endif
