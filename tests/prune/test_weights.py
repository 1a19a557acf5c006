"""Single weights are scored as their formulas say, and exactly as many go as are asked for."""

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations

from regrow.errors import BadInput
from regrow.models.class_rows import ClassRows
from regrow.models.masks import is_n_of_m, mask_weights_, masks_of
from regrow.prune.criteria import (
    ActivationGradient,
    Criterion,
    Fisher,
    Lamp,
    Magnitude,
    NormScale,
    Random,
    Taylor,
)
from regrow.prune.weights import choose_masks, choose_n_of_m, find_weights, score_weights


class Layers(nn.Module):
    """Layers by name, for what only their kind decides."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


# ---- which weights


def test_weights_of_all_layers_that_compute_may_go_but_for_outputs_and_depthwise(make_task) -> None:
    task = make_task("depthwise", output_layers=("fc",))
    names, left_whole = find_weights(task)
    assert names == ["body.0.0.weight", "body.2.0.weight"]
    assert left_whole.keys() == {"body.1.0", "fc"}
    assert "one filter a channel" in left_whole["body.1.0"]
    assert "classes or boxes" in left_whole["fc"]


def test_rows_of_classes_stay_whole(make_task, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("plain")
    assert "fc.weight" in find_weights(task)[0]
    monkeypatch.setattr(task, "class_rows", lambda: [ClassRows("fc")])
    assert "fc" in find_weights(task)[1]


def test_attention_and_transposed_convolutions_have_weights_too(make_task) -> None:
    net = Layers(
        one=nn.MultiheadAttention(4, 2),
        other=nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        up=nn.ConvTranspose2d(4, 2, 2),
        norm=nn.LayerNorm((2, 2)),
        grouped=nn.Conv2d(4, 4, 3, groups=2),
    )
    names, left_whole = find_weights(make_task(net))
    assert names == [
        "one.in_proj_weight",
        "one.out_proj.weight",
        "other.q_proj_weight",
        "other.k_proj_weight",
        "other.v_proj_weight",
        "other.out_proj.weight",
        "up.weight",
        "grouped.weight",
    ]
    assert not left_whole


def test_a_shared_weight_counts_once_and_a_computed_one_is_left_whole(make_task) -> None:
    net = Layers(
        a=nn.Linear(3, 3), b=nn.Linear(3, 3), c=parametrizations.weight_norm(nn.Linear(3, 3))
    )
    net.b.weight = net.a.weight
    names, left_whole = find_weights(make_task(net))
    assert names == ["a.weight"]
    assert left_whole == {"c": "its weight is made of other tensors"}


# ---- scores


def score(task, criterion: Criterion, batches=None) -> dict[str, Tensor]:
    return score_weights(task, find_weights(task)[0], criterion, batches)


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return made, torch.arange(count) % 3


def image_gradients(task, made: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the gradient of each image's loss, (b, ...), by PyTorch's vectorised derivative."""
    net = task.net.eval()
    state = {name: p.detach() for name, p in net.named_parameters()}

    def loss(state: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(net, state, (task.prepare(image[None]),))
        return nn.functional.cross_entropy(logits, label[None])

    return vmap(grad(loss), in_dims=(None, 0, 0))(state, made, labels)


def test_magnitude_is_the_size(make_task) -> None:
    task = make_task(nn.Sequential(nn.Linear(2, 2)))
    with torch.no_grad():
        task.net[0].weight.copy_(torch.tensor([[1.0, -2], [0, 3]]))
    for p in (1, 2):
        assert score(task, Magnitude(p))["0.weight"].tolist() == [[1, 2], [0, 3]]


def test_lamp_by_hand(make_task) -> None:
    task = make_task(nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 2)))
    with torch.no_grad():
        task.net[0].weight.copy_(torch.tensor([[2.0, -3, 1]]))
        task.net[1].weight.copy_(torch.tensor([[10.0], [10]]))
    scores = score(task, Lamp())
    torch.testing.assert_close(scores["0.weight"], torch.tensor([[4 / 13, 1, 1 / 14]]))
    torch.testing.assert_close(scores["1.weight"], torch.tensor([[0.5], [1]]))


