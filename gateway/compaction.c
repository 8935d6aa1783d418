/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LevelDB flushes and compacts on one thread for all databases of a process. It starts that when
 * there is something to do for the first time, and the thread is then for good what the one was
 * that had something: mostly the store's writer. A flush takes 2 ms and a compaction 30, and
 * whoever has the same processor waits, so the thread shall not preempt anybody; but the store
 * waits for it in the end, so it keeps its share (base/background.c).
 *
 * There is no door to that thread, so it is started on purpose, by one that is what it shall be: it
 * opens the first database (which may have to be compacted at once), and then has nothing
 * compacted, in a range without keys.
 *
 * Lock: first_lock, outside of all others; held while that lasts, so that a second database that is
 * opened meanwhile does not start the thread.
 */
#include "gateway/compaction.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/background.h"

static pthread_mutex_t first_lock = PTHREAD_MUTEX_INITIALIZER;
static bool started; /* LevelDB's thread */

struct opening {
	const leveldb_options_t *options;
	const char *dir;
	char **message;
	leveldb_t *db;
};

static void *open_first(void *arg)
{
	static const char nowhere[] = "\xff\xff\xff\xff";
	struct opening *o = arg;
	background_batch();
	o->db = leveldb_open(o->options, o->dir, o->message);
	if (o->db)
		leveldb_compact_range(
			o->db, nowhere, sizeof nowhere - 1, nowhere, sizeof nowhere - 1);
	return NULL;
}

leveldb_t *compaction_open(const leveldb_options_t *options, const char *dir, char **message)
{
	struct opening o = {options, dir, message, NULL};
	pthread_t thread;
	pthread_mutex_lock(&first_lock);
	bool first = !started && pthread_create(&thread, NULL, open_first, &o) == 0;
	if (first) {
		pthread_setname_np(thread, "compaction"); /* which LevelDB's inherits, too */
		pthread_join(thread, NULL);
		started = o.db;
	}
	pthread_mutex_unlock(&first_lock);
	return first ? o.db : leveldb_open(options, dir, message);
}
