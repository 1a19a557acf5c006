import pytest
import torch

from regrow.errors import BadInput
from regrow.prune.memory import enough_memory, is_out_of_memory


def test_an_allocation_that_the_cpu_refuses_is_told_as_such():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    with (
        pytest.raises(BadInput, match="not enough memory to prove it .*; end other programs"),
        enough_memory("prove it"),
    ):
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_what_python_and_cuda_raise_is_told_too(error):
    with pytest.raises(BadInput, match="not enough memory"), enough_memory("prove it"):
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("mat1 and mat2 shapes"), KeyError("memory")]
)
def test_other_errors_stay_what_they_are(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), enough_memory("prove it"):
        raise error
