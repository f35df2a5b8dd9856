"""Files that are none: devices, pipes, bombs; and what is kept of text and of temporary files."""

import contextlib
import io
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from analysis.results.database import open_database
from grid.lock.heartbeat import read_driver
from grid.screen import print_data
from tests.small_sweeps import run_local

Write = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("kind", ["device", "pipe", "zip"])
def test_weights_without_an_end_are_refused(
    write_sweep: Write, tmp_path: Path, cnngrid: Command, kind: str
) -> None:
    path = tmp_path / "weights.pt"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(10_000_000))
    sweep = write_sweep(fixed={"pretrained": str(path)})
    result = cnngrid("plan", sweep)
    assert result.returncode == 2
    expected = "unpacks to 10,000,000 bytes" if kind == "zip" else "not a regular file"
    assert expected in result.stderr


@pytest.mark.slow
def test_pipes_and_odd_state_files_in_a_results_folder_stop_nothing(
    write_sweep: Write, tmp_path: Path, data_dir: Path, cnngrid: Command
) -> None:
    sweep = write_sweep(seeds=[0])
    run_local(sweep, tmp_path, data_dir)
    folder = tmp_path / "small"
    (folder / "sweep.yaml").write_text("\n" * 60_000 + (folder / "sweep.yaml").read_text())
    for table in ("trials", "epochs", "plan"):
        os.mkfifo(folder / table / "a.parquet")
    (folder / "run" / "trials").mkdir(parents=True, exist_ok=True)
    os.mkfifo(folder / "run" / "trials" / "a.json")
    (folder / "run" / "trials" / "b.json").write_text("[" * 100_000)
    driver = tmp_path / "driver.json"
    for content in ("[" * 100_000, '{"host": 1, "pid": "x", "heartbeat": []}', "x" * 1_100_000):
        driver.write_text(content)
        assert read_driver(driver) == {}
    driver.unlink()
    os.mkfifo(driver)
    assert read_driver(driver) == {}
    result = cnngrid("status", folder)
    assert result.returncode == 0, result.stderr
    assert "a.parquet is damaged and left out: it is not a regular file" in result.stderr
    result = cnngrid("run", sweep, "--local", "--results", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "nothing to do" in result.stdout


@pytest.mark.slow
def test_a_pipe_among_images_is_named(write_sweep: Write, tmp_path: Path, cnngrid: Command) -> None:
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(
                tmp_path / "photos" / label / f"{number}.png"
            )
    os.mkfifo(tmp_path / "photos" / "a" / "pipe.png")
    images = {"dataset": "imagefolder:photos", "image_size": 8, "lr": 0.1}
    sweep = write_sweep(
        compare={"arch": ["mobilenet_small"]},
        fixed={**images, "limit_train": None, "limit_test": None},
    )
    plan = cnngrid("plan", sweep)
    assert plan.returncode == 0
    assert "1 file not used" in plan.stdout
    assert "(a/pipe.png)" in " ".join(plan.stdout.split())


def test_a_file_keeps_what_a_terminal_is_not_sent(tmp_path: Path) -> None:
    text = "name\na\x1b]0;b\u202ec\n"
    with (tmp_path / "a.csv").open("w") as file, contextlib.redirect_stdout(file):
        print_data(text)
    assert (tmp_path / "a.csv").read_text() == text
    with contextlib.redirect_stdout(io.StringIO()) as pipe:
        print_data(text)
    assert pipe.getvalue() == "name\na\\x1b]0;b\\u202ec\n"


def test_what_a_question_spills_to_disk_is_private(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    with open_database(tmp_path, all=True) as connection:
        answer = connection.execute("SELECT current_setting('temp_directory')").fetchone()
    assert answer is not None
    status = Path(answer[0]).stat()
    assert str(os.getpid()) not in answer[0]
    assert (status.st_mode & 0o777, status.st_uid) == (0o700, os.getuid())
