"""Models are swapped under their name, and freed only when nobody uses them."""

import asyncio
import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from regrow.deploy.serving import host as module
from regrow.deploy.serving.host import Host
from regrow.deploy.serving.metrics import Metrics
from regrow.deploy.session import Outputs


class Constant:
    """A model that answers its own number for each image."""

    def __init__(self, number: int) -> None:
        self.number, self.sha256 = number, f"hash {number}"
        self.batches: list[int] = []

    def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
        self.batches.append(len(images))
        return {name: np.full(len(images), self.number) for name in names or ()}


IMAGES = np.zeros((3, 3, 2, 2), np.uint8)


def shown(host: Host) -> set[str]:
    lines = host.metrics.text().decode().splitlines()
    return {line for line in lines if line.startswith("regrow_model_info{")}


def test_a_model_is_run_under_its_name_with_the_hosts_limits() -> None:
    async def check() -> None:
        host, model = Host(Metrics(), max_batch=2), Constant(7)
        assert host.put("a", model, "/opt/models/a") is None  # type: ignore[arg-type]
        assert host.entries["a"].url == "/opt/models/a"
        with host.use("a") as entry:
            found = entry.runner.submit(IMAGES, ["x"]).result(20)
        assert found["x"].tolist() == [7, 7, 7]
        assert model.batches == [2, 1]
        assert shown(host) == {'regrow_model_info{model="a",sha256="hash 7"} 1.0'}
        await host.close()
        assert host.entries == {}
        with pytest.raises(RuntimeError, match="the runner is closed"):
            entry.runner.submit(IMAGES, ["x"])

    asyncio.run(check())


def test_a_swapped_model_answers_those_who_use_it_and_is_freed_then() -> None:
    async def check() -> None:
        host = Host(Metrics(), max_batch=4)
        host.put("a", Constant(1))  # type: ignore[arg-type]
        with host.use("a") as first, host.use("a"):
            assert first.num_uses == 2
            before = host.put("a", Constant(2))  # type: ignore[arg-type]
            assert before is first
            alive = weakref.ref(first.model)
            retiring = asyncio.create_task(host.retire(first))
            await asyncio.sleep(0)
            with host.use("a") as second:
                assert second.runner.submit(IMAGES, ["x"]).result(20)["x"].tolist() == [2] * 3
            assert first.runner.submit(IMAGES, ["x"]).result(20)["x"].tolist() == [1] * 3
            await asyncio.sleep(0)
            assert not retiring.done()
            assert alive() is not None
        await asyncio.wait_for(retiring, 20)
        gc.collect()
        assert alive() is None
        assert shown(host) == {'regrow_model_info{model="a",sha256="hash 2"} 1.0'}
        await host.close()

    asyncio.run(check())


def test_one_of_two_uses_that_ends_frees_nothing() -> None:
    async def check() -> None:
        host = Host(Metrics())
        host.put("a", Constant(1))  # type: ignore[arg-type]
        with host.use("a") as entry:
            with pytest.raises(ZeroDivisionError), host.use("a"):
                raise ZeroDivisionError
            assert (entry.num_uses, entry.unused.is_set()) == (1, False)
        assert (entry.num_uses, entry.unused.is_set()) == (0, True)
        await host.close()

    asyncio.run(check())


def test_memory_has_gone_back_to_the_system_when_a_model_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As SageMaker wants it before it loads the next one."""
    given_back: list[object] = []

    async def check() -> None:
        host = Host(Metrics())
        host.put("a", model := Constant(1))  # type: ignore[arg-type]
        alive = weakref.ref(model)
        del model
        monkeypatch.setattr(module, "give_back_freed_memory", lambda: given_back.append(alive()))
        await host.remove("a")

    asyncio.run(check())
    assert given_back == [None]  # the model was freed before


def test_a_removed_name_is_gone_at_once_and_shown_no_more() -> None:
    async def check() -> None:
        host = Host(Metrics())
        for number, name in enumerate("ab"):
            host.put(name, Constant(number))  # type: ignore[arg-type]
        with host.use("a"):
            removing = asyncio.create_task(host.remove("a"))
            await asyncio.sleep(0)
            assert [*host.entries] == ["b"]
            assert shown(host) == {'regrow_model_info{model="b",sha256="hash 1"} 1.0'}
            assert not removing.done()
        await asyncio.wait_for(removing, 20)
        with pytest.raises(KeyError), host.use("a"):
            pass
        with pytest.raises(KeyError):
            await host.remove("a")
        await host.close()

    asyncio.run(check())
