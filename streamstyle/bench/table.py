"""What a bench found, for people: a table in plain text, and one line while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable

from streamstyle.bench.report import BenchReport, Painting, Resolution

COLUMN, LABEL, COLUMNS = 12, 52, 4
STAGES = {
    "decode": "decoding",
    "read": "analysis",
    "paint": "painting",
    "paint_k": "painting",
    "encode": "encoding",
}
Cell = Callable[[Resolution], str]


class StatusLine:
    """One line on stderr that changes; silent where that is no terminal, and gone at the end."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> StatusLine:
        return self

    def __call__(self, line: str) -> None:
        """Show a line in place of the last one."""
        if self._shown:
            print(f"\r\x1b[Kmeasuring {line}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def render(report: BenchReport) -> str:
    """The whole table, at most 100 columns wide."""
    machine = report.machine
    where = report.device if report.device != "cpu" else f"cpu ({machine['processor']}, {machine['cores']} cores)"
    film = report.clip or "a film made for it"
    lines = [
        f"{where}, streamstyle {machine['streamstyle']}, torch {machine['torch']}",
        f"{film}, {report.resolutions[0].frames} frames a job, {report.encoder} {report.preset}, "
        f"measured in {report.seconds:.0f} s",
    ]
    for first in range(0, len(report.resolutions), COLUMNS):
        sizes = report.resolutions[first : first + COLUMNS]
        lines += ["", _row("", lambda size: f"{size.width}x{size.height}", sizes)]
        for heading, rows in _sections(report):
            lines += [heading, *(_row(f"  {label}", cell, sizes) for label, cell in rows)]
    return "\n".join([*lines, "", *verdict(report)])


def _row(label: str, cell: Cell, sizes: tuple[Resolution, ...]) -> str:
    return f"{label:<{LABEL}}" + "".join(f"{cell(size):>{COLUMN}}" for size in sizes)


def _sections(report: BenchReport) -> list[tuple[str, list[tuple[str, Cell]]]]:
    """Headings, and below each its rows."""
    count = report.styles
    many = f"{count} styles, objects tracked"
    several = count > 1
    alone = [_ms("decode", "alone_ms", "decode"), _ms("paint, 1 style", "alone_ms", "paint_1")]
    alone += [_ms(f"paint, {many}", "alone_ms", "paint_k")] if several else []
    every = f"every {report.analyse_every} frames" if report.analyse_every > 1 else "every frame"
    parts = [
        _ms("upload, YUV to RGB", "parts_ms", "upload"),
        _ms(f"find objects (edges, regions), {every}", "parts_ms", "find"),
        _ms("track them (optical flow, matching)", "parts_ms", "track"),
        _ms("enlarge their map, soft borders", "parts_ms", "map"),
        _ms("network, 1 style", "parts_ms", "network_1"),
    ]
    parts += [_ms(f"network, {count} styles", "parts_ms", "network_k")] if several else []
    ends: list[tuple[str, Cell]] = [("1 style", lambda size: f"{size.one_style.fps:.1f}")]
    ends += [(many, lambda size: f"{size.job.fps:.1f}")] if several else []
    named = many if several else "1 style"
    ends += [
        (f"{named}, stages in turn", lambda size: f"{size.in_turn_fps:.1f}"),
        ("nothing painted (decode, encode)", lambda size: f"{size.plain_fps:.1f}"),
    ]
    return [
        ("each stage alone, ms a frame", [*alone, _ms("encode", "alone_ms", "encode")]),
        (
            "parts of painting alone, ms a frame",
            [
                *parts,
                _ms("RGB to YUV, download", "parts_ms", "download"),
                ("finding and tracking, of the whole path", lambda size: _percent(size.following_share)),
            ],
        ),
        ("end to end, frames a second", ends),
        (f"{named}: ratios of frames a second", _ratios()),
        (f"{named}: share of the time at work", _busy()),
        (f"{named}: memory and start", _memory()),
    ]


def _ms(label: str, group: str, key: str) -> tuple[str, Cell]:
    return label, lambda size: f"{getattr(size, group)[key]:.2f}"


def _ratios() -> list[tuple[str, Cell]]:
    return [
        ("end to end / its slowest stage alone", lambda size: f"{size.end_to_end_per_slowest:.2f}"),
        ("  which is", lambda size: STAGES[size.slowest_alone]),
        ("end to end / nothing painted", lambda size: f"{size.end_to_end_per_plain:.2f}"),
        ("end to end / stages in turn", lambda size: f"{size.end_to_end_per_in_turn:.2f}"),
    ]


def _busy() -> list[tuple[str, Cell]]:
    def share(stage: str) -> Cell:
        return lambda size: _percent(size.job.busy[stage])

    return [
        ("decode", share("decode")),
        ("analyse", share("read")),
        ("paint", share("paint")),
        ("encode", share("encode")),
        ("bottleneck", lambda size: STAGES[size.job.bottleneck]),
        ("queue of decoded frames, how full", lambda size: _percent(size.job.queues["decode"])),
        ("queue of frames to paint, how full", lambda size: _percent(size.job.queues["read"])),
        ("queue of painted frames, how full", lambda size: _percent(size.job.queues["paint"])),
        ("GPU", lambda size: "n/a" if size.gpu_busy is None else _percent(size.gpu_busy)),
    ]


def _memory() -> list[tuple[str, Cell]]:
    return [
        ("peak memory of the process, MiB", lambda size: f"{size.peak_memory_bytes / 2**20:.0f}"),
        (
            "peak memory on the GPU, MiB",
            lambda size: "n/a" if size.peak_gpu_bytes is None else f"{size.peak_gpu_bytes / 2**20:.0f}",
        ),
        ("first painted frames written after, s", lambda size: f"{size.first_frame_s:.2f}"),
        ("time per pixel, ns", lambda size: f"{size.ns_per_px:.1f}"),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def verdict(report: BenchReport) -> list[str]:
    """What the figures mean, in words."""
    lines = [
        f"{size.width}x{size.height}: {STAGES[size.job.bottleneck]} is the bottleneck, at work "
        f"{_percent(size.job.busy[size.job.bottleneck])} of the time\n  ({_waiting(size.job)})"
        for size in report.resolutions
    ]
    if report.flatness is not None:
        by_size = sorted(report.resolutions, key=lambda size: size.width * size.height)
        lines.append(
            f"a pixel at {by_size[-1].width}x{by_size[-1].height} takes {report.flatness:.2f} times as long as at "
            f"{by_size[0].width}x{by_size[0].height} (1 is flat)"
        )
    python = report.python
    own = f"{python.own_ms:.2f}" if python.own_ms >= 0.01 else "less than 0.01"
    lines.append(
        f"Python's own work: {own} ms a frame (tiny film, not painted: {python.job_ms:.2f}, "
        f"decoding {python.decode_ms:.2f}, encoding {python.encode_ms:.2f})"
    )
    return lines


def _waiting(job: Painting) -> str:
    """How busy the other stages are."""
    others = [name for name in job.busy if name != job.bottleneck]
    return ", ".join(f"{STAGES[name]} {_percent(job.busy[name])}" for name in others)
