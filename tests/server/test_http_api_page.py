"""The page about the HTTP API has every route that there is."""

from scripts.http_api_page import PAGE, page


def test_the_page_lists_the_routes_as_they_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run: python -m scripts.http_api_page"
