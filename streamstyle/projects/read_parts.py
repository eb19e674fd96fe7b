"""What a project keeps of a segment's frames as read, in the film's work folder: labels, light, references."""

from __future__ import annotations

import array
import contextlib
import zlib
from collections.abc import Iterator
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
FRAME_PARTS = ("pts", "shots", "light", "labels", "ends")
"""What is kept of frames beside their maps."""


@dataclass(frozen=True)
class Noted:
    """What ReadPartsWriter.noted told: of each frame its deflated map and what else is kept; bytes of references."""

    maps: list[bytes]
    shape: tuple[int, ...]
    frames: dict[str, np.ndarray]
    references: dict[str, bytes]

    @classmethod
    def of(cls, said: dict[str, Any]) -> Noted:
        """As it comes back from a file.

        Raises:
            LookupError, TypeError, AttributeError: it is no such thing.
        """
        ends = np.cumsum(said["map_sizes"])
        maps = [part.tobytes() for part in np.split(said["maps"], ends[:-1])]
        frames = {name: said[name] for name in FRAME_PARTS}
        return cls(
            maps, tuple(said["map_shape"]), frames, {k: data.tobytes() for k, data in said["references"].items()}
        )

    def labels(self) -> Iterator[np.ndarray]:
        """Frame by frame, [h, w] uint16."""
        return (np.frombuffer(zlib.decompress(data), np.uint16).reshape(self.shape) for data in self.maps)


class ReadPartsWriter:
    """Write one segment's.

    Args:
        folder: where, and there already.
        info: the film; film: its fingerprint.
        target: the project that is to be; errors of the disk are told of it.
        notes: whether noted is going to be asked for.

    Raises:
        OutputError: the disk is full, or not ours to write on.
    """

    def __init__(
        self, folder: Path, info: VideoInfo, film: dict[str, Any], target: Path, *, notes: bool = False
    ) -> None:
        self._folder, self._target = folder, target
        self._maps: list[bytes] | None = [] if notes else None
        self._track = LabelTrackWriter(folder / LABELS, info, {}, film=film).__enter__()
        self._pts, self._shots, self._light = array.array("q"), array.array("q"), array.array("d")
        self._labels, self._ends = array.array("H"), array.array("q")
        self._references: list[Path] = []

    def add(self, pts: int, shot: int, luma: np.ndarray, labels: np.ndarray) -> None:
        """Write of a frame its time, its shot, its light by its small luma [h, w] uint8, and its labels [h, w].

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        self._add_map(labels, pts)
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

    def _add_map(self, labels: np.ndarray, pts: int) -> None:
        self._track.add(labels, pts)
        if self._maps is not None:
            self._shape = labels.shape
            self._maps.append(zlib.compress(np.ascontiguousarray(labels, np.uint16).data, 1))

    def noted(self) -> dict[str, Any]:
        """All that was written, as plain values and arrays; see take."""
        assert self._maps is not None
        return {
            **self._frames(),
            "maps": np.frombuffer(b"".join(self._maps), np.uint8),
            "map_sizes": np.array([len(data) for data in self._maps], np.int64),
            "map_shape": self._shape,
            "references": {path.name: np.fromfile(path, np.uint8) for path in self._references},
        }

    def take(self, noted: Noted) -> None:
        """Write again what another had noted, before anything else.

        Raises:
            OutputError: the disk is full, or not ours to write on.
        """
        for labels, pts in zip(noted.labels(), noted.frames["pts"].tolist(), strict=True):
            self._add_map(labels, pts)
        mine: tuple[array.array[Any], ...] = (self._pts, self._shots, self._light, self._labels, self._ends)
        for here, name in zip(mine, FRAME_PARTS, strict=True):
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
