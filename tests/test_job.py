"""`ray job submit`: a run on a started head shows the progress and result of a plain one."""

import pytest

from ray_head import environment, started_head, submit

OPEN = environment(RAY_AUTH_MODE="disabled")
OPTIONS = [
    "method.ipc=2", "method.boundaries=[]", "method.synthesis.steps=5", "teacher.model.width=8",
    "teacher.recipe.epochs=2", "protocol.seeds=1", "protocol.recipe.epochs=2",
]  # fmt: skip


@pytest.fixture
def head(tmp_path):
    with started_head(tmp_path / "head.log", OPEN, port=46379) as address:
        yield address


@pytest.mark.slow
def test_a_submitted_job_completes_and_its_log_shows_progress_and_result(head, tmp_path):
    done = submit(
        head, OPEN, "--working-dir", ".", "--",
        "python", "-m", "raydd.run", f"storage={tmp_path}", "name=job", *OPTIONS,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "synthesize curriculum 1" in text
    assert "distilled images" in text
    assert "random real images" in text
    assert (tmp_path / "job" / "distilled" / "raydd.json").is_file()
    assert (tmp_path / "job" / "report.html").is_file()
