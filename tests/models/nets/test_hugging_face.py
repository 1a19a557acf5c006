import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.errors import BadInput
from regrow.models import Classification, Detection, Segmentation, checkpoint, count_macs
from regrow.models.nets.build import build_net
from regrow.models.nets.hugging_face import with_config
from regrow.prune import cut_, find_groups
from regrow.prune.channels.exactness import check_exact
from regrow.prune.channels.surgery import clone, mask_

RESNET = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 24],
    "depths": [1, 1],
    "layer_type": "basic",
    "id2label": {"0": "cat"},
    "auto_map": {"AutoConfig": "code.Config"},
}
SEGFORMER = {
    "model_type": "segformer",
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "num_encoder_blocks": 2,
    "num_attention_heads": [1, 2],
    "sr_ratios": [4, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
}
VIT = {
    "model_type": "vit",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
CLASSES = ["a", "b", "c"]


@pytest.fixture
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs regrow[hf]")


def config_of(folder: Path, values: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values))
    return f"hf/{folder}"


def test_a_config_is_read_into_the_arguments(tmp_path: Path) -> None:
    nested = {"backbone_config": {"depths": [1], "auto_map": {"AutoModel": "code.Model"}}}
    name = config_of(tmp_path / "net", RESNET | nested)
    args = with_config(name, {"embedding_size": 8})
    assert args == {
        "config": {
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [16, 24],
            "depths": [1, 1],
            "layer_type": "basic",
            "backbone_config": {"depths": [1]},
        }
    }
    assert with_config(f"{name}/config.json", {"embedding_size": 8}) == args
    # What holds a config needs no folder.
    assert with_config("hf/nowhere", args) == args
    assert with_config("small", {"width": 4}) == {"width": 4}


def test_what_is_no_config_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        with_config(f"hf/{tmp_path}/nowhere", None)
    with pytest.raises(BadInput, match=r"config\.json: no config of transformers; it must have"):
        with_config(config_of(tmp_path / "net", {"hidden_sizes": [1]}), None)


def test_without_the_library_the_way_out_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    name = config_of(tmp_path, RESNET)
    with pytest.raises(BadInput, match=r"needs transformers, .* pip install 'regrow\[hf\]'"):
        build_net("labels", name, 3, (32, 32))


def test_boxes_have_no_such_networks(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has networks for labels, masks alone"):
        Detection(CLASSES, (64, 64), net=config_of(tmp_path, RESNET))


@pytest.mark.usefixtures("transformers")
@pytest.mark.parametrize(("kind", "config"), [(Classification, RESNET), (Segmentation, SEGFORMER)])
def test_networks_are_cut_exactly_and_read_back_without_their_folder(
    tmp_path: Path, kind: Any, config: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    name = config_of(tmp_path / "net", config)
    task = kind(CLASSES, (64, 64), net=name).eval()
    plan = [(group, range(0, group.num_units, 3)) for group in find_groups(task).groups]
    assert len(plan) >= 4
    masked, cut = clone(task), clone(task)
    mask_(masked, plan)
    cut_(cut, plan)
    assert check_exact(masked, cut) < 1e-9
    assert count_macs(cut) < 0.9 * count_macs(task)
    checkpoint.save(tmp_path / "a.ckpt", cut)
    (tmp_path / "net" / "config.json").unlink()
    with pytest.raises(BadInput, match=r"--allow '\[transformers\]'"):
        checkpoint.load(tmp_path / "a.ckpt")
    again = checkpoint.load(tmp_path / "a.ckpt", allow=(task.net_package,))
    images = task.example_images(2)
    with torch.no_grad():
        assert torch.equal(again(images)["logits"], cut(images)["logits"])


def test_logits_are_those_of_the_library(tmp_path: Path, transformers: Any) -> None:
    torch.manual_seed(0)
    oracle = transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            **{k: v for k, v in RESNET.items() if k not in ("model_type", "id2label", "auto_map")},
            num_labels=3,
        )
    ).eval()
    oracle.save_pretrained(tmp_path)
    net = build_net("labels", f"hf/{tmp_path}", 3, (32, 32), weights="DEFAULT").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(images), oracle(images).logits)
    # With other classes all but the head is kept.
    other = build_net("labels", f"hf/{tmp_path}", 5, (32, 32), weights="DEFAULT")
    own, wanted = other.model.state_dict(), oracle.state_dict()
    assert {key for key in own if not torch.equal(own[key], wanted[key])} == {
        "classifier.1.weight",
        "classifier.1.bias",
    }


@pytest.mark.usefixtures("transformers")
def test_a_type_that_the_library_lacks_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing"):
        build_net("labels", config_of(tmp_path, {"model_type": "nothing"}), 3, (32, 32))
    with pytest.raises(BadInput, match="SegformerConfig"):
        build_net("masks", config_of(tmp_path, RESNET), 3, (32, 32))


@pytest.mark.usefixtures("transformers")
def test_heads_of_attention_are_units(tmp_path: Path) -> None:
    task = Classification(CLASSES, (64, 64), net=config_of(tmp_path, VIT)).eval()
    heads = [group for group in find_groups(task).groups if group.is_heads]
    assert [group.layer for group in heads] == [
        f"model.vit.layers.{block}.attention" for block in range(2)
    ]
    layers = ("o_proj", "q_proj", "k_proj", "v_proj", "num_attention_heads")
    for group in heads:
        assert group.num_units == 4
        assert {m.layer.rpartition(".")[2] for m in group.members} == set(layers)
        cut_(task, [(group, [1])])
    assert task.net.model.vit.layers[0].attention.q_proj.out_features == 24
