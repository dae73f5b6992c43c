from __future__ import annotations

import operator
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "operator"
LONGEST_FILE = 400


def test_the_sources_root_does_not_shadow_the_standard_library() -> None:
    assert not (SOURCES / "__init__.py").exists()
    assert Path(operator.__file__ or "").is_relative_to(Path(sys.base_prefix))


def test_no_source_file_is_longer_than_a_newcomer_reads() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES.rglob("*.py")}

    assert {path: length for path, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_every_package_says_what_it_is_for() -> None:
    silent = [path for path in SOURCES.glob("baton/*/__init__.py") if not path.read_text().startswith('"""')]

    assert silent == []


def test_the_project_depends_on_nothing_beside_its_checkout() -> None:
    suffixes = {".py", ".toml", ".md", ".yaml", ".j2", ".sh", ".go"}
    folders = ("operator", "templates", "examples", "docs", "charts", "tools", "crds")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]

    assert [path for path in files if "../shared" in path.read_text()] == []
