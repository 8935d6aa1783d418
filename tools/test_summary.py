#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what `meson test` logged and says it in few words.

usage: test_summary.py TESTLOG.json [ALONE.json]
       test_summary.py --again TESTLOG.json
       test_summary.py --self-test

Lists what failed (with the end of its output) and what was skipped (with its reason). The last line
stands alone: "N passed, N failed, N skipped". A program whose output has libcheck's summary counts
as its checks, a mount test as its claims (tests/mount/harness.py), any other as one. A check or a
claim that says "skip   NAME: WHY" is skipped. Exits 1 when something failed or nothing ran.

ALONE.json is the log of a second run, one test at a time, of those that failed in the first. What
passes there counts as passed and is listed as UNSTABLE, with what was wrong; what fails there or is
missing has failed. --again prints the names for that run, a line each. What a sanitizer found, a
program that died of its own fault, and one that had not ended in its time (a deadlock looks just
like that) are not among them: they do not become right by not happening again, and ALONE.json is
not asked about them.
"""
import contextlib
import io
import json
import os
import re
import sys
import tempfile

CHECKS = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$", re.M)
CLAIM = re.compile(r"^(kept|skip|BROKEN)\s+(.*)$", re.M)
WRONG = re.compile(r"^BROKEN\s.*$|^\S+:\d+:[EF]:.*$", re.M)
FINDING = re.compile(r"(ERROR|WARNING|FATAL): \w+Sanitizer|\bruntime error: |"
                     r"Received signal (4|6|7|8|11)\b|died of SIG(ILL|ABRT|BUS|FPE|SEGV)\b")
FAULTS = (-4, -6, -7, -8, -11)  # the same signals as meson has them
TAIL_LINES = 30
FINDING_LINES = 80


def read_log(path):
    with open(path, encoding="utf-8") as log:
        return [json.loads(line) for line in log if line.strip()]


def name_of(test):
    """As it is given to `meson test`: without project and suites."""
    return test["name"].split(" / ")[-1]


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
        # A check that says skip (tests/run_suite.h) is one that libcheck saw returning.
        passed += int(checks) - int(failures) - int(errors) - skipped
    if test["result"] not in ("OK", "EXPECTEDFAIL", "SKIP"):
        failed = max(failed, 1)  # it may have fallen over between two checks
    elif passed + failed + skipped == 0:
        passed = 1
    return passed, failed, skipped


def may_pass_alone(test):
    """It failed, and not with what is a fault whenever it happens."""
    return bool(count(test)[1]) and test["returncode"] not in FAULTS \
        and test["result"] != "TIMEOUT" and not FINDING.search(output_of(test))


def end_of(test):
    """The lines that tell most: a sanitizer's first finding from its beginning, else the last."""
    lines = output_of(test).splitlines()
    for at, line in enumerate(lines):
        if FINDING.search(line):
            return lines[at:at + FINDING_LINES]
    return lines[-TAIL_LINES:]


def show_failure(test, when=""):
    print(f"\nFAILED {name_of(test)}{when} ({test['result']}, exit {test['returncode']})")
    print("\n".join(end_of(test)))


def judge(test, second):
    """Says what is to be said of one program; its counts. `second` is its run alone, or None."""
    if second is not None and may_pass_alone(test):
        if not count(second)[1]:
            print(f"UNSTABLE {name_of(test)}: failed beside other tests, passed alone")
            for line in WRONG.findall(output_of(test)) or [f"{test['result']}, no claim named"]:
                print(f"    {line}")
        else:
            show_failure(test)
            show_failure(second, " alone")
        test = second
    elif count(test)[1]:
        show_failure(test)
    for reason in reasons_of(test):
        print(f"skipped {name_of(test)}: {reason}")
    return count(test)


def summary(first, alone):
    """Prints all of it; the exit status."""
    passed = failed = skipped = 0
    tests, seconds = [], {}
    try:
        tests = read_log(first)
        if alone:
            seconds = {name_of(test): test for test in read_log(alone)}
    except FileNotFoundError as e:
        print(f"no log {e.filename}: no test ran")
        failed += 1
    for test in tests:
        p, f, s = judge(test, seconds.get(name_of(test)))
        passed, failed, skipped = passed + p, failed + f, skipped + s
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


# ---- the test of this ----

def entry(name, stdout, returncode=0, result=None, stderr=""):
    return {"name": f"llmfs:mount / {name}", "stdout": stdout, "stderr": stderr,
            "returncode": returncode, "result": result or ("FAIL" if returncode else "OK")}


SLOW = entry("mount/a", "kept   one  [0.1 s]\nBROKEN two (line 7): AssertionError: (123, 271)\n", 1)
GOOD = entry("mount/a", "kept   one  [0.1 s]\nkept   two  [0.1 s]\n")
UNIT = entry("gateway/b",
             "50%: Checks: 4, Failures: 2, Errors: 0\nb.c:12:F:core:late:0: 3 is not 4\n", 1)
SKIPS = entry("mount/c", "kept   one  [0.1 s]\nskip   two: needs root  [0.0 s]\n")


PARTLY = entry("gateway/d", "Running suite(s): d\n\nskip   full_disk: only root can mount it\n"
               "100%: Checks: 3, Failures: 0, Errors: 0\n")


def found(text, stderr=""):
    return entry("mount/a", "kept   one\nBROKEN two (line 7): " + text + "\n", 1, stderr=stderr)


