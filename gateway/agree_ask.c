/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a text asks, from its little words: who, when, how, whether; whether it may be or must be;
 * what is or was; of me, you, him. Only where they stand tells what they are: "when was" asks,
 * "when it rains" does not; "do" asks before and says something behind.
 */
#include <string.h>

#include "gateway/agree_reader.h"

/* A word of the question, given where it stands. `next` may be NULL. */
void agree_ask_question(
	struct reader *r, const struct token *k, uint16_t bits, const struct word *next)
{
	const bool asked =
		k->owner ||
		(next && (next->kind == WORD_AUX || (next->kind == WORD_ROLE && k->starts)));

	/* Conjunctions and relative pronouns: the day when, a man who, where it is. */
	if ((bits & (QUESTION_WHEN | QUESTION_WHERE)) && r->language == LANGUAGE_EN && !asked &&
		r->t->n > 1 && k + 1 < r->t->at + r->t->n) {
		r->role = ROLE_IF;
		return;
	}
	if ((bits & QUESTION_WHO) && !k->starts && !k->comma && r->s->n > 0 &&
		r->language != LANGUAGE_DE)
		return;
	r->s->question |= bits;
}

void agree_ask_aux(struct reader *r, const struct token *k, uint16_t bits)
{
	r->aux |= bits;
	r->did = true;
	if ((k->starts || (k->comma && r->t->asks)) && !r->polite) {
		r->s->question |= QUESTION_WHETHER;
	}
	r->s->tense |= (uint8_t)(bits & (AUX_PRESENT | AUX_PAST | AUX_FUTURE));
}

/* To be, of oneself or of the one who is asked. */
static bool is_being(const struct reader *r, size_t i)
{
	static const char *const words[] = {
		"am", "are", "was", "were", "bin", "bist", "sind", "suis", "es"};

	for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
		if ((i > 0 && agree_reader_is(r, i - 1, words[w])) ||
			agree_reader_is(r, i + 1, words[w]))
			return true;
	}
	return false;
}

void agree_ask_person(struct reader *r, size_t i, uint16_t bits)
{
	const uint16_t others = PERSON_YOU | PERSON_HE | PERSON_SHE | PERSON_THEY;
	const uint16_t other = bits & PERSON_I ? others : bits & others ? PERSON_I : 0;

	if ((bits & (PERSON_I | PERSON_YOU)) && is_being(r, i))
		bits |= PERSON_BEING;

	if ((bits & PERSON_SHE) && (r->s->person & PERSON_HE))
		bits |= PERSON_HE_FIRST;
	if ((bits & PERSON_HE) && (r->s->person & PERSON_SHE))
		bits |= PERSON_SHE_FIRST;
	if ((r->s->person & other) && !(r->s->person & (PERSON_I_FIRST | PERSON_YOU_FIRST)))
		bits |= bits & PERSON_I ? PERSON_YOU_FIRST : PERSON_I_FIRST;
	r->s->person |= bits;
}

/* How much is it, how much does it cost: no more than what it is, what it costs. */
static bool is_sum(const struct reader *r, size_t i)
{
	static const char *const sums[] = {
		"cost", "costs", "weigh", "weighs", "kostet", "kosten", "wiegt"};

	if (agree_reader_is(r, i, "is") || agree_reader_is(r, i, "are") ||
		agree_reader_is(r, i, "ist") || agree_reader_is(r, i, "sind"))
		return true;
	for (; i < r->t->n; i++) {
		for (size_t w = 0; w < sizeof(sums) / sizeof(sums[0]); w++) {
			if (agree_reader_is(r, i, sums[w]))
				return true;
		}
	}
	return false;
}

