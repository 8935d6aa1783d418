/* SPDX-License-Identifier: Apache-2.0 */
/* llmfs --check: every fault of a TREE, each once, with its line. */
#include "fs/check.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/engine/tiny_bert.h"
#include "tests/engine/tiny_llama.h"
#include "tests/fs/temporary.h"
#include "tests/run_suite.h"

static void setup(void)
{
	temporary_make();
	temporary_sh("mkdir -p models/a models/b budgets/alice router cache guards/input "
		     "guards/output; echo 0.4 > models/a/price_input; ln -s a models/default;"
		     "echo http://127.0.0.1:9/v1 | tee models/a/endpoint > models/b/endpoint");
}

static void teardown(void)
{
	temporary_remove();
}

/* What is said of the tree; free() it. */
static char *said(int *n)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	ck_assert_ptr_nonnull(out);
	*n = check_tree(temporary, out);
	fclose(out);
	return text;
}

static void expect(const char *want)
{
	int n, lines = 0;
	char *text = said(&n);
	for (const char *p = want; *p; p++)
		lines += *p == '\n';
	ck_assert_str_eq(text, want);
	ck_assert_int_eq(n, lines);
	free(text);
}

/* The file of a model in the tree, which has no endpoint then. */
static void make_model(const char *file, bool encoder)
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

START_TEST(a_good_tree_has_no_fault)
{
	make_model("models/a/model.gguf", false);
	temporary_sh("echo 'block x /x/' > guards/input/a.rules; echo 5 > budgets/alice/limit;"
		     "echo 'model b' > guards/moderation; echo hello > models/a/README;"
		     "echo model.gguf > models/a/path; echo b > models/a/fallback;"
		     " echo 60 > cache/ttl; echo x > cache/stats");
	expect("");
}
END_TEST

