/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STORE_H
#define GATEWAY_STORE_H

/*
 * What survives kill -9: LevelDB in STATE/store, written by a thread of its own, and before it
 * STATE/journal, which has what waits for that thread.
 *
 * Keys
 *   version              "2"; another one is refused, but for 1
 *   journal              up to where the database has what is in the journal (store_journal.h)
 *   s/SESSION            a session: a line of numbers (owner, mode, times, sums)
 *   t/SESSION/SERIAL     a turn of its conversation; SERIAL: 16 hexadecimal digits, in order
 *   r/SESSION            what is known of its last request beside its turn
 *   e/SESSION/SLOT       some lines of its events
 *   q/SESSION/SERIAL     a prompt that waits behind another one of it
 *   c/SESSION/FILE       a setting of it
 *   g/FILE               the last good text of a file below guards/
 *   a/ACCOUNT            what was used of an account
 *   al/ACCOUNT/SERIAL    a line of its ledger
 *   ae/ACCOUNT/SERIAL    a line of its events
 *   k/KEY                the minute in which an API key was used last
 *   ac/SERIAL            the claim of a request under way, with what a crash is to charge for it
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct store;

/* new *out. Locks the directory (made with mode 0700 when missing). -EBUSY with the other daemon's
 * pid; -EACCES, -EIO, -ENOSPC ...: it cannot be used; -ENOTSUP: written by another version. */
int store_open(struct store **out, const char *state_dir, struct err *err);
/* Writes what is pending (gives up at once if it cannot be written), ends the thread, unlocks the
 * directory. What is queued later is dropped, but for the rest of a group that is open and has
 * something. Accepts NULL. */
void store_close(struct store *s);
/* Closes and frees. Accepts NULL, returns NULL. */
struct store *store_free(struct store *s);

/* Calls entry for each key that begins with prefix, in order. Only before the first write. An entry
 * that returns < 0 ends it with that. */
typedef int store_entry_fn(
	void *arg, const char *key, size_t key_len, const char *value, size_t value_len);
int store_scan(struct store *s, const char *prefix, store_entry_fn *entry, void *arg);
/* The same, of those of them that are not before `from`. */
int store_scan_from(
	struct store *s, const char *prefix, const char *from, store_entry_fn *entry, void *arg);
/* For an entry function that cannot read an entry: warns, and 0, so that the scan goes on. */
int store_skip(const char *key, size_t key_len);

/* Queues a change; copied; waits for nobody, and for the disk only where a page of the journal is
 * to be asked for while that does not answer. Changes are written in the order in which they were
 * queued, those that wait together in one atomic group; of one key only the last of them. Within a
 * second; at once where there is no journal. */
void store_put(struct store *s, const char *key, const char *value, size_t value_len);
void store_delete(struct store *s, const char *key);
/* A put that nobody waits for: its place in the order is the same, but the thread is not woken for
 * it, journal or not. Written together with what is queued next, or within a second. */
void store_put_later(struct store *s, const char *key, const char *value, size_t value_len);

/* What is queued between the two goes into one group: all of it is written, or nothing. Short:
 * others wait for their writing meanwhile. May nest, also between threads. */
void store_begin(struct store *s);
void store_end(struct store *s);

/* Waits for the end of a group that is open, and of those that overlap with it: what was queued
 * before survives a kill -9 then, where there is a journal with room. For who is about to tell
 * somebody that it is done; a group is short. Without locks that those with a group may take, and
 * not by one of them: not on the loop. */
void store_await_groups(struct store *s);

/* done(w, status), once everything queued so far survives a kill -9 (a second later it is on the
 * disk, too), or could not be written: -ENOSPC, -EIO. Without the store's lock; on its thread, or
 * from within store_after (if no group is open) or store_tell, of the caller's or of somebody
 * else's. Must not block. */
struct store_waiter {
	struct store_waiter *next;
	void (*done)(struct store_waiter *w, int status);
};
/* Without locks that a waiter's done may take. Who calls it while a group is open calls store_tell
 * when that has ended, or waits for up to a second. */
void store_after(struct store *s, struct store_waiter *w);
/* Tells all those who need not wait any more. Without locks, as store_after. */
void store_tell(struct store *s);

/*
 * Deletes entries from the beginning of a prefix on, by the store's thread, when it has written
 * what was queued before: those from the key `from` on of which old(sweep, value, len) says so, up
 * to the first of which it does not, at most `most`. Then done(sweep), without locks, also when the
 * store is closed or cannot be read or written; it is the caller's again. Both must not block.
 */
#define STORE_KEY_SIZE 128
struct store_sweep {
	struct store_sweep *next;
	char from[STORE_KEY_SIZE];
	size_t prefix_len; /* of from */
	size_t most;
	bool (*old)(struct store_sweep *w, const char *value, size_t len);
	void (*done)(struct store_sweep *w);
	size_t n;                  /* deleted */
	char last[STORE_KEY_SIZE]; /* of them; "" */
};
void store_sweep(struct store *s, struct store_sweep *w);

/* 0, or why nothing can be written at the moment (-ENOSPC, -EIO, with a sentence): new requests and
 * changes are refused with it. The store tries again by itself every second. */
int store_state(struct store *s, struct err *err);

#endif
