"""What the fake upstream, the bare servers and the load generator agree on.

A model's name says how it answers: `n200d20` streams 200 words, 20 ms apart.
"""

from __future__ import annotations

WORD = b" word"
TOKENS = 500
MODELS = ("n200d0", "n200d20", "n4d0", f"n{TOKENS}d0")
PROTOCOL = "graphql-transport-ws"
ACK = '{"type":"connection_ack"}'
COMPLETE = '{"id":"s","type":"complete"}'
# How a bare server is asked to send: a frame in each turn of the event loop, or all of them in one.
PACED, BURST = "/paced", "/burst"


def frame(number: int) -> str:
    """The answer to a subscription that carries one token, exactly as our server writes it."""
    return (
        '{"id":"s","type":"next","payload":{"data":{"generation":'
        f'{{"__typename":"TextDelta","seq":{number},"text":"{WORD.decode()}"}}}}}}}}'
    )
