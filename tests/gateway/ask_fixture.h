/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_ASK_FIXTURE_H
#define TESTS_GATEWAY_ASK_FIXTURE_H

/* What programs of tests of an upstream have in common: one server (faulty.h) for all tests, an
 * upstream in front of it for each, and somebody who asks in one line. */

#include "tests/gateway/upstream_fixture.h"

extern const char ask_whole[]; /* the server's usual answer */
extern struct faulty ask_server;
extern struct ups ask_ups;

/* The two of a checked fixture: the server has forgotten all, the upstream has no endpoint. */
void ask_open(void);
void ask_close(void);
/* With the server as its one endpoint. */
void ask_load(void);
/* Never NULL. */
const char *ask_text(const struct asked *a);
/* Asks; the answer must be the whole one. */
void ask_well(void);
/* Asks; this must be the status. */
void ask_for(int status);
/* How many POSTs the server got. */
size_t ask_count(void);
/* The word, NULL when all is well. */
const char *ask_health(struct err *why);

#endif
