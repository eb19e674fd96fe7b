"""What a benchmark does otherwise is done otherwise everywhere, and only for a while."""

from __future__ import annotations

import sys
from typing import Any

from kept_regions import patched


def check_patches(constants: dict[tuple[Any, str], Any]) -> None:
    """Assert that each is there, holds wherever it is used while it is patched, and comes back."""
    before = {(owner, key): getattr(owner, key) for owner, key in constants}
    for owner, key in constants:
        assert not any(key in vars(sub) for sub in _subclasses(owner)), "what a subclass overrides would stay"
        if key.isupper():
            ours = [module for name, module in sys.modules.items() if name.startswith("streamstyle.")]
            assert [module for module in ours if key in vars(module)] == [owner], "another module has its own copy"
    with patched(constants):
        assert all(getattr(owner, key) is value for (owner, key), value in constants.items())
    assert all(getattr(owner, key) is value for (owner, key), value in before.items())


def _subclasses(of: object) -> list[type]:
    """All that inherit from a class; none of what is a module."""
    direct = of.__subclasses__() if isinstance(of, type) else []
    return [each for sub in direct for each in (sub, *_subclasses(sub))]
