/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_DISK_FIXTURE_H
#define TESTS_GATEWAY_DISK_FIXTURE_H

/* A cache (cache_fixture.h) for each test, and numbered entries of its L2: entry i is the same
 * question and the same answer in every process. */

#include "tests/gateway/cache_fixture.h"

extern struct cache_fixture disk_f;

/* The two of a checked fixture. */
void disk_open(void);
void disk_close(void);
/* A number of the cache's (cache_fixture_stat). */
int disk_stat(const char *name);
/* Of entry i, which is said in it. The answer: a text that says so too, of up to 3000 bytes. */
struct question disk_question(int i, char room[64]);
/* free() it. */
char *disk_answer(int i);
/* Entries from to to - 1. */
void disk_store(int from, int to);
/* How many of them are served; a wrong text fails. */
int disk_served(int from, int to);
/* Status has nothing to say of the cache. */
void disk_assert_well(void);
/* It works: what is stored now comes back. */
void disk_assert_works(void);

#endif
