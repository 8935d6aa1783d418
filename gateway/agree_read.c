/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a text there is to agree on. Little words of its language are taken out: some say
 * nothing, the others tell what is asked (how, why, whether one may), when (was, will), of whom
 * (my, his), and in which role the next word stands (from, to, by). What is left are items: words
 * without their endings, or what stands for all of a meaning; names and numbers as they are; each
 * denial.
 *
 * It reads on when it does not understand: a word of which nothing is known is an item. So what it
 * does not know can only make it refuse.
 */
#include <string.h>

#include "gateway/agree_reader.h"

/* ---- which language ---- */

static enum agree_language find_language(const struct tokens *t, bool *sure)
{
	unsigned counts[N_LANGUAGES] = {0};
	enum agree_language best = LANGUAGE_NONE;

	for (size_t i = 0; i < t->n; i++) {
		const struct token *k = &t->at[i];
		if (k->kind != TOKEN_WORD || k->quoted)
			continue;
		const unsigned char c = (unsigned char)k->text[0];
		if (c >= 0xD0 && c <= 0xD1)
			counts[LANGUAGE_CYRILLIC] += 2;
		else if (c >= 0xE3 && c <= 0xE9)
			counts[LANGUAGE_HAN]++;
		for (uint32_t m = agree_word_votes(k->hash); m; m &= m - 1)
			counts[__builtin_ctz(m)]++;
	}
	for (unsigned l = 1; l < N_LANGUAGES; l++) {
		if (counts[l] > counts[best])
			best = (enum agree_language)l;
	}
	*sure = best != LANGUAGE_NONE;
	for (unsigned l = 1; l < N_LANGUAGES; l++)
		*sure &= l == best || counts[l] < counts[best];
	return best;
}

/* ---- items ---- */

static struct agree_item *put(struct reader *r, enum item_class class, uint32_t hash)
{
	if (r->s->n == ITEMS_MAX) {
		r->s->is_long = 1;
		return &r->s->items[ITEMS_MAX - 1];
	}
	struct agree_item *i = &r->s->items[r->s->n];
	*i = (struct agree_item){
		.hash = hash, .at = r->s->n, .class = (uint8_t) class, .role = r->role & 15u};
	r->s->n++;
	r->role = ROLE_NONE;
	r->role_word = 0;
	return i;
}

static uint32_t top(uint64_t hash)
{
	return (uint32_t)(hash >> 32);
}

static void put_decimal(struct reader *r, uint32_t value, char mark)
{
	char text[16];
	size_t n = sizeof(text);

	if (mark)
		text[--n] = mark;
	do
		text[--n] = (char)('0' + value % 10);
	while ((value /= 10) != 0);
	put(r, ITEM_NUMBER, top(agree_hash(text + n, sizeof(text) - n)));
}

static void end_number(struct reader *r)
{
	if (r->has_value)
		put_decimal(r, r->value, 0);
	r->has_value = false;
	r->value = 0;
}

/* two hundred and five thousand: what is complete so far is in value. */
static void read_number(struct reader *r, const struct word *w)
{
	static const uint32_t powers[] = {
		1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000};
	const uint32_t value = (uint32_t)w->value;

	if (w->kind == WORD_SCALE) {
		const uint32_t scale = powers[value];
		const uint32_t low = r->has_value ? r->value % 1000 : 1;
		r->value = r->value / 1000 * 1000 + (low ? low : 1) * scale;
	} else {
		/* 21 is twenty one; 12 34 are two. */
		const uint32_t low = r->value % 100;
		if (r->has_value && !(low == 0 || (low >= 20 && low % 10 == 0 && value < 10)))
			end_number(r);
		r->value += value;
	}
	r->has_value = true;
}

/* II to XXXIX, behind another word; not I, V or X, which are words or names too. */
static uint32_t roman(const struct token *k)
{
	uint32_t value = 0, last = 0;

	if (k->len < 2 || k->len > 6)
		return 0;
	for (size_t i = k->len; i-- > 0;) {
		const char c = k->text[i];
		const uint32_t digit = c == 'I' ? 1 : c == 'V' ? 5 : c == 'X' ? 10 : 0;
		if (!digit)
			return 0;
		value = digit < last ? value - digit : value + digit;
		last = digit > last ? digit : last;
	}
	return value;
}

