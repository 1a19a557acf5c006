"""Recipes: what is chosen follows from the images and the machine."""

from typing import Any

import pytest

from regrow.models.nets.build import build_net, list_nets
from regrow.pipelines.recipes.recipe import Given, choose, remarks_on
from regrow.pipelines.recipes.survey import Machine, Survey

CPU, MANY, CUDA = Machine(False, 2), Machine(False, 16), Machine(True, 16, 2**37)


def seen(kind: str = "boxes", **options: Any) -> Survey:
    values: dict[str, Any] = {
        "num_images": {"train": 205, "val": 87, "test": 72},
        "classes": ("red", "green", "blue"),
        "size": (480, 640),
        "object_sides": (0.1, 0.25) if kind == "boxes" else None,
    }
    return Survey(kind, **(values | options))  # type: ignore[arg-type]


def task(recipe: dict[str, Any]) -> dict[str, Any]:
    return recipe["task"]["init_args"]


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
@pytest.mark.parametrize("machine", [CPU, MANY, CUDA])
@pytest.mark.parametrize("weights", [False, True])
def test_every_recipe_names_a_network_that_takes_its_images(
    kind: Any, machine: Machine, weights: bool
) -> None:
    for size in ((32, 32), (480, 640), (1080, 1920)):
        recipe = choose(seen(kind, size=size), machine, Given(has_weights=weights))
        own = task(recipe)
        assert own["net"] in list_nets(kind)
        net = build_net(kind, own["net"], 3, tuple(recipe["data"]["size"]), own.get("net_args"))
        assert sum(p.numel() for p in net.parameters()) > 1000


def test_images_are_as_large_as_they_are_or_as_there_is_time_for() -> None:
    def size(survey: Survey, machine: Machine = CPU) -> list[int]:
        return choose(survey, machine)["data"]["size"]

    assert size(seen(size=(96, 128))) == [96, 128]
    assert size(seen("masks")) == [192, 256]
    cpu, many, cuda = (size(seen(), machine) for machine in (CPU, MANY, CUDA))
    assert cpu == [256, 320]
    assert cpu[0] * cpu[1] < many[0] * many[1] < cuda[0] * cuda[1]
    assert size(seen("labels", size=(28, 30))) == [32, 32]
    assert size(seen("labels", size=(480, 640))) == [96, 96]
    # Small objects have 8 pixels left: 0.01 of about 554 is 5.5 pixels, at full size.
    assert size(seen(object_sides=(0.02, 0.1))) == [352, 448]
    assert size(seen(object_sides=(0.0001, 0.1))) == [480, 640]


def test_batches_and_epochs_follow_from_the_number_of_images() -> None:
    def chosen(count: int, kind: str = "labels") -> tuple[int, int]:
        recipe = choose(seen(kind, num_images={"open": count}), CPU)
        return recipe["data"]["batch_size"], recipe["fit"]["epochs"]

    assert chosen(50_000) == (64, 4)
    assert chosen(6400) == (64, 30)
    assert chosen(100) == (8, 60)
    assert chosen(3) == (2, 60)
    fresh, learnt = (choose(seen(), CPU, Given(is_warm=flag)) for flag in (False, True))
    assert learnt["fit"]["epochs"] < fresh["fit"]["epochs"]


def test_pretrained_weights_bring_their_network_and_its_scale() -> None:
    fresh, pretrained = (choose(seen(), CPU, Given(has_weights=flag)) for flag in (False, True))
    assert "mean" not in task(fresh)
    assert task(pretrained)["net_args"]["backbone"] == "timm/tf_efficientnet_lite0"
    assert (task(pretrained)["mean"], task(pretrained)["std"]) == ([0.5] * 3, [0.5] * 3)
    assert any("--task.weights" in line for line in remarks_on(fresh, CPU))
    said = remarks_on(pretrained, CPU, Given(has_weights=True))
    assert not any("--task.weights" in line for line in said)


def test_what_is_settled_stands() -> None:
    recipe = choose(seen(), CPU, Given((40, 56), "fcos", {"channels": 32}, is_warm=True))
    assert recipe["data"]["size"] == [40, 56]
    assert (task(recipe)["net"], task(recipe)["net_args"]) == ("fcos", {"channels": 32})
    # A network of the user's choice gets no arguments of another, nor the scale of its images.
    own = task(choose(seen(), CUDA, Given(net="torchvision/fcos_resnet50_fpn", has_weights=True)))
    assert own["net"] == "torchvision/fcos_resnet50_fpn"
    assert not {"net_args", "mean", "std"} & own.keys()
    cut = choose(seen("labels"), CPU, Given((20, 24)))["data"]["augment"][0]["init_args"]
    assert cut["size"] == [20, 24]


def test_large_objects_get_a_network_that_sees_them_whole() -> None:
    assert "net_args" not in task(choose(seen(object_sides=(0.1, 0.3)), CPU))
    backbone = task(choose(seen(object_sides=(0.1, 0.9)), CPU))["net_args"]["backbone"]
    assert backbone == "timm/resnet10t"


def test_images_are_mirrored_but_for_letters_and_digits() -> None:
    for classes, is_mirrored in ((("7", "a"), False), (("background", "1", "2"), False)):
        recipe = choose(seen(classes=classes), CPU)
        names = [one["class_path"].rpartition(".")[2] for one in recipe["data"]["augment"]]
        assert ("RandomHorizontalFlip" in names) is is_mirrored
        assert any("mirrored" in line for line in remarks_on(recipe, CPU))
    recipe = choose(seen(classes=("cat", "dog")), CPU)
    names = [one["class_path"].rpartition(".")[2] for one in recipe["data"]["augment"]]
    assert names == ["RandomHorizontalFlip", "ColorJitter"]


def test_images_without_official_splits_are_held_out_by_class_where_classes_are_rare() -> None:
    def held(num_images: dict[str, int], rarest: int) -> dict[str, Any]:
        data = choose(seen(num_images=num_images, num_shown={"red": 900, "blue": rarest}), CPU)
        names = ("val_share", "test_share", "stratify")
        return {name: data["data"][name] for name in names if name in data["data"]}

    assert held({"train": 9, "val": 9, "test": 9}, 3) == {}
    assert held({"open": 1000}, 300) == {"val_share": 0.1, "test_share": 0.1}
    assert held({"open": 1000}, 10) == {"val_share": 0.1, "test_share": 0.1, "stratify": True}
    assert held({"train": 100, "test": 9}, 90) == {"val_share": 0.2}


def test_memory_and_cores_decide_how_images_are_kept_and_read() -> None:
    many = seen(num_images={"train": 50_000})
    assert choose(many, CUDA)["data"]["num_workers"] == 8
    assert "num_workers" not in choose(many, CPU)["data"]
    assert "cache_bytes" not in choose(seen(), CPU)["data"]
    needed = 50_000 * (256 * 320 * 3 + 64)
    assert choose(many, Machine(False, 2, 2**36))["data"]["cache_bytes"] == needed
    assert choose(many, Machine(False, 2, 2**33))["data"]["cache_bytes"] == 2**31
    assert choose(many, Machine(False, 2, 2**30))["data"]["cache_bytes"] == 2**28
