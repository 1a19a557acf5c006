"""Extracts of any shares of the captures are judged as the captures themselves are."""

import base64
import io
import json
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import LinearNetwork
from PIL import Image

from regrow.errors import BadInput
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.baseline import BaselineBuilder
from regrow.monitor.draws import key_of
from regrow.monitor.files import captures as capture_module
from regrow.monitor.files.analysis import write_analysis
from regrow.monitor.files.captures import Body, Event, event_line, parse_event
from regrow.monitor.hours import extracting
from regrow.monitor.hours.collecting import UNKEPT, Blocks
from regrow.monitor.hours.extracting import STATE, Extracted, Extractor, Lowest, Wanted
from regrow.monitor.hours.folders import hour_folder
from regrow.monitor.hours.watching import Settings, Watch

MODEL, CLASSES = "ab12" * 16, ["dark", "light"]
START = datetime(2026, 11, 30, 6, tzinfo=UTC)
WANTED = Wanted(MODEL, None, 24, 0)
Captured = Callable[..., list[Event]]
Write = Callable[..., Path]


def _hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def _run(
    folder: Path,
    captures: Path,
    truth: Path | None = None,
    network: LinearNetwork | None = None,
    **own: Any,
) -> list[dict[str, Any]]:
    given = {"num_embedded": 30, "num_explained": 4} | own
    settings = Settings(_hour(24), FalseAlarms(images=1e5), **given)
    opens = None if network is None else (lambda file: network)
    return Watch(folder, captures, truth, settings, opens).run()


def _files(folder: Path) -> dict[str, Any]:
    """Return all files of all hours; of the reports all but their inputs."""
    found: dict[str, Any] = {}
    for file in (folder / "hours").rglob("*"):
        if file.is_file():
            name = str(file.relative_to(folder))
            found[name] = file.read_bytes()
            if file.name == "report.json":
                found[name] = json.dumps(json.loads(found[name]) | {"inputs": None}, indent=1)
    return found


def _extract(captures: Path, out: Path, wanted: Wanted = WANTED) -> Extracted:
    return Extractor(captures, out, wanted).run()


def _shares(folder: Path, events: Sequence[Event], count: int, write: Write) -> list[Path]:
    """Write events into the captures of so many shares, and there into files, at random."""
    draw, parts = np.random.default_rng(count), dict[tuple[int, str], list[Event]]()
    for event in events:
        share = int(draw.integers(count))
        parts.setdefault((share, f"{event.time:%H}-{draw.integers(3)}"), []).append(event)
    for (share, name), own in parts.items():
        write(folder / f"share{share}", sorted(own, key=lambda event: event.time), name)
    return sorted(folder.iterdir())


def _odd(captured: Captured) -> list[Event]:
    """Return the captures of three hours with everything that is odd in them."""
    events = []
    for number in range(3):
        own = captured(_hour(number), 70, light=1.0 if number < 2 else 0.5)
        for place, event in enumerate(own):
            about = {"camera": str(place % 3), f"run{place % 10}": "1"}
            own[place] = replace(event, attributes=about)
            body = event.input
            assert body is not None
            if place % 9 == 5:
                own[place] = replace(own[place], input=replace(body, data=body.data[:40]))
            if place == 7:
                own[place] = replace(own[place], output=None)
            if place == 8:
                own[place] = replace(own[place], input=None)
            if place % 10 == 9:
                own[place] = replace(own[place], inference_id="")
        others = captured(_hour(number), 7, seed=3, model="ffff")
        own += [replace(one, id=f"other {one.id}", inference_id="") for one in others]
        own += own[20:27]  # captured twice
        late = replace(own[3], id=f"late {number}", time=_hour(number) + timedelta(minutes=59))
        events += [*own, replace(late, inference_id="")]
    return events