/* A preposition that nothing follows is a part of its verb, and says as much as a word. */
static void end_role(struct reader *r)
{
	if (r->role != ROLE_NONE && r->role_word) {
		r->role = ROLE_NONE;
		put(r, ITEM_WORD, r->role_word);
	}
	r->role = ROLE_NONE;
	r->role_word = 0;
}

/* ---- words ---- */

/* Without what makes it its opposite: unhappy, impossible, disagree. */
static size_t strip_opposite(const char *s, size_t n, bool *opposite)
{
	static const char *const prefixes[] = {"non", "dis", "mis", "un", "in", "im", "il", "ir"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		const size_t k = strlen(prefixes[i]);
		if (n >= k + 4 && memcmp(s, prefixes[i], k) == 0) {
			*opposite = true;
			return k;
		}
	}
	return 0;
}

/* A word that is not a little one. */
static void put_word(struct reader *r, const struct token *k, const struct word *w)
{
	char lower[LOWER_MAX];
	size_t n = agree_lower(k->text, k->len, lower);
	const bool is_name = k->quoted || k->capitals || k->shape ||
			     (k->capital && !k->starts && r->language != LANGUAGE_DE);
	const enum item_class class = is_name ? ITEM_NAME : ITEM_WORD;
	bool opposite = false, past = false;

	if (n == 0) {
		put(r, ITEM_NAME, top(k->hash));
		return;
	}
	const size_t full = n;
	if (!w || (w->kind != WORD_GROUP && w->kind != WORD_LANGUAGE)) {
		past = agree_word_stem(lower, &n, r->language, k->capital && !k->starts);
		w = agree_word_find(agree_hash(lower, n), r->language);
	}
	if (w && w->kind == WORD_LANGUAGE) {
		put(r, ITEM_LANGUAGE, w->canon);
		return;
	}
	struct agree_item *i;
	if (w && w->kind == WORD_GROUP && !k->shape && !k->capitals) {
		i = put(r, class, w->canon);
		i->polarity = w->polarity & 3u;
		past = w->value == 1;
	} else {
		const size_t skip = strip_opposite(lower, n, &opposite);
		const struct word *base =
			skip ? agree_word_find(agree_hash(lower + skip, n - skip), r->language)
			     : NULL;
		const bool known = base && base->kind == WORD_GROUP;
		i = put(r, class, known ? base->canon : top(agree_hash(lower + skip, n - skip)));
		i->polarity = known && base->polarity ? (3u - base->polarity) & 3u
			      : opposite              ? 2
						      : 0;
	}
	i->past = past;
	i->small = r->language == LANGUAGE_DE && !k->capital;
	i->shape = k->shape;
	/* Roberts is not Robert, though roberts may be either. */
	if (is_name && !i->shape && !k->quoted)
		i->shape = n == full ? 4 : 2;
	/* Of JavaScript and iPhone many write javascript and iphone; of getName none getname. */
	if (i->shape && (k->capital || (k->len > 1 && k->text[0] == 'i')) && class == ITEM_NAME)
		i->shape &= ~1u;
}

