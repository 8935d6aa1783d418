/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of numbers as a person edits them. What may stand there is a row each: name, place, range.
 * A word that is not known is a fault that names what is: a misspelt weight that is passed over
 * would be one that has no effect, and nobody would know. Values are read without strtod, whose
 * decimal point depends on the locale. No state, any thread.
 */
#include "gateway/numbers.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

enum { MAX_ROWS = 64 }; /* of one file: seen lines are kept on the stack */

struct word {
	const char *text; /* not terminated */
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* Takes the first word off the line; an empty one when there is none, or a remark begins. */
static struct word next_word(struct word *line)
{
	size_t from = 0, to;
	while (from < line->len && is_blank(line->text[from]))
		from++;
	to = from;
	if (from < line->len && line->text[from] == '#')
		line->len = to;
	while (to < line->len && !is_blank(line->text[to]))
		to++;
	struct word word = {line->text + from, to - from};
	line->text += to;
	line->len -= to;
	return word;
}

bool numbers_decimal(const char *text, size_t len, double *out)
{
	double number = 0, unit = 1;
	bool point = false, digits = false;
	if (!len || len > 20)
		return false;
	for (size_t i = *text == '-' || *text == '+'; i < len; i++) {
		if (text[i] == '.' && !point) {
			point = true;
			continue;
		}
		if (text[i] < '0' || text[i] > '9')
			return false;
		digits = true;
		number = number * 10 + (text[i] - '0');
		unit *= point ? 10 : 1;
	}
	*out = (*text == '-' ? -number : number) / unit;
	return digits;
}

/* "a, b and c" */
static void name_all(const struct numbers_row *rows, size_t n, char *out, size_t size)
{
	size_t at = 0;
	for (size_t i = 0; i < n; i++) {
		const char *before = !i ? "" : i + 1 < n ? ", " : " and ";
		size_t need = strlen(before) + strlen(rows[i].name);
		if (at + need + 1 > size)
			break;
		at = (size_t)(stpcpy(stpcpy(out + at, before), rows[i].name) - out);
	}
	out[at] = '\0';
}

/* At most as much of a word as a sentence can hold, and nothing that could break a terminal. */
static int shown(struct word w)
{
	size_t n = 0;
	while (n < w.len && n < 40 && w.text[n] > ' ' && w.text[n] < 0x7F)
		n++;
	return (int)n;
}

static int read_line(const struct numbers_row *rows, size_t n, void *out, struct word line,
	unsigned number, unsigned *seen, struct err *err)
{
	struct word name = next_word(&line), value = next_word(&line), more = next_word(&line);
	size_t i = 0;
	double x;
	if (!name.len)
		return 0;
	while (i < n && (strlen(rows[i].name) != name.len ||
				memcmp(rows[i].name, name.text, name.len) != 0))
		i++;
	if (i == n) {
		char all[240];
		name_all(rows, n, all, sizeof all);
		return err_set(err, -EINVAL, "line %u: there is no %.*s; there are %s", number,
			shown(name), name.text, all);
	}
	if (seen[i])
		return err_set(err, -EINVAL, "line %u: %s stands in line %u already", number,
			rows[i].name, seen[i]);
	seen[i] = number;
	if (more.len || !numbers_decimal(value.text, value.len, &x) || x < rows[i].low ||
		x > rows[i].high)
		return err_set(err, -EINVAL, "line %u: %s: must be a number from %.15g to %.15g",
			number, rows[i].name, rows[i].low, rows[i].high);
	memcpy((char *)out + rows[i].offset, &x, sizeof x);
	return 0;
}

int numbers_parse(const struct numbers_row *rows, size_t n, void *out, const char *text, size_t len,
	struct err *err)
{
	unsigned seen[MAX_ROWS] = {0}, number = 0;
	int r = n <= MAX_ROWS ? 0 : -EINVAL;
	if (len > NUMBERS_BYTES)
		return err_set(err, -EFBIG, "must be at most %zu KiB", NUMBERS_BYTES >> 10);
	for (size_t at = 0; at < len && r == 0;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t size = end ? (size_t)(end - text) - at : len - at;
		r = read_line(rows, n, out, (struct word){text + at, size}, ++number, seen, err);
		at += size + 1;
	}
	return r;
}

int numbers_print(const struct numbers_row *rows, size_t n, const void *values, struct buf *out)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		double x;
		memcpy(&x, (const char *)values + rows[i].offset, sizeof x);
		r = buf_printf(out, "%s %.9g\n", rows[i].name, x);
	}
	return r;
}
