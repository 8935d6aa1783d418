/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_SHIM_SOCKETS_H
#define GATEWAY_SHIM_SOCKETS_H

/* One thread that accepts connections and sees clients that leave while nobody else looks at their
 * sockets. */

#include <stdbool.h>

struct shim_call;
struct shim_sockets;

/* What is done with a new connection: owns fd from then on. 0; < 0: there are too many now. In the
 * sockets' thread. */
struct sockaddr;
typedef int shim_sockets_take(void *arg, int fd, const struct sockaddr *address, unsigned size);

/* new *out, there before anything is taken: it accepts on `listener` (stolen, on failure, too), up
 * to `most` at a time. -errno. */
int shim_sockets_new(
	struct shim_sockets **out, int listener, unsigned most, shim_sockets_take *take, void *arg);
/* One that was taken is about to be closed. Any thread. */
void shim_sockets_gone(struct shim_sockets *s, int fd);
/* Accepts no more. Any thread. */
void shim_sockets_stop(struct shim_sockets *s);
/* Ends the thread: nothing is taken or told any more. */
void shim_sockets_end(struct shim_sockets *s);
/* Memory, and that first. Accepts NULL, returns NULL. */
struct shim_sockets *shim_sockets_free(struct shim_sockets *s);

/* shim_call_lost(c) once its client has closed its end. True: it has already, and c is not told. fd
 * is one that was taken. */
bool shim_sockets_watch(struct shim_sockets *s, int fd, struct shim_call *c);
/* The call is not told any more. */
void shim_sockets_forget(struct shim_sockets *s, int fd);

#endif
