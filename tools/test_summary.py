#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what `meson test` logged and says it in few words.

usage: test_summary.py TESTLOG.json...

Lists what failed (with the end of its output) and what was skipped (with its reason). The last line
stands alone: "N passed, N failed, N skipped". A program whose output has libcheck's summary counts
as its checks, a mount test as its claims (tests/mount/harness.py), any other as one. Exits 1 when
something failed or nothing ran.
"""
import json
import re
import sys

CHECKS = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)
CLAIM = re.compile(r"^(kept|skip|BROKEN)\s+(.*)$", re.M)
TAIL_LINES = 30


def read_log(path):
    with open(path, encoding="utf-8") as log:
        for line in log:
            if line.strip():
                yield json.loads(line)


def output_of(test):
    return "\n".join(test.get(k, "").rstrip() for k in ("stdout", "stderr") if test.get(k))


def reasons_of(test):
    """Why it was skipped, or why which of its claims were: a list of texts."""
    claims = [text for word, text in CLAIM.findall(test.get("stdout", "")) if word == "skip"]
    if claims or test["result"] != "SKIP":
        return claims
    lines = [line for line in output_of(test).splitlines() if line.strip()]
    return [lines[-1].strip().removeprefix("skip: ") if lines else "no reason given"]


def count(test):
    """(passed, failed, skipped) of one program."""
    stdout = test.get("stdout", "")
    words = [word for word, _ in CLAIM.findall(stdout)]
    skipped = len(reasons_of(test))
    passed = words.count("kept")
    failed = words.count("BROKEN")
    for checks, failures, errors in CHECKS.findall(stdout):
        failed += int(failures) + int(errors)
        passed += int(checks) - int(failures) - int(errors)
    if test["result"] not in ("OK", "EXPECTEDFAIL", "SKIP"):
        failed = max(failed, 1)  # it may have fallen over between two checks
    elif passed + failed + skipped == 0:
        passed = 1
    return passed, failed, skipped


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
            for reason in reasons_of(test):
                print(f"skipped {test['name']}: {reason}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
