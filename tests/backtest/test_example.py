"""What docs/backtest.md shows is what comes out."""

from __future__ import annotations

from tests.backtest.example import PAGE, PICTURE, made


def test_the_example_of_the_page_is_what_is_printed_and_drawn() -> None:
    written = PAGE.read_text(encoding="utf-8")
    page, drawn = made(written)
    assert page == written, "docs/backtest.md is out of date; run: python -m tests.backtest.example"
    assert drawn == PICTURE.read_text(encoding="utf-8"), (
        "its picture is out of date; run: python -m tests.backtest.example"
    )