def _plain(folder: Path, events: Sequence[Event], write: Write) -> Path:
    for number in range(3):
        own = [event for event in events if event.time.hour == _hour(number).hour]
        write(folder, sorted(own, key=lambda event: event.time))
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_extracts_of_any_shares_give_the_same_files(
    probed: Path,
    network: LinearNetwork,
    tmp_path: Path,
    captured: Captured,
    write: Write,
    count: int,
) -> None:
    other, events, own = tmp_path / "other", _odd(captured), {"blocks": Blocks("camera", 1)}
    shutil.copytree(probed, other)
    plain = _plain(tmp_path / "plain", events, write)
    reports = _run(probed, plain, network=network, **own)
    assert [one["counts"]["num_undecodable"] for one in reports] == [8, 8, 8]
    assert reports[0]["embeddings"]["num_pictures"] == 30
    for share in _shares(tmp_path / "shares", events, count, write):
        _extract(share, tmp_path / "extracted" / share.name, replace(WANTED, num_sampled=30))
    assert len(_run(other, tmp_path / "extracted", network=network, **own)) == 3
    assert _files(other) == _files(probed)


def _pixels(event: Event) -> np.ndarray:
    assert event.input is not None
    with Image.open(io.BytesIO(event.input.content())) as opened:
        return np.asarray(opened)


def _mask(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 128).astype(np.uint8)


def _png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _class(pixels: np.ndarray) -> dict[str, Any]:
    return {"label": CLASSES[int(pixels.mean() > 128)], "score": 0.75}


def _boxes(pixels: np.ndarray) -> dict[str, Any]:
    """Return objects whose scores are often the same, as rounded ones are."""
    label, size = CLASSES[int(pixels.mean() > 128)], 3 + int(pixels[0, 0, 0]) % 7
    found = [(1, size, 0.5), (5, 9, round(float(pixels.mean()) / 255, 1))]
    return {
        "objects": [
            {"label": label, "score": score, "box": [low, low, high + 0.5, high + 2.25]}
            for low, high, score in found
        ]
    }


def _masks(pixels: np.ndarray) -> dict[str, Any]:
    mask = _mask(pixels)
    share = float(mask.mean())
    return {
        "mask": _png(mask), "classes": CLASSES, "shares": {"dark": 1 - share, "light": share}
    }  # fmt: skip


def _box_truth(pixels: np.ndarray) -> list[tuple[str, tuple[float, float, float, float]]]:
    return [(CLASSES[int(pixels.mean() > 120)], (1.0, 1.0, 7.5, 9.25))]


def _mask_truth(pixels: np.ndarray) -> np.ndarray:
    return _mask(np.roll(pixels, 3, 1))


def _label(kind: str, pixels: np.ndarray) -> str:
    if kind == "labels":
        return CLASSES[int(pixels.mean() > 120)]
    if kind == "masks":
        return json.dumps({"mask": _png(_mask_truth(pixels))})
    boxes = [{"label": label, "box": box} for label, box in _box_truth(pixels)]
    return json.dumps({"objects": boxes})


def _labels(folder: Path, kind: str, events: Sequence[Event]) -> Path:
    """Write labels that come two hours later, some of them sampled."""
    rows: dict[str, dict[str, Any]] = {}
    for number, event in enumerate(events):
        if event.input is None or len(event.input.data) == 40 or number % 3 == 2:
            continue
        truth: dict[str, Any] = {"data": _label(kind, _pixels(event)), "encoding": "JSON"}
        truth |= {} if number % 5 else {"probability": 0.3}
        about = {"eventId": event.name}
        rows[event.name] = {"groundTruthData": truth, "eventMetadata": about}
    rows["gone"] = rows[events[0].name] | {"eventMetadata": {"eventId": "gone"}}
    place = folder / "2026/11/30/08"
    place.mkdir(parents=True)
    (place / "a.jsonl").write_text("\n".join(map(json.dumps, rows.values())))
    return folder


