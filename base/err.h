/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * The sentence for the person. It is written once, where the fault is found; the errno travels
 * apart from it as the return value. Neither is ever derived from the other.
 */
struct err {
	char text[320]; /* without a newline; "" when nothing was said */
};

/* Writes the sentence into *e (e may be NULL) and returns code, so that a caller can say
 * `return err_set(e, -EINVAL, "...")`. */
__attribute__((format(printf, 3, 4))) int err_set(struct err *e, int code, const char *format, ...);

/* Puts "prefix: " before what *e says. Does nothing when e is NULL. Returns code. */
__attribute__((format(printf, 3, 4))) int err_prefix(
	struct err *e, int code, const char *format, ...);

#endif
