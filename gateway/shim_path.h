/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_PATH_H
#define GATEWAY_SHIM_PATH_H

/* What there is under which URL. */

#include <stdbool.h>

#include "gateway/gateway_keys.h"

struct shim_call;

struct shim_path {
	const char *url;
	bool prefix;          /* and something behind it, without a slash */
	bool posts;           /* POST with a body, else GET and HEAD */
	enum api_scope scope; /* what a key has to allow; 0: no key is asked for */
	/* Once the body is there: 0: a reply is queued; 1: c->work is set; < 0: the connection
	 * ends. */
	int (*begin)(struct shim_call *c);
};

/* borrows: NULL: there is none. *rest: what is behind a prefix, borrowed of url, or "". */
const struct shim_path *shim_path_find(const char *url, const char **rest);
/* Static: "GET, HEAD, OPTIONS" or what else is allowed there. */
const char *shim_path_allow(const struct shim_path *path);
bool shim_path_takes(const struct shim_path *path, const char *method);

#endif
