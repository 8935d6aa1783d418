/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_BOOK_FIXTURE_H
#define TESTS_GATEWAY_BOOK_FIXTURE_H

/* A book with a store in a directory of its own and a clock that the test sets. */

#include <stdatomic.h>

#include "gateway/book.h"

struct book_fixture {
	char dir[64];
	struct gateway g; /* bare: only what accounts need */
};

/* Wednesday, 25 November 2026, 12:00:00 UTC. */
#define BOOK_FIXTURE_NOON_S 1795608000u

extern atomic_uint_least64_t book_fixture_clock_ns;
void book_fixture_set_s(uint64_t now_s);

void book_fixture_make(struct book_fixture *f); /* and opens */
void book_fixture_open(struct book_fixture *f);
/* Ends it as a kill would: what is queued at the store is written, nothing more happens. */
void book_fixture_kill(struct book_fixture *f);
void book_fixture_close(struct book_fixture *f);
void book_fixture_end(struct book_fixture *f); /* and the directory goes */

/* Makes the account a configured one if need be; the setting must be taken. */
void book_fixture_set(
	struct book_fixture *f, const char *name, const char *file, const char *value);
/* A view's text. free() it. */
char *book_fixture_view(struct book_fixture *f, const char *name, enum account_view view);
void book_fixture_expect(
	struct book_fixture *f, const char *name, enum account_view view, const char *text);
/* How often `part` stands in a view. */
unsigned book_fixture_count(
	struct book_fixture *f, const char *name, enum account_view view, const char *part);

#endif
