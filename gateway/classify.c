/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One walk over the bytes counts words, signs, numbers, ends of sentences and the words of the
 * lists (classify_words.c); features are those counts brought to 0..1, so that a weight says what a
 * whole feature is worth. What a prompt asks stands at its beginning or end, and what it is about,
 * a pasted article, between: words of the lists that are further than 1 KiB from both count a
 * quarter.
 *
 * Chinese and Japanese have no spaces: a word of their lists (classify_signs.c) is looked for at
 * each sign, and length is counted in signs.
 *
 * Bytes need not be UTF-8: letters of two and three bytes are told by their lead byte. No state,
 * any thread, no memory.
 */
#include "gateway/classify.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/classify_signs.h"
#include "gateway/classify_words.h"
#include "gateway/numbers.h"

enum { WORD_BYTES = 24, NEAR_BYTES = 1024 };

struct scan {
	size_t bytes, latin, foreign; /* looked at; letters */
	size_t han, kana;             /* signs, of foreign */
	double words;
	double kinds[N_CLASSIFY_KINDS];
	size_t languages[4]; /* en de fr es */
	size_t questions, ends, numbers, code_signs, fences, mathematics_signs, items;
	/* the word under way */
	char word[WORD_BYTES];
	size_t word_len; /* may be above WORD_BYTES: then it is in no list */
	uint32_t key;
	bool in_number, line_is_empty;
};

/* ---- the walk ---- */

enum sort { OTHER, LETTER, DIGIT, CODE_SIGN, MATHEMATICS_SIGN, END, LINE, LONG };

static const uint8_t sorts[256] = {
	['a' ... 'z'] = LETTER,
	['A' ... 'Z'] = LETTER,
	['0' ... '9'] = DIGIT,
	['{'] = CODE_SIGN,
	['}'] = CODE_SIGN,
	['['] = CODE_SIGN,
	[']'] = CODE_SIGN,
	['('] = CODE_SIGN,
	[')'] = CODE_SIGN,
	[';'] = CODE_SIGN,
	['_'] = CODE_SIGN,
	['<'] = CODE_SIGN,
	['>'] = CODE_SIGN,
	['|'] = CODE_SIGN,
	['&'] = CODE_SIGN,
	['#'] = CODE_SIGN,
	['`'] = CODE_SIGN,
	['='] = MATHEMATICS_SIGN,
	['+'] = MATHEMATICS_SIGN,
	['*'] = MATHEMATICS_SIGN,
	['^'] = MATHEMATICS_SIGN,
	['$'] = MATHEMATICS_SIGN,
	['\\'] = MATHEMATICS_SIGN,
	['.'] = END,
	['!'] = END,
	['?'] = END,
	[':'] = END,
	['\n'] = LINE,
	[0xC2 ... 0xF4] = LONG,
};

/* What is left of a letter U+00C0 to U+00FF without its accent; 0: not a letter. */
static const char plain[64] = {'a', 'a', 'a', 'a', 'a', 'a', 'a', 'c', 'e', 'e', 'e', 'e', 'i', 'i',
	'i', 'i', 'd', 'n', 'o', 'o', 'o', 'o', 'o', 0, 'o', 'u', 'u', 'u', 'u', 'y', 't', 's', 'a',
	'a', 'a', 'a', 'a', 'a', 'a', 'c', 'e', 'e', 'e', 'e', 'i', 'i', 'i', 'i', 'd', 'n', 'o',
	'o', 'o', 'o', 'o', 0, 'o', 'u', 'u', 'u', 'u', 'y', 't', 'y'};

static void add_letter(struct scan *s, char c)
{
	if (s->word_len < 4)
		s->key |= (uint32_t)(unsigned char)c << (8 * s->word_len);
	if (s->word_len < WORD_BYTES)
		s->word[s->word_len] = c;
	s->word_len++;
	s->latin++;
}

