/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A word by its letters: written small, as far as letters of Latin, Greek and Cyrillic are known,
 * and as a number. And what is known of words: the rows of agree_lexicon.c in a table, filled when
 * the first word is looked up; and endings. A word is looked up by its hash alone, which is of 64
 * bits: of some thousand words, no two have the same, and that a stranger's has one of theirs will
 * not happen.
 */
#include <pthread.h>
#include <string.h>

#include "gateway/agree_parts.h"

/* ---- letters ---- */

/* Two bytes of a letter, written small. */
static void small(unsigned char *p)
{
	if (p[0] == 0xC3 && p[1] >= 0x80 && p[1] <= 0x9E && p[1] != 0x97)
		p[1] |= 0x20;
	else if ((p[0] == 0xC4 || p[0] == 0xC5) && !(p[1] & 1) && p[1] < 0xB8)
		p[1] |= 1;
	else if (p[0] == 0xCE && p[1] >= 0x91 && p[1] <= 0x9F)
		p[1] += 0x20;
	else if (p[0] == 0xCE && p[1] >= 0xA0 && p[1] <= 0xA9)
		p[0] = 0xCF, p[1] -= 0x20;
	else if (p[0] == 0xD0 && p[1] >= 0x90 && p[1] <= 0x9F)
		p[1] += 0x20;
	else if (p[0] == 0xD0 && p[1] >= 0xA0 && p[1] <= 0xAF)
		p[0] = 0xD1, p[1] -= 0x20;
}

size_t agree_lower(const char *text, size_t len, char lower[LOWER_MAX])
{
	if (len >= LOWER_MAX)
		return 0;
	for (size_t i = 0; i < len; i++) {
		lower[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 32) : text[i];
		if (i && ((unsigned char)lower[i - 1] & 0xE0) == 0xC0)
			small((unsigned char *)lower + i - 1);
	}
	lower[len] = 0;
	return len;
}

uint64_t agree_hash(const char *text, size_t len)
{
	uint64_t h = UINT64_C(0xCBF29CE484222325) + len;

	for (; len >= 8; len -= 8, text += 8) {
		uint64_t part;
		memcpy(&part, text, 8);
		h = (h ^ part) * UINT64_C(0x9E3779B97F4A7C15);
		h ^= h >> 32;
	}
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001B3);
	h ^= h >> 29;
	h *= UINT64_C(0xBF58476D1CE4E5B9);
	return h ^ (h >> 32);
}

/* ---- the table ---- */

#define SLOTS 8192u

static struct word slots[SLOTS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static struct votes {
	uint64_t key;
	uint32_t mask;
} votes[SLOTS / 4];

static uint64_t key_of(uint64_t hash, enum agree_language language)
{
	return (hash + (uint64_t)language * UINT64_C(0xD6E8FEB86659FD93)) | 1;
}

static struct word *slot(uint64_t key)
{
	uint32_t i = (uint32_t)(key >> 20) & (SLOTS - 1);

	while (slots[i].key && slots[i].key != key)
		i = (i + 1) & (SLOTS - 1);
	return &slots[i];
}

static struct votes *vote(uint64_t hash)
{
	uint32_t i = (uint32_t)(hash >> 20) & (SLOTS / 4 - 1);

	while (votes[i].key && votes[i].key != (hash | 1))
		i = (i + 1) & (SLOTS / 4 - 1);
	return &votes[i];
}

/* Words that tell one language from others. */
static bool is_little(enum word_kind kind)
{
	return kind == WORD_STOP || kind == WORD_ASK || kind == WORD_ROLE ||
	       kind == WORD_QUESTION || kind == WORD_AUX || kind == WORD_PERSON ||
	       kind == WORD_JOIN || kind == WORD_NOT;
}

/* Little words of other languages that are English words of other kinds tell nothing. */
static bool is_english(const char *text, size_t len)
{
	static const char *const words[] = {"man", "die", "war", "hat", "also", "bin", "pour",
		"son", "mon", "ton", "cite", "plus", "fine", "hast", "she", "come", "chi", "per",
		"quanta", "mine", "dove", "pas", "eu", "mia", "tag", "mais", "dim", "am", "in",
		"an", "so", "on", "a", "no", "as"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i]) == len && memcmp(words[i], text, len) == 0)
			return true;
	}
	return false;
}

/* All words of a group become one side of a pair of opposites. */
static void take_side(uint32_t canon, const struct word *side)
{
	for (size_t i = 0; i < SLOTS; i++) {
		if (slots[i].kind == WORD_GROUP && slots[i].canon == canon && !slots[i].polarity) {
			slots[i].canon = side->canon;
			slots[i].polarity = side->polarity;
		}
	}
}

/* A word stands for what its first row says; a row of opposites may take sides for a group. */
static void enter(const struct agree_row *row, const char *text, size_t len, struct word *w)
{
	const uint64_t hash = agree_hash(text, len);
	const uint64_t key = key_of(hash, row->language);
	struct word *s = slot(key);

	if (is_little(row->kind) && (row->language == LANGUAGE_EN || !is_english(text, len))) {
		vote(hash)->key = hash | 1;
		vote(hash)->mask |= 1u << row->language;
	}
	if (s->key && (s->kind != WORD_GROUP || s->polarity))
		return;
	if (!w->canon)
		w->canon = s->key ? s->canon : (uint32_t)(hash >> 32);
	if (s->key) {
		if (w->polarity)
			take_side(s->canon, w);
		return;
	}
	w->key = key;
	*s = *w;
}

