/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_PROTOCOL_PARTS_H
#define GATEWAY_PROTOCOL_PARTS_H

/* What the protocols share: a reader of one response, which only has to be told what a JSON object
 * means; conversations as JSON; embeddings; errors. */

#include <jansson.h>

#include "gateway/protocol.h"
#include "gateway/sse.h"

#define PROTOCOL_NUMBER_MAX 1000000000000 /* sums of tokens do not overflow */

/* Where a reader's results go, for one call of it. */
struct protocol_sink {
	struct buf *text;
	struct protocol_answer *answer;
	struct err *err;
};

struct protocol_reader {
	const struct provider_request *request; /* borrowed */
	/* An event of the stream: 0, or an error with its sentence. */
	int (*event)(
		struct protocol_reader *r, const json_t *object, const struct protocol_sink *to);
	/* The same of an event's text, where it is a usual one: 1, or an error; 0: it is to be read
	 * as JSON. NULL: there is no such way. */
	int (*usual)(const char *json, size_t len, const struct protocol_sink *to);
	/* One whole body. */
	int (*body)(
		struct protocol_reader *r, const json_t *object, const struct protocol_sink *to);
	enum { PROTOCOL_UNKNOWN, PROTOCOL_STREAM, PROTOCOL_BODY } kind;
	bool begun, is_page; /* a byte came that is no space; it was that of a page of HTML */
	struct sse sse;
	struct buf whole;      /* a JSON body so far */
	bool looked_for_words; /* candidates: the position where the answer begins has passed */
	int failed;            /* what a call returned; the later ones do, too */
	/* Where it is in a stream in which nothing was said yet. */
	enum { PROTOCOL_LINE_BEGIN, PROTOCOL_COMMENT, PROTOCOL_SPOKEN } said;
};

/* new, or NULL. */
struct protocol_reader *protocol_reader_new(
	const struct provider_request *request, const char *content_type);
struct protocol_reader *protocol_reader_free(struct protocol_reader *r);
int protocol_reader_feed(struct protocol_reader *r, const char *bytes, size_t len, struct buf *text,
	struct protocol_answer *answer, struct err *err);
int protocol_reader_end(struct protocol_reader *r, struct buf *text, struct protocol_answer *answer,
	struct err *err);

/* Appends a JSON string to the answer's text; anything else is nothing. */
int protocol_take_text(const json_t *string, const struct protocol_sink *to);
/* Where an object has a whole number from 0 to 10^12, it goes to *out: true. */
bool protocol_number(const json_t *object, const char *name, uint64_t *out);

/* A conversation that may be sent: every text is UTF-8. 0, or -EILSEQ. */
int protocol_check_messages(const struct provider_message *messages, size_t n, struct err *err);
/* new *json: the dump of an object or array, which is stolen. NULL for it: -ENOMEM. */
int protocol_dump(char **json, size_t *len, json_t *value, struct err *err);
/* {"members": ..., "NAME": RAW}: an object with JSON text put in unread, which may be megabytes and
 * is copied once, on the loop. name NULL: `raw` are such members, with their names. raw NULL: there
 * is none. `members` is stolen; NULL for it: -ENOMEM. */
int protocol_put_body(struct buf *out, json_t *members, const char *name, const char *raw,
	size_t raw_len, struct err *err);
/* An array of the strings, or NULL. */
json_t *protocol_strings(const char *const *texts, const size_t *lens, size_t n);

/* The error object of a stream or a body, as protocol_fault; status: where it says none itself. */
int protocol_error(const json_t *object, long status, bool *retryable, struct err *err);
/* The same, for a reader: its answer is `refused` where the request is at fault. */
int protocol_take_error(const json_t *object, const struct protocol_sink *to);

#endif
