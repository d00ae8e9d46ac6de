"""A head that asks for a token takes jobs from nobody who has none."""

from pathlib import Path

import pytest

from ray_head import environment, started_head, submit

TOKEN = "0123456789abcdef" * 4


@pytest.mark.slow
def test_a_job_without_the_token_is_refused_and_with_it_runs(tmp_path: Path) -> None:
    for name, text in (("right", TOKEN), ("wrong", "f" * 64)):
        (tmp_path / name).write_text(text)
    # paths only: neither the environment nor the arguments hold the token itself
    right = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(tmp_path / "right"))
    wrong = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(tmp_path / "wrong"))
    none = environment(RAY_AUTH_MODE="disabled")

    log, made = tmp_path / "head.log", tmp_path / "made"
    with started_head(log, right, port=46479) as address:
        for variables, said in ((none, "Missing"), (wrong, "Invalid")):
            done = submit(address, variables, "--", "touch", str(made))
            assert done.returncode != 0
            assert f"{said} authentication token" in done.stdout + done.stderr
            assert not made.exists()
        done = submit(address, right, "--", "touch", str(made))
        assert done.returncode == 0, done.stdout + done.stderr
        assert made.exists()
        assert TOKEN not in done.stdout + done.stderr
    assert TOKEN not in log.read_text()