def _baseline(kind: str, folder: Path, captured: Captured) -> Callable[[np.ndarray], Any]:
    """Write a baseline of a kind with its facets, and return what predicts."""
    predict, truth = {
        "labels": (_class, lambda pixels: _label("labels", pixels)),
        "boxes": (_boxes, _box_truth),
        "masks": (_masks, _mask_truth),
    }[kind]
    builder = BaselineBuilder(MODEL, "m.onnx", kind, CLASSES, predict)
    for number, event in enumerate(captured(_hour(100), 200)):
        pixels = _pixels(event)
        builder.add(f"p{number}", pixels, None, truth(pixels))
    folder.mkdir()
    write_analysis(folder, builder.by_facet.parts())
    builder.build("test").write(folder)
    return predict


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_labels_that_come_later_find_extracts_as_they_find_captures(
    tmp_path: Path, captured: Captured, write: Write, kind: str
) -> None:
    mine, other, events = tmp_path / "mine", tmp_path / "other", _odd(captured)
    predict = _baseline(kind, mine, captured)
    shutil.copytree(mine, other)
    for place, event in enumerate(events):
        if event.output is not None and event.input is not None:
            seen = _pixels(event) if len(event.input.data) > 40 else np.zeros((9, 9, 3))
            answer = json.loads(event.output.data) | {"predictions": [predict(seen)]}
            body = Body("application/json", json.dumps(answer), "JSON")
            events[place] = replace(event, output=body)
    truth = _labels(tmp_path / "labels", kind, events)
    own = {"smallest_group": 5, "blocks": Blocks("camera" if kind == "boxes" else None)}
    reports = _run(mine, _plain(tmp_path / "plain", events, write), truth, **own)
    assert reports[2]["quality"]["num_labels"] > 80
    assert {*reports[2]["bias"]["facets"]} >= {"aspect", "brightness", "camera"}
    assert json.loads((hour_folder(mine, _hour(2)) / "analysis.json").read_text())
    for share in _shares(tmp_path / "shares", events, 3, write):
        _extract(share, tmp_path / "extracted" / share.name)
    assert len(_run(other, tmp_path / "extracted", truth, **own)) == 3
    assert _files(other) == _files(mine)


def _ids(out: Path, *, kept: bool) -> set[str]:
    """Return the events whose lines have their request still, or have it no more."""
    lines = [line for file in out.rglob("*.jsonl") for line in file.read_bytes().splitlines()]
    return {event.id for event in map(parse_event, lines) if (event.input is not None) == kept}


def test_the_pictures_with_the_smallest_hashes_of_each_hour_are_kept(
    tmp_path: Path, captured: Captured, write: Write
) -> None:
    wanted, events = replace(WANTED, num_examples=3, num_sampled=5), list[Event]()
    for part in range(4):  # a later run with more captures adds to what is there
        own = [e for n in range(2) for e in captured(_hour(n), 60, seed=part, model=MODEL)]
        others = captured(_hour(0), 30, seed=9, model="ffff")
        own = [replace(e, id=f"{part} {e.id}") for e in own]
        write(tmp_path / "c", [*own, *(replace(e, id=f"o{part}{e.id}") for e in others)], f"{part}")
        done = _extract(tmp_path / "c", tmp_path / "out", wanted)
        assert (done.num_files, done.num_unchanged, done.num_captures) == (part + 1, part, 150)
        events += own
    smallest = set()
    for number in range(2):
        ids = [event.id for event in events if event.time.hour == _hour(number).hour]
        for purpose, count in (("example", 3), ("sample", 5)):
            smallest |= {*sorted(ids, key=lambda i: key_of(f"{purpose} {i} 0"))[:count]}
    kept = _ids(tmp_path / "out", kept=True)
    assert smallest <= kept <= {event.id for event in events}
    assert len(kept) < 120


