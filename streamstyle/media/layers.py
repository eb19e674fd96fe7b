"""The layers of a painted film, each a film of its own with alpha, for an editor; whole or not at all.

::

    batches, with alphas ──┬──► the film's own encoder
                           └──► segment 0 │ segment 1 …   a writer a layer, in the film's work folder
                                    └──────────┴──► joined as NAME.mov, NAME.webm, NAME/000000.png

Every layer has every frame of the film, at the film's times. Alpha is straight: under it lies the painted film itself,
and the alphas of a pixel sum to one. So the layers added up are the film, and any of them over the film is the film.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from streamstyle.config import OutputOptions
from streamstyle.errors import OutputError
from streamstyle.frames import FrameBatch, VideoInfo
from streamstyle.media.codecs import has_encoder
from streamstyle.media.disk import link_or_copy, staging, sync, told
from streamstyle.media.encode import check_place
from streamstyle.media.journal import Placed
from streamstyle.media.layer_writers import FULL, KINDS, NARROW, FilmWriter, PictureWriter, join_films, rows_of
from streamstyle.media.planes import SWS_MATRIX
from streamstyle.media.segments import WorkFolder
from streamstyle.process import cores

_LONGEST_NAME_BYTES = 200
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*%]')  # of some file system, or with a meaning to FFmpeg
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices, to Windows
_NUMBERED = re.compile(r"\d{6,}\.png")


@dataclass(frozen=True)
class LayerReport:
    """A layer that was written: as in the JSON report.

    Attributes:
        file: the film, or the folder of its pictures.
        frames: how many have something of it in them.
    """

    name: str
    file: str
    frames: int


class LayerFilms:
    """The layers' films in the making, segment by segment as the film; put in place with it: see Beside.

    Args:
        out: where to and as what; overwrite.
        layers: their names, by the number they have in a batch's alphas.
        info: the film that is painted: its timing, pixel shape and colour tags are written.
        size: width and height of the frames.
        target: the painted film, links followed; nobody else writes it meanwhile.

    Raises:
        OutputError: a layer could not or must not be written there.
    """

    def __init__(
        self, out: OutputOptions, layers: Mapping[int, str], info: VideoInfo, *, size: tuple[int, int], target: Path
    ) -> None:
        assert out.layers is not None
        self._kind = KINDS[out.layer_format]
        self._info, self._size, self._from_zero = info, size, out.start > 0
        self._said, self._names = out.layers, dict(layers)
        self._folder = Path(os.path.realpath(out.layers))
        self._part = staging(self._folder, target, ".part")
        self._old = self._part / ".old"  # no layer's name begins so
        files = (f"{name}{self._kind.suffix}" for name in safe_names(layers.values()))
        self._files = dict(zip(layers, files, strict=True))
        self._target, self._overwrite = target, out.overwrite
        self.check(Placed.beside(target))
        self._writers: dict[int, FilmWriter | PictureWriter] = {}
        self._shown = dict.fromkeys(layers, 0)
        self._steps: set[int] = set()
        self._pts: list[int] = []
        self._last_pts: int | None = None
        self._made = False
        self._moved: list[tuple[Path, Path | None]] = []

    # -- before and after ---------------------------------------------------------------------------------------

    def check(self, placed: Placed) -> None:
        """Refuse what could not be written, or would replace unasked what this job did not place: OutputError."""
        encoder = self._kind.encoder
        if encoder is not None and not has_encoder(encoder.name):
            raise OutputError(f"--layers: FFmpeg here has no {encoder.name}; give another --layer-format, such as png")
        if os.path.lexists(self._folder) and not self._folder.is_dir():
            raise OutputError(f"--layers {self._said}: is no folder; give another name")
        if not self._folder.is_dir():
            check_place(self._info.path, self._folder, overwrite=True)  # its name, and the folder it is to be made in
            return
        for file in self._files.values():
            place = self._folder / file
            if os.path.normcase(place) == os.path.normcase(self._target):
                raise OutputError(f"{self._target}: a layer is to be written there; give the film another name")
            if self._kind.encoder is not None:
                check_place(self._info.path, place, self._overwrite or placed.has(place))
            else:
                self._check_pictures(place, placed)

    def _check_pictures(self, place: Path, placed: Placed) -> None:
        """As check_place, for a folder of pictures."""
        if not place.is_dir():
            check_place(self._info.path, place, overwrite=False)
        elif os.path.exists(self._info.path) and place.samefile(self._info.path):
            raise OutputError(f"{place}: is the input itself; give --layers another folder")
        elif not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"{place}: is not writable; give --layers another folder")
        elif not self._overwrite and not all(map(placed.has, _numbered_in(place))):
            raise OutputError(f"{place}: holds pictures; add --overwrite, or give --layers another folder")

    def refuse(self, option: str, place: str | Path) -> None:
        """Refuse another place that is a layer's, or in it: OutputError."""
        there = Path(os.path.realpath(place))
        for file in self._files.values():
            if self._folder / file in (there, *there.parents):
                raise OutputError(f"{option} {place}: a layer is to be written there; choose another place")

    def begin(self, work: WorkFolder) -> None:
        """Go on from the segments a work folder has."""
        self._work, self._number, self._done = work, len(work.segments), work.frames
        self._shown, self._steps, self._last_pts = dict.fromkeys(self._files, 0), set(), None
        if self._number:
            last = self._noted(self._number - 1)
            self._shown = {int(k): count for k, count in last["shown"].items()}
            self._steps, self._last_pts = set(last["steps"]), last["pts"][-1]
        if any(len(self._noted(segment.number)["pts"]) != segment.frames for segment in work.segments):
            raise ValueError("what was noted of a segment is not of it")

    def stage(self) -> dict[Path, Path]:
        """Join the layers' segments, and have them on the disk, under a hidden name in the folder that is asked for.

        Returns:
            For each place the film, or the picture, that is to be moved there.
        """
        with told(self._said):
            self._made = not self._folder.exists()
            self._folder.mkdir(exist_ok=True)
            shutil.rmtree(self._part, ignore_errors=True)
            self._old.mkdir(parents=True)
            for file in self._files.values():
                self._join(file)
            return {self._folder / part.relative_to(self._part): part for part in self._staged()}

    def _staged(self) -> list[Path]:
        """The files that are to be moved: films, or pictures."""
        parts = [self._part / file for file in self._files.values()]
        return parts if self._kind.encoder is not None else [picture for part in parts for picture in part.iterdir()]

    def _join(self, file: str) -> None:
        part, numbers = self._part / file, range(len(self._work.segments))
        if self._kind.encoder is not None:
            first = self._work.segments[0].first_pts
            segments = ((self._beside(number) / file, self._noted(number)["pts"]) for number in numbers)
            join_films(segments, part, self._kind, self._info, first if self._from_zero or first < 0 else 0)
            sync(part)
            return
        part.mkdir()
        for number in numbers:
            for picture in (self._beside(number) / file).iterdir():
                link_or_copy(picture, part / picture.name)
                sync(part / picture.name)

    def place(self) -> None:
        """Move the layers to their places; what else is there stays."""
        self._moved = []
        with told(self._said):
            for file in self._files.values():
                self._place(file)
            sync(self._folder)
            sync(self._folder.parent)

    def put_back(self) -> None:
        """What was there before place is there again, as far as place came."""
        for place, old in reversed(self._moved):
            with contextlib.suppress(OSError):  # of the others as many as can be
                if old is not None:
                    os.replace(old, place)
                else:
                    place.unlink()
        self._moved = []

    def clear(self) -> None:
        """Remove what was staged and not moved or kept of before, and the folder where it was made for nothing."""
        shutil.rmtree(self._part, ignore_errors=True)
        if self._made:
            with contextlib.suppress(OSError):  # unless something is in it
                self._folder.rmdir()

    def _place(self, file: str) -> None:
        part, place = self._part / file, self._folder / file
        if self._kind.encoder is not None:
            self._move(part, place)
            return
        place.mkdir(exist_ok=True)
        new = {picture.name for picture in part.iterdir()}
        for name in new:
            self._move(part / name, place / name)
        for old in _numbered_in(place):
            if old.name not in new:
                self._keep(old)
                old.unlink()
        sync(place)

    def _move(self, part: Path, place: Path) -> None:
        self._keep(place)
        os.replace(part, place)  # at no moment is there neither

    def _keep(self, place: Path) -> None:
        """Have what is in a place under another name until all is moved."""
        old = self._old / str(len(self._moved)) if os.path.lexists(place) else None
        if old is not None:
            link_or_copy(place, old)
        self._moved.append((place, old))

    def _beside(self, number: int) -> Path:
        return self._work.beside(number, "layers")

    def _noted(self, number: int) -> dict[str, Any]:
        """What was noted with a segment: when its frames are, and what had been seen by its end."""
        said: dict[str, Any] = json.loads((self._beside(number).with_suffix(".json")).read_text())
        return said

    def report(self) -> tuple[LayerReport, ...]:
        """What was written, layer by layer."""
        return tuple(
            LayerReport(self._names[k], str(self._said / file), self._shown[k]) for k, file in self._files.items()
        )

    def warnings(self) -> list[str]:
        """What could not be kept, a line each."""
        lines, shape = list[str](), self._info.sample_aspect_ratio
        if self._kind.encoder is None and len(self._steps) > 1:
            lines.append(f"{self._said}: pictures have no times, and the film's frames are not evenly spaced")
        if not self._kind.has_shape and shape != 1:
            lines.append(
                f"{self._said}: layers of this format do not tell that a pixel's shape is {shape}; tell the editor"
            )
        return lines

    # -- frame by frame -----------------------------------------------------------------------------------------

    def through(self, batches: Iterable[FrameBatch], *, with_alphas: bool = False) -> Generator[FrameBatch, None, None]:
        """Write the layers of batches, and give the batches on; a segment ends where a checkpoint closes it.

        Closes the batches, and the layers' files, at the end.

        Args:
            with_alphas: they are wanted further on.

        Cost: the encoders'. One frame of the film and one of each layer are in memory; the layers of a frame are
        written beside each other.
        """
        upstream = iter(batches)
        try:
            with ThreadPoolExecutor(min(len(self._files), cores()), "streamstyle-layers") as pool:
                for batch in upstream:
                    with told(self._said):
                        self._write(batch, pool)
                        if batch.checkpoint is not None and batch.checkpoint.closes:
                            self._close(pool)
                    yield batch if with_alphas else replace(batch, alphas={})
                    del batch
                with told(self._said):
                    self._close(pool)
        finally:
            for writer in self._writers.values():
                writer.abandon()
            close = getattr(upstream, "close", None)
            if close is not None:
                close()

    def _write(self, batch: FrameBatch, pool: ThreadPoolExecutor) -> None:
        if not self._writers:
            folder = self._work.make_beside(self._number, "layers")
            self._writers = {k: self._writer(folder / file, batch.pts[0]) for k, file in self._files.items()}
        for i, pts in enumerate(batch.pts):
            under = self._under(batch, i)
            alphas = {k: alpha[i] for k, alpha in batch.alphas.items() if k in self._files and alpha[i].any()}
            for k in alphas:
                self._shown[k] += 1
            written = [pool.submit(writer.write, under, alphas.get(k), pts) for k, writer in self._writers.items()]
            for each in written:
                each.result()
            if self._last_pts is not None and len(self._steps) < 2:  # all that is asked is whether they are even
                self._steps.add(pts - self._last_pts)
            self._last_pts = pts
            self._pts.append(pts)

    def _close(self, pool: ThreadPoolExecutor) -> None:
        """Complete the files of a segment."""
        if not self._writers:
            return
        list(pool.map(lambda writer: writer.finish(), self._writers.values()))
        said = {"pts": self._pts, "shown": self._shown, "steps": sorted(self._steps)}
        self._beside(self._number).with_suffix(".json").write_text(json.dumps(said))
        self._number, self._done = self._number + 1, self._done + len(self._pts)
        self._writers, self._pts = {}, []

    def _writer(self, path: Path, first_pts: int) -> FilmWriter | PictureWriter:
        if self._kind.encoder is None:
            return PictureWriter(path, self._size, self._done)
        return FilmWriter(path, self._kind, self._kind.encoder, self._info, self._size, first_pts)

    def _under(self, batch: FrameBatch, i: int) -> list[np.ndarray]:
        """The planes of the painted film as they lie under the layers' alpha."""
        planes, kind = [batch.y[i], batch.u[i], batch.v[i]], self._kind
        given = "yuv444p" if planes[1].shape == planes[0].shape else "yuv420p"
        if given == kind.under:
            return planes
        full = self._info.color.full_range
        frame = VideoFrame(*self._size, given)
        for rows, plane in zip(rows_of(frame), planes, strict=True):
            rows[:] = plane
        matrix = SWS_MATRIX[self._info.color.matrix]
        laid = frame.reformat(
            format=kind.under,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=FULL if full else NARROW,
            dst_color_range=FULL if kind.encoder is None or (full and not kind.is_narrow) else NARROW,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            threads=1,
        )
        return rows_of(laid)


def safe_names(names: Iterable[str]) -> list[str]:
    """Names as every file system takes them, no two alike but for capitals, none hidden."""
    safe, taken = list[str](), set[str]()
    for name in names:
        said = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", name)).strip(". ")
        said = said.encode(errors="replace")[:_LONGEST_NAME_BYTES].decode(errors="ignore").rstrip(". ") or "object"
        stem = f"{said}-" if _RESERVED.fullmatch(said) else said
        said, number = stem, 2
        while said.casefold() in taken:
            said, number = f"{stem}-{number}", number + 1
        taken.add(said.casefold())
        safe.append(said)
    return safe


def _numbered_in(folder: Path) -> list[Path]:
    """The pictures of a folder that a layer's could be."""
    return [path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)]
