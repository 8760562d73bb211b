"""Figures as people read them."""

from __future__ import annotations

import pytest

from reports import wording


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(wording.count(1234567), "1,234,567", id="count"),
        pytest.param(wording.plural(1, "gate"), "1 gate", id="one"),
        pytest.param(wording.plural(1200, "class", "classes"), "1,200 classes", id="many"),
        pytest.param(wording.decimal(0.01234), "0.0123", id="small"),
        pytest.param(wording.decimal(1.234), "1.23", id="ones"),
        pytest.param(wording.decimal(12.34), "12.3", id="tens"),
        pytest.param(wording.decimal(123.4), "123", id="hundreds"),
        pytest.param(wording.decimal(12345.6), "12,346", id="thousands"),
        pytest.param(wording.decimal(99.96), "100.0", id="a figure at the edge"),
        pytest.param(wording.decimal(-1.5), "-1.50", id="negative"),
        pytest.param(wording.decimal(0), "0", id="zero"),
        pytest.param(wording.decimal(0.00004), "0.000", id="next to nothing"),
        pytest.param(wording.decimal(None), "–", id="none"),
        pytest.param(wording.decimal(float("nan")), "–", id="not a number"),
        pytest.param(wording.ms(12.34), "12.3 ms", id="milliseconds"),
        pytest.param(wording.ms(999.4), "999 ms", id="nearly a second"),
        pytest.param(wording.ms(-3903), "-3.90 s", id="seconds"),
        pytest.param(wording.span_s(None), "–", id="no span"),
        pytest.param(wording.figure(3.0, ""), "3", id="a count has no unit"),
        pytest.param(wording.figure(1234.5, "/s"), "1,234/s", id="rate"),
        pytest.param(wording.figure(12.34, "us"), "12.3 µs", id="microseconds"),
        pytest.param(wording.figure(1234.5, "s"), "1,234 s", id="a length of time"),
        pytest.param(wording.size_bytes(512), "512 B", id="bytes"),
        pytest.param(wording.size_bytes(64 << 20), "64.0 MiB", id="mebibytes"),
        pytest.param(wording.share(0.125), "12.5 %", id="share"),
        pytest.param(wording.upper_bound(0), "–", id="nothing seen bounds nothing"),
        pytest.param(wording.upper_bound(100), "≤ 3.00 %", id="bound of few"),
        pytest.param(wording.upper_bound(1_000_000), "≤ 3.00 per million", id="bound of many"),
    ],
)
def test_wording(given: str, told: str) -> None:
    assert given.replace(wording.NBSP, " ") == told
