/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer as a stream of events. Its runs are asked for news in turn, beginning behind the one
 * that was last, so that none of them fills the pages for all. In the thread of the call's
 * connection.
 */
#include <errno.h>
#include <string.h>
#include <sys/types.h>

#include "gateway/shim_asked_parts.h"

enum { PAGES = 16 << 10 }; /* bytes of text that are made into events at once */

/* Its role, and its prompt where that was wanted. */
static int begin_run(struct shim_asked *a, size_t i)
{
	const struct shim_text *prompt = &a->ask.prompts[i / a->ask.n];
	unsigned index = (unsigned)i;
	if (a->runs[i].begun)
		return 0;
	a->runs[i].begun = true;
	int r = shim_reply_begin(&a->out, &a->head, index, a->ask.stream_usage);
	if (r == 0 && a->ask.echo)
		r = shim_reply_text(
			&a->out, &a->head, index, prompt->text, prompt->len, a->ask.stream_usage);
	return r;
}

/* It failed. Before the first event: 2, and nothing is said here; else the stream ends with it, and
 * nobody waits for the other runs, however slowly what is said of them is read. */
static int fail(struct shim_asked *a, const struct shim_run *r)
{
	struct shim_error e;
	if (!a->head_sent && !a->out.len)
		return 2;
	shim_error_of(r->code, &e);
	a->ended = true;
	r->call->work->end(r->call);
	return shim_reply_error_event(
		&a->out, &e, *r->outcome.why.text ? r->outcome.why.text : strerror(-r->code));
}

/* What is there of a run. 0; 1: nothing yet; 2: as of fail; -errno. */
static int tell_run(struct shim_asked *a, size_t i)
{
	struct shim_asked_run *r = &a->runs[i];
	char text[PAGES];
	size_t n;
	int code = shim_run_read(&r->run, text, sizeof text, &n);
	if (code == 1)
		return 1;
	if (code == 0) {
		code = begin_run(a, i);
		return code ? code
			    : shim_reply_text(
				      &a->out, &a->head, (unsigned)i, text, n, a->ask.stream_usage);
	}
	const char *finish = shim_asked_finish(&r->run, r->run.offset);
	if (!finish)
		return fail(a, &r->run);
	r->told = true;
	code = begin_run(a, i);
	return code ? code
		    : shim_reply_finish(
			      &a->out, &a->head, (unsigned)i, finish, a->ask.stream_usage);
}

static int tell_end(struct shim_asked *a)
{
	struct shim_usage usage = shim_asked_usage(a);
	int r = a->ask.stream_usage ? shim_reply_usage(&a->out, &a->head, &usage) : 0;
	a->ended = true;
	return r ? r : shim_reply_done(&a->out);
}

/* Events of what each run has, until none has more, so that an answer's end goes out with its last
 * words. 0; 2, -errno: as of make. */
static int make_all(struct shim_asked *a)
{
	size_t before;
	do {
		size_t n_told = 0, first = a->next;
		before = a->out.len;
		for (size_t k = 0; k < a->n && a->out.len < PAGES && !a->ended; k++) {
			size_t i = (first + k) % a->n;
			int r = a->runs[i].told ? 1 : tell_run(a, i);
			a->next = r == 2 ? i : (i + 1) % a->n;
			if (r < 0 || r == 2)
				return r;
		}
		for (size_t i = 0; i < a->n; i++)
			n_told += a->runs[i].told;
		if (n_told == a->n && !a->ended)
			return tell_end(a);
	} while (a->out.len > before && a->out.len < PAGES && !a->ended);
	return 0;
}

/* Events of what is there. 0: there are some, or the end; 1: none, and each run waits; 2: run
 * a->next failed before the first; -errno. */
static int make(struct shim_asked *a)
{
	buf_clear(&a->out);
	a->out_at = 0;
	do {
		int r = make_all(a);
		if (r)
			return r;
	} while (!a->out.len && shim_asked_wait(a));
	return a->out.len ? 0 : 1;
}

static ssize_t read_events(void *call, uint64_t position, char *bytes, size_t size)
{
	struct shim_call *c = call;
	struct shim_asked *a = c->state;
	for (;;) {
		size_t n = a->out.len - a->out_at;
		if (n) {
			n = n < size ? n : size;
			memcpy(bytes, a->out.data + a->out_at, n);
			a->out_at += n;
			return (ssize_t)n;
		}
		if (a->ended)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if (shim_call_is_lost(c))
			return MHD_CONTENT_READER_END_WITH_ERROR;
		int r = make(a);
		if (r < 0)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		if (r == 1 && shim_call_wait(c))
			return 0;
	}
}

int shim_asked_stream(struct shim_call *c, struct shim_asked *a)
{
	int r = make(a);
	if (r == 2) {
		const struct shim_run *failed = &a->runs[a->next].run;
		shim_asked_note(c, failed);
		return shim_call_fail(c, failed->code, failed->outcome.why.text);
	}
	if (r)
		return r;
	a->head_sent = true;
	shim_asked_tell(c, a);
	return a->ended ? shim_call_events(c, &a->out) : shim_call_stream(c, read_events);
}
