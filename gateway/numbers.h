/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_NUMBERS_H
#define GATEWAY_NUMBERS_H

/*
 * Files that hold several numbers: one `name value` a line. Blank lines and lines that begin with #
 * say nothing, nor does what follows a # behind white space. A name that is not there keeps its
 * value; one that stands there twice is a fault.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

struct numbers_row {
	const char *name;
	size_t offset; /* of a double in the struct that is read into */
	double low, high;
};

/* Decimal text of at most 20 bytes: a sign, digits, a point, whatever the locale; nothing else. */
bool numbers_decimal(const char *text, size_t len, double *out);

/* 0; -EINVAL with the line and what is allowed, and *out may have been written in part; -EFBIG:
 * more than NUMBERS_BYTES. */
int numbers_parse(const struct numbers_row *rows, size_t n, void *out, const char *text, size_t len,
	struct err *err);
#define NUMBERS_BYTES ((size_t)64 << 10)

/* The same as text, every name on a line of its own, the last one too. Errors as buf_append. */
int numbers_print(const struct numbers_row *rows, size_t n, const void *values, struct buf *out);

#endif
