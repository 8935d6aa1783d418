/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/run_suite.h"

#include <stdio.h>
#include <string.h>

#include "gateway/agree.h"

static enum agree_reason compare(const char *a, const char *b)
{
	struct agree_sign *x = agree_sign_new(a, strlen(a)), *y = agree_sign_new(b, strlen(b));
	enum agree_reason there = agree_compare(x, y), back = agree_compare(y, x);

	ck_assert_msg(there == back, "%s | %s: %s, but %s the other way", a, b, agree_word(there),
		agree_word(back));
	agree_sign_free(x);
	agree_sign_free(y);
	return there;
}

struct pair {
	const char *a, *b;
};

#define N(list) (sizeof(list) / sizeof((list)[0]))

static void check_all(const struct pair *pairs, size_t n, enum agree_reason reason)
{
	for (size_t i = 0; i < n; i++) {
		enum agree_reason got = compare(pairs[i].a, pairs[i].b);
		ck_assert_msg(
			got == reason, "%s | %s: %s", pairs[i].a, pairs[i].b, agree_word(got));
	}
}

START_TEST(small_differences_of_writing_do_not_matter)
{
	static const struct pair pairs[] = {
		{"What is the capital of France?", "what's the capital of france"},
		{"Please write a poem about rain.", "Write a poem about rain!"},
		{"Can you tell me why cats purr?", "Why do cats purr?"},
		{"How do I reverse a list in Python?", "In Python, how can I reverse a list?"},
		{"Give me twenty-one names", "Give me 21 names"},
		{"two hundred and five apples", "205 apples"},
		{"What is 1,000 times 3?", "What is 1000 * 3?"},
		{"15 percent of 80", "15% of 80"},
		{"Convert 5 miles to kilometers", "Convert 5 miles into kilometres"},
		{"the war of July 4, 1776", "the war of 4 July 1776"},
		{"install javascript", "Install JavaScript"},
		{"How do vaccines work?", "how does a vaccine work"},
		{"Wie kündige ich einen Vertrag?", "Wie kann ich einen Vertrag kündigen?"},
		{"Traduis cette phrase en anglais",
			"Traduis cette phrase en anglais, s'il te plaît."},
		{"", ""},
		{"?", "?"},
	};

	check_all(pairs, N(pairs), AGREE_OK);
}
END_TEST

START_TEST(numbers_units_dates_and_operators_are_told_apart)
{
	static const struct pair pairs[] = {
		{"What is 17 times 23?", "What is 17 times 32?"},
		{"What is 2 + 2?", "What is 2 - 2?"},
		{"Is 5 > 3?", "Is 5 < 3?"},
		{"Compute 2*(3+4)", "Compute 2*3+4"},
		{"the third planet", "the fourth planet"},
		{"three planets", "third planets"},
		{"run 5 km", "run 5 miles"},
		{"wake me at 6:30", "wake me at 7:30"},
		{"at 9 am", "at 9 pm"},
		{"20 % off", "20 euros off"},
		{"in March", "in April"},
		{"Is it going to rain today?", "Is it going to rain tomorrow?"},
		{"World War I ended", "World War II ended"},
		{"Python 3.10", "Python 3.1"},
		{"$5", "€5"},
	};

	for (size_t i = 0; i < N(pairs); i++)
		ck_assert_msg(compare(pairs[i].a, pairs[i].b) != AGREE_OK, "%s | %s", pairs[i].a,
			pairs[i].b);
	check_all(pairs, 4, AGREE_NUMBERS);
}
END_TEST

START_TEST(denials_and_opposites_are_told_apart)
{
	static const struct pair pairs[] = {
		{"Which birds can fly?", "Which birds cannot fly?"},
		{"Which birds can fly?", "Which birds can't fly?"},
		{"files that end in x", "files that don't end in x"},
		{"tea with milk", "tea without milk"},
		{"Is it possible to swim?", "Is it impossible to swim?"},
		{"Increase the font size", "Decrease the font size"},
		{"Increase the font size", "Reduce the font size"},
		{"Eat before the meeting", "Eat after the meeting"},
		{"the maximum value", "the minimum value"},
		{"Enable the firewall", "Disable the firewall"},
		{"Should I purchase stocks?", "Should I sell stocks?"},
		{"a hot day", "a cold day"},
		{"Ist Spinat gesund?", "Ist Spinat nicht gesund?"},
		{"Welche Vögel können fliegen?", "Welche Vögel können keine fliegen?"},
		{"Les chats mangent du pain", "Les chats ne mangent pas du pain"},
		{"une recette avec du lait", "une recette sans lait"},
		{"¿Cómo puedo cancelar mi cuenta?", "¿Cómo no puedo cancelar mi cuenta?"},
	};

	check_all(pairs, N(pairs), AGREE_NEGATION);
}
END_TEST

