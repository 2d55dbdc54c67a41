"""Celery's names, so that an application moves over by changing its imports: `celery` to `millstream.compat`.

No Celery needs to be installed. `docs/howto/move-from-celery.md` says what stays and what differs.
"""
