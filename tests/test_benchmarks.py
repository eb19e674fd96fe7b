"""Committed results have the form that schema.py states, and README says what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from schema import problems  # noqa: E402
from tables import fill, generated  # noqa: E402

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_there_are_results():
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_have_the_form(path):
    assert problems(json.loads(path.read_text())) == []


def test_the_schema_finds_what_is_wrong():
    assert problems({"benchmark": "x", "date": "2026-01-01", "machine": {}, "figures": [{"name": "a", "value": "1"}]})


def test_readme_says_what_was_measured_and_which_options_there_are():
    readme = (ROOT / "README.md").read_text()
    assert fill(readme, generated()) == readme, "run: python benchmarks/tables.py"
