/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of router and cache, as a front end sees them. */
#include "gateway/cache.h"
#include "gateway/core.h"
#include "gateway/router.h"

static const char *const part_names[] = {[GATEWAY_ROUTER] = "router", [GATEWAY_CACHE] = "cache"};

const char *const *gateway_part_setting_names(enum gateway_part part)
{
	return part == GATEWAY_ROUTER ? router_setting_names() : cache_setting_names();
}

int gateway_part_setting_check(
	enum gateway_part part, const char *file, const char *value, size_t len, struct err *err)
{
	return part == GATEWAY_ROUTER ? router_setting_check(file, value, len, err)
				      : cache_setting_check(file, value, len, err);
}

bool gateway_part_setting_is_hopeless(
	enum gateway_part part, const char *file, const char *value, size_t len)
{
	return part == GATEWAY_ROUTER ? router_setting_is_hopeless(file, value, len)
				      : cache_setting_is_hopeless(file, value, len);
}

int gateway_part_setting_set(struct gateway *g, enum gateway_part part, const char *file,
	const char *value, size_t len, struct err *err)
{
	int r = part == GATEWAY_ROUTER ? router_setting_set(g->router, file, value, len, err)
				       : cache_setting_set(g->cache, file, value, len, err);
	if (r == 0)
		gateway_tell_change(g, GATEWAY_CHANGE_PART, part_names[part], file);
	return r;
}

int gateway_part_setting_get(
	struct gateway *g, enum gateway_part part, const char *file, struct buf *out)
{
	return part == GATEWAY_ROUTER ? router_setting_get(g->router, file, out)
				      : cache_setting_get(g->cache, file, out);
}

void gateway_part_setting_fail(struct gateway *g, enum gateway_part part, const char *file)
{
	if (part == GATEWAY_CACHE)
		cache_setting_fail(g->cache, file);
}

bool gateway_cache_ctl_is_hopeless(const char *line, size_t len)
{
	return cache_ctl_is_hopeless(line, len);
}

int gateway_cache_ctl(struct gateway *g, const char *line, size_t len, struct err *err)
{
	return cache_ctl(g->cache, line, len, err);
}
