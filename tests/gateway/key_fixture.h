/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_KEY_FIXTURE_H
#define TESTS_GATEWAY_KEY_FIXTURE_H

/* API keys of a gateway, with a user database and a clock of the test's own. */

#include <check.h>

#include "gateway/gateway_keys.h"
#include "tests/gateway/harness.h"

/* Who alice and bob are; there is nobody else. */
enum { KEY_FIXTURE_ALICE = 1234, KEY_FIXTURE_BOB = 1235 };

extern struct harness key_fixture_h;
extern struct err key_fixture_err;
extern const char key_fixture_unknown[]; /* what is said to who shows what no key has */

void key_fixture_setup(void);
void key_fixture_teardown(void);
void key_fixture_again(void); /* a restart; nobody has made a key yet */
/* It is 2030-06-15T12:00:00Z and so many seconds. */
void key_fixture_clock_is(long after_s);

/* new, as alice. */
struct api_key *key_fixture_make(const char *name);
/* It goes, and its secret with it. */
void key_fixture_end(const char *name);
/* A setting, which must be good. */
void key_fixture_set(struct api_key *k, const char *file, const char *value);
int key_fixture_verb(struct api_key *k, const char *line, char secret[API_KEY_SECRET]);
void key_fixture_new_secret(struct api_key *k, char secret[API_KEY_SECRET]);

/* Who shows that secret is let in as that user, or kept out, and told why. */
void key_fixture_let_in(const char *secret, uid_t as);
void key_fixture_kept_out(const char *secret, const char *why);
void key_fixture_view_is(struct api_key *k, enum api_key_view view, const char *text);
void key_fixture_state_is(struct api_key *k, const char *state);
/* Whether the state directory has a secret of that key. */
bool key_fixture_stored(const char *name);

#endif
