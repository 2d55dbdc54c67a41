"""`millstream jobs`: look after the jobs of a ledger, from wherever its settings are known; no server has to run."""

from __future__ import annotations

from millstream.cli.groups import make_group
from millstream.cli.jobs import change, follow, look
from millstream.cli.jobs.approve import approve

group = make_group("jobs", "Look after jobs: those of the ledger that the settings name.")
group.command("list")(look.list_jobs)
group.command("show")(look.show)
group.command("events")(follow.events)
group.command("logs")(follow.logs)
group.command("cancel")(change.cancel)
group.command("retry")(change.retry)
group.command("approve")(approve)
group.command("purge")(change.purge)
