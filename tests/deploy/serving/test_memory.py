"""Free memory is what machine and control groups leave."""

from pathlib import Path

import pytest

from regrow.deploy.serving.memory import (
    BY_FILE,
    MARGIN,
    available,
    refuse_shortage,
)

MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\nHugePages_Total: 0\n"


def tree(root: Path, **files: str) -> Path:
    """Write files below a folder, whose names have `__` for a slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def groups(root: Path, line: str, **values: str) -> Path:
    """Write the control group of the process, and files by `folder__name`."""
    tree(root, proc__meminfo=MEMINFO, proc__self__cgroup=f"9:cpu:/x\n{line}\n")
    for name, text in values.items():
        folder, _, own = name.rpartition("__")
        tree(root / "sys/fs/cgroup" / folder.replace("__", "/"), **{own: text})
    return root


def test_a_machine_without_limits_has_what_it_says(tmp_path: Path) -> None:
    assert available(tree(tmp_path, proc__meminfo=MEMINFO)) == 8000 * 1024
    assert available(tmp_path / "elsewhere") is None


def test_a_group_leaves_its_limit_less_its_use_and_files_count_as_free(tmp_path: Path) -> None:
    folder = groups(tmp_path, "0::/")
    for name, text in {"max": "1000000", "current": "900000", "stat": "anon 1\n"}.items():
        (folder / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
        (folder / f"sys/fs/cgroup/memory.{name}").write_text(text)
    assert available(folder) == 100_000
    (folder / "sys/fs/cgroup/memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert available(folder) == 150_000
    (folder / "sys/fs/cgroup/memory.current").write_text("2000000")
    assert available(folder) == 0


@pytest.mark.parametrize(
    ("line", "top", "limit", "used", "none"),
    [
        ("0::/a/b", "", "memory.max", "memory.current", "max"),
        (
            "4:cpuacct,memory:/a/b",
            "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "9223372036854771712",
        ),
    ],
)
def test_the_tightest_of_a_group_and_those_above_it_counts(
    tmp_path: Path, line: str, top: str, limit: str, used: str, none: str
) -> None:
    groups(tmp_path, line)
    base = tmp_path / "sys/fs/cgroup" / top
    (base / "a/b").mkdir(parents=True)
    for folder, most in (("", none), ("a", "500000"), ("a/b", "700000")):
        (base / folder / limit).write_text(most)
        (base / folder / used).write_text("100000\n")
    assert available(tmp_path) == 400_000
    (base / "a/b" / limit).write_text("300000")
    assert available(tmp_path) == 200_000
    for folder in ("a", "a/b"):
        (base / folder / limit).write_text(none)
    assert available(tmp_path) == 8000 * 1024


def test_a_model_that_will_not_fit_is_refused_with_its_size(tmp_path: Path) -> None:
    file, checkpoint = tmp_path / "a.onnx", tmp_path / "a.ckpt"
    for one in (file, checkpoint):
        one.write_bytes(bytes(2**20))
    enough = (BY_FILE * 2**20 + MARGIN) // 1024
    refuse_shortage(file, tree(tmp_path, proc__meminfo=f"MemAvailable: {enough} kB\n"))
    # A checkpoint is exported first, by a process that takes a GiB.
    with pytest.raises(MemoryError, match=r"^a.ckpt takes about 1,027 MiB, and 131 MiB are free$"):
        refuse_shortage(checkpoint, tmp_path)
    tree(tmp_path, proc__meminfo=f"MemAvailable: {enough - 1} kB\n")
    with pytest.raises(MemoryError, match=r"^a.onnx takes about 3 MiB, and 131 MiB are free$"):
        refuse_shortage(file, tmp_path)
    refuse_shortage(checkpoint, tmp_path / "a system that says nothing")
