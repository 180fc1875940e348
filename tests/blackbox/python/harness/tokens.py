"""Connection and subscription tokens, signed by an independent library with the secret of config.json."""

import time

import jwt

SECRET = "test-secret"


def token(user="42", secret=SECRET, algorithm="HS256", lifetime_s=3600, **claims):
    """A connection token; `user=None` leaves the claim out, `lifetime_s=None` makes it eternal."""
    body = dict(claims)
    if user is not None:
        body["sub"] = user
    if lifetime_s is not None:
        body["exp"] = int(time.time()) + lifetime_s
    return jwt.encode(body, secret, algorithm=algorithm)


def channel_token(channel, user="42", **rest):
    """A subscription token for one channel."""
    return token(user, channel=channel, **rest)
