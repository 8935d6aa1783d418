/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusals before anything is asked. By its head (path, method, key), or because of the size of its
 * body: these are noted in the call, and said when its body has been read. And once that is
 * understood: it is no such request, its key may not name that model, or it is more requests than
 * the limit of the minute lets begin.
 *
 * A key is looked at once for each request, by its head: one that is revoked while an answer is
 * under way lets it go on.
 *
 * In the thread of the call's connection.
 */
#include "gateway/shim_refuse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/shim_head.h"
#include "gateway/shim_parts.h"
#include "gateway/shim_path.h"
#include "gateway/shim_request.h"

static const char how[] = "A key is made by: mkdir keys/NAME; echo USER > keys/NAME/user; "
			  "exec 3<>keys/NAME/ctl; echo new >&3; cat <&3";

static const char *header(struct shim_call *c, const char *name)
{
	return MHD_lookup_connection_value(c->connection, MHD_HEADER_KIND, name);
}

/* The first counts. */
static void note(struct shim_call *c, const struct shim_error *e, const char *sentence)
{
	if (c->refusal)
		return;
	c->refusal = e->status;
	c->no_retry = e->no_retry;
	if (shim_reply_error(&c->refused, e, sentence, NULL) < 0)
		buf_free(&c->refused);
}

static void note_path(struct shim_call *c, const char *url, const char *method)
{
	char sentence[512];
	struct shim_error e = {404, "invalid_request_error", "unknown_url", true};
	snprintf(sentence, sizeof sentence,
		"there is no %.16s %.200s here: see GET /v1/models, "
		"POST /v1/chat/completions, /v1/completions, /v1/embeddings, GET /health, /ready, "
		"/metrics",
		method, url);
	if (c->path) {
		e = (struct shim_error){405, "invalid_request_error", "method_not_allowed", true};
		snprintf(sentence, sizeof sentence, "%.200s takes %s, not %.16s", url, c->allow,
			method);
	}
	note(c, &e, sentence);
}

static void check_key(struct shim_call *c)
{
	static const struct shim_error unknown = {
		401, "invalid_request_error", "invalid_api_key", true};
	char sentence[640];
	struct err err = {0};
	size_t len;
	const char *secret = shim_head_secret(header(c, "Authorization"), &len);
	int r = secret ? gateway_api_key_check(c->shim->g, secret, len, &c->key, &c->uid, &err)
		       : err_set(&err, -EACCES,
				 "there is no key in the request: it goes into the header "
				 "Authorization: Bearer SECRET");
	if (r == -EACCES) {
		snprintf(sentence, sizeof sentence, "%s. %s", err.text, how);
		note(c, &unknown, sentence);
	} else if (r < 0) {
		struct shim_error e;
		shim_error_of(r, &e);
		note(c, &e, err.text);
	}
}

static enum MHD_Result count_length(
	void *n, enum MHD_ValueKind kind, const char *name, const char *value)
{
	*(unsigned *)n +=
		!strcasecmp(name, "Content-Length") || !strcasecmp(name, "Transfer-Encoding");
	return MHD_YES;
}

/* Whether the end of its body is told in more than one way. A proxy may have gone by another one
 * than we would, and what is a body there must not be a request here. */
static bool is_ambiguous(struct shim_call *c)
{
	unsigned n = 0;
	MHD_get_connection_values(c->connection, MHD_HEADER_KIND, count_length, &n);
	return n > 1;
}

static const struct shim_error forbidden = {
	403, "permission_error", "insufficient_permissions", true};

