/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_USERS_H
#define GATEWAY_USERS_H

/* Names of users, by uid: what accounts and the audit call them; and their uids, by name. */

#include <stdint.h>
#include <sys/types.h>

#include "gateway/text.h"

struct users;

struct users *users_new(void);             /* new; NULL when memory is out */
struct users *users_free(struct users *u); /* accepts NULL, returns NULL */
/* The name in the system's user database, as far as it can name an account; else the number. Asks
 * the database at most once a minute for each uid, which may take as long as that takes (local
 * files; a directory server where the machine has one): not from the loop. */
void users_name(struct users *u, uid_t uid, char name[TEXT_NAME_SIZE]);
/* The other way round, as long each time: 0; 1: there is no user of that name; -errno: nobody can
 * say. */
int users_uid(const char *name, uid_t *uid);

#endif
