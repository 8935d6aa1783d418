/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_REPLY_PARTS_H
#define GATEWAY_SHIM_REPLY_PARTS_H

/* Of shim_reply*.c only: pieces of JSON, appended. Errors as buf_append; what was added before a
 * failure stays, shim_reply_undo takes it back. */

#include "gateway/shim_reply.h"

#include <string.h>

/* As buf_append, in line where there is room: an event has a dozen pieces, most of them literals.
 */
static inline int shim_reply_bytes(struct buf *out, const char *bytes, size_t n)
{
	size_t max = out->max ? out->max : BUF_MAX_DEFAULT, room = out->cap < max ? out->cap : max;
	if (out->len + n >= room)
		return buf_append(out, bytes, n);
	memcpy(out->data + out->len, bytes, n);
	out->len += n;
	out->data[out->len] = '\0';
	return 0;
}

/* A literal. */
#define SHIM_PUT(out, text) shim_reply_bytes(out, text, sizeof(text) - 1)

/* A string with its quotes. Valid UTF-8. */
int shim_reply_string(struct buf *out, const char *text, size_t len);
int shim_reply_number(struct buf *out, uint64_t x);

/* r; if that is a failure, *out is as long as it was before. */
static inline int shim_reply_undo(struct buf *out, size_t before, int r)
{
	if (r < 0 && out->len > before) {
		out->len = before;
		out->data[before] = '\0';
	}
	return r;
}

#endif