START_TEST(a_value_that_a_mount_would_refuse_is_a_fault)
{
	temporary_sh("echo grpc > models/b/protocol; echo much > budgets/alice/limit;"
		     "echo luck > router/policy; echo soon > cache/ttl;"
		     "echo sk-secret > models/a/key; ln -s x models/a/quality");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 6);
	ck_assert_ptr_nonnull(strstr(text, "models/b/protocol:1: must be openai or anthropic\n"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/limit:1: must be dollars"));
	ck_assert_ptr_nonnull(strstr(text, "router/policy:1: "));
	ck_assert_ptr_nonnull(strstr(text, "cache/ttl:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/a/key:1: a secret does not belong in TREE"));
	ck_assert_ptr_nonnull(strstr(text, "models/a/quality:1: not a regular file\n"));
	ck_assert_ptr_null(strstr(text, "sk-secret"));
	free(text);
}
END_TEST

START_TEST(of_several_lines_the_one_with_the_fault_is_named)
{
	temporary_sh("printf 'http://x/v1\\nhttp://y/v1\\nftp://z\\nhttp://w/v1\\n' > "
		     "models/b/endpoint; printf 'bob\\ncarol\\nno/name\\n' > budgets/alice/members;"
		     "printf '# mine\\nload -1\\n' > router/weights");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(
		strstr(text, "router/weights:2: load: must be a number from 0 to 1000000\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:3: "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:3: must be user names"));
	free(text);
}
END_TEST

START_TEST(each_line_with_a_fault_is_told)
{
	temporary_sh("printf 'ftp://z\\nhttp://y/v1\\nhttp://w/v1 weight=0\\n' > "
		     "models/b/endpoint; printf 'bob\\nno/name\\ncarol\\nnor this\\n' > "
		     "budgets/alice/members; printf 'luck 1\\nload -1\\ncold 1\\ncold 2\\n' > "
		     "router/weights; printf 'a\\nauto\\nnobody\\na/b\\n' > models/b/fallback");
	int n;
	char *text = said(&n);
	ck_assert_msg(n == 10, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:3: "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:2: must be user names"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:4: must be user names"));
	ck_assert_ptr_nonnull(strstr(text, "router/weights:1: there is no luck"));
	ck_assert_ptr_nonnull(strstr(text, "router/weights:2: load: must be a number"));
	ck_assert_ptr_nonnull(strstr(text, "router/weights:4: cold stands in line 3 already"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/fallback:2: auto is the router's"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/fallback:4: must be names below models/"));
	ck_assert_ptr_nonnull(strstr(text, "models/b/fallback:1: there is no model nobody"));
	free(text);
}
END_TEST

START_TEST(a_file_of_one_value_has_one_fault)
{
	temporary_sh("printf 'x\\n5\\n' > models/b/weight; printf '1\\n2\\n' > models/b/quality;"
		     "printf 'ftp://x\\n\\n' > models/b/endpoint");
	int n;
	char *text = said(&n);
	ck_assert_msg(n == 3, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/b/weight:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/quality:2: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:1: "));
	free(text);
}
END_TEST

START_TEST(each_rule_with_a_fault_is_told)
{
	temporary_sh(
		"printf 'block one /a/\\nblock two /b/\\n' > guards/input/a.rules;"
		"printf 'blok x /x/\\nwarn two /b/\\n\\nblock y /(/\\nwarn one /c/\\nwarn one "
		"/d/\\n' > guards/input/b.rules; printf 'treshold 1\\nmodel nobody\\naction no\\n' "
		"> guards/moderation");
	expect("guards/input/b.rules:1:1: \"blok\" is no action: block, redact or warn\n"
	       "guards/input/b.rules:4:11: missing closing parenthesis\n"
	       "guards/input/b.rules:6:6: the name one is taken by line 5\n"
	       "guards/input/b.rules:2:1: the rule two is in input/a.rules too\n"
	       "guards/input/b.rules:5:1: the rule one is in input/a.rules too\n"
	       "guards/moderation:1:1: there is no setting treshold; there are model, threshold, "
	       "stages, action, replacement, on_error, timeout_ms, window_chars and category\n"
	       "guards/moderation:3:8: action: must be block, replace or warn\n"
	       "guards/moderation:1: there is no model nobody\n");
}
END_TEST

START_TEST(a_fault_of_a_whole_file_is_told_once)
{
	temporary_sh("seq 2005 | sed 's/.*/block r& json/' > guards/output/many.rules;"
		     "yes 'blok x /x/' | head -n 150 > guards/output/bent.rules");
	int n;
	char *text = said(&n);
	ck_assert_msg(n == 102, "%d: %s", n, text);
	ck_assert_ptr_nonnull(strstr(text, "many.rules:2001:1: a file has at most 2000 rules\n"));
	ck_assert_ptr_nonnull(strstr(text, "bent.rules:100:1: there may be more behind it"));
	free(text);
}
END_TEST

START_TEST(no_more_than_a_hundred_faults_of_a_setting_are_told)
{
	temporary_sh("yes 'no/name' | head -n 100 > budgets/alice/members");
	int n;
	char *text = said(&n);
	ck_assert_msg(n == 101, "%d: %s", n, text);
	ck_assert_ptr_nonnull(strstr(text, "members:100: there may be more behind it"));
	free(text);
	temporary_sh("yes 'no/name' | head -n 99 > budgets/alice/members");
	text = said(&n);
	ck_assert_msg(n == 99, "%d: %s", n, text);
	free(text);
}
END_TEST

/* One more than a mount takes: guards_files.c. */
START_TEST(there_is_room_for_as_many_files_of_rules_as_in_a_mount)
{
	temporary_sh("mkdir -p guards/input guards/output; for i in $(seq 100 354); do echo "
		     "\"warn r$i /a/\" > guards/input/f$i.rules; done; echo 'model b' > "
		     "guards/moderation");
	expect("");
	temporary_sh("echo 'blok x /x/' | tee guards/input/f100.rules > guards/output/z.rules");
	expect("guards/input/f100.rules:1:1: \"blok\" is no action: block, redact or warn\n"
	       "guards/output/z.rules:1:1: guards/ has room for 256 files\n");
}
END_TEST

START_TEST(rules_with_a_fault_count_among_those_that_a_file_may_have)
{
	temporary_sh("{ seq 1999 | sed 's/.*/block r& json/'; echo 'blok x json'; } > "
		     "guards/output/many.rules");
	expect("guards/output/many.rules:2000:1: \"blok\" is no action: block, redact or warn\n");
	temporary_sh("{ echo 'blok x json'; seq 2000 | sed 's/.*/block r& json/'; } > "
		     "guards/output/many.rules");
	expect("guards/output/many.rules:1:1: \"blok\" is no action: block, redact or warn\n"
	       "guards/output/many.rules:2001:1: a file has at most 2000 rules\n");
}
END_TEST

START_TEST(a_model_that_is_nothing_yet_is_a_fault_where_it_is_named)
{
	temporary_sh("rm models/?/endpoint; echo b > models/a/fallback; echo b > "
		     "cache/embedding_model");
	expect("models/a/fallback:1: the model b has neither path nor endpoint\n"
	       "models/a:1: has neither path nor endpoint\n"
	       "models/b:1: has neither path nor endpoint\n"
	       "cache/embedding_model:1: the model b has neither path nor endpoint\n"
	       "models/default:1: the model a has neither path nor endpoint\n");
}
END_TEST

START_TEST(a_model_that_is_nothing_yet_is_a_fault_of_its_own)
{
	temporary_sh("mkdir models/auto models/half; echo 0.7 > models/half/quality; : > "
		     "models/half/path");
	expect("models/half:1: has neither path nor endpoint\n");
	/* What stands there is no path; that is said, and no more. */
	temporary_sh("echo nowhere.gguf > models/half/path");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, "nowhere.gguf"));
	free(text);
	temporary_sh("rm models/half/path; echo nonsense > models/half/endpoint");
	text = said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, "models/half/endpoint:1: "));
	free(text);
	temporary_sh("echo http://127.0.0.1:9/v1 > models/half/endpoint");
	expect("");
}
END_TEST

START_TEST(of_very_many_lines_the_one_with_the_fault_is_found_without_reading_each_prefix)
{
	/* 64 KiB: one look at each line's prefix would take a quarter of a minute. */
	temporary_sh("{ yes a | head -n 21000; echo no/name; yes b | head -n 11000; } "
		     "> budgets/alice/members");
	int n;
	clock_t began = clock();
	char *text = said(&n);
	clock_t took = clock() - began;
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, "budgets/alice/members:21001: must be user names"));
	ck_assert_int_lt(took, 3 * CLOCKS_PER_SEC);
	free(text);
}
END_TEST

START_TEST(rules_are_compiled_and_names_are_unique_in_a_stage)
{
	temporary_sh("printf '# x\\nblock one /a(/\\n' > guards/input/a.rules;"
		     "printf 'block two /a/\\n' > guards/input/b.rules;"
		     "printf 'warn two /b/\\n' > guards/input/c.rules;"
		     "printf 'warn two /b/\\n' > guards/output/c.rules;"
		     "printf 'model judge\\nthreshold 2\\n' > guards/moderation");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 4); /* and there is no such judge */
	ck_assert_ptr_nonnull(strstr(text, "guards/input/a.rules:2:"));
	ck_assert_ptr_nonnull(
		strstr(text, "guards/input/c.rules:1:1: the rule two is in input/b.rules too\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/moderation:2:"));
	free(text);
}
END_TEST

