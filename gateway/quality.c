/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signs of a bad answer, each a factor: none of them knows whether what is said is true, but a
 * small model that is out of its depth stops short, goes round in circles, refuses, or wavers
 * between tokens, and all of these can be seen. A product, not a sum: one bad sign is enough, and
 * no good one makes up for it.
 *
 * Words are runs of letters and digits; signs of East Asian scripts, which have no blanks, are
 * words each. No state, any thread.
 */
#include "gateway/quality.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"

enum {
	GRAM_WORDS = 4,
	TABLE_SLOTS = 8192, /* hashes of grams; a power of two */
	MAX_GRAMS = 4096,   /* the table is never more than half full */
	REPETITION_BYTES = 24576,
	REFUSAL_BYTES = 240,
	SHORT_REFUSAL_WORDS = 60,
	JSON_BYTES = 4 << 20,
};

/* ---- words ---- */

/* The word that begins at or after *at, as a hash; false at the end. */
static bool next_word(const char *text, size_t len, size_t *at, uint32_t *hash)
{
	size_t i = *at;
	uint32_t h = 2166136261u;
	bool any = false;
	for (; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		bool upper = c >= 'A' && c <= 'Z';
		bool wide = c >= 0xE3; /* begins a sign that is a word */
		bool part = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
		if (any && (!part || wide))
			break;
		if (!part)
			continue;
		any = true;
		h = (h ^ (upper ? c + 32u : c)) * 16777619u;
		if (!wide)
			continue;
		for (i++; i < len && utf8_is_inside(text[i]); i++)
			h = (h ^ (unsigned char)text[i]) * 16777619u;
		break;
	}
	*at = i;
	*hash = h;
	return any;
}

static size_t count_words(const char *text, size_t len)
{
	size_t n = 0;
	uint32_t hash;
	for (size_t at = 0; next_word(text, len, &at, &hash);)
		n++;
	return n;
}

/* True when it was there already. */
static bool seen_before(uint32_t *table, uint32_t gram)
{
	gram += !gram; /* 0 is a free slot */
	uint32_t i = (gram * 2654435761u) >> 19;
	while (table[i] && table[i] != gram)
		i = (i + 1) & (TABLE_SLOTS - 1);
	if (table[i])
		return true;
	table[i] = gram;
	return false;
}

static double repetition(const char *text, size_t len)
{
	uint32_t table[TABLE_SLOTS] = {0}, words[GRAM_WORDS];
	size_t n = 0, grams = 0, again = 0;
	if (len > REPETITION_BYTES) {
		text += len - REPETITION_BYTES;
		len = REPETITION_BYTES;
	}
	for (size_t at = 0;
		grams < MAX_GRAMS && next_word(text, len, &at, &words[n % GRAM_WORDS]);) {
		if (++n < GRAM_WORDS)
			continue;
		uint32_t gram = 0;
		for (size_t k = 0; k < GRAM_WORDS; k++)
			gram = gram * 31 + words[(n + k) % GRAM_WORDS];
		grams++;
		again += seen_before(table, gram);
	}
	if (grams < 12)
		return 1;
	double share = (double)again / (double)grams;
	return share <= 0.2 ? 1 : share >= 0.7 ? 0.1 : 1 - (share - 0.2) / 0.5 * 0.9;
}

/* ---- refusals ---- */

/* Lower case, ' for each apostrophe. Whole words. */
static const char *const refusals[] = {"i can't help", "i cannot help", "i can't assist",
	"i cannot assist", "i can't provide", "i cannot provide", "i can't answer",
	"i cannot answer", "i can't do that", "i cannot do that", "i can't fulfill",
	"i cannot fulfill", "i'm sorry, but", "i am sorry, but", "i'm unable to", "i am unable to",
	"i'm not able to", "i am not able to", "i won't be able", "as an ai", "as a language model",
	"as an artificial intelligence", "i don't know", "i do not know", "i'm not sure",
	"i am not sure", "i have no idea", "i don't have enough information", "ich kann dir nicht",
	"ich kann ihnen nicht", "ich kann das nicht", "ich kann dabei nicht",
	"dabei kann ich nicht", "tut mir leid, aber", "als ki", "als sprachmodell",
	"ich wei\xC3\x9F nicht", "das wei\xC3\x9F ich nicht", "ich bin nicht in der lage",
	"ich bin mir nicht sicher", "je ne peux pas", "je suis d\xC3\xA9sol\xC3\xA9, mais",
	"je suis d\xC3\xA9sol\xC3\xA9"
	"e, mais",
	"d\xC3\xA9sol\xC3\xA9, mais", "en tant qu'ia", "en tant que mod\xC3\xA8le",
	"je ne sais pas", "je ne suis pas en mesure", "je ne suis pas s\xC3\xBBr",
	"il m'est impossible", "lo siento, pero", "no puedo ayudar", "no puedo responder",
	"no puedo proporcionar", "como modelo de lenguaje", "como una ia", "no lo s\xC3\xA9",
	"no s\xC3\xA9", "no estoy seguro", "no me es posible", NULL};

