"""Bad input of a run, through the script: one line, exit code 2, and nothing that was is lost."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from regrow import files
from regrow.monitor.files.captures import Event
from regrow.scripts import monitor

START = datetime(2026, 11, 30, 6, tzinfo=UTC)
Run = Callable[..., tuple[int, str, str]]


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


@pytest.fixture
def captures(
    tmp_path: Path, captured: Callable[..., list[Event]], write: Callable[..., Path]
) -> Path:
    """Captures of three hours."""
    for number in range(3):
        write(tmp_path / "captures", captured(hour(number), 30))
    return tmp_path / "captures"


@pytest.fixture
def run(folder: Path, captures: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the script, and returns its exit code and what it printed."""

    def made(*more: object, until: int = 24, seen: Path = captures) -> tuple[int, str, str]:
        words = ["run", folder, "--captures", seen, "--now", hour(until).isoformat(), *more]
        code = monitor.main([*map(str, words)])
        out, err = capsys.readouterr()
        if code == 2:
            assert err.startswith("error: ")
            assert err.count("\n") == 1
        return code, out, err

    return made


def kept(folder: Path) -> dict[str, bytes]:
    hours = folder / "hours"
    return {str(f.relative_to(hours)): f.read_bytes() for f in hours.rglob("*") if f.is_file()}


@pytest.mark.parametrize("name", ["state.json", "report.json"])
@pytest.mark.parametrize("text", [None, "", "{", "{}", "[]", "null"])
def test_a_damaged_hour_is_named_with_a_way_out_that_works(
    run: Run, folder: Path, name: str, text: str | None
) -> None:
    assert run(until=2)[0] == 0
    whole, file = kept(folder), folder / "hours/2026/11/30/07" / name
    file.unlink()
    if text is not None:
        file.write_text(text)
    elif name == "report.json":
        return  # an hour without its report is not done yet
    before = kept(folder)
    code, _, err = run()
    assert code == 2
    assert f"07/{name}: " in err
    assert "remove this hour's folder, it is made again from its captures" in err
    assert kept(folder) == before
    shutil.rmtree(file.parent)
    assert run()[0] == 0
    after = kept(folder)
    assert {path: after[path] for path in whole} == whole
    assert "2026/11/30/08/report.json" in after


