"""Reads flow documents, and says all that is wrong with one at once. Nothing in a document is ever run to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.document import Document

Find = Callable[[str], Mapping[str, Any] | None]
"""Returns the data of another document by its flow's id; `None` where there is none, or not for this user."""


def read_document(data: Mapping[str, Any] | bytes | str, catalogue: Catalogue, find: Find | None = None) -> Document:
    """Return a document that can run.

    Args:
        data: The document as JSON, or as read from it.
        catalogue: What its nodes can be.
        find: Gives the documents that are its sub-flows; without it a sub-flow is a problem.

    Raises:
        DocumentError: It is not valid; `problems` lists everything that is wrong, up to 100 problems.
    """
    raise NotImplementedError


def subflows_in(data: Mapping[str, Any]) -> set[str]:
    """Return the ids of the flows that a document names as its sub-flows, whatever else is wrong with it.

    For those who keep documents where `find` cannot wait: fetch these first, and theirs, and so on.
    """
    raise NotImplementedError
