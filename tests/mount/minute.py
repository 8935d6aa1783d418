# SPDX-License-Identifier: Apache-2.0
"""For claims about limits that count in minutes of the clock."""
import functools
import time


def within_a_minute(f):
    """What f says holds within one minute of the clock: one that ended meanwhile does not count."""
    @functools.wraps(f)
    def claimed(Mount):
        for left in range(4, -1, -1):
            minute = time.time() // 60
            try:
                return f(Mount)
            except (AssertionError, OSError):
                if not left or time.time() // 60 == minute:
                    raise
    return claimed
