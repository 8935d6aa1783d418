/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fs/check_fixture.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/check.h"
#include "tests/engine/tiny_bert.h"
#include "tests/engine/tiny_llama.h"
#include "tests/fs/temporary.h"

void check_setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p models/a models/b budgets/alice router cache guards/input "
		     "guards/output; echo 0.4 > models/a/price_input; ln -s a models/default;"
		     "echo http://127.0.0.1:9/v1 | tee models/a/endpoint > models/b/endpoint");
}

void check_teardown(void)
{
	temporary_remove();
}

char *check_said(int *n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	ck_assert_ptr_nonnull(out);
	*n = check_tree(temporary, out);
	fclose(out);
	return text;
}

void check_expect(const char *want)
{
	int n, lines = 0;
	char *text = check_said(&n);
	for (const char *p = want; *p; p++)
		lines += *p == '\n';
	ck_assert_str_eq(text, want);
	ck_assert_int_eq(n, lines);
	free(text);
}

void check_make_model(const char *file, bool encoder)
{
	const struct tiny_llama llama = {0};
	const struct tiny_bert bert = {.cls = true};
	char path[192];

	snprintf(path, sizeof path, "%s/%.*s/endpoint", temporary, (int)(strrchr(file, '/') - file),
		file);
	unlink(path);
	snprintf(path, sizeof path, "%s/%s", temporary, file);
	if (encoder)
		tiny_bert_write(&bert, path);
	else
		tiny_llama_write(&llama, path);
}