/* One word of which something is known. */
static void read_known(struct reader *r, size_t i, const struct word *w)
{
	const struct token *k = &r->t->at[i];

	switch ((enum word_kind)w->kind) {
	case WORD_STOP:
		break;
	case WORD_ASK:
		if (k->starts || r->polite)
			r->s->ask = (uint8_t)w->value, r->asked = i;
		else
			put_word(r, k, w);
		break;
	case WORD_UNIT:
		put(r, ITEM_NUMBER, w->canon);
		break;
	case WORD_OPERATOR:
		put(r, ITEM_NUMBER, w->canon);
		break;
	case WORD_NOT:
		put(r, ITEM_NOT, w->canon);
		break;
	case WORD_ROLE:
		if (w->value != ROLE_CASE) {
			end_role(r);
			r->role_word = top(k->hash);
		}
		if (w->value != ROLE_CASE || r->role == ROLE_NONE)
			r->role = (uint8_t)w->value;
		break;
	case WORD_QUESTION:
		agree_ask_question(r, k, (uint16_t)w->value, agree_reader_word(r, i + 1));
		break;
	case WORD_AUX:
		if ((r->did || agree_reader_is(r, i, "has")) && agree_ask_is_verb(r, i))
			put_word(r, k, NULL);
		else
			agree_ask_aux(r, k, (uint16_t)w->value);
		if (agree_reader_is(r, i + 1, "to") &&
			(agree_reader_is(r, i, "have") || agree_reader_is(r, i, "has")))
			r->aux |= AUX_MUST;
		break;
	case WORD_PERSON:
		/* tombent-elles, a-t-il, s'il te plaît: French says so twice, or says nothing. */
		if (r->language == LANGUAGE_FR && i > 0 &&
			(k->text[-1] == '-' || (k[-1].elided && w->value >= PERSON_HE)))
			break;
		/* tell me, give us */
		if (i > 0 && r->s->ask && r->asked == i - 1)
			break;
		agree_ask_person(r, i, (uint16_t)w->value);
		break;
	case WORD_JOIN:
		r->s->join |= (uint8_t)w->value;
		break;
	default:
		put_word(r, k, w);
		break;
	}
}

/* Whether a known word is to be read as what it is known for. */
static bool is_meant(const struct reader *r, size_t i, const struct word *w)
{
	const struct token *k = &r->t->at[i];
	const bool before_number = i + 1 < r->t->n && k[1].kind == TOKEN_NUMBER;
	const bool little = w->kind != WORD_GROUP && w->kind != WORD_LANGUAGE;

	if (k->quoted)
		return false;
	if (k->capitals && k->len > 1 && little && w->kind != WORD_UNIT)
		return false; /* US, IT, OR */
	if (w->kind == WORD_AUX && k->capital && (!k->starts || before_number))
		return false; /* May, Will */
	return true;
}

/* Isaac Asimov's: the preposition belongs before Isaac. */
static void own_names(struct reader *r, size_t last)
{
	struct agree_item *items = r->s->items;
	size_t first = last;

	while (first > 0 && items[last].class == ITEM_NAME && items[first - 1].class == ITEM_NAME &&
		items[first].role != ROLE_IN && items[first - 1].role == ROLE_NONE)
		first--;
	items[last].role = ROLE_NONE;
	items[first].role = ROLE_OF;
}

/* the number 91, the year 2021, the equation 3x + 7 = 22: the number says it. */
static bool is_announcement(const struct reader *r, size_t i)
{
	static const char *const words[] = {
		"number", "year", "equation", "expression", "jahr", "zahl", "année"};

	if (i + 1 >= r->t->n || r->t->at[i + 1].kind < TOKEN_NUMBER)
		return false;
	for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
		if (agree_reader_is(r, i, words[w]))
			return true;
	}
	return false;
}

static void read_word(struct reader *r, size_t i)
{
	const struct token *k = &r->t->at[i];
	const struct word *w = agree_word_find(k->hash, r->language);
	const size_t before = r->s->n;
	const uint32_t number = k->capitals && i > 0 ? roman(k) : 0;

	if (w && !is_meant(r, i, w))
		w = NULL;
	if (is_announcement(r, i))
		return;
	if (r->has_value && agree_reader_is(r, i, "one")) {
		read_number(r, &(struct word){.kind = WORD_NUMBER, .value = 1});
		return;
	}
	if (i > 0 && k[-1].kind == TOKEN_NUMBER && agree_reader_is(r, i, "am")) {
		put(r, ITEM_NUMBER, top(k->hash));
		return;
	}
	if (w && (w->kind == WORD_NUMBER || w->kind == WORD_SCALE)) {
		read_number(r, w);
		return;
	}
	if (!(r->has_value && w && w->kind == WORD_JOIN))
		end_number(r);
	const bool owner = k->owner && !(w && w->kind != WORD_GROUP && w->kind != WORD_UNIT);
	if (owner)
		r->role = ROLE_OF;
	else if (k->owner)
		agree_ask_aux(r, &(struct token){0}, AUX_PRESENT);
	if (number)
		put_decimal(r, number, 0);
	else if (w && w->kind == WORD_ORDINAL)
		put_decimal(r, (uint32_t)w->value, '.');
	else if (w)
		read_known(r, i, w);
	else
		put_word(r, k, NULL);
	if (owner && r->s->n == before + 1)
		own_names(r, before);
	if (k->denied) {
		const struct word *no = agree_word_find(agree_hash("not", 3), LANGUAGE_EN);
		put(r, ITEM_NOT, no ? no->canon : 0);
	}
}

