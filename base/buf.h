/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

/*
 * Growing bytes with a ceiling. `data` is always NUL-terminated behind `len` once anything was
 * added, so text can be handed to C functions. Zeroed memory plus a `max` is a valid empty buffer.
 */
struct buf {
	char *data;
	size_t len;
	size_t cap;
	size_t max; /* never more bytes than this; 0 means BUF_MAX_DEFAULT */
};

#define BUF_MAX_DEFAULT ((size_t)64 << 20)

/* Adds n bytes. 0; -ENOMEM; -EFBIG when the ceiling would be passed. On failure nothing was added.
 */
int buf_append(struct buf *b, const void *bytes, size_t n);
int buf_append_str(struct buf *b, const char *text);
__attribute__((format(printf, 2, 3))) int buf_printf(struct buf *b, const char *format, ...);

/* Makes room for n more bytes, to be written at data + len by the caller. Errors as buf_append. */
int buf_reserve(struct buf *b, size_t n);

/* Removes n bytes at the front, n <= len. O(len). */
void buf_consume(struct buf *b, size_t n);

/* Empties it, keeps the memory. */
void buf_clear(struct buf *b);

/* Gives the bytes back; *b is empty afterwards and can be used again. */
void buf_free(struct buf *b);

#endif
