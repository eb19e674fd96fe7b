"""A film painted again where its Look has changed, and only there: what a project has of it is kept to the bit.

::

    segments no frame of which is touched ──────────────────────────────────────────► packets copied
    others: film decoded ──► touched frames painted within their box ──┐
            painted frames kept bit for bit ───────────────────────────┴─ merged ──► encoded anew

Nothing is analysed. The film is the one a whole run with the new Look and the project's label track makes, frame by
frame and, as encoders go, packet by packet (on CUDA up to a last bit). A project is only read; save_project writes
the next one.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamstyle.config import Options
from streamstyle.errors import OptionError
from streamstyle.frames import FrameBatch
from streamstyle.job import OnFrames, Report, River, identity, work_folder
from streamstyle.look import Look, ObjectStyle
from streamstyle.media.audio import AudioSource
from streamstyle.media.closed import KeptSegment
from streamstyle.media.encode import encode
from streamstyle.media.fingerprint import fingerprint
from streamstyle.media.journal import Placed
from streamstyle.media.segments import WorkFolder
from streamstyle.plan import plan
from streamstyle.projects.change import Change
from streamstyle.projects.pieces import begin, end
from streamstyle.projects.project import (
    LABELS,
    META,
    Project,
    bytes_by_kind,
    what_must_stay,
)
from streamstyle.projects.save_project import ProjectWriter, styled
from streamstyle.stylizer import Stylizer
from streamstyle.tracks.given_tracks import GivenTracks

QUEUE_BATCHES = 2


def repaint(
    input: str | Path,
    output: str | Path,
    project: Project,
    *,
    look: Look,
    options: Options | None = None,
    typed: Collection[str] = (),
    save_project: str | Path | None = None,
    on_frames: OnFrames | None = None,
    say: Callable[[str], None] | None = None,
    dry_run: bool = False,
    overlap: bool = True,
) -> Report:
    """Paint a film again from a project.

    Args:
        input: the film the project is of.
        output, on_frames, say, dry_run, overlap: as of ``stylize``; so is what becomes of a job that is stopped.
        project: what an earlier run saved.
        look: the Look from now on; its objects are the project's, by name.
        options: how paint is put on may be another; all else is the project's.
        typed: names of options that are meant also where they are defaults, which else say nothing.
        save_project: where to save what a later change needs; may be the project's own folder.

    Raises:
        InputError: another film, or a part of the project is damaged. OptionError: an option changes every pixel.
        StreamstyleError: as of ``stylize``.
    """
    began, options = time.perf_counter(), options or Options()
    if options.output.layers is not None:
        raise OptionError("--layers: does not go with --project, which paints only what changed; leave one of them out")
    options = project.options_with(options, typed)
    job = plan(input, output, options.output, save_project)
    project.check_film(job.info)
    bare = replace(look, objects=tuple({o.name: _placeless(o) for o in look.objects}.values()))
    given = GivenTracks(project.path / LABELS, job.info, bare)
    stylizer = Stylizer(bare, options, frames_expected=job.frames, given=given, apart=True)
    same = identity(job, options, stylizer, 0, None, None, save_project)
    same["from_project"] = _begun_from(project, job.target)
    project.check(what_must_stay(same))
    prints = {os.path.abspath(file): fingerprint(file) for file in stylizer.palette.files}
    change = Change(project, stylizer, job.info, prints)
    report = Report.begun(input, output, job, stylizer)
    report = replace(report, warnings=tuple(_unknown(project, look)), project=change.report())
    warnings: list[str] = []
    saver = None
    if save_project is not None:
        now = same | {"painted_with": prints}
        saver = ProjectWriter(save_project, job, look, options, now, lambda: styled(project.objects, look), project)
        stylizer.painter.keeps_flow = True
    beside, depth = [] if saver is None else [saver], QUEUE_BATCHES if overlap else 0
    if dry_run:
        return report.dry(began, report.warnings, work_folder(job, same, options.output, beside).prospect(), say)
    with (
        work_folder(job, same, options.output, beside, say) as work,
        saver or nullcontext(),
        River(depth, stylizer.device, on_frames, work.frames, len(project.frames)) as river,
    ):
        river.replayed = work.tail.frames
        painted = painted_again(stylizer, change, work, river)
        window: dict[str, Any] = {"start_s": options.output.start, "duration_s": options.output.duration}
        written = encode(
            painted if saver is None else saver.keep(painted, change.flow.whole.__contains__),
            output,
            job.info,
            options.output,
            size=(job.width, job.height),
            audio=AudioSource(job.info, **window, warn=warnings.append),
            work=work,
            encoder=job.encoder,
            warn=warnings.append,
            on_frames=river.count,
        )
    new = [segment for segment in work.segments if change.touched_segments[segment.number]]
    kept_bytes = sum(s.size_bytes for s in new) + saver.bytes_of(*(s.number for s in new)) if saver else 0
    told = change.report() | {
        "bytes_written": written.size_bytes + kept_bytes,
        "seconds": round(time.perf_counter() - began, 3),
        "bytes": saver.saved if saver else bytes_by_kind(project.files),
    }
    return report.finished(
        written,
        river,
        began,
        work.resumed_frames,
        objects=tuple(styled(project.objects, look)),
        calm=tuple(stylizer.calm_report()),
        warnings=(*report.warnings, *warnings, *change.flow.warnings()),
        project=told,
    )


def painted_again(
    stylizer: Stylizer, change: Change, work: WorkFolder, river: River
) -> Iterator[FrameBatch | KeptSegment]:
    """The river of a film that is painted again, on threads as those of ``pipeline.painted_frames``.

    Args:
        work: goes on after the frames it keeps.
    """
    keeps = stylizer.device.type == "cpu" and not stylizer.options.output.no_resume
    after = work.tail.checkpoint or work.checkpoint
    if after is not None:
        stylizer.painter.load_state_dict(after.state["painting"])
        change.go_on(len(work.segments), work.kept_frames, after)
    pieces = river.thread("decode", change.pieces())
    readings = river.thread("read", change.readings(pieces, work.tail if keeps else None))
    begun = river.share(functools.partial(begin, stylizer), readings)
    painted = river.thread("paint", end(stylizer, begun), is_light=True)
    if not keeps:
        return painted
    painted = work.tail.replayed(painted, work.frames)
    return work.tail.keep(painted, len(work.segments), work.frames)


def _begun_from(project: Project, target: Path) -> Any:
    """What tells the project a job begins from; from what one began that was cut short when it had replaced it."""
    placed, meta = Placed.beside(target), Path(os.path.realpath(project.path)) / META
    if placed.has(meta) and "from_project" in placed.job:
        return placed.job["from_project"]
    return fingerprint(meta)["blake2b"]


def _unknown(project: Project, look: Look) -> list[str]:
    """Objects of a Look that a project does not have, a line each."""
    there = sorted({look.name_of(name) for name in project.names.values()})
    mend = f", as in --object '{there[0]}=wave'" if there else ""
    mend += "; for a new object paint the film without --project"
    return look.unknown_names(project.names.values(), project.path, mend)


def _placeless(thing: ObjectStyle) -> ObjectStyle:
    """An object that is found by its name."""
    return ObjectStyle(thing.name, thing.style)
