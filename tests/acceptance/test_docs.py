"""The documentation is true: its examples run."""

from pathlib import Path

import pytest

from scripts.check_docs import ROOT, blocks, documents, failures

RUN = [path for path in documents() if blocks(path.read_text(encoding="utf-8"))]


@pytest.mark.timeout(900)  # a page has many commands
@pytest.mark.parametrize("document", RUN, ids=[str(path.relative_to(ROOT)) for path in RUN])
def test_the_examples_of_a_document_run(document: Path) -> None:
    found = failures(document)
    assert not found, "\n".join(found)