START_TEST(names_code_and_quoted_words_are_told_apart)
{
	static const struct pair pairs[] = {
		{"What does getName do?", "What does getname do?"},
		{"Explain parse_header", "Explain parse_headers"},
		{"Delete a.txt", "Delete A.txt"},
		{"Fix main.c", "Fix main.h"},
		{"What does `ls -a` do?", "What does `ls -l` do?"},
		{"rm -r foo", "rm -R foo"},
		{"Use the option --verbose", "Use the option --version"},
		{"open https://example.org/a", "open https://example.org/b"},
		{"the plural of \"mouse\"", "the plural of \"moose\""},
		{"Tell me about Peter Robert", "Tell me about Peter Roberts"},
		{"Is it in the US?", "Is it in the UK?"},
		{"What is C?", "What is C++?"},
	};

	check_all(pairs, N(pairs), AGREE_NAMES);
}
END_TEST

START_TEST(roles_that_are_exchanged_are_noticed)
{
	static const struct pair pairs[] = {
		{"dog bites man", "man bites dog"},
		{"flights from Paris to Rome", "flights from Rome to Paris"},
		{"Convert JSON to YAML", "Convert YAML to JSON"},
		{"Is Anna taller than Ben?", "Is Ben taller than Anna?"},
		{"Merge the branch feature into main", "Merge the branch main into feature"},
		{"Is a tomato a fruit?", "Is a fruit a tomato?"},
		{"Bob gave Ann the book", "Ann gave Bob the book"},
		{"Subtract 45 from 120", "Subtract 120 from 45"},
		{"Who did Anna see?", "Who saw Anna?"},
		{"a present for my mother", "a present from my mother"},
		{"The photo of Anna", "The photo by Anna"},
		{"talk to Bob", "talk about Bob"},
		{"Le train pour Paris", "Le train de Paris"},
		{"coffee with milk in a cup", "coffee with a cup in milk"},
		{"Does Bob know that Anna left?", "Does Anna know that Bob left?"},
		{"the population of Paris in Texas", "the population of Texas in Paris"},
		{"Fährt der Zug von Berlin nach Rom?", "Fährt der Zug von Rom nach Berlin?"},
		{"Was macht ein Notar?", "Was macht einen Notar?"},
		{"Der Hund beißt den Mann", "Der Mann beißt den Hund"},
	};

	for (size_t i = 0; i < N(pairs); i++)
		ck_assert_msg(compare(pairs[i].a, pairs[i].b) != AGREE_OK, "%s | %s", pairs[i].a,
			pairs[i].b);
	check_all(pairs, 14, AGREE_ORDER);
}
END_TEST

START_TEST(who_asks_what_of_whom_and_when_is_noticed)
{
	static const struct pair pairs[] = {
		{"When was the tower built?", "Where was the tower built?"},
		{"Why do cats purr?", "How do cats purr?"},
		{"Why do cats purr?", "Do cats purr?"},
		{"How many moons are there?", "Which moons are there?"},
		{"How much does he eat?", "What does he eat?"},
		{"Who is the president?", "Who was the president?"},
		{"Who wins the cup?", "Who won the cup?"},
		{"Is it raining?", "Will it rain?"},
		{"Can I pay taxes?", "Must I pay taxes?"},
		{"Do I have to pay taxes?", "Do I pay taxes?"},
		{"What should I eat?", "What must I eat?"},
		{"How old are you?", "How old am I?"},
		{"Can he vote?", "Can I vote?"},
		{"Why is my code slow?", "Why is your code slow?"},
		{"Does he owe me money?", "Do I owe him money?"},
		{"Wer liebt Anna?", "Wen liebt Anna?"},
		{"What did she say to him?", "What did he say to her?"},
		{"Je t'aime", "Tu m'aimes"},
	};

	check_all(pairs, N(pairs), AGREE_QUESTION);
}
END_TEST

