"""Writes a checkpoint as GGUF v3: matrices Q8_0, norms F32.

    python export.py build-guide/last.pt build-guide/tokenizer.json ../../mnt-example/models/guide/guide.gguf

Several checkpoints with commas between them: the mean of their weights.
--name, --about and --context are written into the file; tools/judge uses them.
"""
import argparse
import json

import gguf
import torch

TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
NAMES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
         "down": "ffn_down", "attn_norm": "attn_norm", "ffn_norm": "ffn_norm"}


def tensor_name(key):
    if key == "embd.weight":
        return "token_embd.weight"
    if key == "norm.weight":
        return "output_norm.weight"
    _, n, part, _ = key.split(".")
    return f"blk.{n}.{NAMES[part]}.weight"


def main(ckpt, tokenizer, out, name, about, context):
    cks = [torch.load(path, map_location="cpu", weights_only=False) for path in ckpt.split(",")]
    net = {key: sum(ck["net"][key].float() for ck in cks) / len(cks) for key in cks[0]["net"]}
    cfg, tok = cks[0]["cfg"], json.load(open(tokenizer, encoding="utf-8"))
    w = gguf.GGUFWriter(out, "llama")
    w.add_name(name)
    w.add_description(about)
    w.add_license("apache-2.0")
    w.add_languages(["en"])
    w.add_custom_alignment(32)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_vocab_size(cfg["vocab"])
    w.add_context_length(context or cfg["context"])
    w.add_embedding_length(cfg["dim"])
    w.add_block_count(cfg["layers"])
    w.add_feed_forward_length(cfg["ffn"])
    w.add_head_count(cfg["heads"])
    w.add_head_count_kv(cfg["kv_heads"])
    w.add_layer_norm_rms_eps(cfg["eps"])
    w.add_rope_dimension_count(cfg["dim"] // cfg["heads"])
    w.add_rope_freq_base(cfg["theta"])
    vocab = sorted(tok["model"]["vocab"].items(), key=lambda kv: kv[1])
    special = {t["content"] for t in tok["added_tokens"]}
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([k for k, _ in vocab])
    w.add_token_types([gguf.TokenType.CONTROL if k in special else gguf.TokenType.NORMAL for k, _ in vocab])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(2)
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    for key, t in net.items():
        a = t.numpy()
        if a.ndim == 1:
            w.add_tensor(tensor_name(key), a)
        else:
            q = gguf.quants.quantize(a, gguf.GGMLQuantizationType.Q8_0)
            w.add_tensor(tensor_name(key), q, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    for arg in ("checkpoint", "tokenizer", "out"):
        ap.add_argument(arg)
    ap.add_argument("--name", default="guide")
    ap.add_argument("--about", default="The built-in help of llmfs")
    ap.add_argument("--context", type=int, help="less than the network has tables for: as far as it was trained")
    a = ap.parse_args()
    main(a.checkpoint, a.tokenizer, a.out, a.name, a.about, a.context)
