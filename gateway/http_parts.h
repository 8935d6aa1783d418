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
	HTTP_CA_MAX = 32,    /* sets of authorities in use at a time */
};

struct http_ca {
	atomic_uint refs;
	int fd; /* a file of them in memory; -1: there is none */
	char path[32];
	size_t len;
	char pem[]; /* [len], then a NUL */
};

struct http {
	struct loop *loop;
	CURLM *multi;
	bool inside;  /* libcurl is: it must not be asked to add or remove */
	bool at_work; /* or what follows from it */
	bool ending;
	long idle_s;
	struct list calls;    /* struct http_call, all that are not on another list */
	struct list starting; /* begun while inside */
	struct list dying;    /* cancelled or failed while inside */
	struct list spare;    /* struct socket */
	struct loop_timer timer, sweep;
	CURL *pool[HTTP_POOL_MAX];
	size_t n_pool;
	CURL *broom;               /* the request to nowhere */
	bool sweeping, will_sweep; /* it is under way; its timer is armed */
	bool *known;               /* [n_known] by descriptor: it is a connection */
	size_t n_known;
	const char *ca_file, *ca_path; /* static: what libcurl was built with */
	struct http_ca *ca;            /* instead: a reference */
	struct http *first;            /* itself, or whose it is: */
	/* Of the first one, for calls with a set of their own: each has one. */
	struct http *of_ca[HTTP_CA_MAX];
	size_t n_of_ca;
	size_t n_running, n_connections;
	atomic_size_t all_running, all_connections; /* of the first one: its own and theirs */
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
	bool over; /* libcurl has said how it ended */
	bool connected, got_body;
	int opened[HTTP_OPENED_MAX]; /* sockets, the last ones: one becomes the connection */
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
/* It takes one of so many equal parts of what all may have of connections. */
void http_limit(struct http *http, size_t parts);
/* It has something that may have to go: is looked at again and again as long as that is so. */
void http_sweep_later(struct http *http);

/* http_ca.c: where calls with those authorities go: one that remembers them, or http itself. */
struct http *http_ca_handle(struct http *http, struct http_ca *ca);
/* Of the first one: lets go of those whose set nobody has any more, and that do nothing. */
void http_ca_sweep(struct http *http);
void http_ca_end(struct http *http);

/* http_call.c: gives it to libcurl, which is not inside. */
void http_call_add(struct http_call *call);
/* It ends, and is gone: as libcurl says; for want of memory; wordlessly. libcurl is not inside. */
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
/* One line of a response's head, with its end. A status line begins anew. now_s: the time. */
void http_head_line(struct http_response *head, const char *line, size_t len, int64_t now_s);

/* What libcurl's result means; connected: the request began to be sent. */
enum http_fault http_fault_of(CURLcode code, bool connected);
/* In words, without the host; detail is libcurl's own word, os_error its errno. Nothing of the
 * request gets into it. */
void http_fault_words(CURLcode code, const char *detail, long os_error, char *out, size_t size);

#endif
