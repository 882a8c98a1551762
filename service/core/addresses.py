"""Which addresses on the network a webhook may be sent to.

Whoever registers an endpoint has our workers send requests, from inside our network. So by default
only public addresses are reached. `ipaddress.is_global` does not decide that: it is True for
multicast and for addresses in which a private one is wrapped, and differs between releases of
Python. The lists are those of IANA's registries of special-purpose addresses.
"""

from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network


class Reach(Enum):
    """Who can be reached at an address."""

    PUBLIC = "public"
    PRIVATE = "private"
    """A host of a private network, or this one. Allowed if an admin allows it for an endpoint."""
    NEVER = "never"
    """No server that anybody would mean."""


def _networks(*texts: str) -> tuple[object, ...]:
    return tuple(map(ip_network, texts))


_PRIVATE = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT: private networks of clouds use it
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
)
_NEVER = _networks(
    "0.0.0.0/8",
    "169.254.0.0/16",  # link-local, with the metadata of most clouds
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    # Metadata and control of clouds, where other lists would let them through.
    "100.100.100.200/32",
    "168.63.129.16/32",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    # Within the global addresses of IPv6.
    "2001::/23",  # Teredo and others of the IETF
    "2001:db8::/32",
    "2002::/16",  # 6to4, with any IPv4 address inside
    "3fff::/20",
)
_GLOBAL_IPV6 = ip_network("2000::/3")
_MAPPED = _networks("::ffff:0:0/96", "64:ff9b::/96")
"""IPv6 addresses that lead to the IPv4 address in their last four bytes. The second are those of
NAT64, by which a network without IPv4 reaches the rest of the world."""


def reach(text: str) -> Reach:
    """Return who can be reached at an address. Raises ValueError for any other text."""
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and _within(address, _MAPPED):
        address = IPv4Address(address.packed[-4:])
    if _within(address, _NEVER):
        return Reach.NEVER
    if _within(address, _PRIVATE):
        return Reach.PRIVATE
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return Reach.NEVER
    return Reach.PUBLIC


def refusal(text: str, *, allow_private: bool, is_plain: bool) -> str | None:
    """Return why a webhook may not be sent to an address, or None.

    ``is_plain``: without TLS. That is only for private networks, whatever an admin allows.
    """
    match reach(text):
        case Reach.NEVER:
            return f"{text} is reserved: no endpoint can be there"
        case Reach.PRIVATE if not allow_private:
            return f"{text} is in a private network"
        case Reach.PUBLIC if is_plain:
            return f"{text} is public, and plain HTTP is only for private networks"
    return None


def _within(address: IPv4Address | IPv6Address, networks: tuple[object, ...]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]
