"""Waiting for a state by polling with a deadline: no test sleeps and hopes."""

import time


def eventually(probe, within=5.0, what="the expected state", every=0.02):
    """Calls `probe` until it returns something truthy and returns that; fails after `within` seconds.

    An AssertionError of the probe counts as "not yet"; the last one is part of the failure's text.
    """
    deadline = time.monotonic() + within
    last = None
    while True:
        try:
            last = probe()
            if last:
                return last
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {within} s; last seen: {last!r}")
        time.sleep(every)
