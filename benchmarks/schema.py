"""The form of a committed result; tests/test_benchmarks.py holds every file under results/ to it."""

from __future__ import annotations

from typing import Any

REQUIRED: dict[str, type] = {"benchmark": str, "date": str, "machine": dict, "figures": list}
FIGURE: dict[str, type | tuple[type, ...]] = {"name": str, "value": (int, float), "unit": str}


def problems(result: dict[str, Any]) -> list[str]:
    """What is wrong with a result; nothing, for a good one."""
    found = [
        f"'{key}' is missing or not {kind.__name__}"
        for key, kind in REQUIRED.items()
        if not isinstance(result.get(key), kind)
    ]
    machine = result.get("machine") or {}
    found += [f"machine lacks '{key}'" for key in ("processor", "cores", "python", "torch") if not machine.get(key)]
    for i, figure in enumerate(result.get("figures") or []):
        for key, kind in FIGURE.items():
            if not isinstance(figure.get(key), kind):
                found.append(f"figures[{i}]: '{key}' is missing or of the wrong type")
        if "goal" in figure and not isinstance(figure.get("met"), bool):
            found.append(f"figures[{i}]: has a goal but does not say whether it is met")
    return found