/* The first bytes in lower case, with one kind of apostrophe. */
static void lower(const char *text, size_t len, char out[REFUSAL_BYTES + 1])
{
	size_t n = 0;
	for (size_t i = 0; i < len && n < REFUSAL_BYTES; i++) {
		unsigned char c = (unsigned char)text[i];
		unsigned char before = n ? (unsigned char)out[n - 1] : 0;
		if (len - i >= 3 && !memcmp(text + i, "\xE2\x80\x99", 3)) {
			c = '\'';
			i += 2;
		}
		bool upper = (c >= 'A' && c <= 'Z') ||
			     (before == 0xC3 && c >= 0x80 && c <= 0x9E && c != 0x97);
		out[n++] = (char)(upper ? c + 32 : c ? c : ' ');
	}
	out[n] = '\0';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (unsigned char)c >= 0x80;
}

static double refusal(const char *text, size_t len, size_t words)
{
	char start[REFUSAL_BYTES + 1];
	lower(text, len, start);
	for (const char *const *phrase = refusals; *phrase; phrase++)
		for (const char *p = start; (p = strstr(p, *phrase)); p++)
			if ((p == start || !is_letter(p[-1])) && !is_letter(p[strlen(*phrase)]))
				return words <= SHORT_REFUSAL_WORDS ? 0.15 : 0.5;
	return 1;
}

/* ---- the others ---- */

static double length(size_t words, enum classify_class class)
{
	static const double wanted[CLASSIFY_CLASSES] = {1, 20, 60};
	double n = (double)words;
	return !words ? 0 : n >= wanted[class] ? 1 : 0.4 + 0.6 * n / wanted[class];
}

static double certainty(double mean_logprob)
{
	double p = mean_logprob <= 0 ? exp(mean_logprob) : 1; /* NAN: 1 */
	return p >= 0.75 ? 1 : p <= 0.25 ? 0.2 : 0.2 + (p - 0.25) / 0.5 * 0.8;
}

static double json(const struct quality_answer *a)
{
	if (!a->wants_json || a->len > JSON_BYTES)
		return 1;
	json_t *j =
		a->len ? json_loadb(a->text, a->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
	double x = j ? 1 : 0.1;
	json_decref(j);
	return x;
}

double quality_estimate(const struct quality_answer *a, struct quality_reasons *why)
{
	size_t words = count_words(a->text, a->len);
	*why = (struct quality_reasons){
		.length = length(words, a->wants_json ? CLASSIFY_SIMPLE : a->class),
		.repetition = repetition(a->text, a->len),
		.refusal = refusal(a->text, a->len, words),
		.finish = a->was_cut ? 0.7 : 1,
		.certainty = certainty(a->mean_logprob),
		.json = json(a),
		.judge = 1,
		.why = "ok",
	};
	const struct {
		double factor;
		const char *word;
	} all[] = {{why->length, words ? "short" : "empty"}, {why->json, "not-json"},
		{why->refusal, "refuses"}, {why->repetition, "repeats"}, {why->certainty, "unsure"},
		{why->finish, "cut"}};
	double product = 1, lowest = 1;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		product *= all[i].factor;
		if (all[i].factor < lowest) {
			lowest = all[i].factor;
			why->why = all[i].word;
		}
	}
	return product;
}

double quality_judged(double estimate, double verdict, struct quality_reasons *why)
{
	double v = verdict >= 0 ? verdict <= 1 ? verdict : 1 : 0; /* NAN: 0 */
	const double others[] = {
		why->length, why->json, why->refusal, why->repetition, why->certainty, why->finish};
	double lowest = 1;
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		lowest = others[i] < lowest ? others[i] : lowest;
	why->judge = v;
	if (v < lowest)
		why->why = "judged";
	return estimate * v;
}
