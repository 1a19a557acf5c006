"""The rule of three, against its own equation, and the search for the images that it needs."""

import pytest

from regrow.metrics.unseen import Shown, count_shown, first


def test_images_are_counted_with_what_their_labels_show():
    names = [{"a"}, {"a", "b"}, set(), {"b"}, {"a"}]
    assert count_shown(names, is_accuracy=False) == Shown(5, (3, 2))
    assert count_shown(names, is_accuracy=True) == Shown(4, is_accuracy=True)
    assert Shown(0).unseen(0.95) == 1


@pytest.mark.parametrize("num_images", [1, 20, 333])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_what_is_unseen_of_accuracy_stays_unseen_as_often_as_the_rest(
    num_images: int, confidence: float
) -> None:
    share = Shown(num_images, is_accuracy=True).unseen(confidence)
    assert (1 - share) ** num_images == pytest.approx(1 - confidence)


def test_images_that_take_all_that_is_missed_lose_it_on_both_sides() -> None:
    # A share of 0.1 of the truth is missed and as much found elsewhere: 0.9 of a union of 1.1.
    num_images, confidence = 22, 1 - 0.9**22
    assert Shown(num_images).unseen(confidence) == pytest.approx(1 - 0.9 / 1.1)


def test_a_class_that_few_images_show_is_unseen_on_more_of_them() -> None:
    # (1 - s)^2 = 0.05 of the two images of the second class, which is half of the score.
    assert Shown(100, (100, 2)).unseen(0.95) == pytest.approx((1 - 0.05**0.5) / 2)
    # Five times as many images show it five times as often.
    more = Shown(100, (100, 2)).unseen(0.95, 500)
    assert more == pytest.approx((1 - 0.05**0.1) / 2)
    # A class that none shows is no part of the mean.
    assert Shown(100, (100, 0)).unseen(0.95) == Shown(100, (100,)).unseen(0.95)


def test_the_fewest_images_decide_and_one_less_does_not() -> None:
    shown = Shown(100, (100, 10))
    least = shown.least_images(0.02, 0.95)
    assert least is not None
    assert shown.unseen(0.95, least) <= 0.02 < shown.unseen(0.95, least - 1)
    assert shown.least_images(0.0, 0.95) is None


@pytest.mark.parametrize("threshold", [1, 2, 3, 17, 64, 1000])
@pytest.mark.parametrize("start", [1, 3, 100])
def test_the_first_number_is_that_of_a_walk(threshold: int, start: int) -> None:
    walked = next(number for number in range(start, 2000) if number >= threshold)
    assert first(lambda number: number >= threshold, start) == walked


def test_a_search_ends_at_its_limit() -> None:
    assert first(lambda _: False, 1, limit=1000) is None
