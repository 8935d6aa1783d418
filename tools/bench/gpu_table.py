#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tools/bench/gpu.sh measured, as a table.

usage: gpu_table.py FILE                what one run printed: the table of docs/bench.md, and the aims
       gpu_table.py --compare OLD NEW   of two builds, each file with the output of some runs
       gpu_table.py --option -a FILE    rows with that option of bench-gpu beside the same without
       gpu_table.py --self-test

A run that was cut short gives the rows that are there. Where several runs are in a file the fastest
counts, as what disturbs a measurement makes it slower. Aims that were missed do not change the exit
status: what a card does is for a person to judge.
"""
import re
import sys

HEAD = re.compile(r"^== (\S+ \S+(?: \S+)*)\s*$")
LOAD = re.compile(r"^\S.*: [\d.]+ G parameters, .* loaded in ([\d.]+) s")
RATE = re.compile(r"^(decode|prefill) (\d+) +([\d.]+) tok/s +([\d.]+) ms.* ([\d.]+) %$")
GAPS = re.compile(r"^ +gaps between \d+ steps: median ([\d.]+) %, largest ([\d.]+) %")
COLUMNS = [("decode", n) for n in (1, 8, 32, 64, 128, 256)] + [("prefill", 512), ("prefill", 8192)]
AIMS = [("8b BF16", ("decode", 1), 75), ("8b Q8_0", ("decode", 1), 75),
        ("8b BF16", ("prefill", 512), 60), ("8b BF16", ("prefill", 8192), 60)]
MOST_GAP = 5


def read(lines):
    """By row: {column: (tok/s, ms, % of the limit), "gaps": [(column, median, largest)], "load": s}."""
    rows, row, last = {}, None, None
    for line in lines:
        if match := HEAD.match(line):
            row, last = rows.setdefault(match[1], {"gaps": []}), None
        elif row is not None and (match := LOAD.match(line)):
            row["load"] = min(row.get("load", 1e9), float(match[1]))
        elif row is not None and (match := RATE.match(line)):
            last = (match[1], int(match[2]))
            new = (float(match[3]), float(match[4]), float(match[5]))
            row[last] = min(row.get(last, new), new, key=lambda m: m[1])
        elif row is not None and last and (match := GAPS.match(line)):
            row["gaps"].append((last, float(match[1]), float(match[2])))
    return rows


def table(rows):
    names = ["decode 1", "8", "32", "64", "128", "256", "prefill 512", "8,192"]
    out = ["| tok/s (of the limit) | " + " | ".join(names) + " | load | gaps: median, largest |",
           "|---" * (len(names) + 3) + "|"]
    for name, row in rows.items():
        if not any(c in row for c in COLUMNS):
            continue
        cells = [f"{row[c][0]:,.0f} ({row[c][2]:.0f} %)" if c in row else "" for c in COLUMNS]
        load = f"{row['load']:.1f} s" if "load" in row else ""
        gaps = ""
        if row["gaps"]:
            gaps = "%.1f %%, %.1f %%" % tuple(max(g[i] for g in row["gaps"]) for i in (1, 2))
        out.append("| " + " | ".join([name] + cells + [load, gaps]) + " |")
    return out


def aims(rows):
    for name, column, least in AIMS:
        if column in rows.get(name, {}):
            part = rows[name][column][2]
            yield "%s: %s %d at %.1f %% of its limit, the aim is %d: %s" % (
                name, *column, part, least, "kept" if part >= least else "MISSED")
    for name, row in rows.items():
        wide = [g for g in row["gaps"] if g[1] > MOST_GAP]
        for column, median, _ in wide:
            yield "%s: %s %d has gaps of %.1f %% of a step, the aim is %d: MISSED" % (
                name, *column, median, MOST_GAP)
        if row["gaps"] and not wide:
            yield "%s: no gap of more than %d %% of a step, by their medians: kept" % (name, MOST_GAP)


def compare(old, new):
    for name in [n for n in old if n in new]:
        for column in [c for c in COLUMNS if c in old[name] and c in new[name]]:
            a, b = old[name][column][1], new[name][column][1]
            yield "%-12s %-7s %5d  %9.3f ms  %9.3f ms  %+6.1f %%" % (
                name, *column, a, b, 100 * (b / a - 1))


def compare_option(rows, option):
    for name, row in rows.items():
        words = name.split()
        plain = " ".join(w for w in words if not w.startswith(option))
        if plain in rows and plain != name:
            yield from compare({name: rows[plain]}, {name: row})


SAMPLE = """GPU 0: NVIDIA
== 8b BF16
BF16: 8.03 G parameters, 16.06 GB, loaded in 1.50 s (10.7 GB/s), KV pool of 1 tokens
decode 1            206.0 tok/s     4.860 ms/step  limit     3.547 ms (bandwidth)   73.0 %
  gaps between 32 steps: median 0.50 %, largest 9.25 % of the step
