/* SPDX-License-Identifier: Apache-2.0 */
/* A sentence of bounded length on the caller's stack: no allocation, so it can report ENOMEM too.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *format, ...)
{
	if (e) {
		va_list ap;
		va_start(ap, format);
		vsnprintf(e->text, sizeof e->text, format, ap);
		va_end(ap);
	}
	return code;
}

int err_prefix(struct err *e, int code, const char *format, ...)
{
	if (e) {
		char old[sizeof e->text];
		memcpy(old, e->text, sizeof old);
		va_list ap;
		va_start(ap, format);
		int n = vsnprintf(e->text, sizeof e->text, format, ap);
		va_end(ap);
		if (n < 0 || (size_t)n + 2 >= sizeof e->text)
			return code;
		size_t room = sizeof e->text - (size_t)n - 3, length = strnlen(old, room);
		memcpy(e->text + n, ": ", 2);
		memcpy(e->text + n + 2, old, length);
		e->text[(size_t)n + 2 + length] = '\0';
	}
	return code;
}