START_TEST(what_is_named_must_be_there)
{
	temporary_sh("ln -sfn gone models/default; echo nowhere.gguf > models/a/path;"
		     "echo 'b nobody' > models/a/fallback; echo mini > cache/embedding_model;"
		     "echo 'model judge' > guards/moderation");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 5);
	ck_assert_ptr_nonnull(strstr(text, "models/default:1: there is no model gone\n"));
	ck_assert_ptr_nonnull(strstr(text, "nowhere.gguf: No such file or directory\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/a/fallback:1: there is no model nobody\n"));
	ck_assert_ptr_nonnull(strstr(text, "cache/embedding_model:1: there is no model mini\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/moderation:1: there is no model judge\n"));
	free(text);
}
END_TEST

START_TEST(models_need_a_default)
{
	temporary_sh("rm models/default");
	expect("models/default:1: is not there: ln -s NAME models/default, or name one in each "
	       "session\n");
	temporary_sh("rm -r models");
	expect("");
}
END_TEST

START_TEST(a_setting_with_a_slip_in_its_name_is_a_fault)
{
	temporary_sh("echo 1 > models/a/price-input; echo 1 > budgets/alice/limits;"
		     "echo 1 > router/notes.txt; echo 1 > router/.policy.swp");
	expect("models/a/price-input:1: no setting has that name\n"
	       "budgets/alice/limits:1: no setting has that name\n");
}
END_TEST

