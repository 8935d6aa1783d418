"""guide's network: a llama of a few million parameters.

Rotary embedding turns adjacent pairs (x0,x1), (x2,x3), ... as GGUF's llama
architecture does, so the exporter writes q and k as they are.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab: int = 3072
    dim: int = 256
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 704
    context: int = 4096
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self):
        return self.dim // self.heads


def rope_tables(cfg):
    half = cfg.head_dim // 2
    freq = cfg.theta ** (-torch.arange(half, dtype=torch.float64) * 2 / cfg.head_dim)
    angle = torch.arange(cfg.context, dtype=torch.float64)[:, None] * freq[None]
    return angle.cos().float(), angle.sin().float()      # [context, head_dim/2]


def rope(x, cos, sin):
    """x [B, H, T, D]; cos, sin [T, D/2]; adjacent pairs."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        kv = c.kv_heads * c.head_dim
        self.attn_norm, self.ffn_norm = Norm(c.dim, c.eps), Norm(c.dim, c.eps)
        self.q = nn.Linear(c.dim, c.dim, bias=False)
        self.k = nn.Linear(c.dim, kv, bias=False)
        self.v = nn.Linear(c.dim, kv, bias=False)
        self.o = nn.Linear(c.dim, c.dim, bias=False)
        self.gate = nn.Linear(c.dim, c.ffn, bias=False)
        self.up = nn.Linear(c.dim, c.ffn, bias=False)
        self.down = nn.Linear(c.ffn, c.dim, bias=False)

    def forward(self, x, cos, sin, drop=0.0, cache=None):
        c, (B, T, _) = self.c, x.shape
        h = self.attn_norm(x)
        q = self.q(h).view(B, T, c.heads, c.head_dim).transpose(1, 2)
        k = self.k(h).view(B, T, c.kv_heads, c.head_dim).transpose(1, 2)
        v = self.v(h).view(B, T, c.kv_heads, c.head_dim).transpose(1, 2)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        causal = True
        if cache is not None:
            if cache:
                k, v = torch.cat((cache[0], k), 2), torch.cat((cache[1], v), 2)
                causal = False
            cache[:] = [k, v]
        rep = c.heads // c.kv_heads
        k, v = k.repeat_interleave(rep, 1), v.repeat_interleave(rep, 1)
        if T == 1 or causal:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=causal and T > 1)
        else:
            n = k.shape[2]
            later = torch.ones(T, n, dtype=torch.bool).triu(n - T + 1)     # PyTorch's fused kernel is slow backwards with a mask
            a = ((q * c.head_dim ** -0.5) @ k.transpose(-1, -2)).masked_fill(later, float("-inf")).softmax(-1).to(v.dtype) @ v
        x = x + F.dropout(self.o(a.transpose(1, 2).reshape(B, T, c.dim)), drop, self.training)
        h = self.ffn_norm(x)
        return x + F.dropout(self.down(F.silu(self.gate(h)) * self.up(h)), drop, self.training)


class Guide(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.cfg, self.drop = cfg, 0.0
        self.embd = nn.Embedding(cfg.vocab, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = Norm(cfg.dim, cfg.eps)
        cos, sin = rope_tables(cfg)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 if not name.endswith(("o.weight", "down.weight")) \
                    else 0.02 / (2 * cfg.layers) ** 0.5
                nn.init.normal_(p, 0.0, std)

    def hidden(self, ids, start=0, caches=None):
        """ids [B, T] -> final normed states [B, T, dim]."""
        T = ids.shape[1]
        cos, sin = self.cos[start:start + T], self.sin[start:start + T]
        x = self.embd(ids)
        if torch.is_autocast_enabled("cpu"):
            x, cos, sin = x.bfloat16(), cos.bfloat16(), sin.bfloat16()
        for i, b in enumerate(self.blocks):
            x = b(x, cos, sin, self.drop, None if caches is None else caches[i])
        return self.norm(x)

    def logits(self, h):
        return F.linear(h, self.embd.weight)

    def forward(self, ids):
        return self.logits(self.hidden(ids))