void shim_refuse_head(struct shim_call *c, const char *url, const char *method)
{
	static const struct shim_error ambiguous = {400, "invalid_request_error", NULL, true};
	bool asks = strcmp(method, "OPTIONS") == 0;
	struct err err = {0};
	if (is_ambiguous(c)) {
		note(c, &ambiguous, "there is more than one Content-Length or Transfer-Encoding");
		return;
	}
	c->path = shim_path_find(url, &c->rest);
	c->allow = c->path ? shim_path_allow(c->path) : NULL;
	if (asks && strcmp(url, "*") == 0)
		c->allow = "GET, HEAD, POST, OPTIONS";
	if (asks && c->allow)
		c->refusal = 204;
	else if (!c->path || !shim_path_takes(c->path, method))
		note_path(c, url, method);
	if (c->refusal)
		return;
	c->allow = NULL;
	if (!c->path->scope)
		return;
	check_key(c);
	if (!c->refusal && api_key_allows(c->key, c->path->scope, NULL, &err) < 0)
		note(c, &forbidden, err.text);
	const char *length = header(c, "Content-Length");
	if (length && strtoull(length, NULL, 10) > SHIM_BODY_MAX)
		shim_refuse_body(c);
}

void shim_refuse_body(struct shim_call *c)
{
	static const struct shim_error e = {
		413, "invalid_request_error", "request_too_large", true};
	char sentence[128];
	snprintf(sentence, sizeof sentence, "the body is longer than %d bytes", SHIM_BODY_MAX);
	note(c, &e, sentence);
}

void shim_refuse_busy(struct shim_call *c)
{
	static const struct shim_error e = {503, "server_error", "overloaded", false};
	note(c, &e, "too many long requests are being read at this moment: try again");
}

bool shim_refuse_is_urgent(struct shim_call *c)
{
	const char *length = header(c, "Content-Length");
	return header(c, "Expect") || is_ambiguous(c) ||
	       (length && strtoull(length, NULL, 10) > SHIM_SWALLOW_MAX);
}

int shim_refuse_reply(struct shim_call *c)
{
	return shim_call_reply(c, c->refusal, "application/json", &c->refused);
}

/* new: the name of the model that `default` is, if the key may name it; or NULL. */
static char *resolve(struct shim_call *c)
{
	struct model *m = gateway_model_find(c->shim->g, "default");
	char *name = NULL;
	if (m && api_key_allows(c->key, c->path->scope, model_name(m), NULL) == 0)
		name = strdup(model_name(m));
	model_put(m);
	return name;
}

int shim_refuse_model(struct shim_call *c, const char *named, const char **model, char **resolved)
{
	struct err err = {0};
	*model = named;
	int r = api_key_allows(c->key, c->path->scope, *model, &err);
	if (r == -EPERM && strcmp(*model, "default") == 0)
		*resolved = resolve(c);
	if (*resolved)
		*model = *resolved;
	if (r == 0 || *resolved)
		return 0;
	r = r == -EPERM ? shim_call_error(c, &forbidden, err.text, "model")
			: shim_call_fail(c, r, err.text);
	return r < 0 ? r : 1;
}

int shim_refuse_many(struct shim_call *c, size_t n)
{
	struct gateway_rates rates;
	char sentence[256];
	if (n < 2)
		return 0;
	gateway_rates(c->shim->g, c->uid, &rates);
	if (n <= rates.requests.remaining)
		return 0;
	if (n <= rates.requests.limit) {
		c->retry_ms = rates.requests.reset_ms ? rates.requests.reset_ms : 1;
		snprintf(sentence, sizeof sentence,
			"each choice and each text is a request: this is %zu, and %" PRIu64
			" of %" PRIu64 " per minute are left; try again in %" PRIu64 " s",
			n, rates.requests.remaining, rates.requests.limit,
			shim_head_retry_s(c->retry_ms));
	} else {
		snprintf(sentence, sizeof sentence,
			"each choice and each text is a request: this is %zu, more than the limit "
			"of %" PRIu64 " per minute; trying again does not help, asking for fewer "
			"does",
			n, rates.requests.limit);
	}
	int r = shim_call_fail(c, -EAGAIN, sentence);
	return r < 0 ? r : 1;
}

int shim_refuse_fault(struct shim_call *c, const struct shim_fault *fault)
{
	struct shim_error e = {400, "invalid_request_error", fault->code, true};
	return shim_call_error(c, &e, fault->err.text, fault->param);
}