START_TEST(a_directory_with_nothing_of_a_tree_is_a_fault)
{
	temporary_sh("rm -r models budgets router cache guards; echo x > notes; mkdir src");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(strstr(text, ":1: not a TREE: it has none of models"));
	free(text);
}
END_TEST

START_TEST(names_that_a_mount_would_ignore_are_faults)
{
	temporary_sh("mkdir model guards/extra 'models/a b' .git Docs; echo x > README");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(strstr(text, "model:1: no directory of TREE has that name\n"));
	ck_assert_ptr_nonnull(strstr(text, "guards/extra:1: no directory of TREE has that name\n"));
	ck_assert_ptr_nonnull(strstr(text, "models/a b:1: not a name of a model: "));
	free(text);
}
END_TEST

START_TEST(an_empty_file_of_rules_is_a_fault)
{
	temporary_sh("> guards/input/a.rules; echo '# none' > guards/input/b.rules");
	expect("guards/input/a.rules:1: the file is empty: delete it, or write a comment into "
	       "it\n");
}
END_TEST

START_TEST(a_back_end_that_this_build_has_not_is_a_fault)
{
	temporary_sh("echo cuda > models/a/backend; echo cpu > models/b/backend");
	expect(LLMFS_HAS_CUDA ? ""
			      : "models/a/backend:1: this build has no back end cuda: it has "
				"cpu\n");
}
END_TEST

START_TEST(a_model_of_the_routers_gives_no_embeddings)
{
	temporary_sh("echo auto > cache/embedding_model");
	expect("cache/embedding_model:1: the model auto is the router's and gives no "
	       "embeddings\n");
	temporary_sh("echo default > cache/embedding_model; echo default > models/b/fallback");
	expect("");
}
END_TEST

START_TEST(a_damaged_file_of_a_model_is_a_fault)
{
	make_model("models/a/model.gguf", false);
	make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path");
	expect("");
	temporary_sh("truncate -s -100 models/a/model.gguf; echo GGUX > models/b/model.gguf");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 2);
	ck_assert_ptr_nonnull(strstr(text, "models/a/path:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/path:1: "));
	free(text);
	/* Where an endpoint is, nothing is read of it. */
	temporary_sh("echo http://127.0.0.1:9/v1 | tee models/a/endpoint > models/b/endpoint");
	expect("");
}
END_TEST

START_TEST(a_template_that_is_set_is_that_of_its_file)
{
	make_model("models/a/model.gguf", false);
	temporary_sh("echo model.gguf > models/a/path; echo chatml > models/a/template");
	expect("");
}
END_TEST

START_TEST(a_model_named_for_what_it_cannot_do_is_a_fault)
{
	make_model("models/a/model.gguf", false);
	make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path;"
		     "echo b > cache/embedding_model; echo model a > guards/moderation");
	expect("");
	temporary_sh("echo a > cache/embedding_model; echo model b > guards/moderation;"
		     "ln -sfn b models/default");
	expect("cache/embedding_model:1: the model a gives no embeddings\n"
	       "models/default:1: the model b gives no answers: it is for embeddings\n"
	       "guards/moderation:1: the model b gives no answers: it is for embeddings\n");
	temporary_sh("rm models/b/path guards/moderation; ln -sfn a models/default;"
		     "echo http://127.0.0.1:9 > models/b/endpoint;"
		     "echo b > cache/embedding_model");
	expect("");
	temporary_sh("echo anthropic > models/b/protocol");
	expect("cache/embedding_model:1: the model b gives no embeddings\n");
}
END_TEST

