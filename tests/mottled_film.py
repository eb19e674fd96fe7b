"""Films with an answer, of mottled things over a mottled ground, and object tracks run over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch

from streamstyle.look import ObjectStyle
from streamstyle.objects.appearance_tracks import AppearanceTracks
from streamstyle.objects.segmenter import Segmentation, Segmenter

HEIGHT, WIDTH = 144, 192
SIZE = (HEIGHT, WIDTH)
RED, BLUE, GREEN, GREY = (190, 70, 50), (60, 80, 190), (70, 160, 70), (150, 150, 145)


def mottled(seed: int, size: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """A surface of that colour, [H, W, 3] uint8, with something on it that motion can be seen by."""
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 1)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 3)[..., None]
    return np.clip(np.array(colour) + 22 * noise / noise.std(), 0, 255).astype(np.uint8)


@dataclass
class Thing:
    """A square, or a disc, and where its upper left corner is in each frame; None while it is not there."""

    colour: tuple[int, int, int]
    side: int
    at: Callable[[int], tuple[int, int] | None]
    round: bool = False

    def mask(self, frame: int) -> np.ndarray:
        """Where it is, [HEIGHT, WIDTH] bool, were there nothing before it."""
        place, mask = self.at(frame), np.zeros(SIZE, np.uint8)
        if place is not None:
            y, x, side = *place, self.side
            mask[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)] = 1
            if self.round:
                disc = cv2.circle(np.zeros(SIZE, np.uint8), (x + side // 2, y + side // 2), side // 2, 1, -1)
                mask &= disc
        return mask > 0


@dataclass
class Film:
    """Things over a ground that a camera pans over, pan px a frame; those that come later lie above."""

    things: list[Thing]
    pan: int = 0
    ground: tuple[int, int, int] = (70, 105, 80)

    def __post_init__(self) -> None:
        self._ground = mottled(1, (HEIGHT, WIDTH + 400), self.ground)
        self._faces = [mottled(10 + k, (thing.side,) * 2, thing.colour) for k, thing in enumerate(self.things)]
        self._found: dict[int, Segmentation] = {}

    def picture(self, frame: int) -> np.ndarray:
        """[HEIGHT, WIDTH, 3] uint8."""
        at = self.pan * frame % 400
        rgb = self._ground[:, at : at + WIDTH].copy()
        for thing, face in zip(self.things, self._faces, strict=True):
            place = thing.at(frame)
            if place is not None:
                moved = cv2.warpAffine(face, np.float32([[1, 0, place[1]], [0, 1, place[0]]]), (WIDTH, HEIGHT))
                rgb = np.where(thing.mask(frame)[..., None], moved, rgb)
        return rgb

    def seen(self, k: int, frame: int) -> np.ndarray:
        """What is seen of thing k."""
        mask = self.things[k].mask(frame)
        for other in self.things[k + 1 :]:
            mask &= ~other.mask(frame)
        return mask

    def luma(self, frame: int) -> np.ndarray:
        return cv2.cvtColor(self.picture(frame), cv2.COLOR_RGB2GRAY)

    def found(self, segmenter: Segmenter, frame: int) -> Segmentation:
        """The segmenter's answer, kept between runs."""
        if frame not in self._found:
            rgb = torch.from_numpy(self.picture(frame)).permute(2, 0, 1)[None].float() / 255
            (self._found[frame],) = segmenter(rgb)
        return self._found[frame]


class PlainFilm(Film):
    """Things over a ground of one colour, a little darker below, with a film's noise."""

    def picture(self, frame: int) -> np.ndarray:
        there = np.logical_or.reduce([thing.mask(frame) for thing in self.things])
        below = np.linspace(8, -8, SIZE[0])[:, None, None]
        noise = np.random.default_rng(frame).normal(0, 1, (*SIZE, 1))
        plain = (np.array(self.ground) + below + noise).round().clip(0, 255).astype(np.uint8)
        return np.where(there[..., None], super().picture(frame), plain)


class SwayingFilm(Film):
    """The first thing, a disc, sways about its place: by way_px at most, and by parts of a pixel a frame."""

    def __init__(self, thing: Thing, way_px: float, period: int, *, pan: int = 0) -> None:
        super().__init__([thing], pan)
        self._way_px, self._period = way_px, period

    def _swayed(self, values: np.ndarray, frame: int) -> np.ndarray:
        way_px = self._way_px * np.sin(2 * np.pi * frame / self._period)
        return cv2.warpAffine(values, np.float32([[1, 0, way_px], [0, 1, 0]]), (WIDTH, HEIGHT))

    def picture(self, frame: int) -> np.ndarray:
        (thing,), (face,) = self.things, self._faces
        at, (y, x) = self.pan * frame % 400, thing.at(0) or (0, 0)
        ground, whole = self._ground[:, at : at + WIDTH].astype(np.float32), np.zeros((*SIZE, 3), np.float32)
        whole[y : y + thing.side, x : x + thing.side] = face
        there = self._swayed(thing.mask(0).astype(np.float32), frame)[..., None]
        return (ground + there * (self._swayed(whole, frame) - ground)).round().clip(0, 255).astype(np.uint8)

    def seen(self, k: int, frame: int) -> np.ndarray:
        return self._swayed(self.things[k].mask(0).astype(np.float32), frame) > 0.5


class AnyFilm(Protocol):
    """What run reads."""

    def luma(self, frame: int) -> np.ndarray:
        """[HEIGHT, WIDTH] uint8."""

    def found(self, segmenter: Segmenter, frame: int) -> Segmentation:
        """The segmenter's answer."""


def rising(y: int, x: int, dy: float, dx: float) -> Callable[[int], tuple[int, int]]:
    return lambda i: (round(y + dy * i), round(x + dx * i))


def named(name: str, at_s: float = 0.0, **place: object) -> ObjectStyle:
    return ObjectStyle(name, "wave", at_s=at_s, **place)  # type: ignore[arg-type]


def tracks_of(
    segmenter: Segmenter,
    *objects: ObjectStyle,
    every: int = 1,
    find: bool = False,
    doubts: bool = False,
    drawn: np.ndarray | None = None,
) -> AppearanceTracks:
    tracks = AppearanceTracks(segmenter, objects, every, find=find, doubts=doubts)
    tracks.drawn = drawn
    return tracks


def run(
    tracks: AppearanceTracks,
    film: AnyFilm,
    frames: range,
    *,
    cut_at: tuple[int, ...] = (),
    shot_of: Callable[[int], int] | None = None,
) -> Iterator[np.ndarray]:
    """The slot maps of some frames of a film, 25 a second; each cut begins a new shot."""
    shot_of = shot_of or (lambda i: sum(cut <= i for cut in cut_at))
    for i in frames:
        found = film.found(tracks.segmenter, i) if tracks.wants(i, shot_of(i), i / 25) else None
        yield tracks.step(film.luma(i), found, shot_of(i), i, i / 25, SIZE).copy()
