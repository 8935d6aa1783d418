/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_PARTS_H
#define GATEWAY_GATEWAY_PARTS_H

/* The door of the gateway: settings of its parts, router/ and cache/. */

#include "gateway/gateway.h"

/*
 * Settings of a part of the gateway, by file name below its directory. router: policy weights
 * classes threshold cascade_judge cascade_judge_timeout_ms classifier_model classifier_timeout_ms
 * (gateway/router.h); cache: enabled ttl threshold scope embedding_model
 * max_memory max_entries max_disk (gateway/cache.h). Values may have lines (weights, classes). Not
 * kept over a restart, a front end sets them from its files; "" resets. -EINVAL with what is
 * allowed; -ENOENT: no such setting.
 */
enum gateway_part { GATEWAY_ROUTER, GATEWAY_CACHE };
const char *const *gateway_part_setting_names(enum gateway_part part); /* ends with NULL */
int gateway_part_setting_check(
	enum gateway_part part, const char *file, const char *value, size_t len, struct err *err);
bool gateway_part_setting_is_hopeless(
	enum gateway_part part, const char *file, const char *value, size_t len);
int gateway_part_setting_set(struct gateway *g, enum gateway_part part, const char *file,
	const char *value, size_t len, struct err *err);
/* Appends the value, set or default, no newline. */
int gateway_part_setting_get(
	struct gateway *g, enum gateway_part part, const char *file, struct buf *out);
/* What its file holds is no value: the one before stays in force (cache: nothing is served until it
 * is set again). */
void gateway_part_setting_fail(struct gateway *g, enum gateway_part part, const char *file);
/* cache/ctl: "flush", "flush USER". -EINVAL with the verbs. */
int gateway_cache_ctl(struct gateway *g, const char *line, size_t len, struct err *err);
bool gateway_cache_ctl_is_hopeless(const char *line, size_t len);

#endif