def test_a_file_that_has_not_changed_is_not_extracted_again(
    tmp_path: Path, captured: Captured, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    captures, out = tmp_path / "c", tmp_path / "out"
    first, second = (write(captures, captured(_hour(n), 12)) for n in range(2))
    assert _extract(captures, out).num_unchanged == 0
    files = sorted(out.rglob("*.jsonl"))
    assert [own.relative_to(out) for own in files] == [
        own.relative_to(captures) for own in (first, second)
    ]
    before = [(own.stat().st_mtime_ns, own.read_bytes()) for own in files]
    assert _extract(captures, out) == Extracted(num_files=2, num_unchanged=2)
    assert [(own.stat().st_mtime_ns, own.read_bytes()) for own in files] == before
    write(captures, captured(_hour(0), 13))  # one more line
    assert _extract(captures, out).num_captures == 13
    files[1].unlink()
    assert _extract(captures, out).num_captures == 12
    assert files[1].read_bytes() == before[1][1]
    assert _extract(captures, out, replace(WANTED, num_examples=2)).num_captures == 25
    (out / STATE).write_text('{"wanted": []')
    assert _extract(captures, out, replace(WANTED, num_examples=2)).num_captures == 25
    assert "extracted.json: damaged; all captures are extracted again" in caplog.text
    # Captures that are deleted leave their extracts.
    first.unlink()
    assert _extract(captures, out, replace(WANTED, num_examples=2)).num_files == 1
    assert files[0].is_file()


def test_a_killed_extraction_leaves_whole_files_and_goes_on(
    tmp_path: Path, captured: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures, out, calls = tmp_path / "c", tmp_path / "out", list[int]()
    for number in range(3):
        write(captures, captured(_hour(number), 10))
    real = extracting.extracted_line

    def dying(*words: Any, **own: Any) -> bytes:
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(*words, **own)

    monkeypatch.setattr(extracting, "extracted_line", dying)
    with pytest.raises(KeyboardInterrupt):
        _extract(captures, out)
    assert [len(own.read_bytes().splitlines()) for own in out.rglob("*.jsonl")] == [10]
    assert _extract(captures, out).num_unchanged == 1
    _extract(captures, tmp_path / "other")
    for file in (tmp_path / "other").rglob("*.jsonl"):
        assert (out / file.relative_to(tmp_path / "other")).read_bytes() == file.read_bytes()


def test_numbers_alone_give_the_same_but_what_needs_pictures(
    probed: Path, network: LinearNetwork, tmp_path: Path, captured: Captured, write: Write
) -> None:
    other = tmp_path / "other"
    shutil.copytree(probed, other)
    write(tmp_path / "c", captured(START))
    assert _extract(tmp_path / "c", tmp_path / "out", Wanted(MODEL, None, 0, 0)).num_kept == 0
    assert _ids(tmp_path / "out", kept=True) == set()
    _run(probed, tmp_path / "c", network=network)
    (report,) = _run(other, tmp_path / "out", network=network)
    assert report["remarks"][UNKEPT]["count"] == 30
    assert report["embeddings"]["num_pictures"] == 0
    mine, its = _files(probed), _files(other)
    for name in ("summary.json", "statistics.json", "constraint_violations.json"):
        assert mine[f"hours/2026/11/30/06/{name}"] == its[f"hours/2026/11/30/06/{name}"], name
    assert json.loads(its["hours/2026/11/30/06/examples.json"]) == []


def test_an_event_that_is_captured_and_extracted_counts_once(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    write(tmp_path / "all" / "z", captured(START))
    _run(folder, tmp_path / "all")
    _extract(tmp_path / "all" / "z", tmp_path / "all" / "a")
    (report,) = _run(other, tmp_path / "all")
    assert report["counts"]["num_pictures"] == 60
    assert report["remarks"]["events captured twice, counted once"]["count"] == 60
    mine, its = _files(folder), _files(other)
    for name in ("summary.json", "state.json", "examples.json"):
        assert mine[f"hours/2026/11/30/06/{name}"] == its[f"hours/2026/11/30/06/{name}"], name


def test_what_cannot_be_read_is_told_by_a_run_over_extracts_too(
    folder: Path,
    tmp_path: Path,
    captured: Captured,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    file = write(tmp_path / "c", captured(START, 20))
    file.write_text(f'{{"torn\n{"x" * 20_000}\n[]\n{file.read_text()}{{"captureData": {{}}}}')
    monkeypatch.setattr(capture_module, "MAX_LINE", 10_000)
    monkeypatch.setattr(extracting, "MAX_LINE", 10_000)
    _run(folder, tmp_path / "c")
    _extract(tmp_path / "c", tmp_path / "out")
    (report,) = _run(other, tmp_path / "out")
    assert report["remarks"]["lines of captures that cannot be read, left out"]["count"] == 4
    assert _files(other) == _files(folder)
    assert sum(own.stat().st_size for own in (tmp_path / "out").rglob("*.jsonl")) < 40_000


def test_extracts_are_extracted_as_they_are_and_what_is_too_much_stays(
    tmp_path: Path, captured: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "c", captured(START, 30))
    wanted = replace(WANTED, num_examples=4)
    _extract(tmp_path / "c", tmp_path / "one", wanted)
    _extract(tmp_path / "one", tmp_path / "two", wanted)
    made = [(tmp_path / own / file.relative_to(tmp_path / "c")) for own in ("one", "two")]
    assert made[0].read_bytes() == made[1].read_bytes()
    # Of another grey range there is nothing to compute it from, unless its picture is there.
    _extract(tmp_path / "one", tmp_path / "three", replace(wanted, grey_range=(0, 9)))
    lines = zip(
        made[0].read_bytes().splitlines(),
        (tmp_path / "three" / made[0].relative_to(tmp_path / "one")).read_bytes().splitlines(),
        strict=True,
    )
    assert {(b"endpointInput" in one, one == other) for one, other in lines} == {
        (True, False), (False, True)
    }  # fmt: skip
    monkeypatch.setattr(extracting, "MAX_PICTURES", 0)
    _extract(tmp_path / "c", tmp_path / "four", wanted)
    assert (tmp_path / "four" / file.relative_to(tmp_path / "c")).read_bytes() == file.read_bytes()


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    captures = tmp_path / "a" / "captures"
    captures.mkdir(parents=True)
    for out in (captures, captures / "out", tmp_path / "a", tmp_path / "b" / ".." / "a"):
        with pytest.raises(BadInput, match="or around it; name a folder beside it"):
            Extractor(captures, out, WANTED)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file: is a file; name a folder"):
        Extractor(captures, tmp_path / "file", WANTED)
    with pytest.raises(BadInput, match="holds other files than extracts of captures"):
        Extractor(captures, _filled(tmp_path / "other"), WANTED)
    with pytest.raises(BadInput, match="no such folder"):
        _extract(tmp_path / "none", tmp_path / "out")


def _filled(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.jsonl").touch()
    return folder


def test_memory_is_flat(tmp_path: Path) -> None:
    file = tmp_path / "c" / "a.jsonl"
    file.parent.mkdir()
    with file.open("w") as opened:
        for number in range(2000):
            body = Body("application/json", "x" * 5000, "JSON")
            time = START + timedelta(hours=number)  # each in an hour of its own
            opened.write(event_line(Event(f"e{number}", time, body, body)))
    tracemalloc.start()
    assert _extract(tmp_path / "c", tmp_path / "out").num_captures == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < file.stat().st_size / 5


def test_hours_whose_keys_are_forgotten_keep_more_pictures(
    tmp_path: Path, captured: Captured, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extracting, "MAX_HOURS", 1)
    wanted = replace(WANTED, num_examples=2)
    for number in (0, 1, 0):
        own = captured(_hour(number), 10, seed=number)
        write(tmp_path / "c", [replace(e, id=f"x{e.id}") for e in own], "b" if number else "a")
        _extract(tmp_path / "c", tmp_path / "out", wanted)
    for hour in ("06", "07"):
        kept = {own for own in _ids(tmp_path / "out", kept=True) if own[3:5] == hour}
        names = [f"x30{hour}-{number:04d}" for number in range(10)]
        assert {*sorted(names, key=lambda i: key_of(f"example {i} 0"))[:2]} <= kept
    assert [*json.loads((tmp_path / "out" / STATE).read_text())["hours"]] == [
        "2026-11-30T07:00:00Z"
    ]


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_the_lowest_keys_are_those_of_a_sorted_list(count: int) -> None:
    keys = np.random.default_rng(count).integers(0, 60, 200).tolist()
    lowest, seen = Lowest(count), set[int]()
    for key in keys:
        seen.add(key)
        assert lowest.offer(key) == (key in sorted(seen)[:count])
        assert lowest.keys == {*sorted(seen)[:count]}
    assert Lowest(count, lowest.keys).keys == lowest.keys