static void end_word(struct scan *s, double weight)
{
	if (!s->word_len)
		return;
	s->words++;
	const struct classify_word *w = s->word_len <= WORD_BYTES
						? classify_words_find(s->word, s->word_len, s->key)
						: NULL;
	if (w) {
		s->kinds[w->kind] += weight;
		for (size_t i = 0; i < 4; i++)
			s->languages[i] += (w->languages >> i) & 1;
	}
	s->word_len = 0;
	s->key = 0;
}

/* Signs of East Asia: those of a word of the lists, or one. Each is about half a word of English;
 * the two alphabets of Japanese spell, and say less. */
static size_t read_signs(struct scan *s, const char *p, size_t n, double weight)
{
	size_t len;
	enum classify_kind kind = classify_signs_find(p, n, &len);
	if (kind == N_CLASSIFY_KINDS)
		len = n < 3 ? n : 3;
	else
		s->kinds[kind] += weight;
	for (size_t i = 0; i + 3 <= len; i += 3) {
		unsigned char first = (unsigned char)p[i], second = (unsigned char)p[i + 1];
		bool kana = first == 0xE3 && second >= 0x81 && second <= 0x83;
		s->foreign++;
		s->kana += kana;
		s->han += !kana && first >= 0xE3 && first <= 0xE9;
		s->words += kana ? 0.35 : 0.55;
	}
	return len;
}

/* One sequence that begins with a byte of 0xC2 and above; its length. */
static size_t read_long(struct scan *s, const unsigned char *p, size_t n, double weight)
{
	size_t size = *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : 4;
	unsigned char second = n > 1 ? p[1] : 0, third = n > 2 ? p[2] : 0;
	if (*p == 0xC3 && utf8_is_inside((char)second) && plain[second & 63]) {
		add_letter(s, plain[second & 63]);
		if (second == 0x9F) /* a sharp s is two */
			add_letter(s, 's');
		return n < 2 ? n : 2;
	}
	end_word(s, weight);
	if (*p == 0xC4 || *p == 0xC5) {
		s->latin++;
	} else if (*p >= 0xC6 && *p < 0xE0) { /* Greek, Cyrillic, Hebrew, Arabic ... */
		s->foreign++;
		s->words += 1 / 6.0;
	} else if (*p == 0xE2 && (second == 0x88 || second == 0x89)) { /* operators */
		s->mathematics_signs += 2;
	} else if (*p == 0xEF && second == 0xBC && third == 0x9F) { /* a wide question mark */
		s->questions++;
		s->ends++;
	} else if (*p == 0xEF && second == 0xBC && third == 0x81) { /* and an exclamation mark */
		s->ends++;
	} else if (*p == 0xE3 && second == 0x80) { /* punctuation of East Asia */
		s->ends += third == 0x82;
	} else if (*p >= 0xE0 && *p < 0xEE && *p != 0xE2) {
		return read_signs(s, (const char *)p, n, weight);
	}
	return n < size ? n : size;
}

/* Ends of sentences are signs that white space or the end of the text follows. */
static void read_end(struct scan *s, char c, const char *next, const char *end)
{
	s->questions += c == '?';
	if (c != ':' && (next == end || *next == ' ' || *next == '\n' || *next == '"'))
		s->ends++;
}

/* At the beginning of a line: items of lists ("- x", "* x", "1. x", "a) x"). */
static void read_line_begin(struct scan *s, const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	if (end - p < 3)
		return;
	bool bullet = (*p == '-' || *p == '*') && p[1] == ' ';
	bool number = (sorts[(unsigned char)*p] == DIGIT || sorts[(unsigned char)*p] == LETTER) &&
		      (p[1] == '.' || p[1] == ')') && p[2] == ' ';
	s->items += bullet || number;
}