START_TEST(a_fallback_must_give_answers)
{
	make_model("models/a/model.gguf", false);
	make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path; mkdir models/c;"
		     "printf 'a b\\nd nobody\\n' > models/c/fallback; mkdir models/d;"
		     "echo json > models/d/capabilities;"
		     "echo ../a/model.gguf > models/d/path");
	expect("models/c/fallback:1: the model b gives no answers: it is for embeddings\n"
	       "models/c/fallback:1: the model d does not chat: chat is none of its capabilities\n"
	       "models/c/fallback:1: there is no model nobody\n"
	       "models/c:1: has neither path nor endpoint\n");
	temporary_sh("echo 'a c' > models/c/fallback;"
		     "echo ../a/model.gguf > models/c/path");
	expect("models/c/fallback:1: c is this model itself\n");
}
END_TEST

/* As status has it of a mount: test_gateway_status.c. */
START_TEST(the_routers_models_are_no_judges_under_the_name_of_the_default_either)
{
	temporary_sh("echo 'model auto' > guards/moderation");
	expect("guards/moderation:1: auto is the router's: it is not asked\n");
	temporary_sh("echo 'model cascade' > guards/moderation");
	expect("guards/moderation:1: cascade is the router's: it is not asked\n");
	temporary_sh(
		"echo 'model default' > guards/moderation; echo default > router/cascade_judge");
	expect("");
	temporary_sh("ln -sfn auto models/default");
	expect("router/cascade_judge:1: auto is the router's: it is not asked\n"
	       "guards/moderation:1: auto is the router's: it is not asked\n");
}
END_TEST

/* The output has it somewhere. */
static void expect_line(const char *line)
{
	int n;
	char *text = said(&n);
	ck_assert_msg(strstr(text, line) != NULL, "%s is not in:\n%s", line, text);
	free(text);
}

START_TEST(what_lies_astray_is_told_and_what_is_peoples_is_not)
{
	expect("");
	temporary_sh("mkdir -p guards/input guards/output budgets router cache;"
		     "cd guards/output; touch x.rules~ x.rules.bak '#x#' .y NOTES x.md");
	expect("");
	temporary_sh(
		"cp guards/output/x.md guards/output/old.rule; mkdir guards/input/more;"
		"touch guards/input/mine guards/input/a.RULES guards/input/b.rules.txt;"
		"touch budgets/carol; mkdir budgets/bob budgets/bob/limits router/weight cache/d");
	expect_line(
		"guards/output/old.rule:1: not in force: files of rules are called NAME.rules\n");
	expect_line("guards/input/mine:1: not in force: ");
	expect_line("guards/input/a.RULES:1: not in force: ");
	expect_line("guards/input/b.rules.txt:1: not in force: ");
	expect_line("guards/input/more:1: no directory of TREE has that name\n");
	expect_line("budgets/carol:1: not a directory, and thus no ");
	expect_line("budgets/bob/limits:1: no directory of TREE has that name\n");
	expect_line("router/weight:1: no directory of TREE has that name\n");
	expect_line("cache/d:1: no directory of TREE has that name\n");
}
END_TEST

