"""Access tokens: what they say, which are believed, and how their key is changed."""

from __future__ import annotations

import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from resolvers import tokens
from resolvers.errors import Unauthenticated
from resolvers.tokens import REMEMBERED, TokenSigner
from tests.forgeries import forgeries

SCOPES = frozenset({"write", "read"})
SIGNER = TokenSigner(Ed25519PrivateKey.generate())
GOOD = SIGNER.sign("user_1", "ses_1", "user", SCOPES)
FORGERIES = forgeries(SIGNER, GOOD)
# Well made, but of nobody: only the database can tell.
UNKNOWN = {"sid of nobody", "sub of another", "doubled claims"}


def test_token_says_who_for_whom_and_how_long() -> None:
    header = jwt.get_unverified_header(GOOD)
    assert (header["alg"], header["typ"], len(header["kid"])) == ("EdDSA", "at+jwt", 16)
    said = jwt.decode(GOOD, options={"verify_signature": False})
    assert said.pop("exp") - said.pop("iat") == 3600
    assert len(said.pop("jti")) == 16
    assert said == {
        "iss": "loquent",
        "aud": "loquent",
        "sub": "user_1",
        "sid": "ses_1",
        "role": "user",
        "scope": "read write",
    }


def test_token_of_ours_is_believed() -> None:
    claims = SIGNER.verify(GOOD)
    assert (claims.sub, claims.sid, claims.exp - claims.iat) == ("user_1", "ses_1", 3600)


@pytest.mark.parametrize("name", [name for name in FORGERIES if name not in UNKNOWN])
def test_forged_token_is_refused(name: str) -> None:
    with pytest.raises(Unauthenticated):
        SIGNER.verify(FORGERIES[name])


@pytest.mark.parametrize("text", ["", "é", "\ud800", "\x00", "a" * 100_000])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(Unauthenticated):
        SIGNER.verify(text)


def test_token_that_has_just_ended_still_holds_for_clocks_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    for age, is_believed in ((3610, True), (3640, False)):
        moment = time.time() - age
        monkeypatch.setattr("resolvers.tokens.time.time", lambda moment=moment: moment)
        text = SIGNER.sign("user_1", "ses_1", "user", SCOPES)
        monkeypatch.undo()
        if is_believed:
            SIGNER.verify(text)
        else:
            with pytest.raises(Unauthenticated, match="expired"):
                SIGNER.verify(text)


def test_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    first, second = TokenSigner.from_file(path), TokenSigner.from_file(path)
    second.verify(first.sign("user_1", "ses_1", "user", SCOPES))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["key.pem"]


def test_process_that_comes_second_takes_the_key_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, real = tmp_path / "key.pem", os.link

    def lose(source: Path, target: Path) -> None:
        TokenSigner.from_file(tmp_path / "other.pem")
        os.rename(tmp_path / "other.pem", target)
        real(source, target)

    monkeypatch.setattr(
        os, "link", lambda source, target: real(source, target) if target != path else lose(source, target)
    )
    signer = TokenSigner.from_file(path)
    assert sorted(os.listdir(tmp_path)) == ["key.pem"]
    TokenSigner.from_file(path).verify(signer.sign("user_1", "ses_1", "user", SCOPES))


def test_key_of_another_kind_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(
        X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(ValueError, match=r"key\.pem does not hold an Ed25519 key"):
        TokenSigner.from_file(path)


def test_new_key_signs_and_the_last_ones_are_believed(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    running, given = TokenSigner.from_file(path), []
    for _ in range(REMEMBERED + 1):
        given.append(running.sign("user_1", "ses_1", "user", SCOPES))
        tokens.rotate(path)
    newest = running.sign("user_1", "ses_1", "user", SCOPES)
    assert len({jwt.get_unverified_header(text)["kid"] for text in (*given, newest)}) == REMEMBERED + 2
    for signer in (running, TokenSigner.from_file(path)):
        for text in (*given[1:], newest):
            signer.verify(text)
        with pytest.raises(Unauthenticated):
            signer.verify(given[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"PRIVATE" not in path.with_suffix(".previous").read_bytes()


def test_running_server_believes_a_key_that_another_has_begun_to_use(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    running = TokenSigner.from_file(path)
    tokens.rotate(path)
    running.verify(TokenSigner.from_file(path).sign("user_1", "ses_1", "user", SCOPES))


def test_servers_sign_and_believe_while_the_key_changes(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    servers = [TokenSigner.from_file(path) for _ in range(3)]
    is_over = threading.Event()

    def serve(signer: TokenSigner, others: list[TokenSigner]) -> int:
        count = 0
        while not is_over.is_set() or not count:
            text = signer.sign("user_1", "ses_1", "user", SCOPES)
            for other in others:
                other.verify(text)
            count += 1
        return count

    # Each signer belongs to one thread, as it belongs to one process.
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(serve, signer, [signer, TokenSigner.from_file(path)]) for signer in servers]
        # No more often than keys are remembered, so that none may be refused however slow a thread is.
        for _ in range(REMEMBERED):
            tokens.rotate(path)
        is_over.set()
        assert all(one.result(10) > 0 for one in work)
    assert len({jwt.get_unverified_header(s.sign("u", "s", "user", SCOPES))["kid"] for s in servers}) == 1


def test_secrets_of_two_purposes_differ() -> None:
    assert len({SIGNER.derive("a"), SIGNER.derive("b")}) == 2
    assert SIGNER.derive("a") == SIGNER.derive("a")
