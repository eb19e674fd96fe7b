"""README keeps its word: its commands parse, its links lead somewhere, its tables are config's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from streamstyle import cli, config
from streamstyle.look import Look
from streamstyle.nets import weights
from streamstyle.styles import STYLES, Painting, canonical, source_of

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])

pytestmark = pytest.mark.skipif(not README.exists(), reason="there is no README.md")


def fenced(text: str, language: str = r"\w*") -> list[str]:
    """The bodies of a page's fenced blocks."""
    return re.findall(rf"^```{language}\s*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every `streamstyle ...` line of every page's fenced blocks, continued lines joined."""
    found = []
    for page in PAGES:
        for block in fenced(page.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                said = line.strip().removeprefix("$ ").removeprefix("python -m ")
                if re.match(r"streamstyle\s+\S", said):
                    found.append(" ".join(said.split()))
    return sorted(set(found))


def anchor(heading: str) -> str:
    """GitHub's name for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def links() -> list[tuple[str, str]]:
    """(page, target) of every relative link and picture, in Markdown and in HTML."""
    found = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        targets = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
        found += [(page.relative_to(ROOT).as_posix(), t) for t in targets if not re.match(r"[a-z]+:", t)]
    return found


def test_readme_shows_commands() -> None:
    assert commands()


@pytest.mark.parametrize("line", commands() if README.exists() else [])
def test_every_command_parses(line: str) -> None:
    if re.search(r"\[|\.\.\.|…", line.split("--object")[0]):
        pytest.skip("a synopsis, not a command")
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))]
    if words in (["--version"], ["--help"]) or words[-1:] == ["--help"]:
        return
    command = cli.parse(words)
    if isinstance(command, cli.Run) and command.look.look is None:
        Look.from_options(command.look)


@pytest.mark.parametrize(("page", "target"), links() if README.exists() else [])
def test_every_link_leads_somewhere(page: str, target: str) -> None:
    path, _, part = target.partition("#")
    there = (ROOT / page).parent / path if path else ROOT / page
    assert there.exists(), f"{page} links to {target}"
    if part and there.suffix == ".md":
        headings = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
        assert part in {anchor(heading) for heading in headings}, f"{page} links to {target}"


def test_option_tables_are_those_of_config() -> None:
    table = getattr(config, "option_table", None)
    if table is None:
        pytest.skip("streamstyle.config.option_table() does not exist")
    text = README.read_text("utf-8")
    tables = table()
    for part in [tables] if isinstance(tables, str) else getattr(tables, "values", lambda: tables)():
        assert part.strip() in text


def test_every_style_the_readme_names_exists() -> None:
    said = re.findall(r"--(?:style|background|foreground)[ =]([\w.-]+)", README.read_text("utf-8"))
    for word in said:
        if word.isupper():
            continue  # STYLE
        assert isinstance(source_of(canonical(word)), Painting | Path) or word in {*STYLES, "none"}, word


def test_readme_names_where_the_weights_come_from() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    for asset in weights.ASSETS.values():
        assert asset.package in text
