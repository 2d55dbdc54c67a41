"""`DocumentFlow`: a flow document as a flow like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.reading import Find
from millstream.authoring.flow import Flow
from millstream.model.job import Durability


class Output(NamedTuple):
    """A node whose value is in the result of a document's jobs.

    Attributes:
        id: The node's id.
        label: What people call it.
        component: The component's name.
        type: What it shows: the component's `output_type`, such as `chat`; empty for a node that is merely the last.
    """

    id: str
    label: str
    component: str
    type: str


class DocumentFlow(Flow):
    """A flow document as a flow: `await app.submit(DocumentFlow(id, data, catalogue), input_value="hi")`.

    Its name is `flow:<flow id>`; its version is the digest of what in the document can change what runs. It is read
    and compiled once: a job only fills in values, so keep it and submit it again.

    The inputs of its jobs:
        input_value: Text for the nodes that take the input of this `input_type`; empty leaves them their own value.
        input_type: `chat`, `text`, … or `any`.
        session: Id of the conversation.
        tweaks: Values for this job alone: `{node id or label: {input: value}}`.
        files: Names of files.
        payload: The body of a webhook's call.

    A job's result is `{"outputs": {node id: value}}`: of each output node, in the document's order, what its task
    returned, `None` where the node was skipped; see `outputs`. A document without such nodes gives the values of
    those that no other follows; a part up to `stop` gives that node's value, too.

    The node that runs for a node of the document has its id. Nodes that belong to it, and the nodes of a sub-flow in
    its place, are called `<id>.<something>`; those in a loop `<loop>[turn]/<id>`.

    Args:
        flow_id: The flow's id, a UUID.
        data: The document; see `read_document`.
        catalogue: What its nodes can be.
        find: Gives the documents that are its sub-flows.
        description: What people read.
        durability: How safe its jobs are; by default the setting says.

    Raises:
        DocumentError: The document is not valid, or the id is no UUID.

    Attributes:
        outputs: The nodes whose values its jobs return, in order.
    """

    outputs: tuple[Output, ...]

    def __init__(
        self,
        flow_id: str,
        data: Mapping[str, Any] | bytes | str,
        catalogue: Catalogue,
        *,
        find: Find | None = None,
        description: str = "",
        durability: Durability | None = None,
    ) -> None:
        """Read the document."""
        raise NotImplementedError

    def part(self, start: str | None = None, stop: str | None = None) -> Self:
        """Return the flow of a part of the document, under the same name.

        Args:
            start: Id of a node: only it, what comes after it, and what these need.
            stop: Id of a node: only it, and what it needs.

        Raises:
            DocumentError: There is no such node, or `stop` does not come after `start`.
        """
        raise NotImplementedError
