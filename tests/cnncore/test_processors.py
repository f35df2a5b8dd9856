"""CPU cores as a container grants them, in trees of files like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnncore import processors
from cnncore.processors import cgroup_quota, machine_cpus

V1 = "31 23 0:28 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V2 = "41 31 0:38 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
CPU = "sys/fs/cgroup/cpu,cpuacct"


def write(root: Path, group: str, mounts: list[str], quotas: dict[str, str]) -> Path:
    files = {"proc/self/cgroup": f"9:name=systemd:/\n{group}\n", **quotas}
    files["proc/self/mountinfo"] = "\n".join(["23 1 0:2 / / rw - ext4 /dev/vda rw", *mounts])
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    place = f"{CPU}/{folder}".rstrip("/")
    return {
        f"{place}/cpu.cfs_{n}_us": f"{v}\n" for n, v in {"quota": quota, "period": period}.items()
    }


def v2(folder: str, text: str) -> dict[str, str]:
    return {f"{f'sys/fs/cgroup/{folder}'.rstrip('/')}/cpu.max": f"{text}\n"}


@pytest.mark.parametrize(
    ("group", "mounts", "quotas", "expected"),
    [
        # A container of Docker, version 1: the host's path, and its own group as the root.
        ("4:cpu,cpuacct:/docker/a", [V1.format(top="/docker/a")], v1("", 150_000), 1.5),
        # The host's groups are mounted: the path leads to the group.
        ("4:cpu,cpuacct:/docker/a", [V1.format(top="/")], v1("docker/a", 50_000, 25_000), 2.0),
        # A group without a limit inside one that has one.
        (
            "4:cpu,cpuacct:/job/step",
            [V1.format(top="/")],
            {**v1("", -1), **v1("job", 300_000), **v1("job/step", -1)},
            3.0,
        ),
        # Another mount in the same place: the first one cannot be seen any more.
        ("4:cpu,cpuacct:/a", [V1.format(top="/"), V1.format(top="/a")], v1("", 100_000), 1.0),
        # Version 2 in a namespace of its own, and nested.
        ("0::/", [V2.format(top="/")], v2("", "250000 100000"), 2.5),
        (
            "0::/pod/main",
            [V2.format(top="/")],
            {**v2("pod", "100000 100000"), **v2("pod/main", "400000 100000")},
            1.0,
        ),
        ("0::/../other", [V2.format(top="/..")], v2("", "max 100000"), None),
        ("0::/", [], {}, None),
    ],
)
def test_the_least_quota_of_a_process_and_the_groups_around_it_counts(
    tmp_path: Path,
    group: str,
    mounts: list[str],
    quotas: dict[str, str],
    expected: float | None,
) -> None:
    assert cgroup_quota(write(tmp_path, group, mounts, quotas)) == expected


def test_without_linux_there_is_no_quota(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "cpus"), [(None, 4), (0.5, 1), (2.9, 2), (64.0, 4)])
def test_whole_cores_count_and_at_least_one(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(processors, "cgroup_quota", lambda: quota)
    assert machine_cpus() == cpus
