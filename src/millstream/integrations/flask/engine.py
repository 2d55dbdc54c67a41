"""The millstream app of one Flask app, and which of them is meant where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, current_app, has_app_context

from millstream.app import Millstream
from millstream.authoring import current
from millstream.settings import Settings

NAME = "millstream"
"""The key in `app.extensions`."""


class FlaskEngine(Millstream):
    """The millstream app of one Flask app: `app.extensions["millstream"]`.

    Args:
        flask_app: The Flask app.
        settings: Settings by name, which count more than those of the environment and of files.

    Raises:
        SettingsError: One is wrong.
    """

    def __init__(self, flask_app: Flask, settings: Mapping[str, Any]) -> None:
        self.flask_app = flask_app
        super().__init__(settings=Settings.load(**settings))


def engine_here() -> FlaskEngine | None:
    """Return the millstream app of the Flask app whose context or task this is; `None` for none of them."""
    if has_app_context():
        found = current_app.extensions.get(NAME)
        if isinstance(found, FlaskEngine):
            return found
    running = current.override()
    return running if isinstance(running, FlaskEngine) else None


current.look_for(engine_here)
