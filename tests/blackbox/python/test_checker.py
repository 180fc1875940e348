"""The judge of the fault tests finds what it is there for: without a node, replies and pushes are handed to a follower."""

import pytest
from harness.checker import Follower, Publisher, judge

CHANNEL, EPOCH = "recovery:x", "EpochOne"


def publication(offset, data=None):
    return {"push": {"channel": CHANNEL, "pub": {"data": data or offset, "offset": offset}}}


def followed(*messages, offset=0):
    """A follower that has subscribed at this offset and was told these messages."""
    follower = Follower(None, [CHANNEL])
    stream = follower.streams[CHANNEL]
    for message in ({"subscribe": {"epoch": EPOCH, "offset": offset}}, *messages):
        if "push" in message:
            follower._pushed(message["push"])
        else:
            stream.asked = stream.position
            follower._replied(CHANNEL, 0, message)
    return follower


def published(*offsets, epoch=EPOCH):
    publisher = Publisher([], [])
    publisher.confirmed = [(CHANNEL, offset, epoch, offset) for offset in offsets]
    return publisher


UNSUBSCRIBED = {"push": {"channel": CHANNEL, "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
RECOVERED = {
    "subscribe": {"epoch": EPOCH, "recovered": True, "offset": 1, "publications": [{"data": n, "offset": n} for n in (2, 3)]}
}


@pytest.mark.parametrize(
    "messages",
    [
        [publication(1), publication(2), publication(3)],
        [publication(1), UNSUBSCRIBED, RECOVERED],
        [publication(1), UNSUBSCRIBED, {"subscribe": {"epoch": EPOCH, "offset": 3}}],
        [publication(1), UNSUBSCRIBED, {"subscribe": {"epoch": "EpochTwo", "offset": 0}}],
    ],
    ids=["live", "recovered", "told of a gap", "told of another epoch"],
)
def test_what_is_right_passes(messages):
    # Tests of faults would fail for no reason.
    judge([followed(*messages)], [published(1, 2, 3)], within=0)


@pytest.mark.parametrize(
    "messages",
    [
        [publication(1), publication(2)],
        [publication(1), publication(3)],
        [publication(1), publication(2), publication(2), publication(3)],
        [publication(2), publication(1), publication(3)],
        [publication(1), publication(2, data=9), publication(3)],
        [publication(1), publication(2, data=1), publication(3)],
        [publication(1), publication(2), publication(3), UNSUBSCRIBED],
        [publication(1), UNSUBSCRIBED, {"subscribe": {**RECOVERED["subscribe"], "publications": []}}],
        [publication(1), UNSUBSCRIBED, {"subscribe": {**RECOVERED["subscribe"], "epoch": "EpochTwo"}}],
        [publication(1), UNSUBSCRIBED, publication(2), RECOVERED],
    ],
    ids=[
        "the end is missing",
        "a gap",
        "twice",
        "order",
        "other data than confirmed",
        "one publication at two positions",
        "not subscribed at the end",
        "recovery that brings nothing",
        "recovery over a change of epoch",
        "publication while not subscribed",
    ],
)
def test_what_is_wrong_is_found(messages):
    # A broken node would pass all tests of faults.
    with pytest.raises(AssertionError):
        judge([followed(*messages)], [published(1, 2, 3)], within=0)


def test_positions_given_twice_are_found():
    # Two nodes that both think they have offset 2.
    one, two = published(1, 2), published(2)
    two.confirmed = [(CHANNEL, "other", EPOCH, 2)]
    with pytest.raises(AssertionError):
        judge([followed(publication(1), publication(2))], [one, two], within=0)
