"""What the pages say is there: links, anchors, paths, commands and every key."""

import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
from omegaconf import DictConfig, ListConfig

from raydd.config.compose import compose_tree, to_typed
from raydd.config.tree import compose_config
from raydd.evaluate import PRIMARY, EvaluateConfig
from raydd.evaluate import _compose as compose_evaluate
from raydd.methods import DRIVERS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "clusters").glob("*.md")),
    *sorted((ROOT / "raydd" / "methods").glob("*.md")),
]
FENCE = re.compile(r"^```.*?\n(.*?)^```", re.M | re.S)
COMMAND = re.compile(r"(?:python -m raydd\.|(?<![\w./-])raydd )(run|evaluate)\b([^#\n|&;`]*)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def code(page: Path) -> str:
    """Fenced blocks and code spans of a page, a line each; continued lines are one."""
    text = page.read_text()
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return "\n".join([*FENCE.findall(text), *spans]).replace("\\\n", " ")


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site spell them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_exists(page):
    """Paths from the checkout's top; CONTRIBUTING names some from raydd/ on, or that are to be."""
    folders = "raydd|configs|benchmarks|tests|clusters|docs|examples"
    for path in re.findall(rf"(?<![\w/.<-])((?:{folders})/[\w./-]+\.\w+)", code(page)):
        assert (ROOT / path).exists() or "NAME" in path, path


def test_a_table_of_contents_names_pages_that_exist():
    listed = {entry for page in PAGES for block in toctrees(page) for entry in block}
    assert listed
    for entry in listed:
        assert (ROOT / "docs" / f"{entry}.md").is_file(), entry


def toctrees(page: Path) -> list[list[str]]:
    """Entries of a page's tables of contents."""
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.M | re.S)
    return [[line for line in b.splitlines() if line and line[0] != ":"] for b in blocks]


def commands(page: Path, door: str) -> list[str]:
    """What follows on the name of a door in every command of a page, once."""
    found = {words.strip() for name, words in COMMAND.findall(code(page)) if name == door}
    return sorted(words for words in found if words and "..." not in words)


def options(words: str) -> list[str]:
    return [word for word in shlex.split(words) if word not in ("--cfg", "job")]


run_is_composed = cache(lambda words: compose_config(options(words)))  # pages repeat each other


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p, "run")], ids=name_of)
def test_every_run_of_a_page_composes(page):
    for words in commands(page, "run"):
        run_is_composed(words)


def test_every_evaluation_of_the_pages_composes():
    found = {words for page in PAGES for words in commands(page, "evaluate")} - {"FOLDER"}
    assert len(found) >= 3
    for words in found:
        config = to_typed(compose_evaluate(options(words)), EvaluateConfig)
        assert config.folder == options(words)[0], words


def test_the_guides_have_commands():
    pages = {page.name for page in PAGES if commands(page, "run")}
    assert {"README.md", "first-run.md", "data.md", "methods.md", "sweeps.md", "gpus.md"} <= pages


def test_every_script_of_the_pages_exists_and_knows_its_options():
    found = {
        line
        for page in PAGES
        for line in re.findall(r"python ((?:benchmarks|examples|docs)/[^#\n|`]*)", code(page))
    }
    assert len(found) >= 10
    for words in found:
        script, *rest = shlex.split(words)
        text = (ROOT / script).read_text()
        for option in rest:
            assert not option.startswith("--") or f'"{option}"' in text, words


def test_every_target_of_make_exists():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = {name for page in PAGES for name in re.findall(r"^make ([a-z-]+)", code(page), re.M)}
    assert {"demo", "test", "docs"} <= named <= set(targets)


def test_the_readme_is_read_in_five_minutes():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_a_picture_is_small():
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))
    assert [picture.stem for picture in pictures] == ["browser", "distilled"]
    for picture in pictures:
        assert picture.stat().st_size < 150_000, picture


def leaves(node, prefix=""):
    """Keys of a composed tree that hold a value; a list of networks counts as one of them."""
    if isinstance(node, ListConfig) and node and isinstance(node[0], DictConfig):
        return {key for item in node for key in leaves(item, f"{prefix}N.")}
    if not isinstance(node, DictConfig) or prefix == "sweep.space.":
        return {prefix[:-1]}
    return {key for k in node for key in leaves(node._get_node(k), f"{prefix}{k}.")}


def printed_keys(page: str) -> set[str]:
    """Keys that the page names: rows of a section, below each of the keys that it lists."""
    keys = set()
    for section in page.split("\n## ")[1:]:
        below = re.search(r"^Below (.*):$", section, re.M)
        places = [f"{key}." for key in re.findall(r"`([^`]+)`", below[1])] if below else [""]
        rows = re.findall(r"^\| `([^`]+)` \|", section, re.M)
        keys |= {place + row for place in places for row in rows}
    return keys


def test_the_page_of_keys_names_every_key():
    from keys import render_keys

    methods = [method().name for method in DRIVERS]  # a preset has the keys of its driver
    trees = [compose_tree([f"method={method}", "sweep=grid"]) for method in methods]
    trees.append(compose_tree(["judge=full"], PRIMARY))
    wanted = set().union(*map(leaves, trees))
    assert len(wanted) > 300
    assert wanted - printed_keys(render_keys()) == set()


def test_every_key_that_the_guides_name_exists():
    """``method.ipc`` or ``labels.form=stored`` in a code span: no key has gone or been renamed."""
    from keys import render_keys

    keys = printed_keys(render_keys())
    tops = "|".join(sorted({key.split(".")[0] for key in keys if "." in key}))
    known = keys | {key.rsplit(".", count)[0] for key in keys for count in (1, 2, 3)}
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    named = {
        key
        for page in pages
        for key in re.findall(
            rf"(?<![\w./-])(?:sweep\.space\.)?((?:{tops})(?:\.[a-z_]+)+)(?=[=\s`,)]|$)",
            code(page),
            re.M,
        )
        if not key.endswith((".py", ".md", ".yaml"))
    }
    assert len(named) > 40
    assert {key for key in named if key not in known} == set()
