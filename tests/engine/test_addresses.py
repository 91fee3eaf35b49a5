"""What counts as public: the address that is connected to, whatever it was called."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.addresses import is_public

CLOSED = (
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%lo",
    "2606:4700::1%lo",
    "fec0::1",
    "ff02::1",
)
OPEN = ("1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450:4001::8")
# What the standard library of this Python release calls global, although it leads to this machine or to nobody's.
MISTAKEN = ("64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "::127.0.0.1", "fec0::1", "224.0.0.1", "ff02::1")

v4 = st.ip_addresses(v=4)


@pytest.mark.parametrize("address", CLOSED)
def test_address_of_no_public_host_is_closed(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OPEN)
def test_address_of_a_public_host_is_open(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", MISTAKEN)
def test_address_is_closed_whatever_the_library_calls_it(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "0x7f.1", "0177.0.0.1", "127.1", "2130706433", "①②⑦.0.0.1", "1.1.1.1 ", "[::1]"]
)
def test_text_that_is_no_address_is_not_guessed_at(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize("name", ["0x7f.1", "0177.0.0.1", "127.1", "2130706433", "0x7f000001"])
def test_odd_spelling_of_this_machine_is_closed_once_it_is_resolved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The C library reads these as numbers and asks nobody.
    monkeypatch.undo()
    assert socket.inet_ntoa(socket.inet_aton(name)) == "127.0.0.1"
    assert not is_public(socket.inet_ntoa(socket.inet_aton(name)))


@given(v4)
def test_ipv4_is_open_only_where_the_library_agrees(address: ipaddress.IPv4Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=6))
def test_ipv6_is_open_only_where_the_library_agrees(address: ipaddress.IPv6Address) -> None:
    if is_public(str(address)):
        assert (address.ipv4_mapped or address).is_global
        assert not address.is_multicast


@given(v4)
def test_address_within_an_ipv6_one_is_judged_by_itself_or_refused(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    assert is_public(str(ipaddress.IPv6Address((0xFFFF << 32) | number))) == is_public(str(address))
    compatible, nat64, six_to_four = number, (0x64FF9B << 96) | number, (0x2002 << 112) | (number << 80)
    assert not any(is_public(str(ipaddress.IPv6Address(within))) for within in (compatible, nat64, six_to_four))
