"""What every test may ask for: a device, weights, and random numbers that are the same each time.

A test that lacks something the machine does not have is skipped. STREAMSTYLE_REQUIRE, a comma-separated list of
``cuda``, ``shim``, ``nvrtc`` and ``weights``, turns that skip into a failure, so that a machine meant to have it cannot
pass without.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from streamstyle.process import cores

# As the command line does; must be said before torch loads OpenMP.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # tests in so many processes, and what they start, share the cores
    for library in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        share = cores() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.environ.setdefault(library, str(max(1, share)))

import hypothesis
import numpy as np
import pytest
import torch

from streamstyle.gpu import kernels
from streamstyle.nets import weights
from streamstyle.scene import SceneReader
from tests import shim

hypothesis.settings.register_profile("here", deadline=None)  # no test has a time limit
hypothesis.settings.load_profile("here")


def skip_or_fail(what: str, reason: str) -> NoReturn:
    """Skip for want of something, or fail if STREAMSTYLE_REQUIRE names it."""
    required = {name.strip() for name in os.environ.get("STREAMSTYLE_REQUIRE", "").split(",")}
    if what in required:
        pytest.fail(f"STREAMSTYLE_REQUIRE={what}, but {reason}", pytrace=False)
    pytest.skip(reason)


SANITIZED_SHARE = 3
"""Of a test's cases, one in so many is run once more under the sanitizers, which take ten times as long."""


def long_ones_spread(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Tests marked long among the first that each of so many workers gets, of equal stretches of the list."""
    rest = [item for item in items if item.get_closest_marker("long") is None]
    for k, item in enumerate(item for item in items if item.get_closest_marker("long") is not None):
        # A few on, for a stretch's beginning is moved by what comes before it.
        rest.insert(len(items) * (k % workers) // workers + 9 if workers else len(rest), item)
    return rest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests begin at once, where several processes share them; under the sanitizers of each test's shimmed cases a
    share, drawn the same each time, and its first."""
    items[:] = long_ones_spread(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")))
    if shim.FLAGS is not shim.SANITIZED:
        return
    seen: set[str] = set()
    chosen, others = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        test = item.nodeid.partition("[")[0]
        # Not every third: that would be one and the same dtype of three.
        drawn = test not in seen or zlib.crc32(item.nodeid.encode()) % SANITIZED_SHARE == 0
        taken = drawn and "shim-random" in item.nodeid
        (chosen if taken else others).append(item)
        seen |= {test} if taken else set()
    items[:] = chosen
    config.hook.pytest_deselected(items=others)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn."""
    if request.param == "cuda" and not torch.cuda.is_available():
        skip_or_fail("cuda", "torch finds no CUDA device")
    return torch.device(request.param)


@dataclass(frozen=True)
class Implementation:
    """A way to run a stage: what to give it as impl, and where its tensors must be."""

    impl: str
    device: torch.device


@pytest.fixture(params=["auto", "ref", *(f"shim-{order}" for order in shim.ORDERS), "cuda-ref", "cuda"])
def way(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """Each way to run a stage that has kernels.

    ``auto`` is what a CPU gets; ``shim`` is the stage's launcher and its kernels, run on the CPU in each order of
    blocks; ``cuda`` is the same on a GPU.
    """
    if request.param.startswith("cuda"):
        works, why = kernels.available() if request.param == "cuda" else (torch.cuda.is_available(), "no CUDA device")
        if not works:
            skip_or_fail("cuda", why)
        yield Implementation("cuda" if request.param == "cuda" else "ref", torch.device("cuda"))
    elif request.param.startswith("shim"):
        if shim.compiler() is None:
            skip_or_fail("shim", "there is no C++ compiler (g++ or clang++)")
        with shim.running(request.param.removeprefix("shim-")):
            yield Implementation("cuda", torch.device("cpu"))
    else:
        yield Implementation(request.param, torch.device("cpu"))


@pytest.fixture(params=[*(f"shim-{order}" for order in shim.ORDERS), "cuda"])
def kernel_device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where kernels run: on the CPU, by the shim in each order of blocks, and on a GPU."""
    if request.param == "cuda":
        works, why = kernels.available()
        if not works:
            skip_or_fail("cuda", why)
        yield torch.device("cuda")
        return
    if shim.compiler() is None:
        skip_or_fail("shim", "there is no C++ compiler (g++ or clang++)")
    with shim.running(request.param.removeprefix("shim-")):
        yield torch.device("cpu")


@pytest.fixture
def asset() -> Callable[[str], Path]:
    """asset(name): the verified file of one of nets.weights.ASSETS, fetched into the user's cache on first use.

    Skips only where it is not cached and cannot be downloaded; any other trouble with it is a failure. Tests that ask
    for it carry ``@pytest.mark.weights``.
    """

    def fetch(name: str) -> Path:
        try:
            return weights.fetch(name)
        except weights.DownloadError as error:
            skip_or_fail("weights", str(error))

    return fetch


NETWORKS = ("hed", "multistyle26", "arbitrary_predict", "arbitrary_transform")


@pytest.fixture(scope="module")
def cached() -> None:
    """The networks' weights are in the cache."""
    for name in NETWORKS:
        try:
            weights.fetch(name)
        except weights.DownloadError as error:
            skip_or_fail("weights", str(error))


@pytest.fixture(scope="module")
def networks(cached: None) -> Iterator[None]:
    """The networks' weights are read once for all tests of a module."""
    kept = {name: weights.load(name) for name in NETWORKS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "load", lambda name, say=None: kept[name])
        yield


@pytest.fixture(autouse=True, scope="session")
def float32_is_float32() -> None:
    """cuDNN would round the factors of float32 convolutions to 10 bits (TF32); references are compared more closely."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def random_numbers() -> Iterator[None]:
    """Seed every generator before a test, and put it back as it was after."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])  # noqa: NPY002
    torch.set_rng_state(before[2])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Maps of looks, as they are read from now on."""
    looks: list[np.ndarray] = []
    read = SceneReader.read

    def note(self: SceneReader, *arguments: object) -> object:
        scene = read(self, *arguments)  # type: ignore[arg-type]
        looks.extend(scene.looks)  # type: ignore[arg-type]
        return scene

    monkeypatch.setattr(SceneReader, "read", note)
    return looks
