"""A user's file and those beside it: one module each, whoever imports them and wherever."""

import pickle
import typing
from pathlib import Path

from rlad_core.sections import code


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"VALUE = {value}\n")
        (tmp_path / name / "reward.py").write_text(
            "def score(r):\n    import helper\n    return helper.VALUE\n"
        )
    scores = [code.load(f"{tmp_path}/{name}/reward.py:score") for name in ("a", "b")]
    assert [score("") for score in (*scores, *scores)] == [1, 2, 1, 2]


def test_a_class_of_a_file_beside_is_one_class(tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nimport pathlib\n\n"
        "@dataclasses.dataclass\nclass Shape:\n    file: pathlib.Path\n"
    )
    (tmp_path / "task.py").write_text(
        "import shapes\n\ndef made():\n    return shapes.Shape(None)\n\n"
        "def known(made):\n    import shapes\n    return isinstance(made, shapes.Shape)\n"
    )
    made = code.load(f"{tmp_path}/task.py:made")()
    assert code.load(f"{tmp_path}/task.py:known")(made)
    assert isinstance(pickle.loads(pickle.dumps(made)), type(made))
    assert typing.get_type_hints(type(made)) == {"file": Path}


def test_a_file_with_a_byte_order_mark_takes_its_neighbours_along(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text("\ufeffimport helper\nVALUE = helper.VALUE\n", encoding="utf-8")
    (tmp_path / "helper.py").write_text("VALUE = 3\n")
    place = f"{tmp_path}/reward.py:VALUE"
    assert code.load(place) == 3
    assert sorted(Path(path).name for path in code.sources_of([place])) == ["helper.py", "reward.py"]
