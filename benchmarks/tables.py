"""Write the generated parts of README (options, figures, objects) and of benchmarks/README (stages to styles).

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamstyle.config import option_table

ROOT = Path(__file__).resolve().parent.parent


def machine_name(result: dict[str, Any]) -> str:
    """The machine a result was measured on, and when."""
    machine = result["machine"]
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    return f"{machine['processor']}, {machine['cores']} cores{gpu}, torch {machine['torch']}, {result['date']}"


def goal_of(row: dict[str, Any]) -> str:
    """A figure's goal, and whether it is met; nothing for a figure without one."""
    if "goal" not in row:
        return ""
    way = "at least" if row["at_least"] else "at most"
    return f"{way} {row['goal']:g}: {'met' if row['met'] else '**missed**'}"


def result_of(name: str) -> dict[str, Any]:
    """A committed result."""
    result: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return result


def figures_table(result: dict[str, Any], by: str = "make bench") -> str:
    """Every figure of a result, goals missed beside goals met."""
    lines = [f"Measured by `{by}` on {machine_name(result)}:", "", "| figure | value | goal |", "|---|---|---|"]
    lines += [f"| {row['name']} | {row['value']:.4g} {row['unit']} | {goal_of(row)} |" for row in result["figures"]]
    return "\n".join(lines)


def stages_table() -> str:
    """Every figure of every stage's own benchmark, and the machines they were measured on."""
    stems = sorted(path.stem for path in (ROOT / "kernels").glob("*.cu"))
    paths = [ROOT / "benchmarks" / "results" / f"{stem}.json" for stem in stems]
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    lines = [f"Measured on {name}." for name in dict.fromkeys(map(machine_name, results))]
    lines += ["", "| stage | figure | value | goal |", "|---|---|---|---|"]
    for result in results:
        for row in result["figures"]:
            value = f"{row['value']:.4g} {row['unit']}"
            lines.append(f"| {result['benchmark']} | {row['name']} | {value} | {goal_of(row)} |")
    return "\n".join(lines)


def ways_table(name: str) -> str:
    """Each way to do something, a row with its scores; figures are called "way: score"."""
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    scores: dict[str, dict[str, str]] = {}
    for row in result["figures"]:
        name, _, score = row["name"].partition(": ")
        scores.setdefault(name, {})[score] = f"{row['value']:.3f}"
    columns = list(dict.fromkeys(score for found in scores.values() for score in found))
    lines = [f"{result['note']}.", "", f"| way | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(found.get(score, '') for score in columns)} |" for name, found in scores.items()]
    return "\n".join(lines)


def objects_table(result: dict[str, Any]) -> str:
    """How well objects are followed, a line each sequence, and the means."""
    measures = [row["name"] for row in result["figures"]]
    lines = [f"Measured by `make eval` on {machine_name(result)}:", ""]
    lines += [f"| sequence | frames | {' | '.join(measures)} |", "|---" * (len(measures) + 2) + "|"]
    for row in result["sequences"]:
        lines.append(f"| {row['name']} | {row['frames']} | {' | '.join(f'{row[m]:.3g}' for m in measures)} |")
    means = " | ".join(f"**{row['value']:.3g}**" for row in result["figures"])
    return "\n".join([*lines, f"| mean | {sum(row['frames'] for row in result['sequences'])} | {means} |"])


def choices_table(result: dict[str, Any]) -> str:
    """What each part of the tracker is worth."""
    part = f", the first {result['frames']} frames of each" if result.get("frames") else ""
    lines = [f"Measured by `benchmarks/eval_objects.py --choices` on {machine_name(result)}{part}:", ""]
    lines += ["| choice | J mean |", "|---|---|"]
    return "\n".join([*lines, *(f"| {row['name']} | {row['value']:.3f} |" for row in result["figures"])])


def gpu_table(result: dict[str, Any]) -> str:
    """The whole path and the stages on a GPU, and the goals of its kernels, missed beside met."""
    lines = [
        f"Measured by `make gpu-report` on {machine_name(result)}:",
        "",
        "| figure | value | goal |",
        "|---|---|---|",
    ]
    for row in result["figures"]:
        part = row["part"].removeprefix("bench_")
        if part in ("pipeline", "stages") or "goal" in row:
            lines.append(f"| {part}: {row['name']} | {row['value']:.4g} {row['unit']} | {goal_of(row)} |")
    return "\n".join(lines)


def generated() -> dict[str, dict[str, str]]:
    """Each file with generated parts: their names, and what they must say."""
    result = json.loads((ROOT / "benchmarks" / "results" / "pipeline.json").read_text())
    objects = json.loads((ROOT / "benchmarks" / "results" / "objects.json").read_text())
    choices = json.loads((ROOT / "benchmarks" / "results" / "object_choices.json").read_text())
    gpu = json.loads((ROOT / "benchmarks" / "results" / "gpu-nvidia-h200.json").read_text())
    return {
        "README.md": {
            "options": option_table(),
            "figures": figures_table(result),
            "objects": objects_table(objects),
            "choices": choices_table(choices),
        },
        "benchmarks/README.md": {
            "stages": stages_table(),
            "gpu": gpu_table(gpu),
            "boundaries": ways_table("boundaries"),
            "styles": ways_table("styles"),
            "calm": figures_table(result_of("calm"), "benchmarks/eval_calm.py"),
        },
    }


def fill(text: str, parts: dict[str, str]) -> str:
    """A file's text with what stands between each pair of markers replaced."""
    for name, part in parts.items():
        begin, end = f"<!-- {name}: generated by benchmarks/tables.py -->", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        tail = rest.partition(end)[2]
        if not rest or not tail:
            raise SystemExit(f"there are no markers of '{name}'")
        text = f"{head}{begin}\n{part}\n{end}{tail}"
    return text


if __name__ == "__main__":
    for name, parts in generated().items():
        path = ROOT / name
        path.write_text(fill(path.read_text(), parts))
