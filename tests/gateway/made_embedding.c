/* SPDX-License-Identifier: Apache-2.0 */
/* An angle for each text. */
#include "tests/gateway/made_embedding.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/embedding.h"
#include "gateway/vectors.h"

struct made_embedding made_embedding;

struct embedding {
	struct loop_work work;
	struct embedding_ask how; /* without its texts; done NULL: cancelled */
	char *text;               /* new */
	bool told;
};

static const struct {
	const char *text;
	double degrees;
} angles[] = {
	{"What is the capital of France?", 0},
	{"what is the capital of France", 5},
	{"What is the capital of Spain?", 6},
	{"What is the capital of France? And please", 30},
	{"Add 17 and 25.", 90},
	{"Add 17 and 26.", 91},
	{"add 17 and 25", 93},
};

static double angle_of(const char *text, size_t len)
{
	for (size_t i = 0; i < sizeof angles / sizeof *angles; i++)
		if (strlen(angles[i].text) == len && !memcmp(angles[i].text, text, len))
			return angles[i].degrees * M_PI / 180;
	return M_PI;
}

void made_embedding_vector(const char *text, size_t len, float *vector)
{
	double angle = angle_of(text, len);
	memset(vector, 0, made_embedding.dim * sizeof *vector);
	vector[0] = (float)cos(angle);
	vector[1] = (float)sin(angle);
}

static void end(struct embedding *e)
{
	free(e->text);
	free(e);
}

static void tell(struct loop_work *work)
{
	struct embedding *e = list_entry(work, struct embedding, work);
	float vector[VECTORS_DIM_MAX];
	struct trace_usage usage = {.prompt_tok = 7};
	if (!e->how.done) {
		end(e);
		return;
	}
	e->told = true;
	made_embedding_vector(e->text, strlen(e->text), vector);
	e->how.done(e->how.arg, made_embedding.status,
		made_embedding.status
			? "vec: it is broken: HTTP 400, the request was refused: my secret"
			: "",
		made_embedding.status ? NULL : vector,
		made_embedding.status ? 0 : made_embedding.dim, &usage);
	end(e);
}

int __wrap_embedding_begin(struct embedding **out, struct gateway *g,
	const struct embedding_ask *ask, struct err *err);
struct embedding *__wrap_embedding_cancel(struct embedding *e);

int __wrap_embedding_begin(
	struct embedding **out, struct gateway *g, const struct embedding_ask *ask, struct err *err)
{
	made_embedding.begun++;
	*out = NULL;
	if (made_embedding.refuse)
		return err_set(err, made_embedding.refuse, "there is no model %s", ask->model);
	struct embedding *e = calloc(1, sizeof *e);
	list_init(&e->work.link);
	e->work.run = tell;
	e->how = *ask;
	e->text = strndup(ask->text, ask->len);
	ck_assert_uint_gt(ask->timeout_ms, 0);
	if (!made_embedding.never)
		loop_post(g->loop, &e->work);
	*out = e;
	return 0;
}

struct embedding *__wrap_embedding_cancel(struct embedding *e)
{
	if (!e || e->told)
		return NULL;
	made_embedding.cancelled_early++;
	e->how.done = NULL;
	if (made_embedding.never)
		end(e);
	return NULL;
}
