"""Which addresses belong to the public internet. Only an address can be judged, never the text that names it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

_V4 = ipaddress.IPv4Network
_V6 = ipaddress.IPv6Network

# Written out, because the library's own list differs from release to release and calls several of these global.
_CLOSED_V4 = tuple(
    map(
        _V4,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",
            "100.64.0.0/10",  # behind a carrier's NAT; a cloud's metadata, too
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's platform address, in the midst of public ones
            "169.254.0.0/16",  # link-local, the metadata of most clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",
        ),
    )
)
_OPEN_V6 = _V6("2000::/3")
_CLOSED_V6 = tuple(
    map(
        _V6,
        (
            "2001::/23",  # Teredo, which holds an IPv4 address, and other protocols
            "2001:db8::/32",
            "2002::/16",  # 6to4, which holds an IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


def is_public(address: str) -> bool:
    """Whether a numeric address, as the system's resolver gives it, is one that anyone on the internet may reach."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        if found.ipv4_mapped is None:
            # Everything else that stands for an IPv4 address (compatible, NAT64), for a link or a site is outside of it.
            return found in _OPEN_V6 and not any(found in network for network in _CLOSED_V6)
        found = found.ipv4_mapped
    return not any(found in network for network in _CLOSED_V4)


def allowing(networks: Sequence[str]) -> Callable[[str], bool]:
    """Judges that also let pass what is within these networks. Raises ValueError for what is none."""
    open_ones = [ipaddress.ip_network(network) for network in networks]

    def is_allowed(address: str) -> bool:
        if is_public(address):
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in open_ones)

    return is_allowed
