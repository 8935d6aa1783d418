/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_HTTP_PARTS_H
#define GATEWAY_HTTP_PARTS_H

/* What http*.c share: the objects; what calls and connections ask of each other; the checks of what
 * is sent and the reading of a response's head, which are pure. */

#include <curl/curl.h>
#include <stdatomic.h>

#include "gateway/http.h"
#include "gateway/runner.h"

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
	atomic_bool emptied;
	char path[32];
	size_t len;
	char pem[]; /* [len], then a NUL */
};

struct http_easy {
	CURL *curl;
	char *url;     /* where it is set up to go; NULL: it is to be set up each time */
	CURLU *parsed; /* the same, as libcurl reads it; given to it only where it can */
	bool direct;   /* its request's proxy is "", and not NULL */
	bool proxied;  /* it is a proxy's name */
	bool own_ca;   /* its request has authorities of its own */
	char host[HTTP_HOST_SIZE]; /* as http_url_host has it */
};

struct http {
	struct loop *loop;
	CURLM *multi;
	bool inside;  /* libcurl is: it must not be asked to add, to remove or for limits */
	bool reading; /* the multi handle is another thread's, which reads certificates with it */
	bool at_work; /* or what follows from it */
	bool ending;
	long idle_s;
	struct list calls;    /* struct http_call, all that are not on another list */
	struct list starting; /* begun while inside, or reading */
	struct list dying;    /* cancelled or failed while inside */
	struct list spare;    /* struct socket, of http_socket.c */
	struct loop_timer timer, sweep;
	struct http_easy *pool[HTTP_POOL_MAX]; /* the one that was used last is the last */
	size_t n_pool;
	CURL *broom;                 /* the request to nowhere */
	bool sweeping, will_sweep;   /* it is under way; its timer is armed */
	struct http_socket *sockets; /* [n_sockets] by descriptor */
	size_t n_sockets;
	const char *ca_file, *ca_path; /* static: what libcurl was built with */
	struct http_ca *ca;            /* instead: a reference */
	struct loop_work read_work;    /* they are read, then: they have been */
	size_t parts, parts_told;      /* it may take one of so many; libcurl knows of those */
	struct http *first;            /* itself, or whose it is: */
	/* Of the first one, for calls that need certificates: each set has one. */
	struct http *of_ca[HTTP_CA_MAX];
	size_t n_of_ca;
	struct runner *reader;  /* NULL: nothing had to be read so far */
	atomic_bool closing;    /* the reader need not begin with anything more */
	struct http_ca *system; /* what was in ca_file when it was looked at; NULL: there is none */
	struct loop_work look_work;
	struct http_ca *looked; /* what the look found, on its way to the loop */
	uint64_t look_at_ns;    /* when it is time for the next one */
	size_t n_running, n_connections;
	atomic_size_t all_running, all_connections; /* of the first one: its own and theirs */
};

struct http_call {
	struct http *http;
	struct list link;
	struct http_easy *easy;
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
	char detail[CURL_ERROR_SIZE];
	size_t secret_len;           /* bytes of headers in room */
	char *room;                  /* headers, then a body that is not lent; in this block */
	struct curl_slist headers[]; /* [HEADERS_MAX at most] in this block */
};

/* http.c: libcurl is called, for a socket or CURL_SOCKET_TIMEOUT, and what follows is done. */
void http_act(struct http *http, curl_socket_t fd, int mask);
/* It takes one of so many equal parts of what all may have of connections; as soon as libcurl can
 * be told. */
void http_limit(struct http *http, size_t parts);
/* new *out: as http_new, but it has no certificates, and its multi handle no callbacks. */
int http_make(struct http **out, struct loop *loop, struct err *err);
/* The multi handle is the loop's from now on: what had to wait for that begins. */
void http_drive(struct http *http);
/* It has something that may have to go: is looked at again and again as long as that is so. */
void http_sweep_later(struct http *http);

/* http_socket.c: libcurl's callbacks, with an http as their argument. */
int http_socket_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *watched);
int http_socket_close(void *arg, curl_socket_t fd);
/* A request is sent on this socket: it is a connection until libcurl closes it. */
void http_socket_connected(struct http *http, int fd);
void http_socket_end(struct http *http);

/* http_easy.c: a new easy handle of libcurl that has what all requests have in common. */
CURL *http_easy_bare(struct http *http);
/* new: one that is set up to go where this request goes, of http itself. NULL: memory is out. */
struct http_easy *http_easy_take(struct http *http, const struct http_request *request);
/* Steals it. libcurl has let go of it. Accepts NULL. */
void http_easy_give(struct http *http, struct http_easy *easy);
/* Those that were given are freed. */
void http_easy_end(struct http *http);
/* The host has taken the connection, but TLS has not come about: of a handle whose connection
 * failed. False where it may go through a proxy, which has taken it then and not the host. */
bool http_easy_waits_for_tls(const struct http_easy *easy);

/* http_ca.c: where such a call goes: to one that remembers its authorities, or to http itself. */
struct http *http_ca_handle(struct http *http, const struct http_request *request);
/* One that had neither calls nor connections has a call: it takes its part of connections. */
void http_ca_share(struct http *http);
/* new; NULL: memory is out. name: of the file in memory. */
struct http_ca *http_ca_make(const char *name, const char *pem, size_t len);
/* Its file has nothing in it any more: who reads it finds fault at once. For good. */
void http_ca_empty(struct http_ca *ca);
/* Whether its file can be opened, by who needs another descriptor besides. */
bool http_ca_opens(const struct http_ca *ca);
bool http_ca_equal(const struct http_ca *a, const struct http_ca *b);
/* Of the first one: lets go of those whose set nobody has any more, and that do nothing. */
void http_ca_sweep(struct http *http);
void http_ca_end(struct http *http);

/* http_ca_read.c: certificates become libcurl's on a thread of their own. Of one that nothing was
 * done with so far: until http_drive it is `reading`. -EAGAIN: there is no such thread. */
int http_ca_read(struct http *one);
/* Of the first one: the system's file is read, here and now; and whether it has changed is looked
 * at, elsewhere, if it is time for that. */
void http_ca_read_system(struct http *http);
void http_ca_read_look(struct http *http);
/* Of the first one: ends the thread. The loop is closed. */
void http_ca_read_end(struct http *http);

/* http_call.c: its callbacks, for a handle that calls are made with. */
void http_call_listen(CURL *curl);
/* Gives it to libcurl, which is not inside. */
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