# (first run, run alone or None, names for --again, last line, words that must be in the output)
CASES = [
    ([GOOD, SKIPS], None, [], "3 passed, 0 failed, 1 skipped",
     ["skipped mount/c: two: needs root"]),
    ([PARTLY], None, [], "2 passed, 0 failed, 1 skipped",
     ["skipped gateway/d: full_disk: only root can mount it"]),
    ([SLOW, UNIT], [GOOD, UNIT], ["mount/a", "gateway/b"], "4 passed, 2 failed, 0 skipped",
     ["UNSTABLE mount/a: failed beside other tests, passed alone", "(123, 271)",
      "FAILED gateway/b (FAIL", "FAILED gateway/b alone (FAIL"]),
    ([SLOW, SKIPS], [GOOD], ["mount/a"], "3 passed, 0 failed, 1 skipped", ["UNSTABLE mount/a"]),
    ([SLOW], [SLOW], ["mount/a"], "1 passed, 1 failed, 0 skipped", ["FAILED mount/a alone"]),
    ([SLOW], None, ["mount/a"], "1 passed, 1 failed, 0 skipped", ["FAILED mount/a (FAIL"]),
    ([SLOW], [], ["mount/a"], "1 passed, 1 failed, 0 skipped", ["FAILED mount/a (FAIL"]),
    ([UNIT], [entry("gateway/b", "100%: Checks: 4, Failures: 0, Errors: 0\n")], ["gateway/b"],
     "4 passed, 0 failed, 0 skipped", ["UNSTABLE gateway/b", "b.c:12:F:core:late"]),
    ([entry("mount/a", "", 1)], [GOOD], ["mount/a"], "2 passed, 0 failed, 0 skipped",
     ["UNSTABLE mount/a", "FAIL, no claim named"]),
    # Not ended in its time, and findings: failed, whatever a second run would say.
    ([entry("mount/a", "kept   one  [0.1 s]\n", -15, "TIMEOUT")], [GOOD], [],
     "1 passed, 1 failed, 0 skipped", ["FAILED mount/a (TIMEOUT"]),
    ([entry("mount/a", "", 1, "TIMEOUT"), UNIT], [GOOD, UNIT], ["gateway/b"],
     "2 passed, 3 failed, 0 skipped", ["FAILED mount/a (TIMEOUT", "FAILED gateway/b alone (FAIL"]),
    ([found("exit 99", "==7==ERROR: AddressSanitizer: heap-use-after-free on")], [GOOD], [],
     "1 passed, 1 failed, 0 skipped", ["FAILED mount/a (FAIL"]),
    ([found("a report:\nWARNING: ThreadSanitizer: data race (pid=7)")], [GOOD], [],
     "1 passed, 1 failed, 0 skipped", ["FAILED mount/a (FAIL"]),
    ([found("x", "WARNING: ThreadSanitizer: data race (pid=7)\n  the place\n" + "  a frame\n" * 70)],
     [GOOD], [], "1 passed, 1 failed, 0 skipped", ["  the place"]),
    ([found("x", "gateway/book.c:5:3: runtime error: signed integer overflow")], [GOOD], [],
     "1 passed, 1 failed, 0 skipped", []),
    ([found("x", "==7==ERROR: LeakSanitizer: detected memory leaks")], [GOOD], [],
     "1 passed, 1 failed, 0 skipped", []),
    ([found("the daemon died of SIGSEGV")], [GOOD], [], "1 passed, 1 failed, 0 skipped", []),
    ([entry("gateway/b", "b.c:9:E:core:x:0: (after this point) Received signal 11\n", 1)],
     [GOOD], [], "0 passed, 1 failed, 0 skipped", []),
    ([entry("gateway/b", "", -6)], [GOOD], [], "0 passed, 1 failed, 0 skipped", []),
    ([], None, [], "0 passed, 0 failed, 0 skipped", []),
]


def write_log(folder, name, tests):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as log:
        log.writelines(json.dumps(test) + "\n" for test in tests)
    return path


def said(*args):
    """(exit status, lines) of this program run with these arguments."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(list(args))
    return status, out.getvalue().splitlines()


def self_test():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for first, alone, again, last, words in CASES:
            logs = [write_log(folder, "first", first)]
            names = said("--again", *logs)[1]
            if alone is not None:
                logs.append(write_log(folder, "alone", alone))
            status, lines = said(*logs)
            good = " 0 failed" in last and not last.startswith("0 passed")
            missing = [word for word in words if word not in "\n".join(lines)]
            unstable = any(line.startswith("UNSTABLE") for line in lines)
            if (names, lines[-1], status == 0) != (again, last, good) or missing \
                    or unstable != any(word.startswith("UNSTABLE") for word in words):
                wrong += 1
                print(f"wanted {again}, {last!r}, {words}; got {names}, {status}, {lines}")
        status, lines = said(os.path.join(folder, "missing"))
        if status != 1 or lines[-1] != "0 passed, 1 failed, 0 skipped":
            wrong += 1
            print(f"a missing log: {status}, {lines}")
    print(f"self-test: {len(CASES) + 1 - wrong} right, {wrong} wrong")
    return 1 if wrong else 0


def main(args):
    if args == ["--self-test"]:
        return self_test()
    if len(args) == 2 and args[0] == "--again":
        with contextlib.suppress(FileNotFoundError):
            for test in filter(may_pass_alone, read_log(args[1])):
                print(name_of(test))
        return 0
    if not 1 <= len(args) <= 2 or args[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    return summary(args[0], args[1] if len(args) == 2 else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
