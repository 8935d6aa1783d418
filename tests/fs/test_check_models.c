/* SPDX-License-Identifier: Apache-2.0 */
/* llmfs --check of models: whether those that are named are there, and can do what they are named
 * for. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fs/check_fixture.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

START_TEST(a_model_that_is_nothing_yet_is_a_fault_where_it_is_named)
{
	temporary_sh("rm models/?/endpoint; echo b > models/a/fallback; echo b > "
		     "cache/embedding_model");
	check_expect("models/a/fallback: the model b has neither path nor endpoint\n"
		     "models/a: has neither path nor endpoint\n"
		     "models/b: has neither path nor endpoint\n"
		     "cache/embedding_model: the model b has neither path nor endpoint\n"
		     "models/default: the model a has neither path nor endpoint\n");
}
END_TEST

START_TEST(a_model_that_is_nothing_yet_is_a_fault_of_its_own)
{
	temporary_sh("mkdir models/auto models/half; echo 0.7 > models/half/quality; : > "
		     "models/half/path");
	check_expect("models/half: has neither path nor endpoint\n");
	/* What stands there is no path; that is said, and no more. */
	temporary_sh("echo nowhere.gguf > models/half/path");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, "nowhere.gguf"));
	free(text);
	temporary_sh("rm models/half/path; echo nonsense > models/half/endpoint");
	text = check_said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, "models/half/endpoint:1: "));
	free(text);
	temporary_sh("echo http://127.0.0.1:9/v1 > models/half/endpoint");
	check_expect("");
}
END_TEST

START_TEST(what_is_named_must_be_there)
{
	temporary_sh("ln -sfn gone models/default; echo nowhere.gguf > models/a/path;"
		     "echo 'b nobody' > models/a/fallback; echo mini > cache/embedding_model;"
		     "echo 'model judge' > guards/moderation");
	int n;
	char *text = check_said(&n);
	ck_assert_int_eq(n, 5);
	ck_assert_ptr_nonnull(strstr(text, "models/default: there is no model gone\n"));
	ck_assert_ptr_nonnull(strstr(text, "nowhere.gguf: No such file or directory\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/a/fallback: there is no model nobody\n"));
	ck_assert_ptr_nonnull(strstr(text, "cache/embedding_model: there is no model mini\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/moderation: there is no model judge\n"));
	free(text);
}
END_TEST

START_TEST(models_need_a_default)
{
	temporary_sh("rm models/default");
	check_expect("models/default: is not there: ln -s NAME models/default, or name one in each "
		     "session\n");
	temporary_sh("rm -r models");
	check_expect("");
}
END_TEST

START_TEST(a_back_end_that_this_build_has_not_is_a_fault)
{
	temporary_sh("echo cuda > models/a/backend; echo cpu > models/b/backend");
	check_expect(LLMFS_HAS_CUDA ? ""
				    : "models/a/backend: this build has no back end cuda: it has "
				      "cpu\n");
}
END_TEST

START_TEST(a_model_of_the_routers_gives_no_embeddings)
{
	temporary_sh("echo auto > cache/embedding_model");
	check_expect("cache/embedding_model: the model auto is the router's and gives no "
		     "embeddings\n");
	temporary_sh("echo default > cache/embedding_model; echo default > models/b/fallback");
	check_expect("");
}
END_TEST

/* Which model, which file, and what is wrong with it; of two models, a fault each. */
static void is_said_of(const char *model, const char *why)
{
	char line[256];
	int n;
	char *text = check_said(&n), *at;
	snprintf(line, sizeof line, "models/%s/path: ", model);
	ck_assert_int_eq(n, 2);
	at = strstr(text, line);
	ck_assert_msg(at, "%s", text);
	*strchrnul(at, '\n') = '\0';
	snprintf(line, sizeof line, "/models/%s/model.gguf: ", model);
	ck_assert_msg(strstr(at, line), "%s", at);
	ck_assert_msg(strstr(at, why), "%s", at);
	free(text);
}

