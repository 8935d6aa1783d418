/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_JSON_PARTS_H
#define ENGINE_JSON_PARTS_H

/* Where the automaton stands: json_state.place. For json.c and json_mask.c. */

enum place {
	VALUE,          /* a value must come */
	VALUE_OR_CLOSE, /* after [ */
	KEY_OR_CLOSE,   /* after { */
	KEY,            /* after , in an object */
	COLON,
	AFTER, /* after a value inside an array or object */
	STRING,
	SEQUENCE, /* inside a UTF-8 sequence of a string; count bytes to come */
	ESCAPE,   /* after \ */
	HEX,      /* after \u; count digits seen */
	TRUE_WORD,
	FALSE_WORD,
	NULL_WORD, /* count letters seen */
	MINUS,
	ZERO,
	DIGITS, /* count digits seen */
	POINT,
	FRACTION,
	EXPONENT, /* after e */
	EXPONENT_SIGN,
	EXPONENT_DIGITS,
	DONE,
};

#endif
