"""Files are found one to one, by one mapping for a list, and never outside of their folder."""

import unicodedata
from pathlib import Path

import pytest

from regrow.data.checks.faults import Faults
from regrow.data.names.lookup import find_file, match_files, split_name
from regrow.errors import BadInput


def touch(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def matched(root: Path, *names: str) -> dict[str, str]:
    """Match names at `root`, with the row of each called by its place."""
    faults = Faults()
    found = match_files({f"row {n}": name for n, name in enumerate(names)}, [root], faults)
    faults.refuse()
    return {where: file.relative_to(root).as_posix() for where, file in found.items()}


@pytest.mark.parametrize(
    ("name", "start", "parts"),
    [
        ("a/b.png", "", ("a", "b.png")),
        ("./a//b.png", "", ("a", "b.png")),
        ("a/../b.png", "", ("b.png",)),
        ("s3://bucket/a/b.png", "s3://bucket/", ("a", "b.png")),
        ("https://host:80/b.png", "https://host:80/", ("b.png",)),
        ("/home/me/b.png", "/", ("home", "me", "b.png")),
        ("C:\\data\\b.png", "C:\\", ("data", "b.png")),
        ("\\\\server\\share\\b.png", "\\", ("server", "share", "b.png")),
    ],
)
def test_names_of_all_systems_are_split(name: str, start: str, parts: tuple[str, ...]) -> None:
    assert split_name(name) == (start, parts)


@pytest.mark.parametrize(
    "name",
    ["", ".", "/", "..", "../b.png", "a/../../b.png", "s3://bucket/../b.png", "a\0.png"]
    + [None, 5, ["a.png"], "x" * 5000, "a/" * 100 + "b.png"],
)
def test_what_is_no_name_or_leads_outside_is_none(name: object) -> None:
    assert split_name(name) is None


@pytest.mark.parametrize("name", ["sub", "\ud800.png", "x" * 300, "a.png/b.png", "no.png"])
def test_what_is_no_file_is_not_found(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.png", "sub/b.png")
    assert find_file(tmp_path, name) is None


def test_a_name_in_another_unicode_form_is_found(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é/ü.png") for form in ("NFC", "NFD"))
    assert composed != decomposed
    file = touch(tmp_path, decomposed) / decomposed
    assert find_file(tmp_path, composed) == file
    assert find_file(tmp_path, decomposed) == file


def test_links_lead_out_only_where_they_may(tmp_path: Path) -> None:
    touch(tmp_path, "secret/s.png", "root/a.png")
    root = tmp_path / "root"
    (root / "out.png").symlink_to(tmp_path / "secret" / "s.png")
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "in.png").symlink_to(root / "a.png")
    for name in ("out.png", "folder/s.png"):
        assert find_file(root, name) == root / name
        assert find_file(root, name, allows_links=False) is None
    assert find_file(root, "in.png", allows_links=False) == root / "in.png"


def test_addresses_lose_as_much_as_they_must(tmp_path: Path) -> None:
    touch(tmp_path, "day1/1.png", "day2/1.png")
    assert matched(tmp_path, "s3://b/x/day1/1.png", "s3://b/x/day2/1.png") == {
        "row 0": "day1/1.png",
        "row 1": "day2/1.png",
    }


def test_addresses_keep_their_ends_where_they_begin_at_different_depths(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "extra/2.png")
    found = matched(tmp_path, "s3://b/project/train/1.png", "s3://b/extra/2.png")
    assert [*found.values()] == ["train/1.png", "extra/2.png"]


def test_two_addresses_never_end_at_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    with pytest.raises(
        BadInput,
        match=r"row 0: s3://b/day1/1\.png is the file .*1\.png, and so is s3://b/day2/1\.png of "
        r"row 1; row 1: s3://b/day2/1\.png is the file .*give each a file",
    ):
        matched(tmp_path, "s3://b/day1/1.png", "s3://b/day2/1.png")
    # Named twice by one name is another matter.
    assert len(matched(tmp_path, "s3://b/day1/1.png", "s3://b/day1/1.png")) == 2
    with pytest.raises(BadInput, match=r"\./1\.png is the file .* and so is 1\.png of row 0"):
        matched(tmp_path, "1.png", "./1.png")


def test_a_row_is_not_looked_up_otherwise_than_the_rest(tmp_path: Path) -> None:
    # day2/1.png is missing, and the 1.png that lies there is another image.
    touch(tmp_path, "day1/1.png", "day1/2.png", "1.png")
    with pytest.raises(BadInput, match=r"^row 2: no image s3://b/day2/1\.png below"):
        matched(tmp_path, "s3://b/day1/1.png", "s3://b/day1/2.png", "s3://b/day2/1.png")


def test_each_bucket_has_its_own_mapping(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "2.png")
    found = matched(tmp_path, "s3://one/a/1.png", "s3://two/deep/er/2.png")
    assert [*found.values()] == ["a/1.png", "2.png"]


def test_all_missing_files_are_named_with_the_mapping_of_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    with pytest.raises(
        BadInput,
        match=r"^2 bad rows.*x/3\.png below .*less the first 1 folders of the name\).*x/4\.png",
    ):
        matched(tmp_path, "x/1.png", "x/2.png", "x/3.png", "x/4.png")


def test_many_hopeless_names_end_soon(tmp_path: Path) -> None:
    names = [f"s3://{n}/" + "a/" * 60 + "b.png" for n in range(3000)]
    with pytest.raises(BadInput, match=r"^3,000 bad rows or boxes: .*; and 2,9\d\d more; "):
        matched(tmp_path, *names)
