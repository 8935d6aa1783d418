/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_GATEWAY_SHIM_H
#define GATEWAY_GATEWAY_SHIM_H

/*
 * The HTTP front end: OpenAI's protocol, translated to what the doors of the gateway offer. It is
 * a front end as fs is one, and uses nothing of the gateway but its doors.
 */

#include "gateway/gateway.h"

struct shim;

struct shim_options {
	const char *address;      /* "127.0.0.1:8080", "[::1]:8080", "localhost:8080", ":8080"
				     (all of this machine's addresses); port 0: any that is free */
	uint32_t max_connections; /* 0: 4,096 */
	const char *version;      /* of the program, for the header Server: borrowed */
};

/* Whether that is an address: 0 or -EINVAL with what is allowed. Resolves nothing. */
int shim_address_check(const char *address, struct err *err);
/* new *out; it listens and answers. Borrows g until shim_free. -EINVAL; -EADDRINUSE, -EACCES,
 * -EADDRNOTAVAIL ... with a sentence that has the address. */
int shim_open(struct shim **out, struct gateway *g, const struct shim_options *o, struct err *err);
/* Where it listens, "127.0.0.1:8080": borrows. */
const char *shim_address(const struct shim *shim);
/* Listens no more; /ready says no; what runs goes on. Any thread. */
void shim_stop(struct shim *shim);
/* Ends every connection and its request; before gateway_free, and after gateway_stop. Accepts NULL,
 * returns NULL. */
struct shim *shim_free(struct shim *shim);

#endif
