/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SSE_H
#define GATEWAY_SSE_H

/* Server-sent events (the text/event-stream of HTML's standard), from bytes that are split
 * anywhere: LF, CR and CRLF, comments, several data lines, a byte order mark. What ends without an
 * empty line comes when "\n\n" is fed. */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define SSE_EVENT_MAX ((size_t)1 << 20) /* bytes of one event, and of one line */

struct sse { /* zeroed memory is a fresh one */
	struct buf line, data, event;
	bool after_cr, not_first;
	bool too_long; /* it was sse_feed itself that said -EMSGSIZE */
};

/* An event with data. event: "" when it has no name; data: its lines, joined by LF, NUL behind.
 * Returns < 0 to stop: sse_feed returns it. */
typedef int sse_event_fn(void *arg, const char *event, const char *data, size_t len);

/* 0; -EMSGSIZE: an event longer than SSE_EVENT_MAX; -ENOMEM; what `fn` returned. */
int sse_feed(struct sse *s, const char *bytes, size_t len, sse_event_fn *fn, void *arg);
void sse_free(struct sse *s); /* frees what is inside, and it is fresh again */

#endif
