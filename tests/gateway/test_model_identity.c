/* SPDX-License-Identifier: Apache-2.0 */
/* What of a model stands in the cache's keys: what answers depend on, and nothing that comes and
 * goes. */
#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/model.h"
#include "tests/engine/tiny_llama.h"
#include "tests/gateway/harness.h"
#include "tests/run_suite.h"

static struct harness h;
static struct model *tiny; /* its file is h.model */

static void setup(void)
{
	harness_make(&h, 0);
	harness_open(&h);
	tiny = gateway_model_find(h.g, "tiny");
}

static void teardown(void)
{
	model_put(tiny);
	harness_end(&h);
}

static void load(struct model *m)
{
	harness_model_verb(m, "unload");
	harness_model_verb(m, "load");
	ck_assert(harness_model_state(m, "ready\n"));
}

/* What it is now; known is 0, or 1: not loaded. buf_free it. */
static struct buf identity(struct model *m, int known)
{
	struct buf out = {0};
	ck_assert_int_eq(model_identity(m, "s", &out), known);
	return out;
}

static bool is_same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

static bool has(const struct buf *all, const struct buf *part)
{
	return memmem(all->data, all->len, part->data, part->len) != NULL;
}

/* In the same file, which as stat(2) sees it is as before. */
static void put_opening(const char *opening)
{
	struct stat st;
	ck_assert_int_eq(stat(h.model, &st), 0);
	tiny_llama_put_opening(h.model, opening);
	const struct timespec times[2] = {st.st_atim, st.st_mtim};
	ck_assert_int_eq(utimensat(AT_FDCWD, h.model, times, 0), 0);
}

START_TEST(openings_that_differ_alone_make_identities_that_differ)
{
	struct buf none, kind, again, wise;
	load(tiny);
	none = identity(tiny, 0);
	harness_model_verb(tiny, "unload");
	put_opening("Be kind.");
	load(tiny);
	kind = identity(tiny, 0);
	load(tiny);
	again = identity(tiny, 0);
	harness_model_verb(tiny, "unload");
	put_opening("Be wise.");
	load(tiny);
	wise = identity(tiny, 0);
	ck_assert(is_same(&kind, &again));
	ck_assert(!is_same(&kind, &wise));
	ck_assert(!is_same(&kind, &none));
	buf_free(&none);
	buf_free(&kind);
	buf_free(&again);
	buf_free(&wise);
}
END_TEST

START_TEST(a_template_counts_from_when_it_is_in_force)
{
	struct buf before, set_only, loaded;
	load(tiny);
	before = identity(tiny, 0);
	harness_model_set(tiny, "template", "plain");
	set_only = identity(tiny, 0); /* still rendered as before */
	load(tiny);
	loaded = identity(tiny, 0);
	ck_assert(!is_same(&before, &loaded));
	ck_assert(!is_same(&set_only, &loaded));
	buf_free(&before);
	buf_free(&set_only);
	buf_free(&loaded);
}
END_TEST

/* What is not loaded when the key is made may be loaded to answer: models/auto. */
START_TEST(how_this_program_renders_is_in_those_of_models_that_are_not_loaded)
{
	struct buf revision = {0}, is, all;
	struct model *automatic = gateway_model_find(h.g, "auto"),
		     *longer = gateway_model_find(h.g, "long");
	ck_assert_int_eq(local_provider.identity(NULL, &revision), 0);
	ck_assert_uint_gt(revision.len, 0);
	harness_model_verb(tiny, "unload");
	is = identity(tiny, 1);
	ck_assert(has(&is, &revision));
	gateway_model_remove(h.g, "long", NULL);
	all = identity(automatic, 0);
	ck_assert(has(&all, &revision));
	buf_free(&is);
	buf_free(&all);
	buf_free(&revision);
	model_put(automatic);
	model_put(longer);
}
END_TEST

/* So their answers outlive this program, and are found from the first request on. */
START_TEST(those_of_upstreams_have_nothing_of_this_program_nor_of_a_handle)
{
	struct buf revision = {0}, before, after;
	ck_assert_int_eq(gateway_model_create(h.g, "far", NULL), 0);
	struct model *far = gateway_model_find(h.g, "far");
	harness_model_set(far, "endpoint", "http://127.0.0.1:9/v1");
	ck_assert_int_eq(local_provider.identity(NULL, &revision), 0);
	before = identity(far, 0);
	struct loaded *handle = model_peek(far);
	ck_assert_ptr_nonnull(handle);
	after = identity(far, 0);
	ck_assert(is_same(&before, &after));
	ck_assert(!has(&after, &revision));
	loaded_put(handle);
	buf_free(&before);
	buf_free(&after);
	buf_free(&revision);
	model_put(far);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("model_identity");
	TCase *t = tcase_create("model_identity");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, openings_that_differ_alone_make_identities_that_differ);
	tcase_add_test(t, a_template_counts_from_when_it_is_in_force);
	tcase_add_test(t, how_this_program_renders_is_in_those_of_models_that_are_not_loaded);
	tcase_add_test(t, those_of_upstreams_have_nothing_of_this_program_nor_of_a_handle);
	suite_add_tcase(suite, t);
	return run_suite(suite);
}
