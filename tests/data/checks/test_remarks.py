import pytest

from regrow.data.checks.remarks import Remarks


def test_lines_count_each_kind_and_name_the_first_five() -> None:
    remarks = Remarks()
    for number in range(7):
        remarks.add("boxes clipped", f"{number}.png")
    remarks.add("links left out", "a.png")
    assert remarks.lines == [
        "7 boxes clipped: 0.png, 1.png, 2.png, 3.png, 4.png, ...",
        "1 link left out: a.png",
    ]


def test_a_name_stays_on_its_line_and_does_nothing_to_a_terminal() -> None:
    remarks = Remarks()
    remarks.add("files left out", "a\nb.png")
    remarks.add("files left out", "\x1b[2Jc.png")
    remarks.add("files left out", "\udcff.png")
    assert remarks.lines == ["3 files left out: a b.png, \\x1b[2Jc.png, \\xff.png"]
    assert remarks.to_dict()["files left out"]["first"] == [
        "a\nb.png",
        "\x1b[2Jc.png",
        "\udcff.png",
    ]


def test_one_name_is_given_once_however_often_it_is_counted() -> None:
    remarks = Remarks()
    remarks.add("boxes clipped", "a.png", 3)
    remarks.add("boxes clipped", "a.png", 0)
    assert remarks.to_dict() == {"boxes clipped": {"count": 3, "first": ["a.png"]}}
    assert remarks.lines == ["3 boxes clipped: a.png, ..."]


def test_taking_other_remarks_adds_their_counts() -> None:
    one, other = Remarks(), Remarks()
    one.add("boxes clipped", "a.png", 2)
    other.add("boxes clipped", "b.png", 4)
    other.add("links left out", "c.png")
    one.take(other)
    assert one.count("boxes clipped") == 6
    assert one.count("links left out") == 1
    assert one.count("never seen") == 0
    assert other.count("boxes clipped") == 4


def test_remarks_are_true_where_there_are_some() -> None:
    remarks = Remarks()
    assert not remarks
    remarks.add("links left out", "c.png")
    assert remarks


@pytest.mark.parametrize(
    ("kind", "of_one"),
    [
        ("boxes clipped at the edge of their image", "box clipped at the edge of its image"),
        ("bad rows left out, with their images", "bad row left out, with its image"),
        ("links that lead nowhere left out", "link that leads nowhere left out"),
        (
            "bad boxes left out (what they show counts as background)",
            "bad box left out (what it shows counts as background)",
        ),
        (
            "test images have the pixels of training images",
            "test image has the pixels of training images",
        ),
        (
            "hidden or system's files and folders left out",
            "hidden or system's file or folder left out",
        ),
        ("classes that no test image shows", "class that no test image shows"),
        ("labels that do not fit their answer", "label that does not fit its answer"),
    ],
)
def test_what_happened_once_is_told_in_the_singular(kind: str, of_one: str) -> None:
    remarks = Remarks()
    remarks.add(kind, "a")
    assert remarks.lines == [f"1 {of_one}: a"]
    assert remarks.count(kind) == 1
    remarks.add(kind, "a")
    assert remarks.lines == [f"2 {kind}: a, ..."]


def test_some_kinds_of_another_part_may_be_left_out() -> None:
    other, own = Remarks(), Remarks()
    other.add("images skipped", "a")
    other.add("images kept", "b")
    own.take(other, without=("images kept",))
    assert own.lines == ["1 image skipped: a"]


def test_by_name_the_order_in_which_they_are_added_makes_no_difference() -> None:
    names = [f"{number}.png" for number in (5, 2, 9, 0, 7, 1, 2, 4)]
    found = []
    for order in (names, names[::-1]):
        remarks, part = Remarks(by_name=True), Remarks(by_name=True)
        for name in order:
            remarks.add("z" if name == "9.png" else "boxes clipped", name)
            part.add("links left out", name)
        remarks.take(part)
        found.append((remarks.lines, [*remarks.to_dict().items()]))
    assert found[0] == found[1]
    assert found[0][0][0] == "7 boxes clipped: 0.png, 1.png, 2.png, 4.png, 5.png, ..."
    assert [kind for kind, _ in found[0][1]] == ["boxes clipped", "links left out", "z"]
