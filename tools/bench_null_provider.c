/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All operations are upstream_provider's, but that `submit` may answer itself. It does so in a
 * piece of the loop's work, as an answer from a server comes, not inside `submit`.
 */
#include "bench_null_provider.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "gateway/provider.h"

extern const struct provider __real_upstream_provider; /* the linker's names */
struct provider __wrap_upstream_provider;

struct call {
	struct loop_work work;
	provider_event_fn *event;
	void *arg;
	size_t n_prompt_tok;
};

static struct loop *answers_on; /* NULL: the server is asked */
static uint64_t last_id;

static void answer(struct loop_work *work)
{
	static const char *const words[] = {"One", " two", " three"};
	struct call *c = list_entry(work, struct call, work);
	c->event(c->arg, &(struct provider_event){.kind = PROVIDER_STARTED, .mean_logprob = NAN});
	for (uint64_t i = 0; i < 3; i++) {
		struct provider_event e = {.kind = PROVIDER_TEXT, .text = words[i]};
		e.len = strlen(words[i]);
		e.usage.prompt_tok = c->n_prompt_tok;
		e.usage.output_tok = i + 1;
		e.mean_logprob = NAN;
		c->event(c->arg, &e);
	}
	struct provider_event end = {.kind = PROVIDER_END, .finish = "stop", .mean_logprob = NAN};
	end.usage.prompt_tok = c->n_prompt_tok;
	end.usage.output_tok = 3;
	c->event(c->arg, &end);
	free(c);
}

static int null_submit(
	void *handle, const struct provider_request *q, uint64_t *id, struct err *err)
{
	if (!answers_on)
		return __real_upstream_provider.submit(handle, q, id, err);
	struct call *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->work.run = answer;
	list_init(&c->work.link);
	c->event = q->event;
	c->arg = q->arg;
	c->n_prompt_tok = q->prompt->n_tok;
	*id = ++last_id | (uint64_t)1 << 63; /* none that the real one knows */
	loop_post(answers_on, &c->work);
	return 0;
}

void bench_null_provider(struct loop *loop, bool on)
{
	answers_on = on ? loop : NULL;
}

/* Before main: the gateway's code has its address only, and its operations are nobody's yet. */
__attribute__((constructor)) static void fill_table(void)
{
	__wrap_upstream_provider = __real_upstream_provider;
	__wrap_upstream_provider.submit = null_submit;
}
