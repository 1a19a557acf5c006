import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator

from regrow.models.nets.detector import all_anchors, behind_background, feature_shapes, suppress


def test_suppress_keeps_the_best_of_each_class() -> None:
    # Box 1 covers 80 % of box 0; box 2 lies apart.
    candidates = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]]])
    scores = torch.tensor([[[0.9, 0.8, 0.05], [0.1, 0.7, 0.3]]])
    (found,) = suppress(
        candidates, scores, score_threshold=0.1, iou_threshold=0.5, max_detections=9
    )
    assert found["labels"].tolist() == [0, 1, 1]
    torch.testing.assert_close(found["scores"], torch.tensor([0.9, 0.7, 0.3]))
    assert torch.equal(found["boxes"], candidates[0, [0, 1, 2]])
    (found,) = suppress(
        candidates, scores, score_threshold=0.1, iou_threshold=0.9, max_detections=2
    )
    torch.testing.assert_close(found["scores"], torch.tensor([0.9, 0.8]))


def test_feature_shapes_are_those_of_the_maps_that_the_backbone_computes() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5))
    backbone.train()
    listed = Listed(backbone)
    maps = listed(torch.zeros(1, 3, 30, 17))
    before = {name: value.clone() for name, value in listed.state_dict().items()}
    assert feature_shapes(listed, (30, 17)) == [tuple(m.shape[1:]) for m in maps] == [(5, 15, 9)]
    assert backbone.training
    for name, value in listed.state_dict().items():
        assert torch.equal(value, before[name])


class Listed(nn.Module):
    """Returns a list of maps, as backbones do."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.net(images)]


def test_anchors_lie_around_the_places_of_the_maps() -> None:
    generator = AnchorGenerator(((8,),), ((1.0,),))
    anchors = all_anchors(generator, [(5, 2, 3)], (20, 30))
    # Two rows and three columns, ten pixels apart, each square of eight around its place.
    centres = torch.tensor([(x, y) for y in (0.0, 10) for x in (0.0, 10, 20)])
    torch.testing.assert_close(anchors, torch.cat([centres - 4, centres + 4], 1))


def test_labels_behind_a_background_count_from_one() -> None:
    boxes, labels = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0])
    (target,) = behind_background([{"boxes": boxes, "labels": labels}])
    assert target["labels"].tolist() == [1]
    assert labels.tolist() == [0]
    assert torch.equal(target["boxes"], boxes)
