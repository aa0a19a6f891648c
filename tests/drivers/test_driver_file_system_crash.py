"""`file://` loses nothing that it acknowledged when its process is killed (promise C2)."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from pathlib import Path

import pytest
from crash_checker import Checker

from rivet_ray_drivers.file_system import open_directory

WRITER = Path(__file__).with_name("crash_writer.py")


async def run_writer(directory: Path, *options: str, kill_after: float | None = None) -> Checker:
    checker = Checker()
    await continue_writer(checker, directory, *options, kill_after=kill_after)
    return checker


async def continue_writer(
    checker: Checker, directory: Path, *options: str, kill_after: float | None = None
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), str(directory), *options, stdout=asyncio.subprocess.PIPE
    )
    first = b""
    try:
        if kill_after is not None:
            # From its first operation: how long Python takes to start is the machine's affair.
            assert process.stdout is not None
            first = await process.stdout.readline()
            asyncio.get_running_loop().call_later(kill_after, process.kill)
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    checker.read((first + output).splitlines(keepends=True))
    assert process.returncode == (0 if checker.steps else -9)


async def check(checker: Checker, directory: Path, crashed: bool = True) -> None:
    store = await open_directory(directory)
    try:
        await checker.check(store, crashed)
    finally:
        await store.close()


async def test_a_writer_that_is_not_killed_has_everything_saved(tmp_path: Path) -> None:
    checker = await run_writer(tmp_path / "store")
    assert checker.acknowledged >= 3 * (2 + 4)
    assert not checker.under_way
    await check(checker, tmp_path / "store", crashed=False)


@pytest.mark.timeout(180)
async def test_killed_at_each_step_of_writing(tmp_path: Path) -> None:
    whole = await run_writer(tmp_path / "whole", "--rounds=2")
    killed: set[str] = set()
    landed = lost = 0
    # How operations fall into groups differs from run to run, and with it the count.
    points = iter([*range(-5, 0), *range(1, whole.steps + 1)])

    async def run_some() -> None:
        nonlocal landed, lost
        for kill_at in points:
            directory = tmp_path / str(kill_at)
            checker = await run_writer(directory, "--rounds=2", f"--kill-at={kill_at}")
            under_way = len(checker.under_way)
            # The last step of closing ends the run: there is no crash behind it.
            await check(checker, directory, crashed=kill_at != -5 and not checker.steps)
            if checker.killed is not None:
                killed.add(checker.killed)
            landed += checker.landed
            lost += under_way - checker.landed

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run_some())
    assert killed >= {
        "before BEGIN",
        "after BEGIN",
        "after INSERT INTO actors",
        "after INSERT INTO owners",
        "after INSERT INTO parts",
        "after WITH given (type,",  # of entries
        "after UPDATE runs SET",
        "before COMMIT",
        "after COMMIT",
    }
    assert landed > 0  # killed between COMMIT and acknowledgement
    assert lost > 0


@pytest.mark.timeout(180)
async def test_killed_at_random_times_again_and_again(tmp_path: Path) -> None:
    """Each writer starts from what the one before it left, without an orderly close."""
    directory, copy = tmp_path / "store", tmp_path / "copy"
    dice = random.Random(1)
    checker = Checker()
    for seed in range(30):
        await continue_writer(
            checker,
            directory,
            f"--seed={seed}",
            "--rounds=100000",
            kill_after=dice.uniform(0.02, 0.25),
        )
        # Looking would repair the store: look at a copy of it.
        shutil.copytree(directory, copy) if directory.exists() else copy.mkdir()
        await check(checker, copy)
        shutil.rmtree(copy)
    assert checker.acknowledged > 1000


@pytest.mark.parametrize("fault", ["early", "torn"])
async def test_the_checker_finds_planted_faults(tmp_path: Path, fault: str) -> None:
    found: list[str] = []
    for kill_at in range(20, 60):
        directory = tmp_path / str(kill_at)
        checker = await run_writer(directory, f"--fault={fault}", f"--kill-at={kill_at}")
        try:
            await check(checker, directory)
        except AssertionError as error:
            found.append(str(error))
            break
    assert found, "the fault was not found"