def test_random_scores_are_a_function_of_the_seed(make_task) -> None:
    task = make_task("plain")
    one, same, other = (score(task, Random(seed)) for seed in (1, 1, 2))
    for name, values in one.items():
        assert torch.equal(values, same[name])
        assert not torch.equal(values, other[name])
        assert values.unique().numel() > 1
    assert not torch.equal(one["body.0.0.weight"].flatten()[:9], one["fc.weight"].flatten()[:9])


@pytest.mark.parametrize("power", [1, 2])
def test_taylor_averages_over_single_images_of_its_batches(make_task, power: int) -> None:
    task = make_task("plain")
    first, second, third = images(3), images(2, 1), images(4, 2)
    scores = score(task, Taylor(num_batches=2, power=power), [first, second, third])
    made, labels = (torch.cat(pair) for pair in zip(first, second, strict=True))
    for name, grads in image_gradients(task, made, labels).items():
        if name in scores:
            owed = (task.net.get_parameter(name).detach() * grads).abs() ** power
            torch.testing.assert_close(scores[name], owed.mean(0), rtol=1e-4, atol=1e-9)


def test_fisher_is_half_the_square_times_the_curvature(make_task) -> None:
    task = make_task("plain")
    first, second = images(3), images(4, 1)
    scores = score(task, Fisher(num_images=5), [first, second])
    made, labels = torch.cat([first[0], second[0][:2]]), torch.cat([first[1], second[1][:2]])
    for name, grads in image_gradients(task, made, labels).items():
        if name in scores:
            weight = task.net.get_parameter(name).detach()
            expected = 0.5 * weight**2 * (grads**2).mean(0)
            torch.testing.assert_close(scores[name], expected, rtol=1e-4, atol=1e-12)


def test_scoring_leaves_the_task_as_it_was(make_task) -> None:
    task = make_task("plain")
    task.net.train()
    before = {name: value.clone() for name, value in task.net.state_dict().items()}
    for criterion in (Taylor(1), Fisher(2), Magnitude(), Lamp(), Random()):
        assert not any(
            values.requires_grad for values in score(task, criterion, [images(2)]).values()
        )
    assert task.net.training
    for name, value in task.net.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in task.net.parameters())


def test_a_weight_that_takes_no_part_is_worth_nothing(make_task) -> None:
    task = make_task("plain")
    task.net.body.add_module("spare", nn.Identity())
    task.net.body.spare.unused = nn.Linear(2, 2)
    for criterion in (Taylor(), Fisher()):
        scores = score(task, criterion, [images(2)])
        assert scores["body.spare.unused.weight"].tolist() == [[0, 0], [0, 0]]
        assert scores["fc.weight"].any()


@pytest.mark.parametrize("criterion", [NormScale(), ActivationGradient()])
def test_criteria_for_channels_alone_are_refused(make_task, criterion: Criterion) -> None:
    with pytest.raises(BadInput, match=f"{type(criterion).__name__} ranks channels, not single"):
        score(make_task("plain"), criterion, [images(2)])


@pytest.mark.parametrize("criterion", [Taylor(), Fisher()])
def test_criteria_of_gradients_need_images(make_task, criterion: Criterion) -> None:
    with pytest.raises(BadInput, match="ranking needs training images"):
        score(make_task("plain"), criterion)
    with pytest.raises(BadInput, match="no training images to rank by"):
        score(make_task("plain"), criterion, [])


def test_scores_that_are_no_numbers_are_refused(make_task) -> None:
    task = make_task("plain")
    with torch.no_grad():
        task.net.body[1][0].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(BadInput, match=r"body\.1\.0\.weight: .* NaN or infinity by Magnitude"):
        score(task, Magnitude())


# ---- masks by score


def kept_of(net: nn.Module, scores: dict[str, list], share: float, **options) -> dict[str, list]:
    chosen = choose_masks(net, {n: torch.tensor(v) for n, v in scores.items()}, share, **options)
    return {name: mask.int().tolist() for name, mask in chosen.items()}


TWO = {"0.weight": [[5.0, 1, 4, 8]], "1.weight": [[2.0, 6], [3, 7]]}


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 1), nn.Linear(2, 2))