decode 8           1590.0 tok/s     5.030 ms/step  limit     3.600 ms (bandwidth)   73.0 %
  gaps between 32 steps: median 6.00 %, largest 7.00 % of the step
prefill 512       42498.0 tok/s    12.000 ms       limit     8.000 ms (arithmetic)   67.0 %
gpu.sh: 8b Q8_0 : it did not work (exit status 124)

== 8b Q8_0 -f
decode 1            337.0 tok/s     2.950 ms/step  limit     1.890 ms (bandwidth)   64.0 %
"""
FASTER = SAMPLE.replace("4.860", "4.374") + SAMPLE


def self_test():
    assert len(table(read(["== 8b Q4_K", "bench-gpu: it broke"]))) == 2
    rows = read(SAMPLE.splitlines())
    lines, said = table(rows), list(aims(rows))
    assert list(rows) == ["8b BF16", "8b Q8_0 -f"], rows
    assert lines[2] == ("| 8b BF16 | 206 (73 %) | 1,590 (73 %) |  |  |  |  | 42,498 (67 %) |  | 1.5 s "
                        "| 6.0 %, 9.2 % |"), lines[2]
    assert lines[3].startswith("| 8b Q8_0 -f | 337 (64 %) |"), lines[3]
    assert len({line.count("|") for line in lines}) == 1, lines
    assert said == [
        "8b BF16: decode 1 at 73.0 % of its limit, the aim is 75: MISSED",
        "8b BF16: prefill 512 at 67.0 % of its limit, the aim is 60: kept",
        "8b BF16: decode 8 has gaps of 6.0 % of a step, the aim is 5: MISSED"], said
    both = list(compare(rows, read(FASTER.splitlines())))
    assert len(both) == 4 and both[0].endswith("-10.0 %") and both[1].endswith("+0.0 %"), both
    assert table(read([]))[2:] == [] and not list(aims({}))
    few = SAMPLE.replace("8b Q8_0 -f", "8b BF16 -a0")
    beside = list(compare_option(read(few.splitlines()), "-a"))
    assert len(beside) == 1, beside
    assert beside[0].split() == "8b BF16 -a0 decode 1 4.860 ms 2.950 ms -39.3 %".split(), beside
    print("self-test: right")
    return 0


def main(arguments):
    def rows_of(path):
        with open(path, encoding="utf-8", errors="replace") as lines:
            return read(lines)

    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) == 3 and arguments[0] == "--compare":
        print("\n".join(compare(rows_of(arguments[1]), rows_of(arguments[2]))))
        return 0
    if len(arguments) == 3 and arguments[0] == "--option":
        print("\n".join(compare_option(rows_of(arguments[2]), arguments[1])))
        return 0
    if len(arguments) != 1:
        sys.stderr.write(__doc__)
        return 2
    rows = rows_of(arguments[0])
    print("\n".join([""] + table(rows) + [""] + list(aims(rows))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
