/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_TEXT_H
#define GATEWAY_TEXT_H

/* Immutable, reference-counted bytes: prompts, answers that are complete, values of settings. One
 * allocation each; any thread may hold references. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct text {
	atomic_uint refs;
	size_t len;
	char bytes[]; /* [len], then a NUL that is not counted */
};

/* new; NULL when memory is out. */
struct text *text_new(const char *bytes, size_t len);
/* Both accept NULL; text_put returns NULL. */
struct text *text_ref(struct text *t);
struct text *text_put(struct text *t);
/* Its bytes; 0 of NULL. */
static inline size_t text_len(const struct text *t)
{
	return t ? t->len : 0;
}

/* Appends a JSON string with its quotes. The bytes must be valid UTF-8. Errors as buf_append. */
int text_append_json(struct buf *out, const char *bytes, size_t len);

/* Writes x in decimal, at most TEXT_NUMBER_MAX bytes and no NUL; returns its end. For lines that
 * are written for each request: printf takes ten times as long. */
enum { TEXT_NUMBER_MAX = 20 };
char *text_number(char *to, uint64_t x);
/* The same with a sign, if there is one: TEXT_NUMBER_MAX + 1 bytes. */
char *text_signed(char *to, int64_t x);

/* Writes the beginning of a line of an event log, `{"time": SECONDS.MMM`: at most TEXT_TIME_MAX
 * bytes and no NUL; returns its end. Lines of the ledgers are known by it (ledger_line_s). */
enum { TEXT_TIME_MAX = 9 + TEXT_NUMBER_MAX + 4 };
char *text_time(char *to, uint64_t real_ns);

/* Writes the TEXT_SERIAL_LEN hexadecimal digits of x and a NUL; returns that. In a key of the store
 * such numbers are in order. */
enum { TEXT_SERIAL_LEN = 16 };
char *text_serial(char *to, uint64_t x);

/* A name of a session or model: [A-Za-z0-9._-]{1,64}, neither "." nor "..". */
bool text_is_name(const char *bytes, size_t len);
#define TEXT_NAME_MAX 64
#define TEXT_NAME_SIZE (TEXT_NAME_MAX + 1)

#endif
