"""How often a password may be tried: counted before any hash is made, in the ledger, so for all processes at once."""

from __future__ import annotations

import ipaddress
import math
from typing import Final

from millstream.ledger.accounts import Accounts
from millstream.server.access.tokens import digest_of
from millstream.server.problem import Problem

# Each: how many at once, and in how many seconds so many come back. Five at once and then one a minute, so that in no
# minute more than five are tried; slower guesses meet the bounds of the account and of the server.
_OF_ADDRESS: Final = (5, 300.0)
_OF_ACCOUNT: Final = (30, 900.0)
_FROM_ADDRESS: Final = (30, 60.0)  # whatever the names: no address alone uses up what all have together
_OF_SERVER: Final = (60, 20.0)


def network_of(address: str) -> str:
    """Return what one attacker is taken to hold: an IPv4 address, or an IPv6 /64.

    >>> network_of("2001:db8::1"), network_of("192.0.2.7"), network_of("::ffff:192.0.2.7")
    ('2001:db8::/64', '192.0.2.7/32', '192.0.2.7/32')
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return str(ipaddress.ip_network((ip, 32 if ip.version == 4 else 64), strict=False))  # noqa: PLR2004  IPv4


class Attempts:
    """Counts tries of passwords.

    Args:
        accounts: Where they are counted.
    """

    def __init__(self, accounts: Accounts) -> None:
        """Take where they are counted."""
        self._accounts = accounts

    async def take(self, name: str, address: str) -> None:
        """Count one more try.

        Args:
            name: The account that is meant, whether there is one or not.
            address: Where the try comes from.

        Raises:
            Problem: These are too many (429); `Retry-After` says when to try again.
            LedgerUnavailableError: The ledger does not answer.
        """
        for bucket, (capacity, seconds) in [*_of_who(name, address), ("login", _OF_SERVER)]:
            wait = await self._accounts.take(bucket, capacity, seconds)
            if wait > 0:
                raise Problem(
                    429, "too many tries to sign in; wait, and try again", headers={"Retry-After": str(math.ceil(wait))}
                )

    async def succeeded(self, name: str, address: str) -> None:
        """Count a try no more, since its password was right: whoever knows it may sign in as often as the server can.

        Args:
            name: As it was for `take`.
            address: As above.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        for bucket, (capacity, seconds) in _of_who(name, address):
            await self._accounts.give_back(bucket, capacity, seconds)


def _of_who(name: str, address: str) -> list[tuple[str, tuple[int, float]]]:
    """Return the buckets of one account and one address, each with its capacity and seconds."""
    account, network = digest_of(name.casefold())[:32], network_of(address)  # a name of any length, whatever it holds
    return [
        (f"login:{account}:{network}", _OF_ADDRESS),
        (f"login:{account}", _OF_ACCOUNT),
        (f"login::{network}", _FROM_ADDRESS),
    ]
