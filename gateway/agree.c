/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signatures and how they compare. A signature is what agree_read.c found: some fields on what is
 * asked and a list of items, sorted so that two lists are compared in one pass. Both must have the
 * same items; then each must stand where it stands in the other, but one phrase may have moved as a
 * whole if a preposition of its own holds it together ("in Python, how do I ..."), and nothing may
 * have lost or changed a from, a to, a by, a than.
 *
 * A signature is one piece of memory without pointers. It is not stored: the text is, and a start
 * reads it again, so signatures may change from version to version.
 */
#include "gateway/agree.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/agree_parts.h"

/* ---- making ---- */

static int compare_items(const void *a, const void *b)
{
	const struct agree_item *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static void sort_items(struct agree_item *items, size_t n)
{
	if (n > 40) {
		qsort(items, n, sizeof(*items), compare_items);
		return;
	}
	for (size_t i = 1; i < n; i++) {
		const struct agree_item item = items[i];
		size_t k = i;
		for (; k > 0 && compare_items(&items[k - 1], &item) > 0; k--)
			items[k] = items[k - 1];
		items[k] = item;
	}
}

struct agree_sign *agree_sign_new(const char *text, size_t len)
{
	struct agree_sign *s = malloc(AGREE_SIGN_MAX);
	struct tokens tokens;

	if (!s)
		return NULL;
	memset(s, 0, sizeof(*s));
	agree_scan(&tokens, text, len);
	agree_read(s, &tokens);
	if (s->is_long)
		s->n = 0;
	s->whole = agree_hash(text, len);
	sort_items(s->items, s->n);
	struct agree_sign *less = realloc(s, sizeof(*s) + s->n * sizeof(s->items[0]));
	return less ? less : s;
}

struct agree_sign *agree_sign_free(struct agree_sign *s)
{
	free(s);
	return NULL;
}

/* ---- comparing ---- */

/* Reasons found, as bits. */
static uint32_t bit(enum agree_reason reason)
{
	return 1u << reason;
}

static bool differ(unsigned x, unsigned y, unsigned bits)
{
	return (x & bits) != (y & bits);
}

/* Both have some of the bits, and not the same. */
static bool clash(unsigned x, unsigned y, unsigned bits)
{
	return (x & bits) && (y & bits) && differ(x, y, bits);
}

static bool questions_differ(unsigned x, unsigned y)
{
	const unsigned modal = QUESTION_CAN | QUESTION_SHOULD | QUESTION_MUST;

	if (differ(x, y, ~modal & 0xFFFF))
		return true;
	if (x & (QUESTION_WHETHER | QUESTION_WHY))
		return differ(x, y, modal);
	return !(x & QUESTION_HOW) && clash(x, y, modal);
}

/* Anyone may say I or you of himself: how do I, how do you; but not whether I am, whether you do.
 */
static bool persons_differ(const struct agree_sign *a, const struct agree_sign *b)
{
	const unsigned x = a->person, y = b->person;

	if (differ(x, y, PERSON_HE | PERSON_SHE | PERSON_THEY | PERSON_BEING) ||
		clash(x, y, PERSON_MY | PERSON_YOUR) ||
		clash(x, y, PERSON_I_FIRST | PERSON_YOU_FIRST) ||
		clash(x, y, PERSON_HE_FIRST | PERSON_SHE_FIRST))
		return true;
	return ((x & PERSON_BEING) || (a->question & QUESTION_WHETHER)) &&
	       clash(x, y, PERSON_I | PERSON_YOU);
}

static uint32_t compare_questions(const struct agree_sign *a, const struct agree_sign *b)
{
	const unsigned time = AUX_PRESENT | AUX_PAST;
	const bool then_now = (a->tense & time) == AUX_PAST && (b->tense & time) == AUX_PRESENT;
	const bool now_then = (a->tense & time) == AUX_PRESENT && (b->tense & time) == AUX_PAST;

	if (questions_differ(a->question, b->question) || persons_differ(a, b) ||
		(a->ask && b->ask && a->ask != b->ask) || then_now || now_then ||
		differ(a->tense, b->tense, AUX_FUTURE))
		return bit(AGREE_QUESTION);
	return 0;
}

/* What an item that the other has not stands for. */
static uint32_t missing(const struct agree_item *item)
{
	static const uint8_t reasons[N_ITEM_CLASSES] = {
		[ITEM_WORD] = AGREE_WORDS,
		[ITEM_NAME] = AGREE_NAMES,
		[ITEM_NUMBER] = AGREE_NUMBERS,
		[ITEM_NOT] = AGREE_NEGATION,
		[ITEM_LANGUAGE] = AGREE_LANGUAGE,
	};

	return bit((enum agree_reason)reasons[item->class]);
}

static uint32_t compare_pair(const struct agree_sign *a, const struct agree_item *x,
	const struct agree_sign *b, const struct agree_item *y)
{
	const bool same_shape = x->shape == y->shape || (!x->shape && !(y->shape & 1)) ||
				(!y->shape && !(x->shape & 1));
	uint32_t found = 0;

	if (x->polarity != y->polarity)
		found |= bit(AGREE_NEGATION);
	if (!same_shape)
		found |= bit(AGREE_NAMES);
	/* invents, invented: unless is, was, did, do tell the time. */
	if (x->past != y->past && !a->tense && !b->tense)
		found |= bit(AGREE_QUESTION);
	return found;
}

/* places[] gets, for each place in b, the one in a, when both have the same items. */
static uint32_t compare_items_of(
	const struct agree_sign *a, const struct agree_sign *b, uint16_t *places)
{
	uint32_t found = 0;
	size_t i = 0, k = 0;

	while (i < a->n || k < b->n) {
		const struct agree_item *x = &a->items[i], *y = &b->items[k];
		if (k == b->n || (i < a->n && x->hash < y->hash)) {
			found |= missing(x);
			i++;
		} else if (i == a->n || y->hash < x->hash) {
			found |= missing(y);
			k++;
		} else {
			found |= compare_pair(a, x, b, y);
			places[y->at] = x->at;
			i++;
			k++;
		}
	}
	return found;
}

/* Which may stand for each other: the capital of, in France; in, with Python; explain, explain
 * about. */
static bool roles_clash(const struct agree_item *x, const struct agree_item *y)
{
	static const uint16_t like[N_ROLES] = {
		[ROLE_NONE] = 1 << ROLE_IN | 1 << ROLE_OF | 1 << ROLE_TO | 1 << ROLE_FOR |
			      1 << ROLE_WITH | 1 << ROLE_AS | 1 << ROLE_ABOUT | 1 << ROLE_IF,
		[ROLE_IN] = 1 << ROLE_NONE | 1 << ROLE_OF | 1 << ROLE_WITH,
		[ROLE_OF] = 1 << ROLE_NONE | 1 << ROLE_IN,
		[ROLE_WITH] = 1 << ROLE_NONE | 1 << ROLE_IN,
		[ROLE_FOR] = 1 << ROLE_NONE,
		[ROLE_TO] = 1 << ROLE_NONE,
		[ROLE_AS] = 1 << ROLE_NONE,
		[ROLE_ABOUT] = 1 << ROLE_NONE,
		[ROLE_IF] = 1 << ROLE_NONE,
	};

	if (x->role == y->role)
		return false;
	if (x->class ==
		ITEM_LANGUAGE) /* into, in English are the same, of and from English are not */
		return !((x->role == ROLE_TO && y->role == ROLE_IN) ||
			 (x->role == ROLE_IN && y->role == ROLE_TO));
	return !(like[x->role] & (1u << y->role));
}

/* Items in the order of the text. */
static void in_order(const struct agree_sign *s, const struct agree_item **items)
{
	for (size_t i = 0; i < s->n; i++)
		items[s->items[i].at] = &s->items[i];
}

/* a's places [first, last] are in b as [first + shift, last], [first, first + shift): two
 * neighbours have changed places. */
static bool is_one_move(const uint16_t *places, size_t first, size_t last, size_t shift)
{
	const size_t n = last - first + 1;

	for (size_t i = 0; i < n; i++) {
		if (places[first + i] != first + (i + shift) % n)
			return false;
	}
	return true;
}

/* In German the verb is second or last: its whole text turns around it. */
static bool is_verb_move(const struct agree_sign *a, const struct agree_item *item, size_t first,
	size_t last, size_t length)
{
	return a->language == LANGUAGE_DE && length == 1 && item->small &&
	       item->role == ROLE_NONE && first == 0 && last + 1 == a->n;
}

/* A phrase that moved is held together by its preposition, which it has in both; Germany's and in
 * Germany are both. The other kept its own, or had none on one side. */
static bool is_held(const struct agree_item *phrase, const struct agree_item *phrase_there,
	const struct agree_item *other, const struct agree_item *other_there)
{
	const unsigned both = 1u << phrase->role | 1u << phrase_there->role;

	if (phrase->role == ROLE_NONE || phrase_there->role == ROLE_NONE)
		return false;
	if (phrase->role != phrase_there->role && both != (1u << ROLE_OF | 1u << ROLE_IN))
		return false;
	return other->role == other_there->role || other->role == ROLE_NONE ||
	       other_there->role == ROLE_NONE;
}

static uint32_t compare_order(
	const struct agree_sign *a, const struct agree_sign *b, const uint16_t *places)
{
	const struct agree_item *x[ITEMS_MAX], *y[ITEMS_MAX];
	size_t first = 0, last = b->n;

	in_order(a, x);
	in_order(b, y);
	for (size_t i = 0; i < b->n; i++) {
		if (roles_clash(x[places[i]], y[i]))
			return bit(AGREE_ORDER);
	}
	while (first < last && places[first] == first)
		first++;
	if (first == last)
		return 0;
	while (places[last - 1] == last - 1)
		last--;
	last--;
	const size_t shift = places[first] - first;
	if (!is_one_move(places, first, last, shift))
		return bit(AGREE_ORDER);
	/* The two that changed places, in a: */
	const struct agree_item *left = x[first], *right = x[first + shift];
	const size_t after = last + 1 - shift;
	if (is_verb_move(a, left, first, last, shift) ||
		is_verb_move(a, right, first, last, last + 1 - first - shift))
		return 0;
	if (!is_held(left, y[after], right, y[first]) && !is_held(right, y[first], left, y[after]))
		return bit(AGREE_ORDER);
	return 0;
}

enum agree_reason agree_compare(const struct agree_sign *a, const struct agree_sign *b)
{
	const unsigned both = JOIN_AND | JOIN_OR;
	uint16_t places[ITEMS_MAX];
	uint32_t found = 0;

	if (a->whole == b->whole)
		return AGREE_OK;
	if (a->is_long || b->is_long)
		return AGREE_LONG;
	if (a->language && b->language && a->language != b->language)
		return AGREE_LANGUAGE;
	found = compare_items_of(a, b, places);
	if (a->n == 0 || b->n == 0 ||
		((a->join | b->join) == both && a->join != b->join && a->join != both &&
			b->join != both))
		found |= bit(AGREE_WORDS);
	found |= compare_questions(a, b);
	if (!found)
		found = compare_order(a, b, places);
	return found ? (enum agree_reason)__builtin_ctz(found) : AGREE_OK;
}

const char *agree_word(enum agree_reason reason)
{
	static const char *const words[N_AGREE_REASONS] = {"agree", "language", "numbers",
		"negation", "names", "words", "question", "order", "long"};

	return reason < N_AGREE_REASONS ? words[reason] : "?";
}
