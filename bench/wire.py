"""What the fake upstream, the bare servers and the load generator agree on.

A model's name says how it answers: `n200d20` streams 200 words, 20 ms apart; `t200d20` does so with the time in each.
"""

from __future__ import annotations

WORD = b" word"
# Behind it stand the nineteen digits of time.monotonic_ns() at the moment when the upstream sent the word.
MARK = WORD + b"@"
BLANK = b"0" * 19
TOKENS = 500
# Fifty words a second, twenty a second, and a model from which nothing is heard.
FLOW, TRICKLE, SILENT = "t1000d20", "t800d50", "n1d100000000"
MODELS = ("n200d0", "n200d20", "n4d0", f"n{TOKENS}d0", FLOW, TRICKLE, SILENT)
PROTOCOL = "graphql-transport-ws"
ACK = '{"type":"connection_ack"}'
COMPLETE = '{"id":"s","type":"complete"}'
# How a bare server is asked to send: a frame in each turn of the event loop, all of them in one, or none at all.
PACED, BURST, QUIET = "/paced", "/burst", "/silent"
# From the upstream: to each socket a stream of its own, or one and the same to all.
RELAY, BROADCAST = "/relay", "/broadcast"


def frame(number: int, text: str = WORD.decode()) -> str:
    """The answer to a subscription that carries one token, exactly as our server writes it."""
    return (
        '{"id":"s","type":"next","payload":{"data":{"generation":'
        f'{{"__typename":"TextDelta","seq":{number},"text":"{text}"}}}}}}}}'
    )
