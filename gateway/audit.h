/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_AUDIT_H
#define GATEWAY_AUDIT_H

/* What guards found: a JSON line each, the newest in memory, all of them in the state directory's
 * audit.jsonl (and audit.jsonl.1, once that is 16 MiB). Never what was matched. */

#include "base/buf.h"
#include "base/err.h"
#include "gateway/loop.h"
#include "gateway/watch.h"

struct audit;

struct audit_entry { /* borrowed for the call */
	const char *user, *session, *stage;
	const char *guard, *rule; /* the file below guards/, and the rule or the categories in it */
	const char *action, *why; /* why: "match" is not said */
	size_t count;             /* of the same in one piece of text; 0 and 1 are not said */
	uint64_t request;         /* its id, as in ledgers and traces; 0 is not said */
};

/* new *out. Borrows loop and watch until audit_free. -ENOMEM and others; that the file cannot be
 * written is a warning only. */
int audit_open(struct audit **out, const char *state_dir, struct loop *loop,
	struct watch_table *watch, struct err *err);
/* From now on nobody waits for it to grow; who does is to be woken after this. */
void audit_stop(struct audit *a);
/* Writes the rest and ends its thread; the text stays readable. Before the loop is closed. */
void audit_close(struct audit *a);
struct audit *audit_free(struct audit *a); /* accepts NULL, returns NULL */

/* The highest id of a request in what audit_open found in memory. */
uint64_t audit_last_request(struct audit *a);

/* Any thread; never waits. */
void audit_add(struct audit *a, const struct audit_entry *entry);

int audit_render(struct audit *a, struct buf *out);
/* Exact, O(1); when it last changed (CLOCK_REALTIME). */
void audit_size(struct audit *a, uint64_t *bytes, uint64_t *changed_ns);
/* As session_watch; 1 also when it was closed. */
int audit_watch(
	struct audit *a, uint64_t bytes, gateway_wake_fn *wake, void *arg, gateway_waiter *id);

#endif
