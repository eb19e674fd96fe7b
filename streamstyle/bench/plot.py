"""A bench as a picture: time per frame against pixels, and against styles. matplotlib is imported only here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from streamstyle.bench.report import BenchReport, Resolution
from streamstyle.errors import OutputError

INK, GREY = "#333333", "#999999"


def draw(report: BenchReport, path: Path) -> None:
    """Write the picture in the format its ending names, whole or not at all; needs no display.

    Raises:
        OutputError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    by_size, by_styles = figure.subplots(1, 2)
    _against_pixels(by_size, report)
    _against_styles(by_styles, report)
    machine = report.machine
    where = report.device if report.device != "cpu" else f"{machine['processor']}, {machine['cores']} cores"
    figure.suptitle(f"streamstyle {machine['streamstyle']} on {where}", fontsize=11, color=INK)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".streamstyle-bench-") as folder:
            drawn = Path(folder) / f"plot{path.suffix.lower()}"
            figure.savefig(drawn, dpi=120)
            os.replace(drawn, path)
    except OSError as error:
        raise OutputError(
            f"--plot {path}: cannot be written: {error.strerror or error}; choose another place"
        ) from None


def _against_pixels(axes: Any, report: BenchReport) -> None:
    """Each stage alone and the whole, by the size of a frame; both axes logarithmic: a slope of 1 is flat per pixel."""
    sizes = sorted(report.resolutions, key=lambda size: size.width * size.height)
    pixels = [size.width * size.height / 1e6 for size in sizes]
    count = report.styles
    lines: list[tuple[str, str, str, list[float]]] = [
        (_job_label(count), INK, "o-", [1e3 / size.job.fps for size in sizes]),
        ("decode alone", "#0072b2", "s--", [size.alone_ms["decode"] for size in sizes]),
        ("paint alone, 1 style", "#e69f00", "^--", [size.alone_ms["paint_1"] for size in sizes]),
        (f"paint alone, {count} styles", "#d55e00", "v--", [size.alone_ms["paint_k"] for size in sizes]),
        ("encode alone", "#009e73", "D--", [size.alone_ms["encode"] for size in sizes]),
    ]
    for label, color, style, values in lines if count > 1 else [*lines[:3], lines[4]]:
        axes.plot(pixels, values, style, color=color, label=label, linewidth=2.2 if color == INK else 1.4, markersize=6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(
        pixels, [f"{size.width}x{size.height}\n{count:.2g} Mpx" for size, count in zip(sizes, pixels, strict=True)]
    )
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _finish(axes, "Time per frame by size", "size of a frame (logarithmic)", "ms a frame (logarithmic)")


def _against_styles(axes: Any, report: BenchReport) -> None:
    """The network by the number of styles in one pass, a line for each size."""
    sizes = sorted(report.resolutions, key=lambda size: size.width * size.height)
    colors = ["#56b4e9", "#0072b2", "#cc79a7", "#d55e00", "#e69f00", "#009e73"]
    for number, size in enumerate(sizes):
        counts = sorted(map(int, size.network_ms))
        values = [size.network_ms[str(count)] for count in counts]
        axes.plot(counts, values, "o-", color=colors[number % len(colors)], label=_size(size), linewidth=1.6)
    axes.set_xticks(sorted(map(int, sizes[0].network_ms)))
    axes.set_ylim(bottom=0)
    _finish(axes, "Painting network by styles in one pass", "styles", "ms a frame")


def _finish(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11, color=INK)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)


def _size(size: Resolution) -> str:
    return f"{size.width}x{size.height}"


def _job_label(count: int) -> str:
    return f"end to end, {count} styles" if count > 1 else "end to end, 1 style"
