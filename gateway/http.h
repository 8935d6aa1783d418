/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_HTTP_H
#define GATEWAY_HTTP_H

/*
 * HTTP requests to other servers: libcurl's multi interface on the loop's thread. Connections are
 * kept alive and shared by all requests; HTTP/2 where the server offers it over TLS; TCP_NODELAY.
 * All functions only from the loop's thread, unless they say otherwise; nothing here waits.
 *
 * Redirects are not followed (a key must not go to another host). Only http and https. Names and
 * values of headers with line breaks are refused. No secret gets into a sentence or a log.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/loop.h"

struct http;      /* the connections */
struct http_ca;   /* a set of authorities; reference counted */
struct http_call; /* one request */

/* Certificates of authorities, PEM: whatever it is, a call says what is wrong with it. new; NULL
 * when memory is out. Any thread; copying them may take a millisecond. */
struct http_ca *http_ca_new(const char *pem, size_t len);
struct http_ca *http_ca_put(struct http_ca *ca); /* accepts NULL, returns NULL */

/* new *out; borrows loop until http_free. -ENOSYS: libcurl lacks something that is needed. */
int http_new(struct http **out, struct loop *loop, struct err *err);
/* Any thread, after loop_close: every call has ended by then or is ended here without its `done`.
 * Accepts NULL, returns NULL. */
struct http *http_free(struct http *http);

enum http_fault {     /* what went wrong below HTTP */
	HTTP_OK,      /* there was a whole response, of whatever status */
	HTTP_CONNECT, /* refused, unreachable, no such host, TLS: nothing was sent */
	HTTP_TIMEOUT_CONNECT,
	HTTP_TIMEOUT_FIRST, /* connected, but no byte of a body in time */
	HTTP_TIMEOUT_IDLE,  /* it stopped in the middle */
	HTTP_TIMEOUT_TOTAL,
	HTTP_BROKEN, /* the connection ended early, or what came was not HTTP */
	HTTP_TOO_LONG,
	HTTP_MEMORY,
};

struct http_response {
	long status;             /* 0: none came */
	char content_type[64];   /* without parameters, lower case */
	uint64_t retry_after_ms; /* from retry-after-ms or retry-after (seconds, or a date), at
				    most a day; 0: none */
	bool retry_after_exact;  /* it was retry-after-ms */
	char request_id[64];     /* x-request-id or request-id: printable ASCII, or "" */
};

struct http_request {
	const char *url;            /* what is not said otherwise is borrowed for http_begin */
	const char *method;         /* "GET", "POST" */
	const char *const *headers; /* "name: value", ends with NULL; may hold secrets */
	const char *body;
	size_t body_len;
	/* NULL: the body is copied. Otherwise it is lent: this is called, once, when nothing of it
	 * is read any more; behind `done`, or where that does not come. Not where http_begin fails.
	 * On the loop, or in http_free. */
	void (*released)(void *arg);
	/* Milliseconds; 0: none (but 5 minutes to connect). connect: from http_begin, the first
	 * reading of its certificates included. first: from the connection, the sending
	 * of the request included, to the first byte of the body. total: from http_begin. */
	uint64_t connect_ms, first_ms, idle_ms, total_ms;
	size_t max_bytes;   /* of the body; 0: 64 MiB */
	const char *proxy;  /* NULL: as the environment says (http_proxy ...); "": none; may hold
			       a secret */
	struct http_ca *ca; /* NULL: the system's. Borrowed until the call ends. */

	/* A piece of the body, on the loop. Returns false to break off: then `done` does not come,
	 * as after http_cancel. May be NULL. head is valid from the first call on. */
	bool (*data)(void *arg, const struct http_response *head, const char *bytes, size_t len);
	/* Once, on the loop, never inside http_begin. sentence: for a person, says which host. The
	 * call is freed after it. */
	void (*done)(void *arg, enum http_fault fault, const struct http_response *head,
		const char *sentence);
	void *arg;
};

/* new *out, valid until `done` or http_cancel. -EINVAL: a bad URL or header; -ENOMEM, -EMFILE. */
int http_begin(struct http_call **out, struct http *http, const struct http_request *request,
	struct err *err);
/* Closes it: neither data nor done comes. Accepts NULL, returns NULL. May be called from `data` and
 * `done` of any call. */
struct http_call *http_cancel(struct http_call *call);

/* Whether a URL is one that http_begin takes: 0 or -EINVAL with what is allowed (http or https, a
 * host, no user or password in it). Any thread. */
int http_url_check(const char *url, size_t len, struct err *err);

/* How long a connection that is not in use is kept: 60 seconds, unless this says otherwise. At
 * least 1. It is closed within another such time, or 15 seconds. For tests, which cannot wait that
 * long. */
void http_idle(struct http *http, unsigned seconds);

/* For tests, of leaks: calls, open connections. Any thread. */
void http_count(const struct http *http, size_t *running, size_t *connections);

#endif
