"""The benchmarks' tables and chart, on canned results: nothing here is timed or started."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import xml.etree.ElementTree as ElementTree
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PAGE = "before\n<!-- results: begin -->\nold\n<!-- results: end -->\nafter\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """benchmarks/run.py with its output files in a temporary folder, and no look at machine, versions or repository."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    # Here "jetstream" is a package of tests.
    spec = importlib.util.spec_from_file_location("jetstream", BENCHMARKS / "jetstream.py")
    assert spec is not None and spec.loader is not None
    measured = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "jetstream", measured)
    spec.loader.exec_module(measured)
    module = importlib.import_module("run")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name, file in (("RESULTS", "results.json"), ("PAGE", "performance.md"), ("CHART", "performance.svg")):
        monkeypatch.setattr(module, name, tmp_path / file)
    monkeypatch.setattr(
        module, "machine", lambda: {"cpu": "A & B", "cores": 2, "memory_gb": 8, "kernel": "6", "python": "3"}
    )
    monkeypatch.setattr(module, "version", lambda command: f"{command} v1")
    monkeypatch.setattr(module, "commit", lambda: "abc1234")
    (tmp_path / "performance.md").write_text(PAGE)
    return module


def rate(run: ModuleType, name: str = "pub-16B", natsc: float = 8e6, reference: float = 2e6) -> object:
    return run.Row(name, "Publish", "16 B <small>", "msgs/s", natsc, reference)


def chart(run: ModuleType) -> ElementTree.Element:
    return ElementTree.parse(run.CHART).getroot()


def options(only: str = ".") -> Namespace:
    return Namespace(only=only, natsc="natsc", reference="nats-server", rounds=4, secs=0.8)


def test_ratio_of_a_rate_is_natsc_over_reference(run: ModuleType) -> None:
    assert rate(run).ratio == 4


def test_ratio_of_a_latency_is_reference_over_natsc(run: ModuleType) -> None:
    assert run.Row("p99", "Request", "p99", "us", 50, 200, more_is_better=False).ratio == 4


def test_ratio_of_nothing_is_zero(run: ModuleType) -> None:
    assert rate(run, reference=0).ratio == 0


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (8_123_456, "msgs/s", "8.12 M/s"),
        (12_300, "msgs/s", "12.3 k/s"),
        (999, "msgs/s", "999 /s"),
        (999_999, "msgs/s", "1 M/s"),
        (86.4, "us", "86 µs"),
        (6_390, "us", "6.39 ms"),
        (14_300_000, "bytes", "14.3 MB"),
        (46_720, "bytes", "46.7 KB"),
        (350, "bytes", "350 B"),
        (11.2, "%", "11 %"),
    ],
)
def test_values_are_written_for_people(run: ModuleType, value: float, unit: str, text: str) -> None:
    row = run.Row("x", "g", "t", unit, value, value)
    assert importlib.import_module("report").shown(row)[0] == text


def test_row_survives_json(run: ModuleType) -> None:
    row = rate(run)
    assert run.Row.from_json(json.loads(json.dumps(row.as_json()))) == row


def test_page_keeps_what_is_around_the_markers(run: ModuleType) -> None:
    run.write([rate(run)], options())
    page = run.PAGE.read_text()
    assert page.startswith("before\n") and page.endswith("after\n")
    assert "old" not in page
    assert "| 16 B <small> (`pub-16B`) | 8 M/s | 2 M/s | 4.00× |" in page


def test_page_without_markers_is_an_error(run: ModuleType) -> None:
    with pytest.raises(ValueError, match="must both stand"):
        run.replace_between("no markers", "new")


def test_chart_is_xml_with_a_bar_a_row(run: ModuleType) -> None:
    run.write([rate(run), rate(run, "pub-1KB", 1e6)], options())
    root = chart(run)
    bars = [e for e in root.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") in ("good", "poor", "even")]
    assert [bar.get("class") for bar in bars] == ["good", "poor"]
    assert float(bars[0].get("width", 0)) == pytest.approx(8 * float(bars[1].get("width", 0)), rel=0.01)


def test_chart_names_machine_and_versions(run: ModuleType) -> None:
    run.write([rate(run)], options())
    text = " ".join(chart(run).itertext())
    assert "A & B" in text and "abc1234" in text


@pytest.mark.parametrize("largest", [0.01, 1.0, 5.9, 13.0, 75.0, 250.0])
def test_axis_holds_the_largest_ratio_in_few_steps(run: ModuleType, largest: float) -> None:
    steps = importlib.import_module("report").axis_steps(largest)
    assert steps[0] == 1 and steps[-1] >= largest and len(steps) <= 8


def test_partial_run_keeps_the_other_rows(run: ModuleType) -> None:
    run.write([rate(run), rate(run, "pub-1KB", 1e6)], options())
    run.write([rate(run, "pub-1KB", 3e6)], options("pub-1KB"))
    rows = json.loads(run.RESULTS.read_text())["rows"]
    assert [(row["name"], row["natsc"]) for row in rows] == [("pub-16B", 8e6), ("pub-1KB", 3e6)]


def test_full_run_drops_rows_that_were_not_measured(run: ModuleType) -> None:
    run.write([rate(run), rate(run, "pub-1KB", 1e6)], options())
    run.write([rate(run)], options())
    assert [row["name"] for row in json.loads(run.RESULTS.read_text())["rows"]] == ["pub-16B"]


def test_scenario_names_are_unique(run: ModuleType) -> None:
    names = [scenario.name for scenario in run.SCENARIOS]
    assert len(names) == len(set(names))


def test_row_of_a_scenario_compares_its_field(run: ModuleType) -> None:
    explaining = {"server_cpu_us": 2.0, "server_busy": 1.0, "generator_busy": 0.5, "rss_kb": 1}
    scenario = next(s for s in run.SCENARIOS if s.name == "req-64-p99")
    row = run.row_of(scenario, explaining | {"p99_us": 100.0}, explaining | {"p99_us": 300.0, "server_cpu_us": 8.0})
    assert (row.ratio, row.detail["cpu_ratio"]) == (3, 4)


def test_sides_alternate(run: ModuleType) -> None:
    assert "".join(side[0] for side in run.alternate(4)) == "nrrnnrrn"


def test_failed_scenario_gives_no_row(run: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def load(self, arguments: str, secs: float) -> dict[str, float]:
            raise run.BenchmarkError("sub closed")

    assert run.compare(run.SCENARIOS[:1], {"natsc": Broken(), "reference": Broken()}, 2, 0.1) == ([], 1)
    assert "FAILED on natsc: sub closed" in capsys.readouterr().out