static void enter_row(const struct agree_row *row)
{
	struct word w = {.kind = (uint8_t)row->kind, .value = (int16_t)row->value};
	const char *p = row->words;

	if (row->kind == WORD_OPERATOR) {
		const char sign = (char)row->value;
		w.canon = (uint32_t)(agree_hash(&sign, 1) >> 32);
	}
	const uint32_t canon = w.canon;
	w.polarity = row->kind == WORD_GROUP && row->value ? 1 : 0;
	while (*p) {
		const bool past = row->kind == WORD_GROUP && *p == '-';
		if (row->kind == WORD_GROUP)
			w.value = past;
		p += past;
		const size_t n = strcspn(p, " ;|");
		if (n)
			enter(row, p, n, &w);
		p += n;
		if (*p == '|')
			w.polarity = 2;
		if (*p == ';') {
			w.canon = canon;
			w.polarity = w.polarity ? 1 : 0;
		}
		p += *p != 0;
	}
}

static void fill(void)
{
	for (size_t i = 0; i < agree_lexicon_n; i++)
		enter_row(&agree_lexicon[i]);
}

const struct word *agree_word_find(uint64_t hash, enum agree_language language)
{
	pthread_once(&once, fill);
	const struct word *w = slot(key_of(hash, language));

	return w->key ? w : NULL;
}

/* ---- endings ---- */

static bool ends(const char *s, size_t n, const char *with)
{
	const size_t k = strlen(with);

	return n >= k && memcmp(s + n - k, with, k) == 0;
}

static bool is_vowel(char c)
{
	return c && strchr("aeiouy", c);
}

static bool has_vowel(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (is_vowel(s[i]))
			return true;
	}
	return false;
}

/* What is left of a word without -ing or -ed: "runn" is run, "mak" make, "render" stays. */
static size_t mend(char *s, size_t n)
{
	static const char *const with_e[] = {"at", "iz", "is", "us", "uc", "ac", "ic", "v", "bl",
		"gl", "tl", "pl", "dl", "ng", "ag", "rg", "dg", "eg", "nc", "rc", "ir", "ur", "ar"};
	const char last = s[n - 1];

	if (n >= 3 && last == s[n - 2] && !is_vowel(last) && !strchr("lsz", last))
		return n - 1;
	const bool is_short = n <= 3 || (n == 4 && !is_vowel(s[0]) && !is_vowel(s[1]));
	bool e = is_short && n >= 2 && !is_vowel(last) && is_vowel(s[n - 2]) &&
		 (n == 2 || !is_vowel(s[n - 3])) && !strchr("wxy", last);
	for (size_t i = 0; i < sizeof(with_e) / sizeof(with_e[0]) && !is_short; i++)
		e |= ends(s, n, with_e[i]);
	if (e)
		s[n++] = 'e';
	return n;
}

static bool stem_english(char *s, size_t *len)
{
	size_t n = *len;
	bool past = false;

	if (n > 4 && ends(s, n, "ies")) {
		s[n - 3] = 'y';
		n -= 2;
	} else if (n > 4 && (ends(s, n, "sses") || ends(s, n, "xes") || ends(s, n, "ches") ||
				    ends(s, n, "shes") || ends(s, n, "zzes"))) {
		n -= 2;
	} else if (n > 3 && s[n - 1] == 's' && !strchr("sui", s[n - 2])) {
		n--;
	} else if (n > 5 && ends(s, n, "ing") && has_vowel(s, n - 3)) {
		n = mend(s, n - 3);
	} else if (n > 4 && ends(s, n, "ied")) {
		s[n - 3] = 'y';
		n -= 2;
		past = true;
	} else if (n > 4 && ends(s, n, "ed") && !ends(s, n, "eed") && has_vowel(s, n - 2)) {
		n = mend(s, n - 2);
		past = true;
	}
	*len = n;
	return past;
}

/* Nouns keep a t: Markt is not Mark, but kocht is of kochen. */
static void stem_german(const char *s, size_t *len, bool capital)
{
	size_t n = *len;

	if (n > 5 && ends(s, n, "en"))
		n -= 2;
	else if (n > 4 && (s[n - 1] == 'e' || s[n - 1] == 'n'))
		n--;
	else if (n > 4 && !capital && s[n - 1] == 't')
		n -= s[n - 2] == 'e' ? 2 : 1;
	*len = n;
}

bool agree_word_stem(char *lower, size_t *len, enum agree_language language, bool capital)
{
	bool past = false;

	if (language == LANGUAGE_EN || language == LANGUAGE_NONE)
		past = stem_english(lower, len);
	else if (language == LANGUAGE_DE)
		stem_german(lower, len, capital);
	else if (*len > 3 && (lower[*len - 1] == 's' || lower[*len - 1] == 'x'))
		(*len)--;
	return past;
}

uint32_t agree_word_votes(uint64_t hash)
{
	pthread_once(&once, fill);
	const struct votes *v = vote(hash);

	return v->key ? v->mask : 0;
}
