"""What the documentation shows is what happens: every Python and shell block runs, or says why it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import EXECUTED, ROOT, Block, blocks, pages, programs
from running import page_run

PAGES = [page for page in pages() if any(program.kind != "file" for program in programs(page))]
EXCUSED = [block for page in pages() for block in blocks(page) if block.is_excused]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_programs_of_a_page_run_and_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    with page_run(tmp_path) as run:
        for program in programs(page):
            run.run(program)
        run.stop()


@pytest.mark.parametrize("block", EXCUSED, ids=str)
def test_a_block_that_is_not_run_gives_a_reason_or_its_test(block: Block) -> None:
    if "tested in" in block.markers:
        path, _, test = block.markers["tested in"].partition("::")
        assert path.startswith("tests/")
        assert (ROOT / path).is_file()
        assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")
    else:
        assert len(block.markers["not run"]) > 10, "say why"


def test_files_that_a_page_names_are_valid_python() -> None:
    """Also in blocks that are not run."""
    for page in pages():
        for block in blocks(page):
            if block.language == "python":
                compile(block.text, str(block), "exec", dont_inherit=True)


def test_a_language_that_is_run_has_one_name() -> None:
    found = {block.language for page in pages() for block in blocks(page)}
    assert found & EXECUTED <= {"python", "sh"}
    assert "" not in {block.language for page in pages() if page.name != "simulator.md" for block in blocks(page)}


def test_the_readme_s_first_program_books_its_invoice_once_however_often_it_is_run(tmp_path: Path) -> None:
    first = next(program for program in programs(ROOT / "README.md") if program.kind == "python")
    assert len(first.blocks) == 1
    first = type(first)("python", first.blocks, ["voucher 1\n"])
    with page_run(tmp_path) as run:
        run.run(first)
        run.run(first)


def test_the_files_in_examples_are_those_of_the_pages() -> None:
    shown: dict[str, list[str]] = {}
    for page in pages():
        for block in blocks(page):
            if block.title is not None:
                shown.setdefault(block.title, []).append(block.text)
    files = sorted((ROOT / "examples").glob("*.py"))
    assert files
    for file in files:
        assert file.read_text(encoding="utf-8") in shown.get(file.name, []), f"{file.name} is not as its page shows it"
        assert f"({file.name})" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
