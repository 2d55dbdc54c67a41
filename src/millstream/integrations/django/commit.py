"""Handing work in when a transaction of Django's database commits, so that it finds what the transaction wrote."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction

from millstream.authoring import current


def submit_on_commit(work: Any, /, *args: Any, using: str | None = None, **inputs: Any) -> None:
    """Submit a flow, a task or a canvas when the transaction commits; outside of one at once, after a rollback never.

    There is no id yet that it could return. The ledger is another database than Django's: a process that dies between
    the commit and the submit submits nothing.

    Args:
        work: As `Millstream.hand_in` takes it.
        args: As there.
        using: Which of Django's databases the transaction is on; by default the default one.
        inputs: As for `hand_in`: options, and the inputs by name.

    Example:
        >>> from django.db import transaction  # doctest: +SKIP
        >>> with transaction.atomic():  # doctest: +SKIP
        ...     order = Order.objects.create(article="tea")
        ...     submit_on_commit(ship, order.pk)
    """
    transaction.on_commit(partial(current.app().hand_in, work, *args, **inputs), using=using)
