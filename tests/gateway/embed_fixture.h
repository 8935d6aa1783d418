/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_EMBED_FIXTURE_H
#define TESTS_GATEWAY_EMBED_FIXTURE_H

/* Those who ask for an embedding on the loop, and a model that does as it is told: the linker puts
 * it in the place of model.c's (--wrap of model_use and model_unuse). */

#include <semaphore.h>
#include <stdatomic.h>

#include "gateway/embedding.h"
#include "gateway/model.h"
#include "tests/gateway/harness.h"

enum { EMBED_DIM = 3 };

/* What the model does, and what was done to it. */
struct fake {
	int use;       /* what model_use returns */
	int embed;     /* what embed returns */
	bool late;     /* embed's answer comes when the test says so */
	bool stubborn; /* a cancel does not end it */
	int status;    /* of the answer */
	size_t dim;
	atomic_int unused, embedded, cancelled; /* looked at from both sides */
	bool on_loop;
	size_t len;
	struct model_user *user;
	struct provider_embed q;
	char text[64];
	uid_t uids[8]; /* whose texts came, in this order */
};

extern struct fake embed_fake;
extern struct loaded embed_loaded; /* what model_use gives */
extern struct harness embed_h;

/* The answer of the provider, as embed_fake says. */
void embed_answer(const struct provider_embed *q);

/* One who asks: what, and what came of it. */
struct asking {
	struct embedding *e;
	uint64_t timeout_ms;
	const char *model, *text;
	size_t len;
	uid_t uid;
	bool cancel, asks_first; /* asks_first: begins is given */
	int refuse;
	uint64_t most_tok;
	int r;
	struct err err;

	sem_t told;
	int n, status;
	char sentence[200];
	float vector[EMBED_DIM];
	size_t dim;
	uint64_t prompt_tok;
	bool inside, on_loop;
};

/* Runs it there (NULL: nothing), and waits until it has. */
void embed_on_loop(void (*run)(struct asking *a), struct asking *a);
/* Begins, on the loop. */
void embed_ask(struct asking *a);
/* Waits until it is told. */
void embed_wait(struct asking *a);
/* Nothing of it is left: the gateway waits for nobody, the model is let go. */
void embed_assert_released(void);
/* The two of a checked fixture. */
void embed_open(void);
void embed_close(void);
/* For embed_on_loop. */
void embed_cancel(struct asking *a);
/* A setting of that model, which must be taken. */
void embed_set(const char *file, const char *value);

#endif
