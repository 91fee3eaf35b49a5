"""The vault: what it seals opens in one place only, and says nothing to who only looks at it."""

from __future__ import annotations

import copy
import pickle
import stat
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.vault import MARK_LENGTH, Secret, Vault, VaultError

OLD, NEW = "the-older-master-secret-is-long-enough", "the-newer-master-secret-is-long-enough"
RING = f"{OLD},{NEW}"
HERE = ("provider_keys", "pkey_1", "user_1", "openai", "https://api.openai.com")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
BOUND = st.tuples(TEXT, TEXT)


def test_secret_does_not_show_itself() -> None:
    secret = Secret("sk-upstream")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>5}",
        repr([secret]),
        repr({"key": secret}),
    ]
    assert not [text for text in shown if "upstream" in text]
    assert secret.reveal() == "sk-upstream"
    assert (secret == Secret("sk-upstream"), secret == Secret("other"), secret == "sk-upstream") == (True, False, False)
    assert len({secret, Secret("sk-upstream")}) == 1


def test_secret_is_not_written_down() -> None:
    secret = Secret("sk-upstream")
    for write in (msgspec.json.encode, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            write(secret)
        assert "upstream" not in str(caught.value)
    assert not hasattr(secret, "__dict__")


@given(TEXT, BOUND)
def test_what_is_sealed_opens_where_it_was_sealed_for(text: str, binding: tuple[str, str]) -> None:
    vault = Vault(RING)
    sealed = vault.seal("test", Secret(text), *binding)
    assert vault.open("test", sealed, *binding).reveal() == text
    assert sealed.startswith(vault.mark)
    assert len(vault.mark) == MARK_LENGTH


@given(BOUND, BOUND)
def test_what_is_sealed_opens_nowhere_else(there: tuple[str, str], elsewhere: tuple[str, str]) -> None:
    vault = Vault(RING)
    sealed = vault.seal("test", Secret("x"), *there)
    if there != elsewhere:
        with pytest.raises(VaultError):
            vault.open("test", sealed, *elsewhere)


@pytest.mark.parametrize("part", range(len(HERE)))
def test_sealed_secret_is_bound_to_each_part_of_its_place(part: int) -> None:
    vault = Vault(RING)
    sealed = vault.seal("provider keys", Secret("sk-upstream"), *HERE)
    moved = [*HERE]
    moved[part] += "x"
    for place in (moved, HERE[:-1], ("".join(HERE[:2]), *HERE[2:])):
        with pytest.raises(VaultError):
            vault.open("provider keys", sealed, *place)
    with pytest.raises(VaultError):
        vault.open("another purpose", sealed, *HERE)


def test_each_sealing_is_another() -> None:
    vault = Vault(RING)
    assert len({vault.seal("test", Secret("x")) for _ in range(50)}) == 50


@given(st.data())
def test_changed_ciphertext_does_not_open(data: st.DataObject) -> None:
    vault = Vault(RING)
    sealed = vault.seal("test", Secret("x" * 20))
    place = data.draw(st.integers(0, len(sealed) - 2))
    letter = data.draw(st.sampled_from("AB.z0-é\x00"))
    changed = sealed[:place] + letter + sealed[place + 1 :]
    if changed != sealed:
        with pytest.raises(VaultError):
            vault.open("test", changed)


@pytest.mark.parametrize("text", ["", "v1", "v1.", "x" * 40, "v1.00000000.AAAA.AAAA", "v1....", "v2.00000000.a.b"])
def test_what_was_never_sealed_does_not_open(text: str) -> None:
    with pytest.raises(VaultError):
        Vault(RING).open("test", text)


def test_newest_secret_seals_and_older_ones_still_open() -> None:
    before = Vault(OLD)
    sealed, digest = before.seal("test", Secret("x")), before.digest("test", "x")
    after = Vault(RING)
    assert after.open("test", sealed).reveal() == "x"
    assert after.matches("test", "x", digest)
    assert after.has(before.mark)
    assert after.mark == Vault(NEW).mark != before.mark
    with pytest.raises(VaultError, match="lacks the master secret"):
        before.open("test", after.seal("test", Secret("x")))
    assert not before.has(after.mark)


def test_digest_knows_its_text_again() -> None:
    vault = Vault(RING)
    digest = vault.digest("test", "x")
    assert vault.matches("test", "x", digest)
    assert not vault.matches("test", "y", digest)
    assert not vault.matches("another purpose", "x", digest)
    with pytest.raises(VaultError):
        Vault(OLD).matches("test", "x", digest)


@pytest.mark.parametrize("ring", ["", " ,\n", "short", f"{NEW},short"])
def test_weak_or_missing_master_secret_is_refused(ring: str) -> None:
    with pytest.raises(VaultError) as caught:
        Vault(ring)
    assert "short" not in str(caught.value)


def test_ring_is_made_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "data" / "master-key"
    sealed = Vault.from_file(path).seal("test", Secret("x"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["master-key"]
    assert Vault.from_file(path).open("test", sealed).reveal() == "x"


def test_processes_that_start_at_once_share_one_ring(tmp_path: Path) -> None:
    vaults: list[Vault] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait(5)
        vaults.append(Vault.from_file(tmp_path / "master-key"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(vaults) == 8
    assert len({vault.mark for vault in vaults}) == 1


def test_ring_that_grows_elsewhere_is_noticed(tmp_path: Path) -> None:
    here, there = (Vault.from_file(tmp_path / "master-key") for _ in range(2))
    old = here.seal("test", Secret("old"))
    there.grow()
    new = there.seal("test", Secret("new"))
    assert here.open("test", new).reveal() == "new"
    assert here.mark == there.mark
    assert there.open("test", old).reveal() == "old"
    assert not old.startswith(here.mark)


def test_rings_that_grow_at_once_lose_nothing(tmp_path: Path) -> None:
    vaults = [Vault.from_file(tmp_path / "master-key") for _ in range(8)]
    threads = [threading.Thread(target=vault.grow) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len((tmp_path / "master-key").read_text().split()) == 9
    assert len({vault.mark for vault in vaults}) == 1


def test_ring_without_a_file_does_not_grow() -> None:
    with pytest.raises(VaultError, match="not kept in a file"):
        Vault(RING).grow()


def test_ring_whose_file_is_gone_still_opens_but_seals_no_more(tmp_path: Path) -> None:
    vault = Vault.from_file(tmp_path / "master-key")
    sealed = vault.seal("test", Secret("x"))
    (tmp_path / "master-key").unlink()
    assert vault.open("test", sealed).reveal() == "x"
    with pytest.raises(VaultError, match="cannot be read"):
        vault.seal("test", Secret("x"))
