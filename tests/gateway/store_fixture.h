/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_STORE_FIXTURE_H
#define TESTS_GATEWAY_STORE_FIXTURE_H

/* A store in a directory of its own. */

#include <check.h>
#include <semaphore.h>

#include "gateway/store.h"

extern char store_fixture_dir[64];

void store_fixture_setup(void);
void store_fixture_teardown(void); /* what is mounted on the directory goes as well */

/* Opens the store of a directory, which must be possible. */
struct store *store_fixture_open(const char *where);

/* Somebody who waits. */
struct store_fixture_after {
	struct store_waiter w;
	sem_t told;
	int status;
};
void store_fixture_done(struct store_waiter *w, int status); /* for .w.done */
/* Waits until what was queued is stored: the status. */
int store_fixture_wait(struct store *s);
/* The same with a record of one's own, whose w.done calls store_fixture_done. */
int store_fixture_wait_by(struct store *s, struct store_fixture_after *a);

/* What store_scan finds, "KEY=VALUE;" one after the other. */
struct store_fixture_found {
	char text[256];
};
int store_fixture_note(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len);
/* What a store that is opened anew has behind s/. */
void store_fixture_expect(const char *text);

#endif
