/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_FETCH_FIXTURE_H
#define TESTS_GATEWAY_FETCH_FIXTURE_H

/* Calls of http.h in front of a server that fails as told (faulty.h), and what became of each. One
 * server for the whole program, a loop and an http of its own for each test. */

#include <stdatomic.h>
#include <stdbool.h>

#include "base/buf.h"
#include "gateway/http.h"
#include "tests/gateway/faulty.h"

#define FETCH_MS_NS ((uint64_t)1000000)

extern struct loop *fetch_loop;
extern struct http *fetch_http;

extern struct faulty fetch_server;

/* A call and what became of it. */
struct fetch {
	struct http_request q;
	char url[256];
	struct http_call *call;
	/* What `data` does after it has noted: false breaks off. */
	bool (*on_data)(struct fetch *f);
	void (*on_done)(struct fetch *f);
	char *lent; /* a body */
	atomic_int n_released;
	struct fetch *other;
	struct buf body;
	atomic_size_t n_data; /* tests wait for it */
	enum http_fault fault;
	struct http_response head;
	char sentence[320];
	uint64_t begun_ns, took_ms;
	atomic_int n_done;
};

/* POST to that URL, without a proxy. */
void fetch_make_url(struct fetch *f, const char *url);
/* POST to that behaviour of the server. */
void fetch_make(struct fetch *f, const char *behaviour);
/* Runs it on the loop, and waits until it has. */
void fetch_on_loop(void (*act)(struct fetch *f), struct fetch *f);
/* These run on the loop. */
void fetch_begin(struct fetch *f);
void fetch_cancel(struct fetch *f);
/* Waits (20 s) for its one end. */
void fetch_wait(struct fetch *f);
/* Both: begins and waits. */
void fetch_run(struct fetch *f);
void fetch_drop(struct fetch *f);
/* The two of a checked fixture. */
void fetch_open(void);
void fetch_close(void);
/* What http_count says, waited for (5 s). */
void fetch_assert_counts(size_t running, size_t connections);
/* The state of the server's n-th request, waited for. */
void fetch_assert_state(int n, const char *want);
/* For on_data. */
bool fetch_break_off(struct fetch *f);
bool fetch_cancel_self(struct fetch *f);
/* Of this process. */
int fetch_count_descriptors(void);
/* Those in the loop's epoll set, its own included. */
int fetch_count_watched(void);
/* Those of them that are files of authorities (http_ca.c); path: of the last one. */
int fetch_ca_files(char *path, size_t size);
/* Must be refused, in a sentence without the secret. */
void fetch_begin_badly(struct fetch *f);

/* Starts it, and takes the proxies out of the environment. False: there is no python3 (a reason to
 * skip). faulty_stop ends it. */
bool fetch_server_start(void);

#endif
