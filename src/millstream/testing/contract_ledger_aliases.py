"""The part of the suite of ledgers about what names a job or a node: keys, aliases, parents, and one node's result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from millstream.clock import new_id
from millstream.errors import JobNotFoundError
from millstream.ledger.base import IdempotencyConflictError, Ledger, Settlement
from millstream.ledger.filter import Filter
from millstream.model.event import Draft
from millstream.model.failure import record_failure
from millstream.model.job import NodeResult, NodeState
from millstream.testing.ledger_doings import ME, SUCCEEDED, claimed, ended, fact, make_job, record, submit

LARGE = "x" * 20_000


class LedgerAliases:
    """See `LedgerContract`."""

    # -------------------------------------------------------------------------------------------- idempotency
    async def test_a_key_that_is_known_gives_its_job_and_records_nothing(self, ledger: Ledger) -> None:
        first, again = make_job(idempotency_key="k"), make_job(idempotency_key="k")
        await submit(ledger, first, None)
        assert await submit(ledger, again, ME) == (first, None)
        with pytest.raises(JobNotFoundError):
            await ledger.get(again.id)
        assert [job.id for job in await ledger.find(Filter())] == [first.id]
        assert len(await ledger.events(first.id, 0, 10)) == 1
        assert [claim.job.id for claim in await ledger.claim(ME, 10)] == [first.id]

    async def test_a_key_gives_its_job_also_when_that_has_ended(self, ledger: Ledger) -> None:
        claim = await claimed(ledger, idempotency_key="k")
        await record(ledger, claim, end=Settlement(SUCCEEDED, result=7))
        job, _ = await submit(ledger, make_job(idempotency_key="k"), ME)
        assert (job.id, job.state, job.result) == (claim.job.id, SUCCEEDED, 7)

    @pytest.mark.parametrize("change", [{"flow": "another"}, {"inputs": {"x": 2}}], ids=["flow", "inputs"])
    async def test_a_key_with_another_body_is_refused(self, ledger: Ledger, change: dict[str, Any]) -> None:
        first = make_job(idempotency_key="k", inputs={"x": 1})
        await submit(ledger, first, None)
        other = replace(first, id=new_id(), **change)
        with pytest.raises(IdempotencyConflictError, match=first.id):
            await submit(ledger, other, ME)
        assert await ledger.find(Filter()) == [first]

    async def test_of_many_submits_with_one_key_one_counts(self, ledger: Ledger) -> None:
        jobs = [make_job(idempotency_key="k") for _ in range(50)]
        answers = await asyncio.gather(*(submit(ledger, job, ME) for job in jobs))
        assert len({job.id for job, _ in answers}) == 1
        assert len([claim for _, claim in answers if claim is not None]) == 1
        assert len(await ledger.find(Filter())) == 1

    async def test_jobs_without_a_key_are_all_different(self, ledger: Ledger) -> None:
        for _ in range(3):
            await submit(ledger, make_job(), None)
        assert len(await ledger.find(Filter())) == 3

    # -------------------------------------------------------------------------------------------------- parent
    async def test_a_job_knows_the_task_that_submitted_it(self, ledger: Ledger) -> None:
        job, orphan = make_job(parent=f"{new_id()}.a"), make_job()
        for submitted in (job, orphan):
            await submit(ledger, submitted, None)
        assert (await ledger.get(job.id)).parent == job.parent
        assert (await ledger.get(orphan.id)).parent is None
        assert await ledger.find(Filter()) == [orphan, job]

    # ------------------------------------------------------------------------------------------------- aliases
    async def test_an_alias_leads_to_its_job_and_node(self, ledger: Ledger) -> None:
        job = make_job()
        await submit(ledger, job, None, first="a", second="b", **{"another: é": "a"})
        assert await ledger.alias("first") == (job.id, "a")
        assert await ledger.alias("second") == (job.id, "b")
        assert await ledger.alias("another: é") == (job.id, "a")
        assert (await ledger.graph(job.id)).aliases == {"first": "a", "second": "b", "another: é": "a"}

    @pytest.mark.parametrize("name", ["First", "firs", "", "a\0b", "a\udcff"])
    async def test_there_is_nothing_behind_an_alias_that_nobody_has(self, ledger: Ledger, name: str) -> None:
        job = make_job()
        await submit(ledger, job, None, first="a")
        assert await ledger.alias(name) is None
        assert await ledger.alias(job.id) is None

    async def test_a_job_without_aliases_has_none(self, ledger: Ledger) -> None:
        job = make_job()
        await submit(ledger, job, None)
        assert (await ledger.graph(job.id)).aliases == {}

    async def test_a_submission_with_an_alias_of_another_job_is_refused_whole(self, ledger: Ledger) -> None:
        first, second = make_job(), make_job(idempotency_key="k")
        await submit(ledger, first, None, mine="a")
        with pytest.raises(IdempotencyConflictError, match=rf"'mine'.*{first.id}"):
            await submit(ledger, second, ME, fresh="a", mine="a", **{"also fresh": "b"})
        assert await ledger.find(Filter()) == [first]
        with pytest.raises(JobNotFoundError):
            await ledger.get(second.id)
        assert await ledger.alias("mine") == (first.id, "a")
        assert await ledger.alias("fresh") is await ledger.alias("also fresh") is None
        third = make_job(idempotency_key="k")  # neither the key nor the other aliases were taken
        assert await submit(ledger, third, None, fresh="b") == (third, None)
        assert [claim.job.id for claim in await ledger.claim(ME, 10)] == [first.id, third.id]

    async def test_a_submission_with_a_known_key_leaves_aliases_alone(self, ledger: Ledger) -> None:
        first, again = make_job(idempotency_key="k"), make_job(idempotency_key="k")
        await submit(ledger, first, None, mine="a")
        assert await submit(ledger, again, ME, mine="a", fresh="a") == (first, None)
        assert await ledger.alias("mine") == (first.id, "a")
        assert await ledger.alias("fresh") is None

    async def test_an_alias_is_taken_also_when_its_job_has_ended(self, ledger: Ledger) -> None:
        job = make_job()
        _, claim = await submit(ledger, job, ME, mine="a")
        assert claim is not None
        await record(ledger, claim, end=Settlement(SUCCEEDED))
        with pytest.raises(IdempotencyConflictError, match="'mine'"):
            await submit(ledger, make_job(), None, mine="a")
        assert await ledger.alias("mine") == (job.id, "a")

    async def test_of_many_submissions_with_one_alias_one_counts_and_the_others_alone_are_refused(
        self, ledger: Ledger
    ) -> None:
        rivals, others = [make_job() for _ in range(20)], [make_job() for _ in range(20)]
        held = await claimed(ledger)
        outcomes = await asyncio.gather(
            *(submit(ledger, job, ME, mine="a", **{job.id: "b"}) for job in rivals),
            *(submit(ledger, job, ME, **{job.id: "b"}) for job in others),
            record(ledger, held, fact("x")),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert {type(error) for error in refused} == {IdempotencyConflictError}
        assert len(refused) == len(rivals) - 1
        found = {job.id for job in await ledger.find(Filter())}
        (winner,) = found - {job.id for job in others} - {held.job.id}
        assert found > {job.id for job in others}
        assert await ledger.alias("mine") == (winner, "a")
        for job in (*rivals, *others):
            assert await ledger.alias(job.id) == ((job.id, "b") if job.id in found else None)

    async def test_the_aliases_of_a_forgotten_job_are_free_again(self, ledger: Ledger) -> None:
        _, claim = await submit(ledger, make_job(), ME, mine="a", other="b")
        kept = make_job()
        await submit(ledger, kept, None, third="a")
        assert claim is not None
        await record(ledger, claim, end=Settlement(SUCCEEDED))
        assert await ledger.forget([claim.job.id, kept.id]) == [claim.job.id]
        assert await ledger.alias("mine") is await ledger.alias("other") is None
        assert await ledger.alias("third") == (kept.id, "a")
        job = make_job()
        assert await submit(ledger, job, None, mine="b") == (job, None)
        assert await ledger.alias("mine") == (job.id, "b")

    async def test_a_job_may_have_a_thousand_aliases(self, ledger: Ledger) -> None:
        job, rival = make_job(), make_job()
        await submit(ledger, job, None, **{f"task {i}": f"n{i}" for i in range(1500)})
        assert await ledger.alias("task 0") == (job.id, "n0")
        assert await ledger.alias("task 1499") == (job.id, "n1499")
        with pytest.raises(IdempotencyConflictError, match="'task 1499'"):
            await submit(ledger, rival, None, **{f"task {i}": "a" for i in range(1499, 4000)})
        assert await ledger.alias("task 1500") is None

    # ---------------------------------------------------------------------------------------- one node's result
    async def test_one_nodes_result_is_there_with_its_whole_value(self, ledger: Ledger) -> None:
        claim, failure = await claimed(ledger), record_failure(ValueError("no rows"), "b")
        large: Draft = (True, "node_succeeded", 3.0, "c", ledger.seal(claim.job, {"attempt": 2, "value": [LARGE]}))
        assert await ledger.node_result(claim.job.id, "a") is None
        await record(ledger, claim, fact("started", "a"), ended("a", value={"rows": (1, 2)}))
        await record(ledger, claim, (True, "node_failed", 3.0, "b", {"attempt": 2, "error": failure}), large)
        await record(ledger, claim, (True, "node_upstream_failed", 3.0, "d[3]/e", None))
        found = [await ledger.node_result(claim.job.id, path) for path in ("a", "b", "c", "d[3]/e")]
        assert found == [
            NodeResult("a", NodeState.SUCCEEDED, 1, {"rows": (1, 2)}),
            NodeResult("b", NodeState.FAILED, 2, None, failure),
            NodeResult("c", NodeState.SUCCEEDED, 2, [LARGE]),
            NodeResult("d[3]/e", NodeState.UPSTREAM_FAILED, 0),
        ]

    @pytest.mark.parametrize("path", ["b", "d[3]", "", "a\0b", "a\udcff"])
    async def test_a_node_that_has_not_ended_has_no_result(self, ledger: Ledger, path: str) -> None:
        claim = await claimed(ledger)
        await record(ledger, claim, ended("a", 1), fact("started", "b"), ended("d[3]/e", 1), end=Settlement(SUCCEEDED))
        assert await ledger.node_result(claim.job.id, path) is None

    async def test_an_unknown_job_has_no_nodes(self, ledger: Ledger) -> None:
        claim, unknown = await claimed(ledger), new_id()
        await record(ledger, claim, ended("a", 1))
        with pytest.raises(JobNotFoundError, match=unknown):
            await ledger.node_result(unknown, "a")
