"""The metadata of an ONNX file are JSON under names of regrow's."""

import pytest

from regrow.errors import BadInput
from regrow.models.onnx.metadata import metadata


def test_only_what_regrow_wrote_is_read() -> None:
    given = {"regrow.size": "[3, 4]", "regrow.kind": '"labels"', "author": "not JSON"}
    assert metadata(given) == {"size": [3, 4], "kind": "labels"}
    assert metadata({"author": "me"}) == {}


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(BadInput, match="metadata of the ONNX file is not JSON .*; export again"):
        metadata({"regrow.size": "[3, 4"})
