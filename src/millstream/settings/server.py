"""The settings of the server that are not Langflow's."""

from __future__ import annotations

from millstream.settings.celery import CelerySettings
from millstream.settings.kinds import Addresses, Origins


class ServerSettings(CelerySettings):
    """Who may call the server from elsewhere; `host`, `port` and the accounts are Langflow's."""

    cors_origins: Origins = ()
    cors_allow_credentials: bool = False
    trusted_proxies: Addresses = ()
