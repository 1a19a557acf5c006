from collections.abc import Callable
from typing import Any

import pytest
import torch

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.nets.allowed import check_name


@pytest.mark.parametrize(
    ("kind", "name", "args"),
    [
        ("labels", "small", {"width": 8}),
        ("labels", "torchvision/resnet18", {"zero_init_residual": True}),
        ("labels", "timm/resnet18", {"drop_rate": 0.1, "block_args": {"attn_layer": "se"}}),
        ("masks", "lraspp", {"backbone": "timm/mobilenetv3_small_100", "levels": [4, 8]}),
        ("boxes", "fcos", {}),
    ],
)
def test_listed_names_with_plain_arguments_may_be_named(
    kind: Kind, name: str, args: dict[str, Any]
) -> None:
    check_name(kind, name, args)


@pytest.mark.parametrize(
    "name",
    ["os.system", "subprocess.Popen", "timm/hf-hub:someone/net", "torchvision/none", "nothing",
     "timm/local-dir:/tmp", "torch.hub.load", "regrow.models.nets.cifar.CifarResNet", "timm/", ""],
)  # fmt: skip
def test_names_outside_the_lists_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="which is none of regrow's, torchvision's or timm's"):
        check_name("labels", name, {})


def test_nets_of_another_kind_are_refused() -> None:
    with pytest.raises(BadInput, match="names the network 'timm/resnet18'"):
        check_name("masks", "timm/resnet18", {})


@pytest.mark.parametrize("name", [None, 3, ["small"], {"small": 1}])
def test_names_of_another_type_are_refused(name: Any) -> None:
    with pytest.raises(BadInput, match=f"its network's name is a {type(name).__name__}"):
        check_name("labels", name, {})


def test_foreign_packages_may_be_named_only_if_allowed() -> None:
    with pytest.raises(BadInput, match=r"allow its package: --allow '\[foreign\]'"):
        check_name("labels", "foreign.nets.Net", {})
    with pytest.raises(BadInput, match="names the network"):
        check_name("labels", "foreign.nets.Net", {}, ["other", "foreign.nets"])
    check_name("labels", "foreign.nets.Net", {}, ["foreign"])
    with pytest.raises(BadInput, match="names the network"):
        check_name("labels", "foreign/nets.Net", {}, ["foreign", "foreign/nets"])
    with pytest.raises(BadInput, match="has the argument 'weights'"):
        check_name("labels", "foreign.nets.Net", {"weights": "DEFAULT"}, ["foreign"])


def test_networks_of_transformers_may_be_named_only_if_allowed() -> None:
    # A config may name code; only who trusts the file builds from it.
    with pytest.raises(BadInput, match=r"allow its package: --allow '\[transformers\]'"):
        check_name("labels", "hf/folder.of/net", {"config": {"model_type": "resnet"}}, ["folder"])
    check_name("labels", "hf/folder.of/net", {"config": {}}, ["transformers"])
    with pytest.raises(BadInput, match="above 100,000"):
        check_name("labels", "hf/net", {"config": {"hidden_size": 10**6}}, ["transformers"])


@pytest.mark.parametrize(
    "name",
    ["weights", "weights_backbone", "pretrained", "pretrained_backbone", "pretrained_cfg",
     "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir", "url", "file",
     "hf_hub_id"],
)  # fmt: skip
@pytest.mark.parametrize("nest", [lambda a: a, lambda a: {"inner": a}, lambda a: {"inner": [a]}])
def test_arguments_that_load_something_are_refused(
    name: str, nest: Callable[[Any], dict[str, Any]]
) -> None:
    with pytest.raises(BadInput, match=f"has the argument '{name}', which a file may not give"):
        check_name("labels", "timm/resnet18", nest({name: True}))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"a": "https://example.org/w.pth"}, "argument 'a' is an address"),
        ({"a": "file:///tmp/w.pth"}, "argument 'a' is an address"),
        ({"a": "hf-hub:someone/net"}, "argument 'a' is an address"),
        ({"a": ["x", ("hub/net",)]}, "argument 'a' is an address"),
        ({"a": {"b": "s3://bucket"}}, "argument 'b' is an address"),
        ({"a": torch.zeros(1)}, "argument 'a' is a Tensor"),
        ({"a": {"b": [object()]}}, "argument 'b' is a object"),
        ({3: 4}, "has the argument 3, which a file may not give"),
    ],
)
def test_arguments_that_are_no_plain_data_are_refused(args: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_name("labels", "small", args)


# ---- class rows
