import math

import torch

from regrow.models.nets.torchvision_detectors import build_detector


def test_retinanet_decodes_a_box_worked_by_hand() -> None:
    net = build_detector("retinanet_resnet50_fpn_v2", 3, (96, 96))
    net.anchors = torch.tensor([[10.0, 10, 30, 50], [0, 0, 10, 10]])
    deltas = torch.tensor([[[0.5, -0.25, math.log(2), 0.0], [-2.0, 0, 0, 0]]])
    logits = torch.tensor([[[0.0, math.log(3), 0], [0, 0, 0]]])
    decoded = net.decode({"cls_logits": logits, "bbox_regression": deltas})
    # Centre (20, 30) + (0.5 * 20, -0.25 * 40) = (30, 20), sides 2 * 20 and 40; the second box
    # moves 20 pixels out of the image on the left.
    expected = torch.tensor([[[10.0, 0, 50, 40], [0, 0, 0, 10]]])
    torch.testing.assert_close(decoded["boxes"], expected)
    torch.testing.assert_close(decoded["scores"][0, :, 0], torch.tensor([0.5, 0.75, 0.5]))


def test_ssd_scores_leave_the_background_out() -> None:
    net = build_detector("ssdlite320_mobilenet_v3_large", 3, (96, 96))
    net.anchors = torch.tensor([[10.0, 10, 30, 50]])
    logits = torch.tensor([[[math.log(4), math.log(1), math.log(2), math.log(3)]]])
    decoded = net.decode({"cls_logits": logits, "bbox_regression": torch.zeros(1, 1, 4)})
    torch.testing.assert_close(decoded["boxes"], torch.tensor([[[10.0, 10, 30, 50]]]))
    torch.testing.assert_close(decoded["scores"][0, :, 0], torch.tensor([0.1, 0.2, 0.3]))