def test_the_lowest_of_all_or_of_each_by_hand() -> None:
    net = two_layers()
    expected = {"0.weight": [[1, 0, 0, 1]], "1.weight": [[0, 1], [0, 1]]}
    assert kept_of(net, TWO, 0.5) == expected
    expected = {"0.weight": [[1, 0, 1, 1]], "1.weight": [[0, 1], [0, 1]]}
    assert kept_of(net, TWO, 3 / 8) == expected
    expected = {"0.weight": [[1, 0, 1, 1]], "1.weight": [[0, 1], [1, 1]]}
    assert kept_of(net, TWO, 0.25, scope="local") == expected
    assert not masks_of(net)


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("share", [0, 0.001, 0.1, 1 / 3, 0.5, 0.77, 0.9, 0.98])
def test_as_many_go_as_are_asked_for(scope: str, share: float) -> None:
    net = nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 15), nn.Linear(7, 100))
    generator = torch.Generator().manual_seed(0)
    scores = {f"{i}.weight": torch.rand(net[i].weight.shape, generator=generator) for i in range(3)}
    masks = choose_masks(net, scores, share, scope=scope, max_share=1)
    gone = {name: int((~mask).sum()) for name, mask in masks.items()}
    if scope == "local":
        assert gone == {n: round(share * s.numel()) for n, s in scores.items()}
    assert abs(sum(gone.values()) - share * 1800) <= 0.5 * (1 if scope == "global" else 3)
    for name, mask in masks.items():
        rest = scores.values() if scope == "global" else [scores[name]]
        threshold = torch.cat([values.flatten() for values in rest]).sort().values
        count = sum(gone.values()) if scope == "global" else gone[name]
        # All that go are below all that stay.
        assert torch.equal(mask, scores[name] >= threshold[count])


def test_of_equal_scores_the_first_go() -> None:
    scores = {"0.weight": [[1.0] * 4], "1.weight": [[1.0] * 2] * 2}
    expected = {"0.weight": [[0, 0, 0, 1]], "1.weight": [[0, 1], [1, 1]]}
    assert kept_of(two_layers(), scores, 0.5, max_share=0.75) == expected
    for _ in range(3):
        assert kept_of(two_layers(), scores, 0.5, max_share=0.75) == expected


@pytest.mark.parametrize("scope", ["global", "local"])
def test_what_is_masked_stays_masked_and_counts(scope: str) -> None:
    net = two_layers()
    mask = torch.tensor([[True, True, True, False]])  # the best of all
    mask_weights_(net, {"0.weight": mask})
    kept = kept_of(net, TWO, 0.5, scope=scope)
    assert kept == {"0.weight": [[1, 0, 1, 0]], "1.weight": [[0, 1], [0, 1]]}
    # Fewer than are masked already.
    assert kept_of(net, TWO, 0, scope=scope)["0.weight"] == [[1, 1, 1, 0]]


def test_what_is_masked_beyond_the_largest_share_counts_too() -> None:
    net = two_layers()
    mask_weights_(net, {"0.weight": torch.zeros(1, 4, dtype=torch.bool)})
    expected = {"0.weight": [[0] * 4], "1.weight": [[1, 1], [1, 1]]}
    assert kept_of(net, TWO, 0.5, max_share=0.5) == expected


def test_no_layer_is_emptied() -> None:
    net = two_layers()
    scores = {"0.weight": [[0.1, 0.2, 0.3, 0.4]], "1.weight": [[1.0, 2], [3, 4]]}
    expected = {"0.weight": [[0, 0, 0, 1]], "1.weight": [[0, 1], [1, 1]]}
    assert kept_of(net, scores, 0.5, max_share=1) == expected
    expected = {"0.weight": [[0, 0, 1, 1]], "1.weight": [[0, 0], [1, 1]]}
    assert kept_of(net, scores, 0.5, max_share=0.5) == expected
    # A share of weights is rounded up, but not for the error of a product: 7 % of 100 are 7.
    wide = nn.Sequential(nn.Linear(100, 1))
    row = {"0.weight": torch.arange(100.0)[None]}
    assert int((~choose_masks(wide, row, 0.07, max_share=0.07)["0.weight"]).sum()) == 7
    with pytest.raises(BadInput, match="7 weights may go"):
        choose_masks(wide, row, 0.08, max_share=0.07)


