/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_HTTP_PARTS_H
#define GATEWAY_HTTP_PARTS_H

/* What http*.c share: the objects; what calls and connections ask of each other; the checks of what
 * is sent and the reading of a response's head, which are pure. */

#include <curl/curl.h>
#include <stdatomic.h>

#include "gateway/http.h"

#define HTTP_HOST_SIZE 128
#define HTTP_MS ((uint64_t)1000000)

enum {
	HTTP_POOL_MAX = 64,  /* easy handles kept */
	HTTP_OPENED_MAX = 4, /* sockets that a call remembers to have opened */
};

struct http {
	struct loop *loop;
	CURLM *multi;
	bool inside; /* libcurl is: it must not be asked to add or remove */
	bool ending;
	long idle_s;
	struct list calls;    /* struct http_call, all that are not on another list */
	struct list starting; /* begun while inside */
	struct list dying;    /* cancelled or failed while inside */
	struct list spare;    /* struct socket */
	struct loop_timer timer, sweep;
	CURL *pool[HTTP_POOL_MAX];
	size_t n_pool;
	CURL *broom; /* the request to nowhere */
	bool sweeping;
	bool *known; /* [n_known] by descriptor: it is a connection */
	size_t n_known;
	const char *ca_file, *ca_path; /* static: what libcurl was built with */
	atomic_size_t n_running, n_connections;
};

struct http_call {
	struct http *http;
	struct list link;
	CURL *easy;
	struct loop_timer timer;
	bool added;     /* to the multi handle */
	bool cancelled; /* no callback comes any more */
	bool failed;    /* memory or descriptors were out: HTTP_MEMORY */
	bool too_long;
	bool connected, got_body;
	int opened[HTTP_OPENED_MAX]; /* sockets, the last ones; one of them becomes the connection
				      */
	unsigned n_opened;
	int socket_errno; /* why there was no socket; 0: there was */
	uint64_t begun_ns, connected_ns, last_ns;
	uint64_t limit_ms[HTTP_TIMEOUT_TOTAL + 1]; /* by the fault that passing it is; 0: none */
	size_t bytes, max_bytes;
	struct http_response head;
	bool (*data)(void *arg, const struct http_response *head, const char *bytes, size_t len);
	void (*done)(void *arg, enum http_fault fault, const struct http_response *head,
		const char *sentence);
	void (*released)(void *arg);
	void *arg;
	const char *body; /* [body_len] in room, or lent */
	char host[HTTP_HOST_SIZE];
	char detail[CURL_ERROR_SIZE];
	size_t secret_len;           /* bytes of headers in room */
	char *room;                  /* headers, then a body that is not lent; in this block */
	struct curl_slist headers[]; /* [HEADERS_MAX at most] in this block */
};

/* http.c: a new easy handle that has what all calls have in common. */
CURL *http_easy_new(struct http *http);
/* A request is sent on this socket: it is a connection until libcurl closes it. */
void http_connected(struct http *http, int fd);

/* http_call.c: gives it to libcurl, which is not inside. */
void http_call_add(struct http_call *call);
/* It ends, and is gone: as libcurl says; for want of memory; without a word. libcurl is not inside.
 */
void http_call_end(struct http_call *call, CURLcode code);
void http_call_fail(struct http_call *call);
void http_call_drop(struct http_call *call);
/* While libcurl is inside: it will be failed as soon as it is out. */
void http_call_fail_later(CURL *easy);

/* "host" or "host:port" of a URL that was checked, cut to fit, for sentences. */
void http_url_host(const char *url, char out[HTTP_HOST_SIZE]);

/* "name: value" with a token for a name and no control characters: 0, or -EINVAL; the sentence has
 * the name, or nothing of it, never the value. */
int http_head_check(const char *header, struct err *err);
/* One line of a response's head, with its end. A status line begins anew. now_s: the time, for
 * dates.
 */
void http_head_line(struct http_response *head, const char *line, size_t len, int64_t now_s);

/* What libcurl's result means; connected: the request began to be sent. */
enum http_fault http_fault_of(CURLcode code, bool connected);
/* In words, without the host; detail is libcurl's own word, os_error its errno. Nothing of the
 * request gets into it. */
void http_fault_words(CURLcode code, const char *detail, long os_error, char *out, size_t size);

#endif
