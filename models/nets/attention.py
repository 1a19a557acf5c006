"""Attention with any number of heads, for pruned networks.

A layer that has lost heads projects its tokens to less than their own width, which PyTorch's and
torchvision's attention refuse. The classes here compute the same with any number of heads. A layer
is converted by changing the class of the object, not by replacing the object: its parameters, their
names, its hooks and references to it stay as they are, and the conversion can be undone.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from regrow.errors import BadInput

# Added by torchvision to the scores of tokens that share a window only because of the shift.
APART = -100.0


class HeadedAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with any number of heads."""

    @property
    def _qkv_same_embed_dim(self) -> bool:
        # PyTorch's fused encoder layer, which supports unpruned attention only, reads this.
        return self.in_proj_weight.shape == (3 * self.embed_dim, self.embed_dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend as `nn.MultiheadAttention` does.

        Args:
            query: Tokens (b, n, d), or (n, b, d) unless `batch_first`.
            key: Tokens that are attended to, likewise.
            value: Their values, likewise.
            key_padding_mask: (b, n), True where a key is left out, or floats added to scores.
            need_weights: Whether to return the attention weights of the remaining heads too.
            attn_mask: (n, n), likewise.
            average_attn_weights: Whether the weights are averaged over heads.
            is_causal: Whether `attn_mask` is causal.

        Returns:
            The tokens, and the weights: (b, n, n), or (b, heads, n, n) for each head; or None.

        Raises:
            BadInput: If heads are pruned and it is called without a batch, or with one mask per
                head.
        """
        if query.ndim != 3 or (attn_mask is not None and attn_mask.ndim != 2):
            if self._qkv_same_embed_dim:
                options = (key_padding_mask, need_weights, attn_mask, average_attn_weights)
                return super().forward(query, key, value, *options, is_causal)
            raise BadInput(
                "attention with pruned heads takes batches and one mask for all heads; give it "
                "queries of three dimensions and a mask of two"
            )
        tokens = [query, key, value]
        if not self.batch_first:
            tokens = [x.transpose(0, 1) for x in tokens]
        is_self = query is key and key is value
        q, k, v = (self._heads(x) for x in self._project(tokens, is_self))
        x, weights = self._attend(q, k, v, _bias(attn_mask, key_padding_mask, q), need_weights)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        x = self.out_proj(x.transpose(1, 2).flatten(2))
        return (x if self.batch_first else x.transpose(0, 1)), weights

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, bias, dropout), None
        scores = q / math.sqrt(self.head_dim) @ k.transpose(-2, -1)
        weights = F.dropout((scores if bias is None else scores + bias).softmax(-1), dropout)
        return weights @ v, weights

    def _project(self, tokens: list[Tensor], is_self: bool) -> tuple[Tensor, ...]:
        if is_self:
            return F.linear(tokens[0], self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(map(F.linear, tokens, weights, biases))

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.num_heads, self.head_dim))
        return heads.transpose(1, 2)


class HeadedWindowAttention(ShiftedWindowAttention):  # type: ignore[misc]
    """torchvision's shifted window attention (Swin) with any number of heads."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend within shifted windows.

        Args:
            x: Tokens (b, h, w, d).

        Returns:
            Tokens of the same shape.
        """
        _, height, width, _ = x.shape
        (rows, columns) = self.window_size
        x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
        size = (x.shape[1], x.shape[2])
        # A window that covers the whole map is not shifted.
        pairs = zip(self.window_size, size, self.shift_size, strict=True)
        shift = [0 if window >= length else step for window, length, step in pairs]
        x = x.roll((-shift[0], -shift[1]), (1, 2))
        grid = (size[0] // rows, size[1] // columns)
        x = x.unflatten(2, (grid[1], columns)).unflatten(1, (grid[0], rows)).transpose(2, 3)
        windows = x.reshape(-1, rows * columns, x.shape[-1])
        bias = self.get_relative_position_bias()
        if any(shift):
            apart = _apart(size, self.window_size, shift, windows)
            bias = (bias + apart[:, None]).repeat(x.shape[0], 1, 1, 1)
        attended = F.dropout(self._attend(windows, bias), self.dropout, self.training)
        x = attended.reshape(-1, *grid, rows, columns, attended.shape[-1]).transpose(2, 3)
        x = x.flatten(3, 4).flatten(1, 2).roll((shift[0], shift[1]), (1, 2))
        return x[:, :height, :width].contiguous()

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        heads = self._project(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v, scale = self._compared(*heads.unbind())
        dropout = self.attention_dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, bias, dropout, scale=scale)
        projected: Tensor = self.proj(x.transpose(1, 2).flatten(2))
        return projected

    def _project(self, x: Tensor) -> Tensor:
        projected: Tensor = self.qkv(x)
        return projected

    def _compared(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, float | None]:
        return q, k, v, None


class HeadedWindowAttentionV2(
    HeadedWindowAttention,
    ShiftedWindowAttentionV2,  # type: ignore[misc]
):
    """torchvision's shifted window attention by cosines (Swin V2) with any number of heads."""

    def _project(self, x: Tensor) -> Tensor:
        if self.qkv.bias is None:
            return super()._project(x)
        q, k, v = self.qkv.bias.chunk(3)  # keys have no bias, though there is a place for it
        return F.linear(x, self.qkv.weight, torch.cat([q, torch.zeros_like(k), v]))

    def _compared(
        self, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, float | None]:
        sharpness = self.logit_scale.clamp(max=math.log(100)).exp()
        return F.normalize(q, dim=-1) * sharpness, F.normalize(k, dim=-1), v, 1.0


HEADED: dict[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: HeadedAttention,
    ShiftedWindowAttention: HeadedWindowAttention,
    ShiftedWindowAttentionV2: HeadedWindowAttentionV2,
}


def is_convertible(module: nn.Module) -> bool:
    """Whether a layer is attention that can be converted: of a known class, not of a subclass.

    `nn.MultiheadAttention` must project queries, keys and values of one width, and add no tokens.
    """
    if type(module) is nn.MultiheadAttention:
        is_plain = module.in_proj_weight is not None and module.bias_k is None
        return is_plain and not module.add_zero_attn
    return type(module) in HEADED


def is_converted(module: nn.Module) -> bool:
    """Whether a layer is attention that may have any number of heads."""
    return type(module) in HEADED.values()


def convert_(module: nn.Module) -> None:
    """Convert an attention layer, in place, so that heads can be pruned; its output is unchanged.

    Raises:
        BadInput: If the layer is no attention that can be converted.
    """
    if not is_convertible(module):
        raise BadInput(f"a {type(module).__name__} is no attention that can lose heads")
    module.__class__ = HEADED[type(module)]


@contextmanager
def converted(net: nn.Module) -> Iterator[None]:
    """Context manager: convert all attention of a network, so that its projections are called."""
    before = {module: type(module) for module in net.modules() if is_convertible(module)}
    for module in before:
        convert_(module)
    try:
        yield
    finally:
        for module, kind in before.items():
            module.__class__ = kind


def _bias(attn_mask: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
    """Return the sum of two masks as one that is added to scores, (n, n) or (b, 1, 1, n)."""
    bias = None if attn_mask is None else _additive(attn_mask, like)
    if padding is None:
        return bias
    added = _additive(padding, like)[:, None, None]
    return added if bias is None else bias + added


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def _apart(size: tuple[int, int], window: list[int], shift: list[int], like: Tensor) -> Tensor:
    """Compute the mask added to the scores of tokens from different sides, (windows, n, n)."""

    def sides(axis: int) -> Tensor:
        places = torch.arange(size[axis], device=like.device)
        wrapped = places >= size[axis] - shift[axis]
        return (places >= size[axis] - window[axis]).long() + wrapped if shift[axis] else 0 * places

    side = 3 * sides(0)[:, None] + sides(1)
    side = side.unflatten(1, (-1, window[1])).unflatten(0, (-1, window[0])).transpose(1, 2)
    side = side.reshape(-1, window[0] * window[1])
    differ = side[:, None] != side[:, :, None]
    return torch.zeros_like(differ, dtype=like.dtype).masked_fill(differ, APART)
