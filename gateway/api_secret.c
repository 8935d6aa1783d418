/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A secret has 256 bits by chance, so a plain SHA-256 of it is as hard to turn round as the secret
 * is to guess: there is nothing that a slow hash or a salt would add, which passwords need, and a
 * request pays a microsecond.
 *
 * No state, any thread. What a step has held of a secret is wiped.
 */
#include "gateway/api_secret.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <string.h>
#include <sys/random.h>

enum { CHANCE = 32, LONGEST = 256 };
static const char begins[] = "sk-llmfs-",
		  stored_begins[] = "sha256:", digits[] = "0123456789abcdef";

static int chance(uint8_t out[CHANCE])
{
	for (size_t got = 0; got < CHANCE;) {
		ssize_t n = getrandom(out + got, CHANCE - got, 0);
		if (n < 0 && errno != EINTR)
			return -EIO;
		got += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int api_secret_make(char secret[API_KEY_SECRET], struct err *err)
{
	uint8_t raw[CHANCE];
	char text[BASE64_ENCODE_LENGTH(CHANCE) + BASE64_ENCODE_FINAL_LENGTH];
	struct base64_encode_ctx encode;
	if (chance(raw) < 0)
		return err_set(err, -EIO, "the kernel gives no random bytes");
	base64url_encode_init(&encode);
	size_t n = base64_encode_update(&encode, text, CHANCE, raw);
	base64_encode_final(&encode, text + n);
	const size_t own = sizeof begins - 1;
	memcpy(secret, begins, own);
	memcpy(secret + own, text, API_SECRET_LEN - own); /* without the padding */
	secret[API_SECRET_LEN] = '\0';
	explicit_bzero(raw, sizeof raw);
	explicit_bzero(text, sizeof text);
	explicit_bzero(&encode, sizeof encode);
	return 0;
}

void api_secret_digest(const char *shown, size_t len, struct api_digest *out)
{
	struct sha256_ctx hash;
	sha256_init(&hash);
	sha256_update(&hash, len < LONGEST ? len : LONGEST, (const uint8_t *)shown);
	sha256_digest(&hash, sizeof out->bytes, out->bytes);
	explicit_bzero(&hash, sizeof hash);
}

bool api_secret_same(const struct api_digest *a, const struct api_digest *b)
{
	return memeql_sec(a->bytes, b->bytes, sizeof a->bytes);
}

void api_secret_print(const struct api_digest *digest, char stored[API_SECRET_STORED])
{
	char *at = stpcpy(stored, stored_begins);
	for (size_t i = 0; i < sizeof digest->bytes; i++) {
		*at++ = digits[digest->bytes[i] >> 4];
		*at++ = digits[digest->bytes[i] & 15];
	}
	*at = '\0';
}

bool api_secret_read(const char *stored, struct api_digest *out)
{
	const size_t own = sizeof stored_begins - 1, n = 2 * sizeof out->bytes;
	if (strncmp(stored, stored_begins, own) || strlen(stored) != own + n ||
		strspn(stored + own, digits) != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		uint8_t digit = (uint8_t)(strchr(digits, stored[own + i]) - digits);
		uint8_t *byte = &out->bytes[i / 2];
		*byte = (uint8_t)(i % 2 ? *byte | digit : digit << 4);
	}
	return true;
}
