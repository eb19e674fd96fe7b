"""What a project keeps of a segment's frames as read, in the film's work folder: labels, light, references."""

from __future__ import annotations

import array
import contextlib
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamstyle.frames import Checkpoint, FrameBatch, VideoInfo
from streamstyle.frozen_statistics import light_of
from streamstyle.media.disk import told
from streamstyle.media.label_track import LabelTrackWriter
from streamstyle.media.states import read_state, write_state
from streamstyle.projects.project import LABELS, REFERENCES, file_name

READ = "read.safetensors"


@dataclass(frozen=True)
class Noted:
    """What ReadWriter.noted told: labels [N, h, w], and of each frame what is kept of it; bytes of references."""

    labels: np.ndarray
    frames: dict[str, np.ndarray]
    references: dict[str, bytes]

    @classmethod
    def of(cls, said: dict[str, Any]) -> Noted:
        """As it comes back from a file.

        Raises:
            ValueError, LookupError, TypeError: damaged.
        """
        dtype, shape = said["maps_are"]
        try:
            labels = np.frombuffer(zlib.decompress(said["maps"].tobytes()), dtype).reshape(shape)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        frames = {name: said[name] for name in ("pts", "shots", "light", "labels", "ends")}
        if {len(labels)} != {len(frames[name]) for name in ("pts", "shots", "light", "ends")}:
            raise ValueError("not of the same frames")
        return cls(labels, frames, {name: data.tobytes() for name, data in said["references"].items()})


class ReadWriter:
    """Write one segment's.

    Args:
        folder: where, and there already.
        info: the film; film: its fingerprint.
        target: the project that is to be; errors of the disk are told of it.

    Raises:
        OutputError: the disk is full, or not ours to write on.
    """

    def __init__(self, folder: Path, info: VideoInfo, film: dict[str, Any], target: Path) -> None:
        self._folder, self._target = folder, target
        self._track = LabelTrackWriter(folder / LABELS, info, {}, film=film).__enter__()
        self._pts, self._shots, self._light = array.array("q"), array.array("q"), array.array("d")
        self._labels, self._ends = array.array("H"), array.array("q")
        self._references: list[Path] = []

    def add(self, pts: int, shot: int, luma: np.ndarray, labels: np.ndarray) -> None:
        """Write of a frame its time, its shot, its light by its small luma [h, w] uint8, and its labels [h, w].

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        self._track.add(labels, pts)
        self._labels.extend(np.unique(labels).tolist())
        self._ends.append(len(self._labels))
        self._pts.append(pts)
        self._shots.append(shot)
        self._light.extend(light_of(luma))

    def refer(self, batch: FrameBatch, i: int) -> None:
        """Write a frame of a batch, as decoded: one that statistics are recorded from.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        path = self._folder / file_name(REFERENCES, batch.index + i, "")
        with told(self._target):
            path.parent.mkdir(exist_ok=True)
            np.savez_compressed(path, **{p: getattr(batch, p)[i : i + 1] for p in "yuv"})
        self._references.append(path)

    def noted(self) -> dict[str, Any]:
        """All that was written, as plain values and arrays; see take.

        Cost: a millisecond or two for each frame so far, which is read back.
        """
        labels = np.stack([*self._track.so_far()])  # uint16 where one of them is
        return {
            **self._frames(),
            "maps": np.frombuffer(zlib.compress(labels.data, 1), np.uint8),
            "maps_are": (labels.dtype.str, labels.shape),
            "references": {path.name: np.fromfile(path, np.uint8) for path in self._references},
        }

    def take(self, noted: Noted) -> None:
        """Write again what another had noted, before anything else.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        for labels, pts in zip(noted.labels, noted.frames["pts"].tolist(), strict=True):
            self._track.add(labels, pts)
        mine: tuple[array.array[Any], ...] = (self._pts, self._shots, self._light, self._labels, self._ends)
        for here, name in zip(mine, ("pts", "shots", "light", "labels", "ends"), strict=True):
            here.extend(noted.frames[name].ravel().tolist())
        for name, data in noted.references.items():
            path = self._folder / REFERENCES / name
            with told(self._target):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            self._references.append(path)

    def finish(self, checkpoint: Checkpoint, more: dict[str, Any]) -> None:
        """Complete the files, after the segment's last frame; more is kept with them, plain values.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        self._track.__exit__(None, None, None)
        state = {**self._frames(), "crc": checkpoint.crc, "faults": asdict(checkpoint.faults), **more}
        with told(self._target):
            write_state(self._folder / READ, state)

    def abandon(self) -> None:
        """Close the files, which count for nothing."""
        with contextlib.suppress(OSError):
            self._track.__exit__(GeneratorExit, GeneratorExit(), None)

    def _frames(self) -> dict[str, np.ndarray]:
        return {
            "pts": np.array(self._pts, np.int64),
            "shots": np.array(self._shots, np.int64),
            "light": np.array(self._light, np.float64).reshape(-1, 2),
            "labels": np.array(self._labels, np.uint16),
            "ends": np.array(self._ends, np.int64),
        }


def read_of(folder: Path) -> dict[str, Any]:
    """What finish wrote of a segment, but for its files.

    Raises:
        OSError, ValueError: missing, or damaged.
    """
    return read_state(folder / READ)