START_TEST(words_without_a_counterpart_are_noticed_even_small_ones)
{
	static const struct pair pairs[] = {
		{"How do I boil an egg?", "How do I peel an egg?"},
		{"How do I log in to my server?", "How do I log out of my server?"},
		{"How do I turn the lights on?", "How do I turn the lights off?"},
		{"Wie mache ich das Licht an?", "Wie mache ich das Licht aus?"},
		{"Wie komme ich hin?", "Wie komme ich her?"},
		{"What is DNA?", "What does DNA do?"},
		{"Who is the king?", "Who has the king?"},
		{"Is it hot?", "Is it too hot?"},
		{"Where are you?", "Where are you from?"},
		{"Are cats and dogs allowed?", "Are cats or dogs allowed?"},
		{"What is this?", "What are those?"},
		{"What is the news in Rome?", "What is new in Rome?"},
		{"", "Hello"},
	};

	check_all(pairs, N(pairs), AGREE_WORDS);
}
END_TEST

START_TEST(languages_are_told_apart_and_so_are_those_asked_for)
{
	static const struct pair pairs[] = {
		{"What is the biggest animal?", "Was ist das größte Tier?"},
		{"Wie koche ich Reis?", "Comment cuire le riz ?"},
		{"Answer in French: what is a cell?", "Answer in German: what is a cell?"},
		{"Translate this into English", "Translate this from English"},
	};

	check_all(pairs, 3, AGREE_LANGUAGE);
	ck_assert(compare(pairs[3].a, pairs[3].b) != AGREE_OK);
}
END_TEST

START_TEST(a_text_too_long_for_a_signature_agrees_with_itself_only)
{
	static char a[20000], b[20000];

	for (size_t i = 0; i + 8 < sizeof(a); i += 6)
		snprintf(a + i, sizeof(a) - i, "w%04zu ", i / 6);
	memcpy(b, a, sizeof(a));
	ck_assert_int_eq(compare(a, b), AGREE_OK);
	b[15000] = 'x';
	ck_assert_int_eq(compare(a, b), AGREE_LONG);
	ck_assert_int_eq(compare(a, "short"), AGREE_LONG);
	/* The longest that has one is compared word by word. */
	a[300 * 6] = b[300 * 6] = 0;
	b[1000] = 'x';
	ck_assert_int_eq(compare(a, b), AGREE_NAMES);
}
END_TEST

START_TEST(any_bytes_have_a_signature_that_agrees_with_itself)
{
	static const char some[] = "aA1 .-'\"`(*/_\xC3\xA9\xE2";
	char text[300];
	uint64_t seed = 5;

	for (unsigned round = 0; round < 3000; round++) {
		for (size_t i = 0; i < sizeof(text); i++) {
			seed = seed * UINT64_C(6364136223846793005) + 1;
			text[i] = round % 2 ? (char)(seed >> 56) : some[seed >> 60];
		}
		struct agree_sign *a = agree_sign_new(text, seed % sizeof(text));
		struct agree_sign *b = agree_sign_new(text, (seed >> 20) % sizeof(text));
		ck_assert_int_eq(agree_compare(a, a), AGREE_OK);
		ck_assert_int_eq(agree_compare(a, b), agree_compare(b, a));
		agree_sign_free(a);
		agree_sign_free(b);
	}
}
END_TEST

static Suite *agree_suite(void)
{
	Suite *s = suite_create("agree");
	TCase *t = tcase_create("agree");

	tcase_add_test(t, small_differences_of_writing_do_not_matter);
	tcase_add_test(t, numbers_units_dates_and_operators_are_told_apart);
	tcase_add_test(t, denials_and_opposites_are_told_apart);
	tcase_add_test(t, names_code_and_quoted_words_are_told_apart);
	tcase_add_test(t, roles_that_are_exchanged_are_noticed);
	tcase_add_test(t, who_asks_what_of_whom_and_when_is_noticed);
	tcase_add_test(t, words_without_a_counterpart_are_noticed_even_small_ones);
	tcase_add_test(t, languages_are_told_apart_and_so_are_those_asked_for);
	tcase_add_test(t, a_text_too_long_for_a_signature_agrees_with_itself_only);
	tcase_add_test(t, any_bytes_have_a_signature_that_agrees_with_itself);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	return run_suite(agree_suite());
}
