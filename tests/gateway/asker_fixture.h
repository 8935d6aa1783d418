/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_ASKER_FIXTURE_H
#define TESTS_GATEWAY_ASKER_FIXTURE_H

/* Judges on a random model. What it thinks of a text is nonsense but certain, so that it is known
 * beforehand, from the provider itself, and thresholds can be put on either side of it. Here are
 * those who ask, and the same without judges. */

#include <semaphore.h>
#include <stdatomic.h>

#include "gateway/judge.h"
#include "gateway/provider.h"
#include "tests/gateway/harness.h"

extern struct harness asker_h;

/* The two of a checked fixture. */
void asker_open(void);
void asker_close(void);
/* With time enough for a busy machine, unless the lines say how much. */
__attribute__((format(printf, 1, 2))) struct moderation *asker_moderation(const char *format, ...);

struct asker {
	sem_t told;
	struct judge *judge;
	struct judge_verdict verdict;
	atomic_int n_told;
	atomic_bool gone;    /* judge_cancel has returned */
	bool cancels_itself; /* within done */
	struct gateway *g;
};

/* The `done` of its jobs. */
void asker_done(void *arg, const struct judge_verdict *v);
/* What judge_begin returned. */
int asker_try(struct asker *a, struct moderation *m, enum guard_stage stage, const char *user,
	const char *agent, struct err *err);
/* Must begin. */
void asker_ask(struct asker *a, struct moderation *m, enum guard_stage stage, const char *user,
	const char *agent);
/* Waits (two minutes) for the verdict. */
void asker_await(struct asker *a);
/* Cancels, if need be: nothing may be told afterwards. */
void asker_let_go(struct asker *a);
/* Asks, waits, lets go. */
struct judge_verdict asker_verdict(
	struct moderation *m, enum guard_stage stage, const char *user, const char *agent);

/* While it is held the loop's thread does nothing, so that no judge gets any further. */
struct hold {
	struct loop_work work;
	sem_t end;
};

/* Until its `end` is posted. */
void asker_hold_loop(struct hold *hold);
/* All judges have gone, within some seconds. */
void asker_assert_idle(void);

enum { ASKER_PIECES_MAX = 64 };

struct expected {
	size_t n;
	double p[ASKER_PIECES_MAX], share[ASKER_PIECES_MAX]; /* share: of both words */
};

struct said {
	sem_t end;
	float p[2];
	struct buf text;
	uint64_t cached_tok;
};

/* Asks the provider for the chance of both words, without a judge. */
void asker_say(void *handle, const struct provider_prompt *prompt, uint64_t salt, struct said *s);
/* That model file, in a provider of its own. */
void *asker_load(const char *path);
/* What a judge has to find, piece by piece. */
struct expected asker_expect(void *handle, struct moderation *m, enum guard_stage stage,
	const char *user, const char *agent);
/* n words, some 5 bytes each. */
char *asker_long_text(size_t n);
/* Prompts of 15,000 tokens: seconds of work. */
struct moderation *asker_slow_judge(unsigned timeout_ms, char **text);

#endif
