/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_API_GRANT_H
#define GATEWAY_API_GRANT_H

/* What an API key grants: as whom one asks, what, and until when. Its settings, as gateway_keys.h
 * has them. Not locked; time is an argument. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/gateway_keys.h"

enum api_grant_setting { API_GRANT_USER, API_GRANT_SCOPES, API_GRANT_EXPIRES, API_GRANT_SETTINGS };

/* One setting, read. Zeroed memory is one that was not set. */
struct api_grant_value {
	enum api_grant_setting setting;
	char *text; /* as it was written; NULL: it was not set */
	uid_t uid;
	unsigned scopes;   /* bits of enum api_scope; 0: all */
	bool names_models; /* text has model:NAME */
	int64_t expires_s; /* from then on it is over; CLOCK_REALTIME */
};

/* Zeroed memory is one of nothing. */
struct api_grant {
	struct api_grant_value values[API_GRANT_SETTINGS];
	bool broken[API_GRANT_SETTINGS]; /* its file holds no value */
};

const char *const *api_grant_names(void); /* in the order of the enumeration; ends with NULL */
/* The setting of that file's name, or -ENOENT. */
int api_grant_find(const char *file, struct err *err);

/* *out, to be taken or freed. Of a user that is named the user database is asked, which may take as
 * long as that takes: not from the loop, and without a lock. -EINVAL with what is allowed; -ENOENT:
 * no such setting; -ENOMEM; -EIO: the database cannot be asked. */
int api_grant_read(struct api_grant_value *out, const char *file, const char *value, size_t len,
	struct err *err);
bool api_grant_is_hopeless(const char *file, const char *value, size_t len);
void api_grant_value_free(struct api_grant_value *v); /* zeroes it */
/* In force from now on; *v is what was in force before. */
void api_grant_take(struct api_grant *g, struct api_grant_value *v);
void api_grant_free(struct api_grant *g);

/* The file of a setting that is broken, or NULL. */
const char *api_grant_broken(const struct api_grant *g);
bool api_grant_is_over(const struct api_grant *g, int64_t now_s);
/* As api_key_allows. */
int api_grant_allows(
	const struct api_grant *g, enum api_scope what, const char *model, struct err *err);

#endif