def test_a_full_disk_loses_nothing_and_the_next_run_goes_on(
    run: Run, folder: Path, tmp_path: Path, captures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    with monkeypatch.context() as patch:
        left, real = [34], os.fsync

        def full(handle: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        patch.setattr(files.os, "fsync", full)
        code, _, err = run()
    assert code == 2
    assert "cannot be written (No space left on device); what was written before is whole" in err
    done = [path for path in kept(folder) if path.endswith("report.json")]
    assert 0 < len(done) < 3
    assert not [*(folder / "hours").rglob(".*")]
    assert run()[0] == 0
    words = ["run", str(other), "--captures", str(captures), "--now", hour(24).isoformat()]
    assert monitor.main(words) == 0
    assert kept(other) == kept(folder)


def test_a_folder_that_cannot_be_made_is_one_line(run: Run, folder: Path) -> None:
    (folder / "hours").write_text("a file")
    code, _, err = run()
    assert code == 2
    assert "hours/2026/11/30: cannot be written (Not a directory)" in err


def test_captures_of_another_model_stop_at_their_hour_until_ours_come_again(
    run: Run,
    folder: Path,
    captures: Path,
    captured: Callable[..., list[Event]],
    write: Callable[..., Path],
) -> None:
    write(captures, captured(hour(3), 5, model="ffff"))
    code, out, err = run()
    assert (code, out.count("nothing has changed in 30 pictures")) == (2, 3)
    assert "the 5 captures from 2026-11-30T09:00:00Z on are of the model ffff" in err
    before = kept(folder)
    assert run()[0] == 2
    assert kept(folder) == before
    # The other model is taken back.
    write(captures, captured(hour(4), 30))
    code, out, _ = run()
    assert code == 0
    assert "5 answers of another model than that of the baseline, left out" in out
    assert "2026-11-30T10:00:00Z: Completed: nothing has changed in 30 pictures" in out
    after = kept(folder)
    assert {path: after[path] for path in before} == before


def test_clocks_and_gaps_are_told_and_no_error(
    run: Run, captures: Path, captured: Callable[..., list[Event]], write: Callable[..., Path]
) -> None:
    events = captured(hour(5), 30)
    write(captures, [*events[15:], *events[:15]])
    for number, year in enumerate((1970, 2999, 9999)):
        write(captures, [replace(events[0], id=f"{year}")], f"odd{number}")
        file = captures / "endpoint/AllTraffic/2026/11/30/11" / f"odd{number}.jsonl"
        file.write_text(file.read_text().replace("2026-11-30T11", f"{year}-12-31T23"))
    code, out, err = run()
    assert code == 0
    assert "  2 hours before had no captures, from 2026-11-30T09:00:00Z on" in out
    assert "  1 file in which the clock goes back: endpoint/AllTraffic/2026/11/30/11/a.jsonl" in out
    assert "2 lines of captures that cannot be read, left out" in err
    assert "1 event from later than now, left out until then: 2999-12-31T23:00:00Z" in err


def label(id_: str, data: str) -> str:
    truth = {"data": data, "encoding": "CSV"}
    return json.dumps({"groundTruthData": truth, "eventMetadata": {"eventId": id_}}) + "\n"


def test_labels_of_all_kinds_are_counted_on_the_console(
    run: Run, tmp_path: Path, captured: Callable[..., list[Event]]
) -> None:
    events = [*captured(hour(0), 30), *captured(hour(1), 30)]
    answers = [(own, own.output.json()["predictions"][0]["label"]) for own in events if own.output]
    lines = [label(own.inference_id, said) for own, said in answers[:20]]  # 20 by the client's id
    lines += [label(own.id, said) for own, said in answers[25:40]]  # 15 by the event's
    lines += lines[:3]  # duplicates
    lines += [label("nobody", "dark"), label(events[50].id, "cat"), "no JSON\n"]
    places = {"2026/12/01/09": lines, "2026/11/01/00": lines[:1], "2026/12/24/00": lines[:1]}
    places["9999/12/31/23"] = []
    for place, own in places.items():
        (tmp_path / "labels" / place).mkdir(parents=True)
        (tmp_path / "labels" / place / "a.jsonl").write_text("".join(own))
    code, out, err = run("--ground-truth", tmp_path / "labels", until=48)
    assert code == 0
    assert (
        "2026-12-01T09:00:00Z: Completed: nothing has changed in 0 pictures\n"
        "  35 labels of 2 hours, from 2026-11-30T06:00:00Z on: 20 by inferenceId, 15 by eventId; "
        "accuracy 1.0000 (0.9000 to 1.0000)\n"
    ) in out
    for told in (
        "  3 labels given twice, of which the last counts: ",
        "  1 label of ids unknown in the week before, left out: nobody",
        "  1 label that does not fit its answer, left out: ",
        "  1 line of ground truth that cannot be read, left out: a.jsonl: ",
    ):
        assert told in out
    assert "1 file of labels from before the first capture, left out: 2026-11-01T00" in err
    assert "1 file of labels from later than now, left out until then: 2026-12-24T00" in err


CONSTRAINTS: dict[str, Any] = {"nothing": "", "nonsense": "hello", "list": "[]", "null": "null"}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_edited_to_nonsense_say_how_to_get_others(
    run: Run, folder: Path, name: str
) -> None:
    assert run(until=1)[0] == 0
    before = kept(folder)
    (folder / "constraints.json").write_text(CONSTRAINTS[name])
    code, _, err = run()
    assert code == 2
    assert "constraints.json: " in err
    assert "correct it, or make it again with scripts/monitor.py baseline" in err
    assert kept(folder) == before


def test_folders_that_are_none_are_named(run: Run, tmp_path: Path, captures: Path) -> None:
    assert (
        "nowhere: no such folder; name the one that the server captures into"
        in run(seen=tmp_path / "nowhere")[2]
    )
    said = run("--ground-truth", tmp_path / "nowhere")[2]
    assert "nowhere: no such folder; name the one that the labels lie in" in said
    (tmp_path / "empty").mkdir()
    code, out, _ = run(seen=tmp_path / "empty")
    assert code == 0
    assert "no new captures in" in out