/* What is neither a letter nor the beginning of a long sequence. */
static void read_sign(struct scan *s, enum sort sort, const char *p, const char *end)
{
	bool digit = sort == DIGIT;
	s->numbers += digit && !s->in_number;
	s->in_number = digit || (s->in_number && (*p == '.' || *p == ','));
	switch (sort) {
	case CODE_SIGN:
		s->code_signs++;
		s->fences += *p == '`' && end - p >= 3 && p[1] == '`' && p[2] == '`';
		break;
	case MATHEMATICS_SIGN:
		s->mathematics_signs++;
		break;
	case END:
		read_end(s, *p, p + 1, end);
		break;
	case LINE:
		s->ends += !s->line_is_empty;
		read_line_begin(s, p + 1, end);
		break;
	default:
		break;
	}
}

static void scan_piece(struct scan *s, const char *text, size_t len, bool begins, bool ends)
{
	const char *p = text, *end = text + len;
	if (begins)
		read_line_begin(s, p, end);
	while (p < end) {
		enum sort sort = sorts[(unsigned char)*p];
		if (sort == LETTER) {
			add_letter(s, (char)(*p | 0x20));
			s->in_number = false;
			s->line_is_empty = false;
			p++;
			continue;
		}
		bool near = (begins && p - text < NEAR_BYTES) || (ends && end - p < NEAR_BYTES);
		double weight = near ? 1 : 0.25;
		if (sort == LONG) {
			p += read_long(s, (const unsigned char *)p, (size_t)(end - p), weight);
			s->in_number = false;
			s->line_is_empty = false;
			continue;
		}
		end_word(s, weight);
		read_sign(s, sort, p, end);
		s->line_is_empty = sort == LINE || sort == END || (s->line_is_empty && *p == ' ');
		p++;
	}
	end_word(s, ends ? 1 : 0.25);
	s->bytes += len;
}

static void scan_text(struct scan *s, const char *text, size_t len)
{
	*s = (struct scan){.line_is_empty = true};
	if (!len)
		return;
	if (len <= 2 * CLASSIFY_BYTES) {
		scan_piece(s, text, len, true, true);
		return;
	}
	const char *tail = text + len - CLASSIFY_BYTES;
	scan_piece(s, text, CLASSIFY_BYTES, true, false);
	while (tail < text + len && utf8_is_inside(*tail))
		tail++;
	scan_piece(s, tail, (size_t)(text + len - tail), false, true);
	s->words *= (double)len / (double)s->bytes;
}

/* ---- counts to features ---- */

static double share(double n, double of)
{
	return n >= of ? 1 : n > 0 ? n / of : 0;
}

/* The one with most of its words; none when they are one in twelve or fewer. */
static const char *language_of(const struct scan *s)
{
	static const char *const names[] = {"en", "de", "fr", "es"};
	size_t best = 0;
	if ((s->han + s->kana) * 2 > s->latin)
		return s->kana * 10 > s->han ? "ja" : "zh";
	for (size_t i = 1; i < 4; i++)
		best = s->languages[i] > s->languages[best] ? i : best;
	if (!s->languages[best] || (double)s->languages[best] * 12 <= s->words ||
		s->foreign > s->latin)
		return "other";
	return names[best];
}

static double code_of(const struct scan *s)
{
	double signs = s->bytes ? (double)s->code_signs / (double)s->bytes : 0;
	double dense = s->code_signs < 4 ? 0 : share(signs - 0.02, 0.06);
	double code = (s->fences ? 0.4 : 0) + 0.5 * dense + s->kinds[CLASSIFY_CODE] / 8;
	return share(code, 1);
}

