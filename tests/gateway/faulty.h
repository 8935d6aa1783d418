/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_FAULTY_H
#define TESTS_GATEWAY_FAULTY_H

/* tests/upstream/faulty.py as a child process; behaviours.py beside it says what it can do. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct faulty {
	pid_t pid;
	int in;                            /* its end ends the server */
	int port, deaf, closed, mute, tls; /* tls: 0 without a certificate */
};

/* Starts it, with a certificate unless cert is NULL. False: there is no python3 (a reason to skip),
 * which stdout says. A server that does not start ends the program, as failed. */
bool faulty_start(struct faulty *f, const char *cert, const char *key);
void faulty_stop(struct faulty *f); /* zeroed, too */

/* Asks one of its own paths ("GET", "/log", ""): its JSON, to be json_decref'ed. Blocks. */
json_t *faulty_ask(const struct faulty *f, const char *method, const char *path, const char *body);
/* How many connections are open, those of faulty_ask not counted; the requests, to be
 * json_decref'ed. */
int faulty_open(const struct faulty *f);
json_t *faulty_log(const struct faulty *f);

#endif
