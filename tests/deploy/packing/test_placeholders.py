"""What only the user knows is marked, and no platform takes a mark for the real thing."""

import re

from regrow.deploy.packing.placeholders import MEANINGS, placeholders_in


def test_each_placeholder_is_found_wherever_it_stands_and_no_other() -> None:
    for name, meaning in MEANINGS.items():
        assert placeholders_in(["", f"arn:aws:iam::x{name}y/z"]) == {name: meaning}
    texts = ["s3://YOUR_BUCKET/a and s3://YOUR_BUCKET/b", "image: YOUR_IMAGE"]
    assert [*placeholders_in(text for text in texts)] == ["YOUR_BUCKET", "YOUR_IMAGE"]
    assert placeholders_in([]) == placeholders_in(["your_bucket", "YOUR_", "BUCKET"]) == {}


def test_a_placeholder_is_not_put_together_of_two_texts() -> None:
    assert placeholders_in(["YOUR_", "ROLE"]) == {}


def test_no_placeholder_is_taken_for_real() -> None:
    """By the patterns of SageMaker's API, and the rules of names of buckets and of images."""
    account, role, bucket, image = MEANINGS
    arn = r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"
    assert re.fullmatch(arn, "arn:aws:iam::012345678901:role/mine")
    assert not re.fullmatch(arn, f"arn:aws:iam::{account}:role/{role}")
    assert not re.fullmatch(r"[a-z0-9][a-z0-9.-]{2,62}", bucket)
    # A repository's name is lower case, by the grammar of references to images.
    assert not re.fullmatch(r"[a-z0-9]+(?:[._/-][a-z0-9]+)*(?::[\w.-]+)?", image)


def test_no_placeholder_is_part_of_another() -> None:
    assert [*placeholders_in(MEANINGS)] == [*MEANINGS]
    for name in MEANINGS:
        assert [other for other in MEANINGS if name in other] == [name]
