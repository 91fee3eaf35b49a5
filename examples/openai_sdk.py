"""The OpenAI SDK, unmodified: a streamed answer, which an idempotency key lets you ask for again from its first word.

python examples/openai_sdk.py        at LOQUENT, else http://localhost:8000
"""

from __future__ import annotations

import os
import uuid

import httpx2
from openai import OpenAI

BASE = os.environ.get("LOQUENT", "http://localhost:8000")
token = httpx2.post(f"{BASE}/llm/auth/guest-login").json()["access_token"]
client = OpenAI(base_url=f"{BASE}/v1", api_key=token)
key = str(uuid.uuid4())


def listen(most: int | None = None) -> str:
    """What is said, as far as `most` chunks; closing the stream closes the connection."""
    text = ""
    with client.chat.completions.create(
        model="demo",
        stream=True,
        messages=[{"role": "user", "content": "Please count to 20"}],
        extra_headers={"Idempotency-Key": key},
    ) as stream:
        for count, chunk in enumerate(stream, start=1):
            text += chunk.choices[0].delta.content or ""
            if count == most:
                break
    return text


beginning = listen(5)
print(f"{beginning}[connection lost; asking again under the same key]")
whole = listen()
assert whole.startswith(beginning), "this is another answer"
print(whole)
