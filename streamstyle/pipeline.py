"""The whole river on one screen: a film in, a painted film out."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamstyle.config import Options, OutputOptions
from streamstyle.flow import Ahead, rebatch
from streamstyle.frames import Checkpoint, Frame, FrameBatch, VideoInfo, output_chroma
from streamstyle.gpu.transfer import empty_pinned
from streamstyle.job import OnFrames, Report, River, identity, work_folder
from streamstyle.look import Look
from streamstyle.media.audio import AudioSource
from streamstyle.media.closed import KeptSegment
from streamstyle.media.decode import decode
from streamstyle.media.encode import encode
from streamstyle.media.layers import LayerFilms
from streamstyle.media.segments import WorkFolder
from streamstyle.media.tail import Tail
from streamstyle.naming import early_warnings, place_objects
from streamstyle.painting.frame_painter import Painting, Reading
from streamstyle.plan import Plan, plan
from streamstyle.projects.save_project import ProjectWriter
from streamstyle.stylizer import Stylizer
from streamstyle.tracks.given_tracks import GivenTracks, given_tracks

if TYPE_CHECKING:
    import torch

BATCH_PX = {"cpu": 1 << 20, "cuda": 1 << 25}
"""Pixels of a batch: enough frames to keep the device busy, few enough to keep memory small."""
MOST_FRAMES = 16
QUEUE_BATCHES = 2
SEGMENT_PX = {"cpu": 24 << 20, "cuda": 1 << 30}
"""Pixels of a closed segment: some seconds of work. Shorter ones lose less in a crash, but a keyframe each makes the
film larger (2 % at 96 frames, 5 % at 48, 11 % at 24)."""
SEGMENT_FRAMES = (48, 480)


def stylize(
    input: str | Path,
    output: str | Path,
    *,
    look: Look | str,
    options: Options | None = None,
    on_frames: OnFrames | None = None,
    say: Callable[[str], None] | None = None,
    dry_run: bool = False,
    overlap: bool = True,
    mask: str | Path | None = None,
    tracks: str | Path | None = None,
    save_project: str | Path | None = None,
) -> Report:
    """Paint a film.

    A job that is stopped, killed or fails is taken up by the same call: closed segments wait in a work folder beside
    the output, with what goes beside them, and the film, its layers and its project come out as if nothing had
    happened. ``options.output.no_resume`` does without.

    Args:
        input: any film PyAV reads.
        output: .mp4, .m4v, .mov or .mkv; appears only when whole.
        look: which object gets which style; a style's name stands for ``Look(style=name)``.
        options: everything else.
        on_frames: called with (frames done, frames expected or None) as the film is written.
        say: told in one line, at once, that an earlier job goes on or why it does not.
        dry_run: check everything, also the named objects, but write nothing.
        overlap: False decodes, paints and encodes in turn, on one thread, to measure what overlapping gains.
        mask: a picture of the objects in the first frame, for those that the look takes from one.
        tracks: a label track of the film: its objects, by name, wear what the look gives them, and none is looked for.
        save_project: a folder for what ``repaint`` needs to change this film later.

    Raises:
        StreamstyleError: one line that says what, where, and the mend; the work folder is left where a segment is done.

    Example:
        >>> stylize("in.mp4", "out.mp4", look=Look(style="starry")).frames_out
        240
    """
    began, options = time.perf_counter(), options or Options()
    said, out = Look(style=look) if isinstance(look, str) else look, options.output
    warnings = early_warnings(said.objects, out.start) if tracks is None else []
    made = prepare(input, output, said, options, mask, tracks, save_project)
    job, stylizer, given, layers, same = made.job, made.stylizer, made.given, made.layers, made.same
    saver = None
    if save_project is not None:
        saver = ProjectWriter(save_project, job, said, options, same, stylizer.report)
        stylizer.number_objects(saver.numbers)
        stylizer.painter.keeps_flow = True
    beside = [part for part in (layers, saver) if part is not None]
    if dry_run:
        told = [*warnings, *stylizer.warnings(), *(given.warnings() if given else ())]
        return made.report.dry(began, told, work_folder(job, same, out, beside).prospect(), say)

    window: dict[str, Any] = {"start_s": out.start, "duration_s": out.duration, "warn": warnings.append}
    with (
        given or nullcontext(),
        work_folder(job, same, out, beside, say) as work,
        saver or nullcontext(),
        River(QUEUE_BATCHES if overlap else 0, stylizer.device, on_frames, work.frames, job.frames) as river,
    ):
        river.replayed = work.tail.frames
        written = encode(
            painted_frames(made, out, work, river, saver, window),
            output,
            job.info,
            out,
            size=(job.width, job.height),
            audio=AudioSource(job.info, **window),
            work=work,
            encoder=job.encoder,
            warn=warnings.append,
            on_frames=river.count,
        )

    return made.report.finished(
        written,
        river,
        began,
        work.resumed_frames,
        objects=tuple(stylizer.report()),
        calm=tuple(stylizer.calm_report()),
        layers=layers.report() if layers else (),
        project=None if saver is None else {"bytes": saver.saved},
        warnings=tuple(warnings + [line for part in (stylizer, given, layers) if part for line in part.warnings()]),
    )


def painted_frames(
    made: Prepared,
    out: OutputOptions,
    work: WorkFolder,
    river: River,
    saver: ProjectWriter | None,
    window: dict[str, Any],
) -> Iterator[FrameBatch | KeptSegment]:
    """The river. Threads that decode, read, paint (several) and, who takes these, encode; bounded queues between them.

    Args:
        work: goes on after the frames it keeps.
        saver: keeps them for a project.
        window: which part of the film, and who is told of its faults.
    """
    stylizer, layers, info, size = made.stylizer, made.layers, made.job.info, (made.job.width, made.job.height)
    after, begin_at = work.tail.checkpoint or work.checkpoint, work.kept_frames
    if after is not None:
        stylizer.load_state_dict(after.state)
    film = decode(info, size=out.size, after=after, hwaccel=out.hwaccel, **window)
    slow = stylizer.device.type == "cpu"
    first = 1 if slow else made.per_batch  # a CPU's first frame need not wait for others
    groups = rebatch(film, made.per_batch, begin=begin_at, edge=made.per_segment, first=first)
    batches = stack(groups, begin_at, stylizer.device)
    keeps = slow and not out.no_resume
    if saver is not None:
        saver.notes = keeps
    tail = work.tail if keeps else None
    readings = read(stylizer, river.thread("decode", batches), info, made.per_segment, saver, tail)
    begun = river.share(functools.partial(begin, stylizer, size), river.thread("read", readings))
    painted = river.thread("paint", end(stylizer, size, begun), is_light=True)
    if keeps:
        painted = work.tail.replayed(painted, work.frames)
    if layers is not None:
        painted = river.thread("layers", layers.through(painted, with_alphas=keeps))
    if keeps:
        painted = work.tail.keep(painted, len(work.segments), work.frames)
    return painted if saver is None else saver.keep(painted)


@dataclass(frozen=True)
class Prepared:
    """All that a job needs, checked, before anything is written.

    Attributes:
        report: begun.
        same: the job's identity.
        per_batch, per_segment: frames of a batch and of a closed segment.
    """

    job: Plan
    stylizer: Stylizer
    given: GivenTracks | None
    layers: LayerFilms | None
    report: Report
    same: dict[str, Any]
    per_batch: int
    per_segment: int


def prepare(
    input: str | Path,
    output: str | Path,
    look: Look,
    options: Options,
    mask: str | Path | None,
    tracks: str | Path | None,
    save_project: str | Path | None,
) -> Prepared:
    """A job as of :func:`stylize`, with its named objects in their places; StreamstyleError where it cannot be done."""
    job = plan(input, output, options.output, save_project)
    size = job.width, job.height
    given = given_tracks(tracks, job.info, look, mask)
    apart = save_project is not None
    stylizer = Stylizer(look, options, frames_expected=job.frames, given=given, apart=apart)
    if given is None:
        place_objects(stylizer, job.info, mask)
    layers = None
    if options.output.layers is not None:
        layers = LayerFilms(options.output, stylizer.cut_layers(), job.info, size=size, target=job.target)
        if save_project is not None:
            layers.refuse("--save-project", save_project)
    report = Report.begun(input, output, job, stylizer)
    per_batch, per_segment = frames_of(size, stylizer.device.type)
    same = identity(job, options, stylizer, per_segment, mask, tracks, save_project)
    return Prepared(job, stylizer, given, layers, report, same, per_batch, per_segment)


def stack(groups: Iterable[list[Frame]], begin: int, device: torch.device) -> Iterator[FrameBatch]:
    """Groups of frames as batches, numbered from begin on, in memory from which the device takes them quickly."""
    empty = functools.partial(empty_pinned, device=device)
    with closing(iter(groups)) as upstream:  # type: ignore[type-var]
        for group in upstream:
            yield FrameBatch.stack(group, begin, empty)
            begin += len(group)


def read(
    stylizer: Stylizer,
    batches: Iterator[FrameBatch],
    info: VideoInfo,
    per_segment: int,
    saver: ProjectWriter | None = None,
    tail: Tail | None = None,
) -> Iterator[tuple[Reading, Checkpoint | None]]:
    """Batches as they are read, with a checkpoint after each that ends a segment, after the last, and where one is due.

    Times given to the stylizer are seconds after the film's first frame. Where a shot begins, and where a batch
    ends between two frames that are looked at, it looks ahead, at frames of the batches that come next; these are held
    until their turn.
    """

    with closing(Ahead(batches)) as upstream:
        for batch in upstream:
            times_s = [info.time_of(pts) for pts in batch.pts]
            ahead = functools.partial(unstacked, upstream)
            reading, checkpoint = stylizer.read_batch(batch, info.color, times_s, ahead, info.time_of), None
            closes = upstream.is_over or (batch.index + len(batch)) % per_segment == 0
            if tail.is_due(closes) if tail is not None else closes:
                checkpoint = Checkpoint.after(batch, stylizer.reading_state(), closes=closes)
            if saver is not None:
                checkpoint = saver.read(batch, reading.scene, checkpoint)
            yield reading, checkpoint
            del batch, reading


def unstacked(batches: Ahead[FrameBatch]) -> Iterator[Frame]:
    """The frames whose turn is next, one by one."""
    return (frame for batch in batches.ahead() for frame in batch.unstack())


def begin(
    stylizer: Stylizer, size: tuple[int, int], item: tuple[Reading, Checkpoint | None]
) -> tuple[Painting, Checkpoint | None]:
    """A batch that was read, painted as far as that can be by itself, with its checkpoint."""
    reading, checkpoint = item
    return stylizer.begin_painting(reading, subsample=output_chroma(*size) == "yuv420p"), checkpoint


def end(
    stylizer: Stylizer, size: tuple[int, int], items: Iterator[tuple[Painting, Checkpoint | None]]
) -> Iterator[FrameBatch]:
    """The batches' frames, in order; their checkpoints hold what painting carries, too."""
    with closing(items) as upstream:  # type: ignore[type-var]
        for painting, checkpoint in upstream:
            painted = stylizer.end_painting(painting, subsample=output_chroma(*size) == "yuv420p")
            if checkpoint is not None:
                state = {"reading": checkpoint.state, "painting": stylizer.painting_state()}
                checkpoint = replace(checkpoint, state=state)
            yield replace(painted, checkpoint=checkpoint)
            del painting, painted


def frames_of(size: tuple[int, int], device: str) -> tuple[int, int]:
    """Frames of a batch and of a closed segment, for frames of (width, height)."""
    pixels, (fewest, most) = size[0] * size[1], SEGMENT_FRAMES
    return max(1, min(MOST_FRAMES, BATCH_PX[device] // pixels)), max(fewest, min(most, SEGMENT_PX[device] // pixels))
