"""A skipped test counts as failed in CI, and only there."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
SKIPPED = "import pytest\n\n\ndef test_one():\n    pytest.skip('a reason')\n"


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_a_skipped_test_fails_in_ci_alone(tmp_path, ci, status):
    shutil.copyfile(TESTS / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_skipped.py").write_text(SKIPPED)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", os.devnull, str(tmp_path)],
        env={**os.environ, "CI": ci},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert ("1 skipped test(s) count as failed" in done.stdout) == bool(status)
