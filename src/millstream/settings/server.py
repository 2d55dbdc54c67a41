"""The settings of the server that are not Langflow's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from millstream.settings.event_log import EventLogSettings
from millstream.settings.kinds import Addresses, Origins
from millstream.urls import is_loopback

SHORTEST_PASSWORD: Final = 8
"""Characters of a password that the server takes."""


class ServerSettings(EventLogSettings):
    """Who may call the server from elsewhere; `host`, `port` and the accounts are Langflow's."""

    backend_only: bool = False
    cors_origins: Origins = ()
    cors_allow_credentials: bool = False
    trusted_proxies: Addresses = ()

    def _server_problems(self) -> Iterator[tuple[str, str]]:
        """Yield what would open the server to others: the name of a setting, and what is wrong with it."""
        if self.auto_login and not is_loopback(self.host):
            yield (
                "auto_login",
                f"whoever reaches {self.host} would be the superuser; leave it unset",
            )
        if self.auto_login and self.trusted_proxies:
            yield "auto_login", "whoever a proxy lets through would be the superuser; leave it unset"
        if self.superuser_password is not None and len(self.superuser_password) < SHORTEST_PASSWORD:
            yield "superuser_password", f"too easy to guess; give at least {SHORTEST_PASSWORD} characters"
        if self.cors_allow_credentials and "*" in self.cors_origins:
            yield "cors_origins", "every page in the world could act as its reader; name the origins"