static void features_of(const struct scan *s, bool is_known, struct classify_features *f)
{
	double length = share(log2(1 + s->words / 8), 8);
	double code = code_of(s);
	/* Signs are mathematics where they are not program text. */
	double signs = (double)s->mathematics_signs * (1 - code);
	*f = (struct classify_features){
		.length = length,
		.sentences = share((double)s->ends, 10),
		.code = code,
		.mathematics = share(s->kinds[CLASSIFY_MATHEMATICS] + signs / 4, 5),
		.reasoning = share(s->kinds[CLASSIFY_REASONING] + 2 * s->kinds[CLASSIFY_PROOF], 4),
		.tasks = share(s->kinds[CLASSIFY_TASK], 3),
		.constraints = share(s->kinds[CLASSIFY_CONSTRAINT] + (double)s->items / 2, 6),
		.questions = share((double)s->questions - 1, 3),
		.numbers = share((double)s->numbers, 10),
		.simple = share(s->kinds[CLASSIFY_EASY], 2) * share(40 - s->words, 40),
		.foreign = is_known ? 0 : length,
	};
}

static const struct numbers_row rows[] = {
#define ROW(name)                                                                                  \
	{                                                                                          \
#		name, offsetof(struct classify_weights, weight.name), -100, 100                   \
	}
	ROW(length),
	ROW(sentences),
	ROW(code),
	ROW(mathematics),
	ROW(reasoning),
	ROW(tasks),
	ROW(constraints),
	ROW(questions),
	ROW(numbers),
	ROW(simple),
	ROW(foreign),
	{"moderate", offsetof(struct classify_weights, moderate), -100, 100},
	{"complex", offsetof(struct classify_weights, complex), -100, 100},
#undef ROW
};

enum { N_ROWS = sizeof rows / sizeof *rows, N_FEATURES = N_ROWS - 2 };

static const char *const feature_names[N_FEATURES + 1] = {"length", "sentences", "code",
	"mathematics", "reasoning", "tasks", "constraints", "questions", "numbers", "simple",
	"foreign", NULL};

const char *const *classify_feature_names(void)
{
	return feature_names;
}

double classify_feature(const struct classify_features *f, size_t i)
{
	double x;
	memcpy(&x, (const char *)f + rows[i].offset, sizeof x);
	return x;
}

void classify_text(
	const char *text, size_t len, const struct classify_weights *w, struct classify_result *out)
{
	struct scan s;
	scan_text(&s, text, len);
	*out = (struct classify_result){.language = language_of(&s)};
	features_of(&s, strcmp(out->language, "other") != 0, &out->features);
	for (size_t i = 0; i < N_FEATURES; i++)
		out->score += classify_feature(&w->weight, i) * classify_feature(&out->features, i);
	out->class = out->score >= w->complex    ? CLASSIFY_COMPLEX
		     : out->score >= w->moderate ? CLASSIFY_MODERATE
						 : CLASSIFY_SIMPLE;
}

const char *classify_name(enum classify_class class)
{
	static const char *const names[CLASSIFY_CLASSES] = {"simple", "moderate", "complex"};
	return names[class];
}

/* ---- weights ---- */

struct classify_weights classify_weights_default(void)
{
	return (struct classify_weights){
		.weight =
			{
				.length = 0.45,
				.sentences = 0.05,
				.code = 0.35,
				.mathematics = 0.45,
				.reasoning = 1,
				.tasks = 0.35,
				.constraints = 0.3,
				.questions = 0.1,
				.numbers = 0.15,
				.simple = -0.25,
				.foreign = 0.3,
			},
		.moderate = 0.15,
		.complex = 0.7,
	};
}

int classify_weights_parse(
	const char *text, size_t len, struct classify_weights *out, struct err *err)
{
	struct classify_weights w = classify_weights_default();
	int r = numbers_parse(rows, N_ROWS, &w, text, len, err);
	if (r < 0)
		return r;
	if (!(w.moderate < w.complex))
		return err_set(err, -EINVAL, "moderate (%.15g) must be below complex (%.15g)",
			w.moderate, w.complex);
	*out = w;
	return 0;
}

int classify_weights_print(const struct classify_weights *w, struct buf *out)
{
	return numbers_print(rows, N_ROWS, w, out);
}
