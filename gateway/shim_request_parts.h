/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_REQUEST_PARTS_H
#define GATEWAY_SHIM_REQUEST_PARTS_H

/*
 * Of shim_request*.c only. Members of a JSON object, read: null is the same as absent, which leaves
 * *out as it is; what is of another type is refused. Each gives 0, -EINVAL with *fault, or -ENOMEM.
 */

#include <jansson.h>
#include <stdint.h>

#include "base/buf.h"
#include "gateway/shim_request.h"

#define SHIM_PARAM_SIZE sizeof(((struct shim_fault *)0)->param)

/* -EINVAL. The sentence begins with the param, which may be "". code: static. */
__attribute__((format(printf, 4, 5))) int shim_request_fault(
	struct shim_fault *fault, const char *code, const char *param, const char *format, ...);
/* It is of another type: must be `wanted`. */
int shim_request_wrong_type(
	struct shim_fault *fault, const char *param, const char *wanted, const json_t *is);

/* The body, an object: new *out (json_decref). */
int shim_request_load(json_t **out, const char *json, size_t len, struct shim_fault *fault);
/* borrows; NULL: absent or null */
const json_t *shim_request_member(const json_t *object, const char *name);
int shim_request_bool(const json_t *object, const char *name, bool *out, struct shim_fault *fault);
/* 7 and 7.0. *there: whether it was. */
int shim_request_whole(const json_t *value, const char *param, int64_t low, int64_t high,
	int64_t *out, struct shim_fault *fault);
/* new *out: the member `model`. */
int shim_request_model(const json_t *object, char **out, struct shim_fault *fault);

/*
 * The room of a body's texts: as long as the body, and made at once, so that what stands in it
 * stays where it is. It is enough for all of them with a NUL behind each, and for two newlines
 * between them: in JSON each of them has at least its two quotes and a comma or bracket, and the
 * messages have more.
 */
int shim_request_room(struct buf *room, size_t len);
/* Adds what is said; -EFBIG: our own bug. */
int shim_request_say(struct buf *room, const json_t *string);
/* What was added since `from` is a text: a NUL behind it. */
int shim_request_end(struct buf *room, size_t from, struct shim_text *out);
/* A string, or an array of 1 to `most` strings: new *out [*n]. */
int shim_request_texts(const json_t *object, const char *name, size_t most, struct buf *room,
	struct shim_text **out, size_t *n, struct shim_fault *fault);

/* What the protocol has, and llmfs has not (shim_request_refused.c). */
int shim_request_refused(const json_t *object, struct shim_fault *fault);
/* What an answer is to be like (shim_request_settings.c): settings, n, stream, stream_options. */
int shim_request_settings(struct shim_ask *out, const json_t *object, struct shim_fault *fault);
/* The conversation (shim_request_chat.c). */
int shim_request_messages(
	struct shim_ask *out, const json_t *object, struct buf *room, struct shim_fault *fault);

#endif