@pytest.mark.parametrize("scope", ["global", "local"])
def test_a_share_out_of_reach_is_refused(scope: str) -> None:
    with pytest.raises(BadInput, match=r"share 0\.75 is out of reach: .* 4 weights may go; lower"):
        kept_of(two_layers(), TWO, 0.75, scope=scope, max_share=0.5)


@pytest.mark.parametrize(("share", "max_share"), [(1, 1), (-0.1, 1), (0.5, 0), (0.5, 1.1)])
def test_shares_out_of_range_are_refused(share: float, max_share: float) -> None:
    with pytest.raises(BadInput, match=r"weights\.share is .* and weights\.max_share"):
        kept_of(two_layers(), TWO, share, max_share=max_share)


# ---- n of m


def n_of_m(net: nn.Module, scores: Tensor, n: int = 2, m: int = 4) -> Tensor:
    chosen, left_dense = choose_n_of_m(net, {"0.weight": scores}, n, m)
    assert not left_dense
    return chosen["0.weight"]


def best_of(block: Tensor, n: int) -> set[int]:
    """Return the places whose sum is the largest, of all that there are."""
    places = combinations(range(len(block)), n)
    return set(max(places, key=lambda chosen: float(block[list(chosen)].sum())))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8)])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(16, 3),
        lambda: nn.Conv2d(8, 3, (2, 3)),
        lambda: nn.Conv2d(16, 4, 1, groups=2),
        lambda: nn.ConvTranspose2d(8, 3, 2),
    ],
    ids=["linear", "conv", "grouped", "transposed"],
)
def test_each_block_keeps_its_best(make: Callable[[], nn.Module], n: int, m: int) -> None:
    net = nn.Sequential(make())
    scores = torch.rand(net[0].weight.shape, generator=torch.Generator().manual_seed(0))
    mask = n_of_m(net, scores, n, m)
    assert mask.shape == scores.shape
    dim = 0 if isinstance(net[0], nn.ConvTranspose2d) else 1
    assert is_n_of_m(mask, n, m, dim)
    rows = scores.shape[dim]
    others = [range(size) for d, size in enumerate(scores.shape) if d != dim]
    for place in torch.cartesian_prod(*map(torch.tensor, others)).view(-1, len(others)).tolist():
        column = (*place[:dim], slice(None), *place[dim:])
        for start in range(0, rows, m):
            block = scores[column][start : start + m]
            kept = mask[column][start : start + m]
            assert set(kept.nonzero().flatten().tolist()) == best_of(block, n)


def test_of_equal_scores_in_a_block_the_first_go() -> None:
    mask = n_of_m(nn.Sequential(nn.Linear(8, 1)), torch.tensor([[1.0, 1, 1, 1, 2, 1, 1, 1]]))
    assert mask.int().tolist() == [[0, 0, 1, 1, 1, 0, 0, 1]]


def test_a_block_masked_already_stays_so() -> None:
    net = nn.Sequential(nn.Linear(8, 1))
    old = torch.tensor([[0, 1, 1, 1, 0, 0, 0, 1]]).bool()
    mask_weights_(net, {"0.weight": old})
    mask = n_of_m(net, torch.tensor([[9.0, 1, 2, 3, 9, 9, 9, 1]]))
    assert mask.int().tolist() == [[0, 0, 1, 1, 0, 0, 0, 1]]


def test_inputs_that_do_not_divide_are_left_dense_and_named() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 4), nn.ConvTranspose2d(6, 4, 1), nn.Linear(4, 3))
    scores = {f"{i}.weight": net[i].weight.detach().abs() for i in range(3)}
    chosen, left_dense = choose_n_of_m(net, scores)
    assert chosen.keys() == {"2.weight"}
    assert left_dense == {
        "0.weight": "its 3 inputs are no multiple of 4",
        "1.weight": "its 6 inputs are no multiple of 4",
    }


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 4), (5, 4)])
def test_a_pattern_that_keeps_all_or_nothing_is_refused(n: int, m: int) -> None:
    with pytest.raises(BadInput, match=rf"weights\.pattern is {n}:{m}"):
        n_of_m(nn.Sequential(nn.Linear(8, 1)), torch.ones(1, 8), n, m)


# ---- step by step
