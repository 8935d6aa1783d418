/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_CACHE_SETTINGS_H
#define GATEWAY_CACHE_SETTINGS_H

/* The files below cache/ that are settings: one table of names, checks and defaults. What they do
 * to a cache: cache_setting_set (cache.h). Not locked: the cache's lock guards it. */

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/text.h"

enum cache_setting {
	CACHE_ENABLED,
	CACHE_TTL,
	CACHE_THRESHOLD,
	CACHE_SCOPE,
	CACHE_EMBEDDING_MODEL,
	CACHE_MAX_MEMORY,
	CACHE_MAX_ENTRIES,
	CACHE_MAX_DISK,
	N_CACHE_SETTINGS
};

struct cache_settings {
	struct text *set[N_CACHE_SETTINGS]; /* as it was written; NULL: the default */
	unsigned failed;                    /* a bit each: its file holds no value */
	bool enabled, global;
	double threshold;
	uint64_t ttl_s, max_memory, max_entries, max_disk;
	char model[TEXT_NAME_SIZE];
};

void cache_settings_init(struct cache_settings *s);
void cache_settings_clear(struct cache_settings *s); /* frees what is inside */
/* N_CACHE_SETTINGS: there is none of that name. */
enum cache_setting cache_settings_find(const char *file);
/* len 0: the default. The setting works again. 0, -EINVAL with what is allowed, -ENOMEM. */
int cache_settings_set(struct cache_settings *s, enum cache_setting i, const char *value,
	size_t len, struct err *err);
/* borrows: as it was set, or the default. */
const char *cache_settings_get(const struct cache_settings *s, enum cache_setting i, size_t *len);
/* Whether anything may be served or stored. */
bool cache_settings_on(const struct cache_settings *s);

#endif
