/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BUS_GUARD_H
#define BASE_BUS_GUARD_H

/* Bytes of a mapped file whose pages may vanish, without an end of the process by SIGBUS. */

#include <stdbool.h>
#include <stddef.h>

struct bus_guard;

/* new *out: from now on a page of these bytes that vanishes is replaced, with all behind it, by
 * zeros of our own that may be used as prot (of mmap) says. bytes: page-aligned, not NULL. The
 * first call installs the SIGBUS handler. 0, -ENOMEM, or sigaction's. */
int bus_guard_new(struct bus_guard **out, void *bytes, size_t size, int prot);
/* Before the bytes are unmapped, when nobody touches them any more. Accepts NULL, returns NULL. */
struct bus_guard *bus_guard_free(struct bus_guard *g);
/* Whether that has happened. One atomic load. Accepts NULL: false. */
bool bus_guard_hit(const struct bus_guard *g);

#endif
