"""A run is gone on with from any folder: its own recipe leads to the run's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
from rlad_command import Said

from rlad_core.config import RunConfig, dump, load
from services.cli.own_recipe import load_to_run
from services.run import lease

NAME = "kk-tiny-teacher-sft"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A run's own recipe; the run was begun in another folder, where it wrote to runs/."""
    folder = tmp_path / "a place" / "runs" / NAME
    (folder / lease.FOLDER).mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump(load(NAME)))
    return folder / "recipe.yaml"


def run_dir(config: RunConfig) -> Path:
    return Path(config.run_dir).absolute()


def test_it_leads_to_its_folder_from_anywhere(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_dir(load_to_run(own, [])) == own.parent
    # A fork lies beside it.
    assert run_dir(load_to_run(own, ["name=fork"])) == own.parent.with_name("fork")
    assert run_dir(load_to_run(own, ["output.dir=other"])) == tmp_path / "other" / NAME
    monkeypatch.chdir(own.parents[2])
    assert load_to_run(own, []).output.dir == "runs"  # so that nothing has changed for the run


def test_it_leads_to_its_folder_after_that_was_moved(own: Path, tmp_path: Path) -> None:
    moved = own.parents[1].rename(tmp_path / "moved 😀") / NAME / "recipe.yaml"
    assert run_dir(load_to_run(moved, [])) == moved.parent


@pytest.mark.parametrize("goes_on", [("--resume",), ("--restartable",), ("--fork", "other")])
def test_a_run_does_not_go_on_in_the_folder_that_another_one_was_copied_from(
    rlad: Callable[..., Said], own: Path, goes_on: tuple[str, ...]
) -> None:
    """Its recipe has the run's name, so that the folder of that name would be gone on with."""
    copy = own.parent.with_name("a copy")
    copytree(own.parent, copy)
    said = rlad("run", str(copy / "recipe.yaml"), *goes_on)
    assert (said.code, said.out) == (2, "")
    assert f"its run is called {NAME}, and {copy} is not. Give the folder that name" in said.err
    assert load_to_run(copy / "recipe.yaml", ["name=new"]).name == "new"  # begun anew, a recipe as others


def test_other_recipes_write_where_one_types(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one in a folder of its name that is no run's, as `rlad init` makes it."""
    monkeypatch.chdir(tmp_path)
    (own.parent / lease.FOLDER).rmdir()
    assert run_dir(load_to_run(own, [])) == tmp_path / "runs" / NAME
    assert run_dir(load_to_run(Path(NAME), [])) == tmp_path / "runs" / NAME


def test_the_command_finds_the_run(rlad: Callable[..., Said], own: Path) -> None:
    said = rlad("run", str(own), "--resume", "--set", "learner.lr=1e-5")
    assert said.code == 2
    assert f"the recipe differs from that of the run in {own.parent}" in said.err
    assert "output.dir" not in said.err


def test_a_fork_may_go_to_another_place_than_its_run(
    rlad: Callable[..., Said], own: Path, tmp_path: Path
) -> None:
    said = rlad("run", str(own), "--fork", "other", "--set", f"output.dir={tmp_path / 'large disk'}")
    assert said.code == 2
    assert f"{own.parent} has no checkpoint to fork from" in said.err


def test_the_name_of_a_fork_that_cannot_be_is_refused_as_it_was_written(rlad: Callable[..., Said]) -> None:
    said = rlad("run", NAME, "--fork", "again-😀")
    assert said.code == 2
    assert "name ('again-😀'): has characters that don't fit" in said.err
