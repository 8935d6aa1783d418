/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TOOLS_BENCH_SHIM_PEER_H
#define TOOLS_BENCH_SHIM_PEER_H

/*
 * A client's end of one kept-alive connection to an OpenAI-compatible server: sends a question,
 * reads what comes, and holds the text against the words that tools/loopback_server.c says. One
 * thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct bench_shim_peer {
	int fd;
	struct buf in;   /* of the head, or of a chunk's size: what is not read yet */
	struct buf body; /* of a stream: the event that is not whole yet; else all of it */
	enum { PEER_IDLE, PEER_HEAD, PEER_LENGTH, PEER_SIZE, PEER_CHUNK, PEER_TAIL } state;
	uint64_t left; /* bytes until the end of the body, or of the chunk with its line end */
	bool streamed, is_error;
	/* Of the last question: */
	uint64_t sent_ns, first_ns, end_ns; /* first_ns: the first byte of text, 0 none yet */
	size_t frames;                      /* events with text */
	size_t bytes;                       /* of text */
	bool done;                          /* [DONE] came, or the object was whole */
	bool right;                         /* the text was as it should be, as far as it came */
};

/* What the text must be: words as the server has them, so many. Once, before all others. */
void bench_shim_peer_expect(size_t tokens);
/* How much text that is. */
size_t bench_shim_peer_expected(void);

/* Connects. -errno. */
int bench_shim_peer_open(struct bench_shim_peer *p, int port);
/* Sends a whole request. -errno; -EAGAIN too, which is an end here: it is small. */
int bench_shim_peer_ask(struct bench_shim_peer *p, const char *bytes, size_t len, bool streamed);
/* Takes what came, `wait`: or waits for it. 0: more is to come; 1: the answer is whole; -errno: the
 * connection ended, or what came was no HTTP; a status other than 200 is -EREMOTEIO, with the body
 * in p->body. */
int bench_shim_peer_take(struct bench_shim_peer *p, bool wait);
/* Closes it. */
void bench_shim_peer_close(struct bench_shim_peer *p);

#endif
