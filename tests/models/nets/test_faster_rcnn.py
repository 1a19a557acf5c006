import pytest
import torch

from regrow.errors import BadInput
from regrow.models.nets.torchvision_detectors import build_detector


def test_faster_rcnn_has_a_fixed_number_of_proposals_and_refuses_to_decode() -> None:
    net = build_detector("fasterrcnn_mobilenet_v3_large_320_fpn", 3, (96, 96)).eval()
    raw = net(torch.rand(2, 3, 96, 96))
    assert raw["cls_logits"].shape == (2, 100, 1 + 3)
    assert raw["bbox_regression"].shape == (2, 100, 4 * (1 + 3))
    with pytest.raises(BadInput, match="Faster R-CNN cannot be exported"):
        net.decode(raw)
    with pytest.raises(BadInput, match=r"distillation\.channels: the regions of Faster R-CNN"):
        net.class_maps({})
