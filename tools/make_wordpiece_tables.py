#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes engine/wordpiece_tables.c: what an uncased BERT makes of each code point.

    tools/make_wordpiece_tables.py > engine/wordpiece_tables.c

Everything comes from Python's unicodedata; the Unicode version is in the file. A code point is one of

* dropped: controls, formats and private ones (categories Cc, Cf, Co, but for tab and line ends), U+FFFD, and
  marks without width (Mn), the accents. What this Unicode does not know (Cn) stays, as it does in the library
  `tokenizers`;
* white space: Zs, the two separators Zl and Zp, tab and line ends;
* anything else: decomposed (NFD), without accents, in lower case; often itself.

Punctuation (P*, and all ASCII signs) is looked up after that. Hangul syllables are decomposed by arithmetic in
wordpiece.c, and CJK ideographs are ranges there.
"""

import sys
import unicodedata

LAST = 0x10FFFF


def category(c):
    return unicodedata.category(chr(c))


def is_space(c):
    return c in (9, 10, 13) or category(c) in ("Zs", "Zl", "Zp")


def is_dropped(c):
    return not is_space(c) and (c == 0xFFFD or category(c) in ("Cc", "Cf", "Cs", "Co", "Mn"))


def is_punctuation(c):
    return category(c)[0] == "P" or 33 <= c <= 126 and not chr(c).isalnum()


def mapped(c):
    """What remains of c, as a tuple of code points."""
    parts = [x for x in unicodedata.normalize("NFD", chr(c)) if unicodedata.category(x) != "Mn"]
    return tuple(ord(y) for x in parts for y in x.lower())


def ranges(wanted):
    out, first = [], None
    for c in range(LAST + 2):
        inside = c <= LAST and wanted(c)
        if inside and first is None:
            first = c
        elif not inside and first is not None:
            out.append((first, c - 1))
            first = None
    return out


def runs(singles):
    """(first, last, step, delta): every step-th code point from first to last, moved by delta."""
    out = []
    for c, to in singles:
        if out:
            first, last, step, delta = out[-1]
            gap = c - last
            if to - c == delta and (gap == step or first == last and gap in (1, 2)):
                out[-1] = (first, c, gap, delta)
                continue
        out.append((c, c, 1, to - c))
    return out


def rows(items, per_line, form):
    lines = []
    for i in range(0, len(items), per_line):
        lines.append("\t" + " ".join(form(x) + "," for x in items[i : i + per_line]))
    return "\n".join(lines)


def main():
    singles, several, pool = [], [], []
    for c in range(LAST + 1):
        if is_space(c) or is_dropped(c) or 0xAC00 <= c <= 0xD7A3 or 0xD800 <= c <= 0xDFFF:
            continue
        to = mapped(c)
        if to == (c,):
            continue
        if not to:
            sys.exit(f"U+{c:04X} vanishes")
        if len(to) == 1:
            singles.append((c, to[0]))
        else:
            several.append((c, len(pool), len(to)))
            pool += to
    pairs = lambda r: f"{{0x{r[0]:x}, 0x{r[1]:x}}}"
    print(f"""/* SPDX-License-Identifier: Apache-2.0 */
/* Made by tools/make_wordpiece_tables.py from Unicode {unicodedata.unidata_version}: do not edit. */
#include "engine/wordpiece_tables.h"

/* clang-format off */
const struct wordpiece_range wordpiece_dropped[] = {{
{rows(ranges(is_dropped), 5, pairs)}
}};
const uint32_t wordpiece_n_dropped = sizeof wordpiece_dropped / sizeof wordpiece_dropped[0];

const struct wordpiece_range wordpiece_punctuation[] = {{
{rows(ranges(is_punctuation), 5, pairs)}
}};
const uint32_t wordpiece_n_punctuation =
	sizeof wordpiece_punctuation / sizeof wordpiece_punctuation[0];

const struct wordpiece_run wordpiece_runs[] = {{
{rows(runs(singles), 4, lambda r: f"{{0x{r[0]:x}, 0x{r[1]:x}, {r[2]}, {r[3]}}}")}
}};
const uint32_t wordpiece_n_runs = sizeof wordpiece_runs / sizeof wordpiece_runs[0];

const struct wordpiece_several wordpiece_several[] = {{
{rows(several, 5, lambda r: f"{{0x{r[0]:x}, {r[1]}, {r[2]}}}")}
}};
const uint32_t wordpiece_n_several = sizeof wordpiece_several / sizeof wordpiece_several[0];

const uint32_t wordpiece_pool[] = {{
{rows(pool, 10, lambda c: f"0x{c:x}")}
}};
/* clang-format on */""")


if __name__ == "__main__":
    main()