START_TEST(a_damaged_file_of_a_model_is_a_fault)
{
	check_make_model("models/a/model.gguf", false);
	check_make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path");
	check_expect("");
	temporary_sh("truncate -s -100 models/a/model.gguf; echo GGUX > models/b/model.gguf");
	is_said_of("a", "truncated, or a download that has not finished");
	is_said_of("b", "not a GGUF file");
	temporary_sh("truncate -s 100 models/a/model.gguf; : > models/b/model.gguf");
	is_said_of("a", "truncated, or a download that has not finished");
	is_said_of("b", "the file is empty");
	/* Where an endpoint is, nothing is read of it. */
	temporary_sh("echo http://127.0.0.1:9/v1 | tee models/a/endpoint > models/b/endpoint");
	check_expect("");
}
END_TEST

START_TEST(a_template_that_is_set_is_that_of_its_file)
{
	check_make_model("models/a/model.gguf", false);
	temporary_sh("echo model.gguf > models/a/path; echo chatml > models/a/template");
	check_expect("");
}
END_TEST

START_TEST(a_model_named_for_what_it_cannot_do_is_a_fault)
{
	check_make_model("models/a/model.gguf", false);
	check_make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path;"
		     "echo b > cache/embedding_model; echo model a > guards/moderation");
	check_expect("");
	temporary_sh("echo a > cache/embedding_model; echo model b > guards/moderation;"
		     "ln -sfn b models/default");
	check_expect("cache/embedding_model: the model a gives no embeddings\n"
		     "models/default: the model b gives no answers: it is for embeddings\n"
		     "guards/moderation: the model b gives no answers: it is for embeddings\n");
	temporary_sh("rm models/b/path guards/moderation; ln -sfn a models/default;"
		     "echo http://127.0.0.1:9 > models/b/endpoint;"
		     "echo b > cache/embedding_model");
	check_expect("");
	temporary_sh("echo anthropic > models/b/protocol");
	check_expect("cache/embedding_model: the model b gives no embeddings\n");
}
END_TEST

START_TEST(a_fallback_must_give_answers)
{
	check_make_model("models/a/model.gguf", false);
	check_make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path; mkdir models/c;"
		     "printf 'a b\\nd nobody\\n' > models/c/fallback; mkdir models/d;"
		     "echo json > models/d/capabilities;"
		     "echo ../a/model.gguf > models/d/path");
	check_expect(
		"models/c/fallback:1: the model b gives no answers: it is for embeddings\n"
		"models/c/fallback:2: the model d does not chat: chat is none of its capabilities\n"
		"models/c/fallback:2: there is no model nobody\n"
		"models/c: has neither path nor endpoint\n");
	temporary_sh("echo 'a c' > models/c/fallback;"
		     "echo ../a/model.gguf > models/c/path");
	check_expect("models/c/fallback: c is this model itself\n");
}
END_TEST

/* As status has it of a mount: test_gateway_status.c. */
START_TEST(the_routers_models_are_no_judges_under_the_name_of_the_default_either)
{
	temporary_sh("echo 'model auto' > guards/moderation");
	check_expect("guards/moderation: auto is the router's: it is not asked\n");
	temporary_sh("echo 'model cascade' > guards/moderation");
	check_expect("guards/moderation: cascade is the router's: it is not asked\n");
	temporary_sh(
		"echo 'model default' > guards/moderation; echo default > router/cascade_judge");
	check_expect("");
	temporary_sh("ln -sfn auto/ models/default");
	check_expect("router/cascade_judge: auto is the router's: it is not asked\n"
		     "guards/moderation: auto is the router's: it is not asked\n");
}
END_TEST

