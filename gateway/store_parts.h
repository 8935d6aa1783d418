/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STORE_PARTS_H
#define GATEWAY_STORE_PARTS_H

/* What store.c, where changes are queued, and store_thread.c, which writes them, share. */

#include <pthread.h>

#include "gateway/store_database.h"
#include "gateway/store_journal.h"

#define STORE_MARK_KEY "journal"

/* The lock guards all but the last part, which is the thread's. */
struct store {
	pthread_mutex_t lock;
	pthread_cond_t filled;                   /* on CLOCK_MONOTONIC */
	leveldb_writebatch_t *pending, *written; /* written: the one before, for its memory */
	bool any_pending, closing;
	unsigned n_open;            /* groups that are being queued */
	uint64_t n_rounds;          /* how often the last of these has ended */
	pthread_cond_t ended;       /* that is one more */
	bool hurry;                 /* something pending is not to be written later only */
	uint64_t pending_since_ns;  /* of the oldest that is; with any_pending */
	bool awaits_groups, sleeps; /* the thread waits for n_open == 0; for a signal only */
	struct store_waiter *waiters, **waiters_end;
	bool owed; /* the thread is to tell them: store_tell came while a group was open, or they
		      while what was not in the journal was written */
	struct store_sweep *sweeps; /* that are to see what is pending */
	struct store_sweep *ready;  /* all that they are to see is written */
	int state;                  /* 0 or -errno */
	char sentence[sizeof(struct err)];

	struct store_journal journal;
	uint64_t disk_since_ns; /* the thread is with the disk since then; 0: it is not */

	struct state_dir dir;
	struct store_database database;
	leveldb_writebatch_t *stuck; /* the group that could not be written */
	uint64_t unsynced_since_ns;  /* 0: all is on the disk */
	bool started;
	pthread_t thread;
};

void *store_thread(void *store);
/* Whether all that was queued survives a kill. With the lock held, between groups. */
bool store_is_safe(const struct store *s);
/* Whether there is something that is not to be written later only. With the lock held. */
bool store_is_due(const struct store *s);
/* Calls done of each, without the lock. */
void store_call(struct store_waiter *w, int status);
void store_drop_sweeps(struct store_sweep *w);
void store_put_mark(leveldb_writebatch_t *group, const struct store_journal_mark *m);

#endif
