#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/bench/gpu.sh with programs that only pretend: minutes with a card are few, so what it does when
a part fails, or hangs, is to be known before.

usage: check_bench_gpu.py SOURCE_FOLDER
"""
import os
import subprocess
import sys
import tempfile
import time

LIMIT_S = 6
BENCH = """#!/bin/sh
[ "$1" = -m ] && { echo "copy: 1 GB/s read and written"; exit 0; }
case "$*" in *-f*) echo "bench-gpu: it broke" >&2; exit 1 ;; esac
echo "GPU 0: not to be shown again"
echo "BF16: 8.03 G parameters, 16.06 GB, loaded in 1.50 s (10.7 GB/s), KV pool of 1 tokens"
case "$*" in *"-d -a0"*) echo "  both options"; esac
echo "decode 1          206.0 tok/s     4.860 ms/step  limit     3.547 ms (bandwidth)   73.0 %"
for file; do :; done
grep -q Q4_K "$file" && exec sleep 100
echo "  gaps between 32 steps: median 0.50 %, largest 0.75 % of the step"
"""
RANDOM = '#!/bin/sh\n[ "$1 $2" = "8b Q8_0" ] && exit 1\necho "$2" >"$3"\n'
GOOD = "#!/bin/sh\ntest -e \"$LLMFS_FIXTURES\"\n"


def program(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    os.chmod(path, 0o755)


def run(source, folder, tests, rows):
    for name, text in tests.items():
        program(f"{folder}/build/tests/simt/test_device_{name}", text)
    program(f"{folder}/build/tools/bench-gpu", BENCH)
    program(f"{folder}/build/tools/random-gguf", RANDOM)
    os.makedirs(f"{folder}/files", exist_ok=True)
    env = dict(os.environ, BUILD="never", LIMIT_S=str(LIMIT_S), ONLY=rows,
               BENCH_FILES=f"{folder}/files", TMPDIR=f"{folder}/files")
    began = time.monotonic()
    done = subprocess.run([f"{source}/tools/bench/gpu.sh", f"{folder}/build"], env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=120)
    print(done.stdout)
    assert os.listdir(f"{folder}/files") == [], "the weights are still there"
    return done.returncode, done.stdout, time.monotonic() - began


def a_part_that_fails_or_hangs_leaves_the_others(source, folder):
    rc, said, took = run(source, folder,
                         {"bad": "#!/bin/sh\necho ok fine\necho FAILED a_claim\nexit 1\n", "good": GOOD},
                         "8b:BF16:-f 8b:Q8_0 8b:BF16 1b:Q4_K 1b:BF16")
    assert rc == 1, rc
    for line in ("device/bad: NOT passed", "  FAILED a_claim", "device/good: passed",
                 "tests on the device: 1 passed", "copy: 1 GB/s", "bench-gpu: it broke",
                 "8b BF16 -f: it did not work (exit status 1)", "8b Q8_0: there is no such file",
                 "1b Q4_K : it did not work (exit status 124)", "1b BF16 : left out, the time is up",
                 "| 8b BF16 | 206 (73 %) |", "| 1b Q4_K | 206 (73 %) |", "0.5 %, 0.8 % |"):
        assert line in said, line
    assert "ok fine" not in said and "GPU 0" not in said
    assert took < LIMIT_S + 30, took


def all_parts_that_work_are_a_good_verdict(source, folder):
    rc, said, _ = run(source, folder, {"good": GOOD}, "8b:BF16 1b:BF16 1b:BF16:-d:-a0")
    assert rc == 0, rc
    assert "== 1b BF16 -d -a0\n" in said and said.count("both options") == 1
    assert "| 1b BF16 |" in said and "ended after" in said


def main():
    for claim in (a_part_that_fails_or_hangs_leaves_the_others, all_parts_that_work_are_a_good_verdict):
        with tempfile.TemporaryDirectory() as folder:
            claim(sys.argv[1], folder)
        print("kept", claim.__name__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
