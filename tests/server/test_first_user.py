"""The first superuser: what whoever starts the server is told of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from millstream.settings import Settings
from tests.server.running import PASSWORD, RunningServer, signed_in


def settings(directory: Path, **given: object) -> Settings:
    return Settings.of(config_dir=directory, auto_login=False, **given)


def test_a_password_that_is_made_up_is_of_letters_and_digits_alone(tmp_path: Path) -> None:
    with RunningServer(settings(tmp_path)) as running:
        (said,) = running.said
        found = re.search(r"with the password ([A-Za-z0-9]{22}) \(", said)
        assert found is not None, said
        signed_in(running, "admin", found[1]).close()


def test_a_set_password_that_is_not_the_users_is_said_not_to_be_used(tmp_path: Path) -> None:
    with RunningServer(settings(tmp_path, superuser_password=PASSWORD)) as first:
        assert first.said == []
    with RunningServer(settings(tmp_path, superuser_password=PASSWORD)) as same:
        assert same.said == []
    with RunningServer(settings(tmp_path, superuser_password=f"another {PASSWORD}")) as other:
        (said,) = other.said
        assert said.startswith("superuser_password is not used: the user admin is there already, ")
        assert said.endswith("`millstream users password admin` changes it")
        signed_in(other, "admin", PASSWORD).close()


@pytest.mark.parametrize("password", ["changeme", "p" * 8])
def test_eight_characters_are_enough(tmp_path: Path, password: str) -> None:
    with RunningServer(settings(tmp_path, superuser_password=password)) as running:
        signed_in(running, "admin", password).close()
