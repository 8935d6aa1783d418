/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMT_ASYNC_H
#define SIMT_ASYNC_H

/* Copies that a thread has begun and not waited for. */

void async_block_begins(void);

#endif
