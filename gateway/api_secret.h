/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GATEWAY_API_SECRET_H
#define GATEWAY_API_SECRET_H

/* The secret of an API key, and its digest: the only thing that is kept of it. Pure but for where
 * chance comes from. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/gateway_keys.h"

/* "sk-llmfs-" and 43 characters of base64url, which are 32 bytes by chance. */
#define API_SECRET_LEN 52

struct api_digest {
	uint8_t bytes[32]; /* SHA-256 */
};

/* new secret, with a NUL: the caller wipes it. 0 or -EIO: the kernel gives no chance. */
int api_secret_make(char secret[API_KEY_SECRET], struct err *err);
/* Of what somebody shows. What is longer than any secret has a digest that none has. */
void api_secret_digest(const char *shown, size_t len, struct api_digest *out);
/* In a time that does not depend on where they differ. */
bool api_secret_same(const struct api_digest *a, const struct api_digest *b);

/* "sha256:" and its digits, with a NUL: as it is stored. */
#define API_SECRET_STORED 72
void api_secret_print(const struct api_digest *digest, char stored[API_SECRET_STORED]);
/* False: that is none. */
bool api_secret_read(const char *stored, struct api_digest *out);

#endif