START_TEST(models_that_the_router_asks_must_give_answers)
{
	make_model("models/a/model.gguf", false);
	make_model("models/b/model.gguf", true);
	temporary_sh("echo model.gguf | tee models/a/path > models/b/path; mkdir -p router;"
		     "echo '# nobody, at the moment' > router/cascade_judge;"
		     "printf '# this one:\na # or b\n' > router/classifier_model");
	expect("");
	temporary_sh("echo b > router/cascade_judge; echo nobody > router/classifier_model");
	expect("router/cascade_judge:1: the model b gives no answers: it is for embeddings\n"
	       "router/classifier_model:1: there is no model nobody\n");
	/* As a judge it need not chat. */
	temporary_sh("mkdir models/d; cp models/a/model.gguf models/a/path models/d;"
		     "echo json > models/d/capabilities; rm router/classifier_model;"
		     "echo d > router/cascade_judge");
	expect("");
	temporary_sh("mkdir models/c; echo c > router/cascade_judge");
	expect("models/c:1: has neither path nor endpoint\n"
	       "router/cascade_judge:1: the model c has neither path nor endpoint\n");
	temporary_sh("echo auto > router/cascade_judge; rmdir models/c");
	expect("router/cascade_judge:1: must be a model, and none of the router's own\n");
	/* They need not chat. */
	temporary_sh("mkdir models/d; echo ../a/model.gguf > models/d/path;"
		     "echo json > models/d/capabilities; echo '# it:' > router/classifier_model;"
		     "echo d | tee router/cascade_judge >> router/classifier_model");
	expect("");
}
END_TEST

START_TEST(a_fault_of_a_setting_is_not_told_of_the_models_file_too)
{
	make_model("models/a/model.gguf", false);
	temporary_sh("echo model.gguf > models/a/path; echo nonsense > models/a/template;"
		     "rm models/b/endpoint; mkdir models/b/endpoint; echo ../a/model.gguf > "
		     "models/b/path");
	int n;
	char *text = said(&n);
	ck_assert_msg(n == 2, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/a/template:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/endpoint:1: "));
	free(text);
	/* The file's own is told beside a fault that has nothing to do with it. */
	temporary_sh("rm models/a/template; rmdir models/b/endpoint; echo x > models/a/weight;"
		     "truncate -s -100 models/a/model.gguf");
	text = said(&n);
	ck_assert_msg(n == 3, "%s", text);
	ck_assert_ptr_nonnull(strstr(text, "models/a/weight:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/a/path:1: "));
	ck_assert_ptr_nonnull(strstr(text, "models/b/path:1: "));
	free(text);
}
END_TEST

START_TEST(what_others_could_have_written_is_not_followed_by_root)
{
	temporary_sh("echo GGUX > models/a/model.gguf; echo model.gguf > models/a/path;"
		     "chmod o+w models/a/path");
	int n;
	char *text = said(&n);
	ck_assert_msg(n == 1, "%s", text);
	const char *why = "can be written by a user other than root";
	ck_assert_msg(!strstr(text, why) == (geteuid() != 0), "%s", text);
	free(text);
}
END_TEST

START_TEST(a_name_is_no_line_and_no_command_to_a_terminal)
{
	temporary_sh("rm -r models; echo 'block x /x/' > "
		     "\"$(printf 'guards/input/a\\nbudgets-x:1: \\033[31m\\302\\233.rules')\";"
		     "mkdir \"$(printf 'budgets/b\\303\\274\\377')\"");
	int n;
	char *text = said(&n);
	int lines = 0;
	for (char *p = text; *p; p++)
		lines += *p == '\n';
	ck_assert_int_eq(lines, n);
	ck_assert_ptr_nonnull(strstr(text, "guards/input/a?budgets-x:1: ?[31m??.rules:1: not a "));
	ck_assert_ptr_nonnull(strstr(text, "budgets/b\303\274?:1: not a name of a "));
	ck_assert_ptr_null(strchr(text, '\033'));
	free(text);
}
END_TEST

START_TEST(symlinks_for_directories_are_faults)
{
	temporary_sh("mkdir Elsewhere; ln -s ../Elsewhere models/c; ln -s bob budgets/carol;"
		     "rm -r router; ln -s Elsewhere router");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 3);
	ck_assert_ptr_nonnull(strstr(text, "models/c:1: a symlink, which is not followed"));
	ck_assert_ptr_nonnull(strstr(text, "budgets/carol:1: a symlink, which is not followed"));
	ck_assert_ptr_nonnull(strstr(text, "router:1: is not a directory (symlinks are not"));
	free(text);
	temporary_sh("mv models Elsewhere; ln -s Elsewhere/models models");
	text = said(&n);
	ck_assert_ptr_nonnull(strstr(text, "models:1: is not a directory (symlinks are not"));
	free(text);
}
END_TEST

