/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_STORE_GROUP_H
#define GATEWAY_STORE_GROUP_H

#include <leveldb/c.h>

/* Appends to `to` the last change of each key in `all`: what the database is to have after all of
 * them. Appends all of them when memory is out. */
void store_group_latest(leveldb_writebatch_t *to, const leveldb_writebatch_t *all);

#endif
