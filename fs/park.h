/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_PARK_H
#define FS_PARK_H

#include "fs/handle.h"

#include <stdint.h>

/*
 * Requests that wait. A parked read holds its fuse_req and no thread; it is answered exactly once:
 * with bytes, the end or an error when the gateway wakes it, with EINTR when its reader is
 * interrupted, with EAGAIN when the reader does not want to wait.
 */

/* Answers req: now, or once h->ops->read has something to say. */
void park_read(struct handle *h, fuse_req_t req, uint64_t offset, size_t size, bool nonblock);

/* Answers req with what is ready of `revents`; steals ph (may be NULL), by which the kernel is told
 * when that changes. The handle's earlier poll is forgotten. */
void park_poll(struct handle *h, fuse_req_t req, struct fuse_pollhandle *ph, unsigned events);

/* The handle is released: its poll is forgotten. */
void park_forget_poll(struct handle *h);

/* How many requests are parked now. */
unsigned park_count(void);

/* Answers all that is still parked with ENODEV: after gateway_stop, before the session is
 * destroyed. */
void park_end(void);

#endif
