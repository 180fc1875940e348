"""Waiting for a state by polling with a deadline: no test sleeps and hopes. And calls that are timed or made at once."""

import threading
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


def timed(call):
    """(result, seconds)"""
    began = time.monotonic()
    return call(), time.monotonic() - began


def at_once(*calls):
    """Runs the calls at the same instant and returns their results in order."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number):
        barrier.wait()
        results[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