START_TEST(models_that_the_router_asks_must_give_answers)
{
	check_make_model("models/a/model.gguf", false);
	check_make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path; mkdir -p router;"
		     "echo '# nobody, at the moment' > router/cascade_judge;"
		     "printf '# this one:\na # or b\n' > router/classifier_model");
	check_expect("");
	temporary_sh("echo b > router/cascade_judge; echo nobody > router/classifier_model");
	check_expect("router/cascade_judge: the model b gives no answers: it is for embeddings\n"
		     "router/classifier_model: there is no model nobody\n");
	/* As a judge it need not chat. */
	temporary_sh("mkdir models/d; cp models/a/model.gguf models/a/path models/d;"
		     "echo json > models/d/capabilities; rm router/classifier_model;"
		     "echo d > router/cascade_judge");
	check_expect("");
	temporary_sh("mkdir models/c; echo c > router/cascade_judge");
	check_expect("models/c: has neither path nor endpoint\n"
		     "router/cascade_judge: the model c has neither path nor endpoint\n");
	temporary_sh("echo auto > router/cascade_judge; rmdir models/c");
	check_expect("router/cascade_judge: must be a model, and none of the router's own\n");
	/* They need not chat. */
	temporary_sh("mkdir models/d; echo ../a/model.gguf > models/d/path;"
		     "echo json > models/d/capabilities; echo '# it:' > router/classifier_model;"
		     "echo d | tee router/cascade_judge >> router/classifier_model");
	check_expect("");
}
END_TEST

START_TEST(a_fault_of_a_setting_is_not_told_of_the_models_file_too)
{
	check_make_model("models/a/model.gguf", false);
	temporary_sh("echo model.gguf > models/a/path; echo nonsense > models/a/template;"
		     "rm models/b/endpoint; mkdir models/b/endpoint; echo ../a/model.gguf > "
		     "models/b/path");
	int n;
	char *text = check_said(&n);
	ck_assert_msg(n == 2, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/a/template: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint: not a regular file"));
	free(text);
	/* The file's own is told beside a fault that has nothing to do with it. */
	temporary_sh("rm models/a/template; rmdir models/b/endpoint; echo x > models/a/weight;"
		     "truncate -s -100 models/a/model.gguf");
	text = check_said(&n);
	ck_assert_msg(n == 3, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/a/weight: "));
	ck_assert_ptr_nonnull(strstr(text, "models/a/path: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/path: "));
	free(text);
}
END_TEST

START_TEST(what_others_could_have_written_is_not_followed_by_root)
{
	temporary_sh("echo GGUX > models/a/model.gguf; echo model.gguf > models/a/path;"
		     "chmod o+w models/a/path");
	int n;
	char *text = check_said(&n);
	ck_assert_msg(n == 1, "%s", text);
	const char *why = "can be written by a user other than root";
	ck_assert_msg(!strstr(text, why) == (geteuid() != 0), "%s", text);
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/check_models");
	TCase *t = tcase_create("check_models");
	tcase_add_checked_fixture(t, check_setup, check_teardown);
	tcase_add_test(t, a_model_that_is_nothing_yet_is_a_fault_where_it_is_named);
	tcase_add_test(t, a_model_that_is_nothing_yet_is_a_fault_of_its_own);
	tcase_add_test(t, what_is_named_must_be_there);
	tcase_add_test(t, models_need_a_default);
	tcase_add_test(t, a_back_end_that_this_build_has_not_is_a_fault);
	tcase_add_test(t, a_model_of_the_routers_gives_no_embeddings);
	tcase_add_test(t, a_damaged_file_of_a_model_is_a_fault);
	tcase_add_test(t, a_template_that_is_set_is_that_of_its_file);
	tcase_add_test(t, a_model_named_for_what_it_cannot_do_is_a_fault);
	tcase_add_test(t, a_fallback_must_give_answers);
	tcase_add_test(t, the_routers_models_are_no_judges_under_the_name_of_the_default_either);
	tcase_add_test(t, models_that_the_router_asks_must_give_answers);
	tcase_add_test(t, a_fault_of_a_setting_is_not_told_of_the_models_file_too);
	tcase_add_test(t, what_others_could_have_written_is_not_followed_by_root);
	suite_add_tcase(s, t);
	return run_suite(s);
}
