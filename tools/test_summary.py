#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what `meson test` logged and says it in few words.

usage: test_summary.py TESTLOG.json...

Lists what failed (with the end of its output) and what was skipped (with its reason). The last line
stands alone: "N passed, N failed, N skipped". A program whose output has a libcheck summary counts
as its checks; any other counts as one. Exits 1 when something failed or nothing ran.
"""
import json
import re
import sys

CHECKS = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)
TAIL_LINES = 30


def read_log(path):
    with open(path, encoding="utf-8") as log:
        for line in log:
            if line.strip():
                yield json.loads(line)


def output_of(test):
    return "\n".join(test.get(k, "").rstrip() for k in ("stdout", "stderr") if test.get(k))


def reason_of(test):
    lines = [line for line in output_of(test).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no reason given"


def count(test):
    """(passed, failed, skipped) of one program."""
    result = test["result"]
    if result == "SKIP":
        return 0, 0, 1
    summaries = CHECKS.findall(test.get("stdout", ""))
    if not summaries:
        return (1, 0, 0) if result in ("OK", "EXPECTEDFAIL") else (0, 1, 0)
    total = sum(int(checks) for checks, _, _ in summaries)
    failed = sum(int(failures) + int(errors) for _, failures, errors in summaries)
    if result != "OK" and failed == 0:
        failed = 1  # it fell over after its last check
    return max(total - failed, 0), failed, 0


def main():
    passed = failed = skipped = 0
    for path in sys.argv[1:]:
        try:
            tests = list(read_log(path))
        except FileNotFoundError:
            print(f"no log {path}: no test ran")
            tests = []
            failed += 1
        for test in tests:
            p, f, s = count(test)
            passed, failed, skipped = passed + p, failed + f, skipped + s
            if f:
                print(f"\nFAILED {test['name']} ({test['result']}, exit {test['returncode']})")
                print("\n".join(output_of(test).splitlines()[-TAIL_LINES:]))
            if s:
                print(f"skipped {test['name']}: {reason_of(test)}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
