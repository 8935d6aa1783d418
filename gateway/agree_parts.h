/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_AGREE_PARTS_H
#define GATEWAY_AGREE_PARTS_H

/* Between the files of agree: a text's words (agree_scan.c), what is known of words
 * (agree_words.c), what of them there is to agree on (agree_read.c). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/agree.h"

enum agree_language {
	LANGUAGE_NONE, /* not known, or words of any */
	LANGUAGE_EN,
	LANGUAGE_DE,
	LANGUAGE_FR,
	LANGUAGE_ES,
	LANGUAGE_IT,
	LANGUAGE_CYRILLIC, /* scripts whose words are not known */
	LANGUAGE_HAN,
	N_LANGUAGES
};

/* ---- words of a text ---- */

enum token_kind {
	TOKEN_WORD,
	TOKEN_NAME, /* code, a file, an address, an option: compared as it is */
	TOKEN_NUMBER,
	TOKEN_OPERATOR, /* also % and currencies */
};

#define TOKENS_MAX 600u
#define LOWER_MAX 40u

struct token {
	const char *text; /* borrows from the text */
	uint64_t hash;    /* of the lower case; numbers: of the canonical form */
	uint32_t shape;   /* capitals within: what the lower case does not tell; else 0 */
	uint16_t len;
	uint8_t kind;
	bool starts;   /* a sentence */
	bool capital;  /* the first letter */
	bool capitals; /* all letters, two at least */
	bool quoted;   /* within quotation marks */
	bool owner;    /* 's follows */
	bool elided;   /* an apostrophe follows: l', d' */
	bool denied;   /* n't follows */
	bool attached; /* nothing is between it and the token before */
	bool comma;    /* , or ; or : stands before it */
};

struct tokens {
	struct token at[TOKENS_MAX];
	size_t n;
	bool too_many, asks; /* asks: there is a question mark */
};

void agree_scan(struct tokens *t, const char *text, size_t len);

/* ---- what is known of words ---- */

enum word_kind {
	WORD_UNKNOWN,
	WORD_STOP,   /* says nothing */
	WORD_ASK,    /* at the beginning: tell, explain; value: enum ask */
	WORD_GROUP,  /* canon stands for its meaning, polarity 1 and 2 are opposites, value 1 a past
		      */
	WORD_NUMBER, /* value */
	WORD_SCALE,  /* 10 to the value */
	WORD_ORDINAL,  /* value */
	WORD_UNIT,     /* canon */
	WORD_OPERATOR, /* canon */
	WORD_NOT,      /* canon */
	WORD_ROLE,     /* value: enum role */
	WORD_QUESTION, /* value: bits QUESTION_* */
	WORD_AUX,      /* value: bits AUX_* */
	WORD_PERSON,   /* value: bits PERSON_* */
	WORD_JOIN,     /* value: bits JOIN_* */
	WORD_LANGUAGE, /* the name of one; canon */
};

enum ask { ASK_NONE, ASK_NAME, ASK_EXPLAIN };

enum role {
	ROLE_NONE,
	ROLE_FROM,
	ROLE_TO,
	ROLE_BY,
	ROLE_THAN,
	ROLE_FOR,
	ROLE_OF,
	ROLE_IN,
	ROLE_WITH,
	ROLE_AS,
	ROLE_ABOUT,
	ROLE_IF,
	ROLE_CASE, /* den Hund, einem Hund: not the one who does it */
	N_ROLES
};

enum {
	QUESTION_WHAT = 1,
	QUESTION_WHO = 2,
	QUESTION_WHEN = 4,
	QUESTION_WHERE = 8,
	QUESTION_WHY = 16,
	QUESTION_HOW = 32,
	QUESTION_COUNT = 64, /* how many */
	QUESTION_WHETHER = 128,
	QUESTION_CAN = 256, /* of whether: which kind */
	QUESTION_SHOULD = 512,
	QUESTION_MUST = 1024,
	QUESTION_WHOM = 2048,

	AUX_PRESENT = 1,
	AUX_PAST = 2,
	AUX_FUTURE = 4,
	AUX_CAN = 8,
	AUX_SHOULD = 16,
	AUX_MUST = 32,

	PERSON_I = 1,
	PERSON_YOU = 2,
	PERSON_MY = 4,
	PERSON_YOUR = 8,
	PERSON_HE = 16,
	PERSON_SHE = 32,
	PERSON_THEY = 64,
	PERSON_I_FIRST = 128, /* I before you */
	PERSON_YOU_FIRST = 256,
	PERSON_HE_FIRST = 1024, /* he before she */
	PERSON_SHE_FIRST = 2048,
	PERSON_BEING = 512, /* am I, you are: of the person, not of anyone */

	JOIN_AND = 1,
	JOIN_OR = 2,
};

struct agree_row {
	enum agree_language language;
	enum word_kind kind;
	int value;
	const char *words;
};

extern const struct agree_row agree_lexicon[]; /* [agree_lexicon_n] */
extern const size_t agree_lexicon_n;

struct word {
	uint64_t key;
	uint32_t canon;
	int16_t value;
	uint8_t kind, polarity;
};

/* The lower case of a word of less than LOWER_MAX bytes; its length, 0 if it is longer. */
size_t agree_lower(const char *text, size_t len, char lower[LOWER_MAX]);
uint64_t agree_hash(const char *text, size_t len);
/* borrows; NULL when nothing is known of it, in the language or in any. `hash` is agree_hash() of
 * the lower case. */
const struct word *agree_word_find(uint64_t hash, enum agree_language language);
/* Bits 1 << language: whose little words it is one of. */
uint32_t agree_word_votes(uint64_t hash);
/* The word with its endings taken off, in place; true if it was a past. */
bool agree_word_stem(char *lower, size_t *len, enum agree_language language, bool capital);

/* ---- the signature ---- */

enum item_class { ITEM_WORD, ITEM_NAME, ITEM_NUMBER, ITEM_NOT, ITEM_LANGUAGE, N_ITEM_CLASSES };

struct agree_item {
	uint32_t hash;
	uint32_t shape;
	uint16_t at; /* its place in the text, among items */
	uint8_t class;
	uint8_t role : 4, past : 1, small : 1,
		polarity : 2; /* small: a German word that is no noun */
};

#define ITEMS_MAX 320u

struct agree_sign {
	uint64_t whole; /* of the text's bytes */
	uint16_t n, question, person;
	uint8_t language, tense, ask, join, is_long;
	struct agree_item items[]; /* [n], by hash, then by place */
};

_Static_assert(sizeof(struct agree_sign) + ITEMS_MAX * sizeof(struct agree_item) <= AGREE_SIGN_MAX,
	"the bound");

/* Items in the order of the text into s, which has room for ITEMS_MAX, and all fields but whole. */
void agree_read(struct agree_sign *s, const struct tokens *t);

#endif
