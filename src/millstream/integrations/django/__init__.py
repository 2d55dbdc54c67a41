"""Django: its settings, its apps' tasks and its transactions, and `manage.py millstream`.

`docs/howto/django.md` shows how to use it; the app's name in `INSTALLED_APPS` is `millstream.integrations.django`.
"""

from __future__ import annotations

from millstream.integrations.django.celery import DjangoCelery, DjangoTask
from millstream.integrations.django.commit import submit_on_commit

__all__ = ["DjangoCelery", "DjangoTask", "submit_on_commit"]
