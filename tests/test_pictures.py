"""Pictures of the summary: every number is in them, and names cannot break them."""

from xml.etree import ElementTree

import pytest

from revrec_pipeline.pictures import _round_up, bars

SVG = "{http://www.w3.org/2000/svg}"


def test_each_number_is_a_bar_as_high_as_it_says() -> None:
    drawn = ElementTree.fromstring(
        bars("Orders", ["2026-01", "2026-02"], {"salesforce": [4, 2], "stripe <b> & co": [0, 1]})
    )
    bars_ = {
        bar.findtext(f"{SVG}title"): float(bar.attrib["height"])
        for bar in drawn.iter(f"{SVG}rect")
        if bar.find(f"{SVG}title") is not None
    }
    whole = bars_["2026-01, salesforce: 4"]
    assert bars_["2026-02, salesforce: 2"] == pytest.approx(whole / 2)
    assert bars_["2026-01, stripe <b> & co: 0"] == 0
    assert len(bars_) == 4


def test_nothing_to_show_is_an_empty_picture() -> None:
    assert ElementTree.fromstring(bars("Errors", [], {})).findtext(f"{SVG}title") == "Errors"


@pytest.mark.parametrize(("highest", "top"), [(0, 2), (3, 4), (5, 10), (11, 20), (401, 1000)])
def test_the_scale_ends_above_the_highest_bar(highest: int, top: int) -> None:
    assert _round_up(highest) == top
