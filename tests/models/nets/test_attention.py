"""Converted attention against PyTorch's and torchvision's own, and against heads set to zero."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from regrow.errors import BadInput
from regrow.models.nets.attention import (
    HeadedAttention,
    convert_,
    converted,
    is_converted,
    is_convertible,
)


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def disturbed(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(0.3 * noise)
    return module.double().eval()


PADDED = torch.tensor([[False] * 7, [False] * 5 + [True] * 2])
MASKS = [
    {},
    {"attn_mask": tokens(5, 7, seed=4)},
    {"attn_mask": tokens(5, 7, seed=4) > 1},
    {"key_padding_mask": PADDED},
    {"key_padding_mask": PADDED, "attn_mask": tokens(5, 7, seed=4) > 1},
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masks", MASKS)
def test_converted_attention_gives_what_pytorch_gives(masks, batch_first, bias):
    attention = disturbed(nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first))
    inputs = [tokens(2, 5, 12), tokens(2, 7, 12, seed=1), tokens(2, 7, 12, seed=2)]
    if not batch_first:
        inputs = [x.transpose(0, 1) for x in inputs]
    expected, _ = attention(*inputs, need_weights=False, **masks)
    with converted(attention):
        got, weights = attention(*inputs, need_weights=False, **masks)
    assert weights is None
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_converted_self_attention_gives_what_pytorch_gives():
    attention, x = disturbed(nn.MultiheadAttention(12, 3)), tokens(5, 2, 12)
    expected, _ = attention(x, x, x, need_weights=False)
    convert_(attention)
    got, _ = attention(x, x, x, need_weights=False)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


# Even shifts, sides that the windows do not divide, and windows that hold everything.
@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
@pytest.mark.parametrize("shift", [[0, 0], [2, 2], [2, 1], [0, 1]])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (4, 8), (3, 4)])
def test_converted_windows_give_what_torchvision_gives(kind, shift, size):
    attention = disturbed(kind(12, [4, 4], shift, 3))
    x = tokens(2, *size, 12)
    expected = attention(x)
    convert_(attention)
    torch.testing.assert_close(attention(x), expected, rtol=1e-12, atol=1e-12)


def test_windows_without_biases_give_what_torchvision_gives():
    attention = disturbed(ShiftedWindowAttentionV2(12, [4, 4], [2, 2], 3, qkv_bias=False))
    x = tokens(2, 8, 8, 12)
    expected = attention(x)
    convert_(attention)
    torch.testing.assert_close(attention(x), expected, rtol=1e-12, atol=1e-12)


def test_the_biases_of_keys_get_no_gradient_from_cosines():
    attention = disturbed(ShiftedWindowAttentionV2(12, [4, 4], [0, 0], 3))
    convert_(attention)
    attention(tokens(1, 4, 4, 12)).square().sum().backward()
    grads = attention.qkv.bias.grad.chunk(3)
    assert not grads[1].any()
    assert grads[0].any()
    assert grads[2].any()


def test_dropout_of_everything_leaves_the_bias_in_training_only():
    x = tokens(2, 4, 4, 12)
    attention = disturbed(nn.MultiheadAttention(12, 3, dropout=1.0, batch_first=True))
    window = disturbed(ShiftedWindowAttention(12, [4, 4], [0, 0], 3, attention_dropout=1.0))
    last = disturbed(ShiftedWindowAttention(12, [4, 4], [0, 0], 3, dropout=1.0))
    for module in (attention, window, last):
        convert_(module)
    flat = x.flatten(1, 2)

    def outputs() -> list[Tensor]:
        return [attention(flat, flat, flat, need_weights=False)[0], window(x), last(x)]

    constants = [attention.out_proj.bias, window.proj.bias, torch.zeros(12).double()]
    for out, constant in zip(outputs(), constants, strict=True):
        assert not torch.allclose(out, constant.expand_as(out))
    for module in (attention, window, last):
        module.train()
    for out, constant in zip(outputs(), constants, strict=True):
        torch.testing.assert_close(out, constant.expand_as(out))


def without_second_head(attention: nn.MultiheadAttention) -> None:
    """Cut by hand the second of three heads of width 4."""
    kept = [*range(4), *range(8, 12)]
    rows = [12 * part + row for part in range(3) for row in kept]
    convert_(attention)
    attention.num_heads = 2
    attention.in_proj_weight = nn.Parameter(attention.in_proj_weight.detach()[rows])
    attention.in_proj_bias = nn.Parameter(attention.in_proj_bias.detach()[rows])
    attention.out_proj.weight = nn.Parameter(attention.out_proj.weight.detach()[:, kept])


@pytest.mark.parametrize("is_training", [False, True])
def test_an_encoder_of_pytorch_runs_with_fewer_heads(is_training):
    layer = nn.TransformerEncoderLayer(12, 3, 16, dropout=0.0, batch_first=True)
    layer = disturbed(layer).train(is_training)
    x, mask = tokens(2, 5, 12), torch.ones(5, 5).triu(1).bool()
    attention = layer.self_attn
    whole = attention.out_proj.weight.detach().clone()
    with torch.no_grad():
        attention.out_proj.weight[:, 4:8] = 0
        expected = layer(x, src_mask=mask)
        attention.out_proj.weight.copy_(whole)
        without_second_head(attention)
        # PyTorch's fused layer would take the projections for those of three heads.
        got = layer(x, src_mask=mask)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


WEIGHED = [
    {},
    {"average_attn_weights": False, "key_padding_mask": PADDED[:, 2:]},
    {"attn_mask": tokens(5, 5, seed=3)},
]
OTHER_CALLS = [
    ((5, 12), {"need_weights": False}),
    ((2, 5, 12), {"need_weights": False, "attn_mask": tokens(6, 5, 5, seed=3)}),
]


@pytest.mark.parametrize("options", WEIGHED)
@pytest.mark.parametrize("batch_first", [True, False])
def test_converted_attention_gives_the_weights_that_pytorch_gives(options, batch_first):
    attention = disturbed(nn.MultiheadAttention(12, 3, batch_first=batch_first))
    x = tokens(2, 5, 12) if batch_first else tokens(5, 2, 12)
    expected = attention(x, x, x, **options)
    convert_(attention)
    torch.testing.assert_close(attention(x, x, x, **options), expected, rtol=1e-12, atol=1e-12)


def test_the_weights_of_fewer_heads_are_those_of_the_heads_that_are_left():
    attention = disturbed(nn.MultiheadAttention(12, 3, batch_first=True))
    x = tokens(2, 5, 12)
    each = attention(x, x, x, average_attn_weights=False)[1]
    with torch.no_grad():
        attention.out_proj.weight[:, 4:8] = 0
        expected = attention(x, x, x)[0]
        attention.out_proj.weight[:, 4:8] = 1
    without_second_head(attention)
    out, weights = attention(x, x, x)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights, each[:, [0, 2]].mean(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "options"), OTHER_CALLS)
def test_whole_attention_can_be_called_in_all_ways(shape, options):
    attention = disturbed(nn.MultiheadAttention(12, 3, batch_first=True))
    x = tokens(*shape)
    expected = attention(x, x, x, **options)
    convert_(attention)
    torch.testing.assert_close(attention(x, x, x, **options), expected)


@pytest.mark.parametrize(("shape", "options"), OTHER_CALLS)
def test_what_fewer_heads_cannot_give_is_refused(shape, options):
    attention = nn.MultiheadAttention(12, 3, batch_first=True).double()
    without_second_head(attention)
    x = tokens(*shape)
    with pytest.raises(BadInput, match="takes batches and one mask for all heads"):
        attention(x, x, x, **options)


def test_only_attention_of_the_known_kinds_is_converted():
    class Own(nn.MultiheadAttention):
        pass

    assert is_convertible(nn.MultiheadAttention(12, 3))
    others = [
        Own(12, 3),
        nn.MultiheadAttention(12, 3, add_bias_kv=True),
        nn.MultiheadAttention(12, 3, add_zero_attn=True),
        nn.MultiheadAttention(12, 3, kdim=8),
        nn.Linear(12, 12),
    ]
    for module in others:
        assert not is_convertible(module)
        with pytest.raises(BadInput, match="is no attention that can lose heads"):
            convert_(module)


def test_a_conversion_keeps_the_object_and_can_be_undone():
    net = nn.Sequential(nn.Linear(12, 12), nn.MultiheadAttention(12, 3))
    attention, names = net[1], [name for name, _ in net.named_parameters()]
    before = dict(vars(attention))
    with converted(net):
        assert net[1] is attention
        assert is_converted(attention)
        assert type(attention) is HeadedAttention
        assert [name for name, _ in net.named_parameters()] == names
    assert not is_converted(attention)
    with pytest.raises(ZeroDivisionError), converted(net):
        raise ZeroDivisionError
    assert type(attention) is nn.MultiheadAttention
    assert not is_converted(attention)
    assert vars(attention) == before
    convert_(attention)
    with converted(net):
        pass
    assert is_converted(attention)
