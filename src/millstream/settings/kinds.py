"""The kinds of values that settings have: what they are written as, and which are refused."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from millstream.urls import database_url


def lower(value: object) -> object:
    """Let `INFO` mean `info`."""
    return value.strip().lower() if isinstance(value, str) else value


def _split(value: object) -> object:
    """Let `shop.tasks, shop.flows` mean both."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _module(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError("give module names, separated by commas, as in shop.tasks,shop.flows")
    return name


_HOST = re.compile(
    r"(?=.*[A-Za-z])[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)


def _destination(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        if not _HOST.fullmatch(text):
            raise ValueError(
                "give networks, addresses and host names, separated by commas, as in 10.1.0.0/16,db.internal"
            ) from error
    return text


def expanded(path: Path) -> Path:
    """Put the home directory in place of `~`; where `~name` is nobody's, it is a name like any other."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def _directory(path: Path) -> Path:
    path = expanded(path)
    if path.exists() and not path.is_dir():
        raise ValueError("give a directory; this is a file")
    return path


def _database(url: str) -> str:
    database_url(url)  # the value stays as it was written
    return url


_BROKERS = ("redis://", "rediss://", "sentinel://", "amqp://", "amqps://", "pyamqp://")
_REDIS = ("redis://", "rediss://")
_LEAST_KEY = 16


def each_broker(urls: str) -> list[str]:
    """Return the URLs of brokers one by one, of which several are written with `;` or `,` between."""
    return [url.strip() for url in urls.replace(",", ";").split(";")]


def brokers(urls: str) -> str:
    """Return the URLs of brokers as they were written.

    Raises:
        ValueError: One is no broker's; the message says what to give.
    """
    for url in each_broker(urls):
        if not url.startswith(_BROKERS):
            raise ValueError(
                "give redis://HOST:PORT/DATABASE or amqp://USER:PASSWORD@HOST/VHOST; several with ; between"
            )
        if url.startswith(_REDIS) and not _has_number(url):
            raise ValueError("a database of Redis is a number; give redis://HOST:PORT/DATABASE, as in redis://HOST/0")
    return urls


def _host(name: str) -> str:
    if not name or any(letter.isspace() or letter in "/@,;" for letter in name):
        raise ValueError("give a host name or an address, as in redis.example.org; a URL goes into redis_queue_url")
    return name


def redis_server(url: str) -> str:
    """Return the URL of one Redis server as it was written.

    Raises:
        ValueError: It is none; the message says what to give.
    """
    if not url.startswith(_REDIS) or ";" in url or "," in url:
        raise ValueError("give the URL of one Redis server, as in redis://HOST:PORT/1")
    if not _has_number(url):
        raise ValueError("a database of Redis is a number; give redis://HOST:PORT/DATABASE, as in redis://HOST/1")
    try:
        is_place = urlsplit(url).port != 0
    except ValueError:
        is_place = False
    if not is_place:
        raise ValueError(
            "a port is a number from 1 to 65535; give redis://HOST:PORT/DATABASE, as in redis://HOST:6379/1"
        )
    return url


def _has_number(url: str) -> bool:
    """Whether the path of a URL is a number, or empty."""
    place = url.partition("://")[2].rpartition("@")[2]
    path = place.partition("?")[0].partition("#")[0].partition("/")[2]
    return not path.strip("/") or path.isdecimal()


def _queue(name: str) -> str:
    if not name or any(letter.isspace() or letter in ",;" for letter in name):
        raise ValueError("give a name without spaces and commas, as in celery")
    return name


def _key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < _LEAST_KEY:
        raise ValueError(f"give at least {_LEAST_KEY} characters, the same to all processes")
    return key


def _origin(origin: str) -> str:
    scheme, colons, place = origin.partition("://")
    if origin != "*" and (scheme not in {"http", "https"} or not colons or not place or "/" in place):
        raise ValueError("give origins, separated by commas, as in https://shop.example.org, or *")
    return origin


def _network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError("give addresses or networks, separated by commas, as in 127.0.0.1,10.0.0.0/8") from None
    return text


Host = Annotated[str, AfterValidator(_host)]
RedisServer = Annotated[str, AfterValidator(redis_server)]
Brokers = Annotated[str, AfterValidator(brokers)]
QueueName = Annotated[str, AfterValidator(_queue)]
Key = Annotated[SecretStr, AfterValidator(_key)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
SomeSeconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Modules = Annotated[tuple[Annotated[str, AfterValidator(_module)], ...], BeforeValidator(_split)]
Destinations = Annotated[tuple[Annotated[str, AfterValidator(_destination)], ...], BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_split)]
Addresses = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]
Directory = Annotated[Path, AfterValidator(_directory)]
Database = Annotated[str, AfterValidator(_database)]