/* March, May: as dates write them. */
static bool is_month(const struct reader *r, size_t i)
{
	const struct word *w = agree_reader_word(r, i);

	return w && r->t->at[i].capital && (w->kind == WORD_UNIT || w->kind == WORD_AUX);
}

/* 3rd is third, but in a date it is 3. How many tokens it took. */
static size_t read_number_token(struct reader *r, size_t i)
{
	static const char *const endings[] = {
		"st", "nd", "rd", "th", "er", "re", "e", "ère", "ème"};
	const struct token *k = &r->t->at[i];
	bool ordinal = false;

	for (size_t e = 0; e < sizeof(endings) / sizeof(endings[0]); e++)
		ordinal |=
			i + 1 < r->t->n && k[1].attached && agree_reader_is(r, i + 1, endings[e]);
	if (!ordinal) {
		put(r, ITEM_NUMBER, top(k->hash));
		return 1;
	}
	uint32_t value = 0;
	for (size_t c = 0; c < k->len && c < 9; c++)
		value = value * 10 + (uint32_t)(k->text[c] - '0') % 10;
	const bool date = (i > 0 && is_month(r, i - 1)) || is_month(r, i + 2) ||
			  (agree_reader_is(r, i + 2, "of") && is_month(r, i + 3));
	put_decimal(r, value, date ? 0 : '.');
	return 2;
}

/* How many tokens it took. */
static size_t read_token(struct reader *r, size_t i)
{
	const struct token *k = &r->t->at[i];

	if (k->starts) {
		end_role(r);
		r->did = false;
	}
	if (k->kind == TOKEN_WORD) {
		/* July 4 as 4 July. */
		const bool date = i + 1 < r->t->n && k[1].kind == TOKEN_NUMBER && k[1].len <= 2 &&
				  is_month(r, i);
		const size_t n = date ? read_number_token(r, i + 1) : 0;
		read_word(r, i);
		return 1 + n;
	}
	end_number(r);
	if (k->kind == TOKEN_NUMBER)
		return read_number_token(r, i);
	if (k->kind == TOKEN_NAME) {
		put(r, ITEM_NAME, top(k->hash))->shape = k->shape;
		return 1;
	}
	const struct word *w = agree_word_find(k->hash, r->language);
	put(r, ITEM_NUMBER, w ? w->canon : top(k->hash));
	return 1;
}

void agree_read(struct agree_sign *s, const struct tokens *t)
{
	struct reader r = {.s = s, .t = t};
	bool sure;

	r.language = find_language(t, &sure);
	s->language = sure ? (uint8_t)r.language : LANGUAGE_NONE;
	if (r.language == LANGUAGE_NONE)
		r.language = LANGUAGE_EN;
	s->is_long = t->too_many;
	for (size_t i = 0; i < t->n;) {
		size_t n = t->at[i].starts || r.polite ? agree_ask_courtesy(&r, i) : 0;
		if (n > 0) {
			r.polite = true;
			i += n;
			continue;
		}
		n = agree_ask_count(&r, i);
		const struct word *w = agree_reader_word(&r, i);
		const bool still = r.polite && w && w->kind == WORD_STOP;
		i += n ? n : read_token(&r, i);
		r.polite = still;
	}
	end_number(&r);
	end_role(&r);
	agree_ask_settle(&r);
}
