"""Flask: tasks that run in the context of their Flask app, pages that start them, and `flask millstream`.

`docs/howto/flask.md` shows how to use it.
"""

from __future__ import annotations

from millstream.integrations.flask.celery import FlaskCelery, FlaskTask
from millstream.integrations.flask.engine import FlaskEngine
from millstream.integrations.flask.extension import FlaskMillstream

__all__ = ["FlaskCelery", "FlaskEngine", "FlaskMillstream", "FlaskTask"]
