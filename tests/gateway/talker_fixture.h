/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_TALKER_FIXTURE_H
#define TESTS_GATEWAY_TALKER_FIXTURE_H

/* Sessions that talk for money: what they cost, what the ledger says, and a disk that is full. */

#include "gateway/core.h"
#include "tests/gateway/harness.h"

enum { TALKER_LIMIT = 100000000 };

/* moderation that finds all safe, with small windows. */
extern const char talker_safe_judge[];
extern struct harness talker_h;

/* The two of a checked fixture. */
void talker_open(void);
void talker_close(void);
/* Must be taken. */
void talker_set(struct session *s, const char *file, const char *value);
/* One that gives all of its tokens. */
struct session *talker_new(const char *id, const char *max_tokens);
/* Must be done. */
void talker_ctl(struct session *s, const char *line);
/* Asks and reads (harness_read). free() it. */
char *talker_ask(struct session *s, int *status);
/* A view that is a number. */
double talker_dollars(enum account_view view);
/* What all its lines cost; *n: how many there are. */
double talker_ledger_sum(size_t *n);
/* A dollar a token, and a limit of TALKER_LIMIT dollars. */
void talker_priced(void);
/* Nothing is reserved any more and nothing is in flight. */
void talker_assert_all_given_back(void);
/* Fills the disk of the state; path: of the file that does. The store has nothing left to write
 * then, and does not find out before it is asked to. */
void talker_fill_disk(char path[128]);
/* Removes that file, and waits until the store writes again. */
void talker_make_room(const char *path);
/* Opens the gateway again, on a disk of 4 MiB (for root). */
void talker_open_on_small_disk(void);

#endif
