/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_COMPACTION_H
#define GATEWAY_COMPACTION_H

#include <leveldb/c.h>

/*
 * leveldb_open, which also sees to it that LevelDB's thread, of which a process has one for all its
 * databases, does not preempt others: background_batch (base/background.h). All are to be opened by
 * it; the first one takes some milliseconds more.
 */
leveldb_t *compaction_open(const leveldb_options_t *options, const char *dir, char **message);

#endif
