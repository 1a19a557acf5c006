"""Event files of TensorBoard that are replaced as a whole, written without PyTorch.

Source: TensorFlow's `event.proto` and `summary.proto`; TFRecord files. TensorBoard reads the files
of a folder in the order of their names, each once, and goes on from where it was. So a file that
takes the place of another one has a later name, and says with its first event that it replaces all
points; the other one stays for one turn, for a TensorBoard that still reads it.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from regrow.data.images.opening import image_size
from regrow.files import write_atomic
from regrow.text import printable

PREFIX = "events.out.tfevents."
NAME = re.compile(re.escape(PREFIX) + r"(\d{10})\.regrow", re.ASCII)
VERSION = "brain.Event:2"
RGB = 3  # TensorFlow's number of the colour space
LONGEST = 200  # characters of a tag


@dataclass(frozen=True, slots=True)
class Point:
    """What is shown at one step.

    Args:
        step: The step.
        time: Its time in seconds since 1970.
        scalars: Numbers by their tags; those that are not finite are left out.
        texts: Markdown by its tags.
        pictures: Encoded pictures, JPEG or PNG, by their tags.
    """

    step: int
    time: float
    scalars: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def replace_events(folder: Path, points: Sequence[Point]) -> None:
    """Make points the only ones that TensorBoard shows of a folder.

    A TensorBoard that shows the folder already forgets the older ones too. Where nothing has
    changed, no file does.

    Args:
        folder: The folder of a run, which has no other event files; it is made.
        points: The points, by ascending steps.

    Raises:
        CannotWrite: If they cannot be written.
    """
    content, there = _content(points), sorted(folder.glob(f"{PREFIX}*"))
    before = [file for file in there if NAME.fullmatch(file.name)]
    if before and before[-1].read_bytes() == content:
        return
    number = int(before[-1].name.split(".")[3]) + 1 if before else 1
    write_atomic(folder / f"{PREFIX}{number:010d}.regrow", lambda file: file.write(content))
    for file in there:
        if file not in before[-1:]:
            file.unlink()


def _content(points: Sequence[Point]) -> bytes:
    time = points[0].time if points else 0.0
    start = SessionLog(status=SessionLog.START)  # from its step, 0, on
    file = io.BytesIO()
    writer = RecordWriter(file)
    for event in (
        Event(wall_time=time, file_version=VERSION),
        Event(wall_time=time, session_log=start),
        *(Event(wall_time=own.time, step=own.step, summary=_summary(own)) for own in points),
    ):
        writer.write(event.SerializeToString(deterministic=True))
    return file.getvalue()


def _summary(point: Point) -> Summary:
    values: Iterable[Summary.Value] = [
        *(
            Summary.Value(tag=printable(tag, LONGEST), simple_value=value)
            for tag, value in point.scalars.items()
            if math.isfinite(value)
        ),
        *(_text(printable(tag, LONGEST), text) for tag, text in point.texts.items()),
        *(_picture(printable(tag, LONGEST), own) for tag, own in point.pictures.items()),
    ]
    return Summary(value=values)


def _text(tag: str, text: str) -> Summary.Value:
    plugin = SummaryMetadata.PluginData(plugin_name="text")
    tensor = TensorProto(
        dtype=DT_STRING,
        string_val=[text.encode("utf-8", "backslashreplace")],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    return Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)


def _picture(tag: str, encoded: bytes) -> Summary.Value:
    height, width = image_size(encoded)
    image = Summary.Image(height=height, width=width, colorspace=RGB, encoded_image_string=encoded)
    return Summary.Value(tag=tag, image=image)
