/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_TALK_FIXTURE_H
#define TESTS_GATEWAY_TALK_FIXTURE_H

/* A gateway (harness.h) that a program of tests talks to: `talk`, and what is said to its sessions
 * in one line. */

#include <stdbool.h>

#include "tests/gateway/harness.h"

extern struct harness talk;

/* The two of a checked fixture. */
void talk_open(void);
void talk_close(void);
/* What session_ctl returned, as this user. */
int talk_ctl(struct session *s, const char *line);
/* What session_setting_set returned. */
int talk_set(struct session *s, const char *file, const char *value);
/* A waiter: posts the semaphore that is its argument. */
void talk_wake(void *arg);
/* Answers until its tokens are spent: long enough to be caught in the act. */
struct session *talk_long_session(const char *id);
/* Asks and reads (harness_read). free() it. */
char *talk_ask(struct session *s, const char *prompt, int *status);
/* When it is not, stderr says what it is. */
bool talk_view_is(struct session *s, enum session_view view, const char *want);
bool talk_view_has(struct session *s, enum session_view view, const char *part);
/* A draft of that text, flushed. */
struct draft *talk_pending(struct session *s, const char *text);
/* Loads the model, so that its context is known at the write. */
void talk_warm(struct session *s);

#endif
