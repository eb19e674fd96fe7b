"""Which job ``run`` means: a film painted whole, or again from a project. What is wrong is said first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from streamstyle.config import LookOptions, OutputOptions
from streamstyle.errors import OptionError, OutputError
from streamstyle.look import Look
from streamstyle.process import uncollected

if TYPE_CHECKING:
    from streamstyle.job import Report


def planned(
    input: Path, output: Path, choices: LookOptions, options: OutputOptions, typed: Collection[str] = ()
) -> tuple[Look, Callable[..., Report]]:
    """Look at the film and at where it is to go; give the Look, and what paints with it: ``stylize`` or ``repaint``.

    Args:
        input, output: the film, and the one to be written.
        choices: of the Look, and of what it is put on.
        options: how it is written.
        typed: names of the options that were given, be it at their defaults.

    Raises:
        OptionError: choices that do not go together, or as of ``plan.plan``. InputError: no film, or a project that
            cannot be used. OutputError: as of ``plan.plan``, or a Look that could not be saved.
    """
    if choices.save_look is not None:
        _check_save_look(choices.save_look, choices, options)
    if "layer_format" in typed and options.layers is None:
        raise OptionError("--layer-format: there are no layers; give --layers DIR, too, or leave it out")
    if choices.project is None:
        look = Look.from_options(choices)
        # Not above: they need PyAV, which a refusal of words can do without.
        from streamstyle.plan import plan

        plan(input, output, options, choices.save_project)
        with uncollected():
            from streamstyle.pipeline import stylize
        return look, functools.partial(
            stylize, mask=choices.mask, tracks=choices.tracks, save_project=choices.save_project
        )
    for name in ("mask", "tracks"):
        if getattr(choices, name) is not None:
            raise OptionError(f"--{name}: does not go with --project, which says where objects are; leave it out")
    from streamstyle.plan import check_places
    from streamstyle.projects.project import Project

    check_places(input, output, options, choices.save_project)  # the rest of the plan has the project's options
    project = Project(choices.project)
    look = Look.from_options(choices, base=project.look)
    with uncollected():
        from streamstyle.projects.repaint import repaint
    return look, functools.partial(repaint, project=project, save_project=choices.save_project, typed=typed)


def _check_save_look(target: Path, choices: LookOptions, options: OutputOptions) -> None:
    """Refuse before any work what would be refused after it."""
    if target.suffix.lower() != ".toml":  # a film given by mistake is not overwritten
        raise OptionError(f"--save-look {target}: a Look is TOML; give it the ending .toml")
    if target.is_dir() or not target.parent.is_dir():
        wrong = "is a folder; remove it" if target.is_dir() else "no such folder; make it"
        raise OutputError(f"--save-look {target}: {wrong}, or choose another place")
    if target.exists() and not options.overwrite and target != choices.look:
        raise OutputError(f"--save-look {target}: exists; add --overwrite, or choose another name")


def save_look(look: Look, target: Path, *, dry_run: bool = False) -> list[str]:
    """Write the Look, but for a dry run; what it takes beside it to find its objects again, a line each.

    Raises:
        OutputError: the file cannot be written.
    """
    if not dry_run:
        look.write(target)
    drawn = dict.fromkeys(f"'{thing.name}'" for thing in look.objects if thing.mask is not None)
    if not drawn:
        return []
    return [f"--save-look {target}: a Look holds no mask; for {', '.join(drawn)} give --mask with it again"]
