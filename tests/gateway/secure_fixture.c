/* SPDX-License-Identifier: Apache-2.0 */
/* The certificate is its own authority, for 127.0.0.1, and lies in a folder that goes at the end.
 */
#include "tests/gateway/secure_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/http_parts.h"

struct faulty secure_server;
static char folder[] = "/tmp/llmfs-http-XXXXXX";
static bool has_folder;

static bool make_certificate(void)
{
	char command[400];
	has_folder = mkdtemp(folder);
	if (!has_folder)
		return false;
	snprintf(command, sizeof command,
		"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=llmfs-test "
		"-addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s/cert.pem "
		">/dev/null 2>&1",
		folder, folder);
	return system(command) == 0;
}

bool secure_start(void)
{
	char cert[64], key[64];
	bool tls = make_certificate();
	snprintf(cert, sizeof cert, "%s/cert.pem", folder);
	snprintf(key, sizeof key, "%s/key.pem", folder);
	if (!tls)
		printf("skip: openssl makes no certificate here\n");
	return tls && faulty_start(&secure_server, cert, key);
}

void secure_stop(void)
{
	static const char *const names[] = {"/key.pem", "/cert.pem", "/system.pem", ""};
	char path[64];
	faulty_stop(&secure_server);
	for (size_t i = 0; has_folder && i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s%s", folder, names[i]);
		remove(path);
	}
}

void secure_make(struct fetch *f)
{
	memset(f, 0, sizeof *f);
	fetch_make_url(f, "");
	snprintf(f->url, sizeof f->url, "https://127.0.0.1:%d/v1/chat/completions",
		secure_server.tls);
	f->q.connect_ms = 60000;
}

char *secure_pem(int number, size_t n, size_t *len)
{
	static char pem[8192];
	char path[64];
	snprintf(path, sizeof path, "%s/cert.pem", folder);
	FILE *file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	size_t one = fread(pem, 1, sizeof pem, file);
	fclose(file);
	ck_assert_uint_lt(one, sizeof pem);
	char *all = malloc(n * one + 32);
	ck_assert_ptr_nonnull(all);
	for (size_t i = 0; i < n; i++)
		memcpy(all + i * one, pem, one);
	*len = n * one + (size_t)snprintf(all + n * one, 32, "# %d\n", number);
	return all;
}

struct http_ca *secure_authorities(int number)
{
	size_t len;
	char *pem = secure_pem(number, 1, &len);
	struct http_ca *ca = http_ca_new(pem, len);
	ck_assert_ptr_nonnull(ca);
	free(pem);
	return ca;
}

void secure_connect(struct http_ca *ca)
{
	struct fetch f;
	secure_make(&f);
	f.q.ca = ca;
	fetch_run(&f);
	ck_assert_msg(f.fault == HTTP_OK, "%s", f.sentence);
	fetch_drop(&f);
}

void secure_close_each(void)
{
	json_decref(faulty_ask(&secure_server, "POST", "/reset", ""));
	json_decref(faulty_ask(&secure_server, "POST", "/control", "{\"default\": \"ok-close\"}"));
}

const char secure_keeps_not[] = "this libcurl's TLS keeps no certificates of a file";

bool secure_keeps(void)
{
	const char *tls = curl_version_info(CURLVERSION_NOW)->ssl_version;
	return tls && !strncmp(tls, "OpenSSL", 7);
}

static const char *system_file(void)
{
	static char path[64];
	snprintf(path, sizeof path, "%s/system.pem", folder);
	return path;
}

void secure_system(const char *bytes, size_t len)
{
	FILE *f = fopen(system_file(), "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
	ck_assert_int_eq(fclose(f), 0);
}

void secure_read_system(struct fetch *f)
{
	fetch_http->ca_file = system_file();
	http_ca_put(fetch_http->system);
	http_ca_read_system(fetch_http);
	ck_assert_ptr_nonnull(fetch_http->system);
}

void secure_open(void)
{
	size_t len;
	char *pem = secure_pem(-1, 1, &len);
	fetch_open();
	json_decref(faulty_ask(&secure_server, "POST", "/reset", ""));
	secure_system(pem, len);
	fetch_on_loop(secure_read_system, NULL);
	free(pem);
}
