"""What Ray's workers log, on the stderr of who started them."""

from pathlib import Path

import pytest

from services.serve.worker_lines import passed_on


def test_whole_lines_of_ours_are_passed_on_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "worker-1-2-3.err", tmp_path / "worker-4-5-6.err"
    (tmp_path / "raylet.err").write_text('{"event": "not a worker\'s"}\n')
    one.write_text('INFO a library\n{"event": "begun"}\n{"event": "hal')
    with passed_on(tmp_path):
        said = ""
        while "begun" not in said:  # ends with the test's time limit
            said += capfd.readouterr().err
        with one.open("a") as stream:
            stream.write('f"}\nTraceback\n')
        other.write_text('{"event": "ä"}\n')
    said += capfd.readouterr().err
    assert sorted(said.splitlines()) == ['{"event": "begun"}', '{"event": "half"}', '{"event": "ä"}']
