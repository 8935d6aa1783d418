/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STORE_JOURNAL_H
#define GATEWAY_STORE_JOURNAL_H

/*
 * STATE/journal: the changes that the store's database has not got yet. A file of a fixed size that
 * is mapped, so that a change which is in it survives a kill -9 without a system call, a wake or a
 * wait. It is used as a ring; a group of changes counts when all of it is there. The user locks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A place in it, as the database keeps it, written together with all that is before. */
struct store_journal_mark {
	uint64_t run; /* random; a journal's each time it is opened */
	uint64_t group, at;
};
enum { STORE_JOURNAL_MARK_SIZE = sizeof(struct store_journal_mark) };
void store_journal_mark_put(const struct store_journal_mark *m, char out[STORE_JOURNAL_MARK_SIZE]);
/* False: it is none. */
bool store_journal_mark_get(struct store_journal_mark *m, const char *bytes, size_t len);

struct bus_guard;
struct store_journal {
	char *bytes; /* NULL: there is none, and nothing gets in */
	struct bus_guard *guard;
	uint64_t run, group; /* group: the number of the one that is being made */
	/* In bytes since it was opened: what the database has not got begins; whole groups end; the
	 * one that is being made ends (with room for its head; equal to `end`: none is). */
	uint64_t begin, end, at;
	uint64_t taken; /* ... what is behind what was taken last begins */
	bool refused;   /* a change did not get in; nor will any until store_journal_take */
	bool lags;      /* what did not was taken, and is not written yet */
};

/* Calls entry for each change of whole groups behind the mark, in order; value NULL: a deletion.
 * None, where there is no journal of that run. An entry that returns < 0 ends it with that. -EIO,
 * -EBADMSG, -ENOMEM: it cannot be read. */
typedef int store_journal_entry_fn(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len);
int store_journal_replay(const char *dir, const struct store_journal_mark *m,
	store_journal_entry_fn *entry, void *arg, struct err *err);

/* Makes it anew, empty, in that directory, which is on a file system of this machine (-EOPNOTSUPP:
 * one whose server may go away, and keep who writes to a page). < 0, with a sentence: there can be
 * none, and *j is zeroed: one that nothing gets into. */
int store_journal_open(struct store_journal *j, const char *dir, struct err *err);
/* Accepts a zeroed one; zeroes it. The file stays. */
void store_journal_close(struct store_journal *j);

/* A change becomes part of the group that is being made. value NULL: a deletion. */
void store_journal_put(struct store_journal *j, const char *key, size_t key_len, const char *value,
	size_t value_len);
/* Nothing more gets in until store_journal_take, the group that is being made included. */
void store_journal_refuse(struct store_journal *j);
/* The group ends, if there is one. */
void store_journal_commit(struct store_journal *j);
/* Whether every change so far would be there after a kill. After store_journal_commit. */
bool store_journal_is_safe(const struct store_journal *j);
/* Whether so much waits for the database that it is to be written now. */
bool store_journal_fills(const struct store_journal *j);

/* All changes so far are about to be written to the database, with the mark, which is the one of
 * before where there are none: then it need not be written. Between groups. */
void store_journal_take(struct store_journal *j, struct store_journal_mark *m);
/* All that were ever taken are written: what is before the last mark may be overwritten. */
void store_journal_written(struct store_journal *j);
/* Makes pages ready that will be written to next from `end` on, so that who writes to them need not
 * wait. On a thread that may wait; needs no lock. */
void store_journal_prepare(const struct store_journal *j, uint64_t end);

#endif
