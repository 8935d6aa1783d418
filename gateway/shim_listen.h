/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_LISTEN_H
#define GATEWAY_SHIM_LISTEN_H

/* Addresses to listen on: "HOST:PORT", "[IPV6]:PORT", ":PORT". */

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/err.h"

struct shim_listen_at {
	char host[256]; /* "": all addresses of this machine; without brackets */
	bool bracketed; /* it was, so it is an address of IPv6 */
	char port[6];   /* digits, 0 to 65535 */
};

/* 0; -EINVAL with what is allowed. */
int shim_listen_parse(const char *address, struct shim_listen_at *out, struct err *err);
/* new *fd: it listens, does not block. *name: where, "127.0.0.1:8080". *open: others than this
 * machine's programs can reach it. Resolves names. -errno with a sentence that has the address. */
int shim_listen_open(
	const char *address, int *fd, char *name, size_t size, bool *open, struct err *err);

#endif
