/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_ASKED_PARTS_H
#define GATEWAY_SHIM_ASKED_PARTS_H

/* What was asked by POST, as the files named shim_asked* see it. */

#include "gateway/shim_parts.h"
#include "gateway/shim_request.h"

struct shim_asked {
	struct shim_ask ask;
	char *resolved;    /* which model default is, where the key may name only that; or NULL */
	const char *model; /* to be asked: one of the two */
	struct shim_head head;
	char id[40];

	size_t n; /* prompts times choices */
	struct shim_asked_run {
		struct shim_run run;
		struct buf text;  /* not streamed: so far */
		bool begun, told; /* streamed: its first event, its last */
	} * runs;                 /* [n] */

	/* Streamed: events that libmicrohttpd has not got yet, behind out_at. */
	struct buf out;
	size_t out_at;
	size_t next; /* the run that is first in turn */
	bool head_sent;
	bool ended; /* nothing follows */
};

/* What the reply's headers say of a run. */
void shim_asked_note(struct shim_call *c, const struct shim_run *r);
/* How a run that is over ended: "stop" ..., or NULL: it failed. `some`: there is some of its
 * answer. */
const char *shim_asked_finish(const struct shim_run *r, bool some);
/* The sum of all runs that are over. */
/* Before a reply that is no error: which model answers, and whether that is the cache's answer; of
 * several choices the first one's. */
void shim_asked_tell(struct shim_call *c, const struct shim_asked *a);
struct shim_usage shim_asked_usage(const struct shim_asked *a);
/* Each run that is not over waits. 0; 1: look again. */
int shim_asked_wait(struct shim_asked *a);

/* Steps, as shim_work's. */
int shim_asked_whole(struct shim_call *c, struct shim_asked *a);
int shim_asked_stream(struct shim_call *c, struct shim_asked *a);

#endif