/* how many, wie viele, number of: what is counted follows. How many words it took. */
size_t agree_ask_count(struct reader *r, size_t i)
{
	if (agree_reader_is(r, i, "how") && agree_reader_is(r, i + 1, "many")) {
		r->s->question |= QUESTION_COUNT;
		return 2;
	}
	if ((agree_reader_is(r, i, "how") && agree_reader_is(r, i + 1, "much")) ||
		(agree_reader_is(r, i, "wie") && (agree_reader_is(r, i + 1, "viel") ||
							 agree_reader_is(r, i + 1, "viele")))) {
		r->s->question |= is_sum(r, i + 2) ? QUESTION_WHAT : QUESTION_COUNT;
		return 2;
	}
	if (agree_reader_is(r, i, "number") && agree_reader_is(r, i + 1, "of")) {
		r->s->question |= QUESTION_COUNT;
		return 2;
	}
	return 0;
}

/* What stands before a request and says nothing, or what one word would: can you tell me, is it
 * true that, what is the best way to. */
static const struct courtesy {
	uint16_t question;
	const char *words; /* each with a blank behind it */
} courtesies[] = {
	{0, "can you please "},
	{0, "could you please "},
	{0, "would you please "},
	{0, "can you "},
	{0, "could you "},
	{0, "would you "},
	{0, "will you "},
	{0, "do you know "},
	{0, "i want to know "},
	{0, "i would like to know "},
	{0, "i want you to "},
	{0, "please "},
	{QUESTION_WHETHER, "is it true that "},
	{QUESTION_HOW, "what the best way to "},
	{QUESTION_HOW, "what is the best way to "},
	{QUESTION_HOW, "how to "},
	{0, "kannst du mir bitte "},
	{0, "kannst du mir "},
	{0, "kannst du bitte "},
	{0, "kannst du "},
	{0, "könntest du mir "},
	{0, "könntest du "},
	{0, "können sie mir "},
	{0, "können sie "},
	{0, "weißt du "},
	{0, "bitte "},
	{QUESTION_WHETHER, "stimmt es dass "},
	{0, "peux tu "},
	{0, "pouvez vous "},
	{0, "pourrais tu "},
	{0, "pourriez vous "},
	{QUESTION_WHETHER, "est ce que "},
};

size_t agree_ask_courtesy(struct reader *r, size_t i)
{
	for (size_t p = 0; p < sizeof(courtesies) / sizeof(courtesies[0]); p++) {
		const char *text = courtesies[p].words;
		size_t k = i;
		for (; *text && k < r->t->n; k++) {
			const size_t n = strcspn(text, " ");
			const struct token *t = &r->t->at[k];
			if (t->kind != TOKEN_WORD || t->len < n || t->hash != agree_hash(text, n))
				break;
			text += n + 1;
		}
		if (!*text) {
			r->s->question |= courtesies[p].question;
			return k - i;
		}
	}
	return 0;
}

/* What does it do, what does it have, who has it: verbs of their own. */
bool agree_ask_is_verb(const struct reader *r, size_t i)
{
	if (agree_reader_is(r, i, "do"))
		return true;
	if (agree_reader_is(r, i, "has"))
		return i > 0 &&
		       (agree_reader_is(r, i - 1, "who") || agree_reader_is(r, i - 1, "what"));
	return agree_reader_is(r, i, "have") && !agree_reader_is(r, i + 1, "to") &&
	       !(r->s->question & QUESTION_COUNT);
}

/* Whether it is, only if nothing else is asked; and with which modal verb. */
void agree_ask_settle(struct reader *r)
{
	struct agree_sign *s = r->s;
	const uint16_t asked =
		s->question & (QUESTION_WHO | QUESTION_WHOM | QUESTION_WHEN | QUESTION_WHERE |
				      QUESTION_WHY | QUESTION_HOW | QUESTION_COUNT | QUESTION_WHAT);

	if (asked)
		s->question = asked & (uint16_t)~QUESTION_WHAT;
	if (r->aux & AUX_CAN)
		s->question |= QUESTION_CAN;
	if (r->aux & AUX_SHOULD)
		s->question |= QUESTION_SHOULD;
	if (r->aux & AUX_MUST)
		s->question |= QUESTION_MUST;
}
