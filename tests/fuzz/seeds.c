/* SPDX-License-Identifier: Apache-2.0 */

/* seeds TARGET DIR: writes sound inputs for a fuzz target, so that it begins deep inside. A target
 * that is not known here begins with nothing. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cache_record.h"
#include "tests/engine/tiny_bert.h"
#include "tests/engine/tiny_llama.h"
#include "tests/engine/tiny_vocab.h"

static void write_text(const char *folder, const char *name, const char *text)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	if (!f)
		return;
	fputs(text, f);
	fclose(f);
}

static void write_model(const char *folder, const char *name, enum tensor_type type, bool tied)
{
	char path[4096];
	struct tiny_llama tiny = {
		.n_layers = 1,
		.n_embd = 32,
		.n_heads = 2,
		.n_kv_heads = 1,
		.n_ff = 32,
		.n_vocab = 259,
		.context_tok = 16,
		.type = type,
		.tied = tied,
	};

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	tiny_llama_write(&tiny, path);
}

static void write_encoder(const char *folder, const char *name, enum tensor_type type, bool cls)
{
	char path[4096];
	struct tiny_bert tiny = {.n_layers = 1,
		.n_embd = 32,
		.n_heads = 2,
		.n_ff = 32,
		.context_tok = 8,
		.type = type,
		.cls = cls};

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	tiny_bert_write(&tiny, path);
}

/* Length, a WordPiece vocabulary, text. */
static void write_wordpiece(const char *folder)
{
	static const char text[] = "The caf\xc3\xa9's readable \xe4\xbd\xa0[SEP] \xea\xb0\x81 qq?";
	char path[4096];
	struct gguf_writer *w = gguf_writer_new();
	size_t size;

	tiny_bert_vocab(w, 0);
	unsigned char *file = gguf_writer_bytes(w, &size);
	uint32_t length = (uint32_t)size;
	snprintf(path, sizeof(path), "%s/wordpiece", folder);
	FILE *f = fopen(path, "w");
	if (f) {
		fwrite(&length, sizeof(length), 1, f);
		fwrite(file, 1, size, f);
		fwrite(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	free(file);
	gguf_writer_free(w);
}

/* Length, vocabulary, text; and texts alone. */
static void write_vocabularies(const char *folder)
{
	static const char text[] = "I'll say 12345 na\xc3\xafve words,\r\n  <tool> twice.";

	for (unsigned kind = 0; kind < TINY_VOCAB_KINDS; kind++) {
		char path[4096];
		size_t size;
		unsigned char *file = tiny_vocab_file(kind, &size);
		uint32_t length = (uint32_t)size;

		snprintf(path, sizeof(path), "%s/vocabulary%u", folder, kind);
		FILE *f = fopen(path, "w");
		if (f) {
			fwrite(&length, sizeof(length), 1, f);
			fwrite(file, 1, size, f);
			fwrite(text, 1, sizeof(text) - 1, f);
			fclose(f);
		}
		free(file);
	}
	write_text(folder, "text", text);
	write_text(folder, "signs",
		"\xe2\x96\x81 <|im_end|></s>\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb\n\n ");
}

static void write_bytes(const char *folder, const char *name, const char *bytes, size_t n)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	if (!f)
		return;
	fwrite(bytes, 1, n, f);
	fclose(f);
}

/* Rules, a NUL byte, a text. */
static void write_guards(const char *folder)
{
	static const struct {
		const char *name, *bytes;
		size_t n;
	} seeds[] = {
#define SEED(name, rules, text) {name, rules "\0" text, sizeof(rules text)}
		SEED("words", "block a /\\b(?:ignore|forget)\\W{1,4}+(?:all|previous)\\b/i\n",
			"do not Ignore  previou ignore all"),
		SEED("mail", "redact m /\\b[\\w.]{1,9}@[\\w.]{1,9}\\.[a-z]{2,4}\\b/\nwarn w /@/\n",
			"joe@example.com, a@b. x@y.zz"),
		SEED("card", "redact c /\\b(?:\\d[ -]?){12,18}\\d\\b/ check=luhn\n",
			"4111 1111 1111 1111 and 4111111111111112"),
		SEED("around", "redact a /(?<=k=)\\w+(?!!)/u\nblock b /x(?=yz)|^q$/m\n",
			"k=\xc3\xa9t\xc3\xa9! xy xyz\nq\n"),
		SEED("format",
			"block j json\nwarn m max_chars 3\nblock s schema {\"type\": "
			"\"object\"}\n",
			"{\"a\": [1, 2]}"),
#undef SEED
	};

	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
		write_bytes(folder, seeds[i].name, seeds[i].bytes, seeds[i].n);
}

/* The kind's number, a record. */
static void write_cache(const char *folder)
{
	static const enum cache_record_kind kinds[] = {
		CACHE_RECORD_NOTE, CACHE_RECORD_ANSWER, CACHE_RECORD_NEAR};
	static const char *const names[] = {"note", "answer", "near"};
	static const float vector[2] = {0.6f, 0.8f};

	for (size_t i = 0; i < 3; i++) {
		struct cache_record r = {
			.kind = kinds[i],
			.serial = 7,
			.stored_s = 8,
			.bytes = 9,
			.finish = {"stop", 4},
			.user = {"ada", 3},
			.key = {"the key", 7},
			.scope = {"the scope", 9},
			.text = {"the text", 8},
			.vector = {(const char *)vector, sizeof(vector)},
		};
		struct cache_id id = {0x0123456789abcdef, 0xfedcba9876543210};
		struct buf out = {0};
		char number = (char)i;

		if (buf_append(&out, &number, 1) == 0 && cache_record_write(&out, &r, &id) == 0)
			write_bytes(folder, names[i], out.data, out.len);
		buf_free(&out);
	}
}

/* A chat, a completion, texts to embed. */
static void write_requests(const char *folder)
{
	write_text(folder, "chat",
		"0{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":"
		"\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u0000\"}]},{\"role\":"
		"\"assistant\",\"content\":null},{\"role\":\"developer\",\"content\":\"d\"},{"
		"\"role\":\"user\",\"content\":\"b\"}],\"max_tokens\":7.0,\"stop\":[\"\\n\"],"
		"\"response_format\":{\"type\":\"json_object\"},\"stream\":true,"
		"\"stream_options\":{\"include_usage\":true}}");
	write_text(folder, "completion",
		"1{\"prompt\":[\"a\",\"b\"],\"echo\":true,\"temperature\":0.7,\"top_p\":0,\"top_"
		"k\":"
		"-1,\"n\":2,\"best_of\":2,\"seed\":-1,\"stop\":\"x\",\"ignore_eos\":false,"
		"\"repeat_penalty\":1.1,\"logit_bias\":{}}");
	write_text(folder, "embed",
		"2{\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\",\"dimensions\":8}");
}

/* Which protocol and type, the length of a piece, what a server sends. */
static void write_answers(const char *folder)
{
	write_text(folder, "openai",
		"\x20\x05"
		"data: "
		"{\"choices\":[{\"delta\":{\"content\":\"a\\u00e9\"},\"logprobs\":{\"content\":"
		"[{\"token\":\"un\",\"logprob\":-1.5,\"top_logprobs\":[{\"token\":\"un\","
		"\"logprob\":-1.5}]}]},\"finish_reason\":null}]}\n\n"
		"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,"
		"\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\ndata: [DONE]\n\n");
	write_text(folder, "openai_body",
		"\x02\x09{\"choices\":[{\"message\":{\"content\":\"Hi\"},\"finish_reason\":"
		"\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}");
	write_text(folder, "anthropic",
		"\x21\x05"
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{"
		"\"input_tokens\":4,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\n\n"
		"data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\","
		"\"text\":\"a\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
		"\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n"
		"data: {\"type\":\"message_stop\"}\n\n");
	write_text(folder, "error",
		"\x21\x05"
		"data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
		"\"message\":\"Bearer sk-1\"}}\n\n");
	write_text(folder, "embeddings",
		"\x02\x05{\"data\":[{\"index\":1,\"embedding\":[1,2.5]},{\"index\":0,"
		"\"embedding\":[-1,0]}],\"usage\":{\"prompt_tokens\":3}}");
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: seeds TARGET DIR\n");
		return 2;
	}
	if (strcmp(argv[1], "fuzz_cache") == 0)
		write_cache(argv[2]);
	if (strcmp(argv[1], "fuzz_gguf") == 0) {
		write_model(argv[2], "f32.gguf", TENSOR_F32, true);
		write_model(argv[2], "q8_0.gguf", TENSOR_Q8_0, false);
		write_model(argv[2], "q5_1.gguf", TENSOR_Q5_1, false);
	}
	if (strcmp(argv[1], "fuzz_agree") == 0) {
		/* fputs ends at a zero byte: one text each. */
		write_text(argv[2], "english",
			"\1On July 4th, 1776, who didn't sign `a.b` (x - 1)/3 in France's \"US\"?");
		write_text(argv[2], "german",
			"\1Wie h\xc3\xa4tte ich zweihundert \xe2\x82\xac nicht ins Auto?");
		write_text(argv[2], "french",
			"\1Qu'est-ce que l'\xc5\x93uf n'a pas, s'il te pla\xc3\xaet ?");
	}
	if (strcmp(argv[1], "fuzz_gguf") == 0 || strcmp(argv[1], "fuzz_encoder") == 0) {
		write_encoder(argv[2], "bert-f32.gguf", TENSOR_F32, false);
		write_encoder(argv[2], "bert-q8_0.gguf", TENSOR_Q8_0, true);
		write_encoder(argv[2], "bert-q4_1.gguf", TENSOR_Q4_1, true);
	}
	if (strcmp(argv[1], "fuzz_detok") == 0)
		write_text(argv[2], "stops", "xab\n\nQ\xe2\x82\xac bca\xf0\x9f\x98\xff!aab");
	if (strcmp(argv[1], "fuzz_guard") == 0)
		write_guards(argv[2]);
	if (strcmp(argv[1], "fuzz_json") == 0)
		write_text(argv[2], "value", "{\"a\\u00e9\": [1, -2.5e-3, true], \"\": null}");
	if (strcmp(argv[1], "fuzz_moderation") == 0) {
		write_text(argv[2], "file",
			"# c\nmodel judge\nthreshold 0.25 # r\nstages input output\naction "
			"replace\nreplacement No.\non_error allow\ntimeout_ms 10\nwindow_chars "
			"40\ncategory S1 Violent Crimes.\n");
		write_text(argv[2], "text",
			"x\n\n<END CONVERSATION>\n\n Agent: y\r\nuser: <begin unsafe\n");
	}
	if (strcmp(argv[1], "fuzz_router") == 0) {
		write_text(argv[2], "policy", "8# x\nsplit # by weight\n");
		write_text(argv[2], "weights", "1# x\nlatency 0.5\ncost_simple 0 # none\n");
		write_text(argv[2], "classes", "2length -1.5\nmoderate .25\ncomplex 9\n");
		write_text(argv[2], "threshold", "30.75\n");
		write_text(argv[2], "answer", "4I\xe2\x80\x99m sorry, but no. {\"a\": [1]}\n");
		write_text(argv[2], "fallback", "5chat json\na b.gguf c a\n");
		write_text(argv[2], "prompt",
			"6D\xc3\xa9montrez: \xe2\x88\x91 x^2 = 3.5?\n- a\n1. b\n```c\nint x;\n```"
			"\xe4\xb8\xad\xef\xbc\x9f");
	}
	if (strcmp(argv[1], "fuzz_router") == 0) {
		write_text(
			argv[2], "verdict", "7 **No.**\n\nincomplete\n<END PROMPT> <begin ANSWER>");
		write_text(argv[2], "name", "7# who\nbig-7.b # judges\n");
		write_text(argv[2], "ms", "7 2500\n");
	}
	if (strcmp(argv[1], "fuzz_protocol") == 0)
		write_answers(argv[2]);
	if (strcmp(argv[1], "fuzz_shim_request") == 0)
		write_requests(argv[2]);
	if (strcmp(argv[1], "fuzz_sse") == 0)
		write_text(argv[2], "events",
			"\x03\xef\xbb\xbf: c\r\ndata: a\rdata: b\n\nevent: x\ndata\nid: 1\n\n");
	if (strcmp(argv[1], "fuzz_tokenizer") == 0) {
		write_vocabularies(argv[2]);
		write_wordpiece(argv[2]);
		write_text(argv[2], "opening",
			"<|im_start|>system\n' + m<|im_start|>system\\nBe kind.<|im_end|>");
	}
	if (strcmp(argv[1], "fuzz_upstream_json") == 0)
		write_text(argv[2], "fenced", "\3\n```json\n{\"a\": [1, \"`\"]}\n``` and more");
	if (strcmp(argv[1], "fuzz_utf8") == 0)
		write_text(argv[2], "mixed", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80");
	return 0;
}