START_TEST(files_of_rules_with_impossible_names_are_faults)
{
	temporary_sh("cd guards/input; echo 'block x /x/' > 'my own.rules';"
		     "echo > '.a.rules.swp'; echo > '#a.rules'; echo > notes.txt;"
		     "echo 'block x /x/' > $(printf 'x%.0s' $(seq 60)).rules");
	int n;
	char *text = said(&n);
	ck_assert_int_eq(n, 2);
	ck_assert_ptr_nonnull(
		strstr(text, "guards/input/my own.rules:1: not a name of a file of rules"));
	ck_assert_ptr_nonnull(strstr(text, "xxx.rules:1: not a name of a file of rules"));
	free(text);
}
END_TEST

START_TEST(a_tree_that_is_not_there_is_an_error)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	ck_assert_int_lt(check_tree("/nowhere/at/all", out), 0);
	fclose(out);
	ck_assert_str_eq(text, "TREE /nowhere/at/all: No such file or directory\n");
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/check");
	TCase *t = tcase_create("check");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_good_tree_has_no_fault);
	tcase_add_test(t, a_value_that_a_mount_would_refuse_is_a_fault);
	tcase_add_test(t, of_several_lines_the_one_with_the_fault_is_named);
	tcase_add_test(t, each_line_with_a_fault_is_told);
	tcase_add_test(t, a_file_of_one_value_has_one_fault);
	tcase_add_test(t, each_rule_with_a_fault_is_told);
	tcase_add_test(t, a_fault_of_a_whole_file_is_told_once);
	tcase_add_test(t, no_more_than_a_hundred_faults_of_a_setting_are_told);
	tcase_add_test(t, there_is_room_for_as_many_files_of_rules_as_in_a_mount);
	tcase_add_test(t, rules_with_a_fault_count_among_those_that_a_file_may_have);
	tcase_add_test(t, a_model_that_is_nothing_yet_is_a_fault_where_it_is_named);
	tcase_add_test(
		t, of_very_many_lines_the_one_with_the_fault_is_found_without_reading_each_prefix);
	tcase_add_test(t, rules_are_compiled_and_names_are_unique_in_a_stage);
	tcase_add_test(t, what_is_named_must_be_there);
	tcase_add_test(t, models_need_a_default);
	tcase_add_test(t, a_setting_with_a_slip_in_its_name_is_a_fault);
	tcase_add_test(t, a_directory_with_nothing_of_a_tree_is_a_fault);
	tcase_add_test(t, names_that_a_mount_would_ignore_are_faults);
	tcase_add_test(t, an_empty_file_of_rules_is_a_fault);
	tcase_add_test(t, a_back_end_that_this_build_has_not_is_a_fault);
	tcase_add_test(t, a_model_of_the_routers_gives_no_embeddings);
	tcase_add_test(t, a_damaged_file_of_a_model_is_a_fault);
	tcase_add_test(t, a_template_that_is_set_is_that_of_its_file);
	tcase_add_test(t, a_model_named_for_what_it_cannot_do_is_a_fault);
	tcase_add_test(t, a_model_that_is_nothing_yet_is_a_fault_of_its_own);
	tcase_add_test(t, a_fallback_must_give_answers);
	tcase_add_test(t, the_routers_models_are_no_judges_under_the_name_of_the_default_either);
	tcase_add_test(t, what_lies_astray_is_told_and_what_is_peoples_is_not);
	tcase_add_test(t, models_that_the_router_asks_must_give_answers);
	tcase_add_test(t, a_fault_of_a_setting_is_not_told_of_the_models_file_too);
	tcase_add_test(t, what_others_could_have_written_is_not_followed_by_root);
	tcase_add_test(t, a_name_is_no_line_and_no_command_to_a_terminal);
	tcase_add_test(t, symlinks_for_directories_are_faults);
	tcase_add_test(t, files_of_rules_with_impossible_names_are_faults);
	tcase_add_test(t, a_tree_that_is_not_there_is_an_error);
	suite_add_tcase(s, t);
	return run_suite(s);
}
