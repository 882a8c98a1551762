"""Webhooks reach public addresses only, unless an admin allows a private network."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.core.addresses import Reach, reach, refusal

_PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
_PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "::1",
    "fd12:3456::1",
    "fc00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "64:ff9b::10.1.2.3",
]
_NEVER = [
    "0.0.0.0",  # noqa: S104
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *((address, Reach.PUBLIC) for address in _PUBLIC),
        *((address, Reach.PRIVATE) for address in _PRIVATE),
        *((address, Reach.NEVER) for address in _NEVER),
    ],
)
def test_an_address_is_public_private_or_neither(address: str, expected: Reach) -> None:
    assert reach(address) is expected


@settings(max_examples=50)
@given(st.ip_addresses())
def test_whatever_python_knows_as_not_global_is_not_public(
    address: IPv4Address | IPv6Address,
) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if not (mapped or address).is_global or (mapped or address).is_multicast:
        assert reach(str(address)) is not Reach.PUBLIC


def test_an_admin_allows_private_networks_and_nothing_else() -> None:
    def refused(address: str, *, allow_private: bool, is_plain: bool = False) -> str:
        return refusal(address, allow_private=allow_private, is_plain=is_plain) or "allowed"

    assert refused("8.8.8.8", allow_private=False) == "allowed"
    assert "private network" in refused("10.0.0.1", allow_private=False)
    assert refused("10.0.0.1", allow_private=True) == "allowed"
    assert refused("10.0.0.1", allow_private=True, is_plain=True) == "allowed"
    assert "plain HTTP" in refused("8.8.8.8", allow_private=True, is_plain=True)
    assert "reserved" in refused("169.254.169.254", allow_private=True)


def test_other_text_is_no_address() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        reach("localhost")
