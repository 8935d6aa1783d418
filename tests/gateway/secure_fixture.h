/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GATEWAY_SECURE_FIXTURE_H
#define TESTS_GATEWAY_SECURE_FIXTURE_H

/* Beside fetch_fixture.h: a second server, that speaks TLS with a certificate made for it. */

#include "tests/gateway/fetch_fixture.h"

extern struct faulty secure_server; /* .tls: its port */

/* False, which stdout explains: no openssl, or no python3. */
bool secure_start(void);
void secure_stop(void); /* also where it did not start */

/* POST to it, in at most a minute to connect. */
void secure_make(struct fetch *f);
/* The PEM of its certificate, n times, with a line that has the number behind it. new */
char *secure_pem(int number, size_t n, size_t *len);
/* new: one of those that are enough for it; other bytes for each number. */
struct http_ca *secure_authorities(int number);
/* A call with that set, which may be NULL, goes well. */
void secure_connect(struct http_ca *ca);
/* The log is emptied; its answers are the last of their connections from now on. */
void secure_close_each(void);

/* Whether libcurl keeps certificates of a file: other libraries for TLS read them for each
 * connection, whatever it is told. And why tests that need it are skipped else. */
bool secure_keeps(void);
extern const char secure_keeps_not[];
/* The system's authorities are what is in a file of the test: sets its bytes; on the loop: reads
 * them, as at a start. */
void secure_system(const char *bytes, size_t len);
void secure_read_system(struct fetch *f);
/* As fetch_open; the server's log is empty, its certificate the system's only authority. */
void secure_open(void);

#endif
