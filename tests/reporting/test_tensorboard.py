"""TensorBoard's own reader finds the settings and scores of runs."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context
from torch.utils.tensorboard import SummaryWriter

from regrow.models.classification import Classification
from regrow.reporting.tensorboard import common_hparams, flat, log_hparams, write_hparams


def hparams_tab(logdir: Path) -> tuple[set[str], dict[str, Any], dict[str, Any]]:
    """Ask TensorBoard's own plugin for the columns of its tab, and each run's cells and scores."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
    plugin = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(logdir))))
    columns = get_experiment.Handler(
        RequestContext(), plugin, "", api_pb2.GetExperimentRequest()
    ).run()
    wanted = api_pb2.ListSessionGroupsRequest(
        slice_size=9, allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS]
    )
    groups = list_session_groups.Handler(RequestContext(), plugin, "", wanted).run()
    cells, scores = {}, {}
    for group in groups.session_groups:
        (session,) = group.sessions
        cells[session.name] = {
            name: value.string_value or value.number_value for name, value in group.hparams.items()
        }
        scores[session.name] = {metric.name.tag: metric.value for metric in group.metric_values}
    return {info.name for info in columns.hparam_infos}, cells, scores


def test_runs_of_different_commands_show_their_own_columns_side_by_side(tmp_path: Path) -> None:
    for name, own, score in (
        ("a_prune", {"command": "prune", "num_steps": 5, "adapts": True}, 0.25),
        ("b_train", {"command": "train", "fit": {"epochs": 3, "clip": None}}, 0.5),
    ):
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("val/x", 1.0, 0)
            write_hparams(writer, own, {"final/score": score})
    columns, cells, scores = hparams_tab(tmp_path)
    assert columns == {"command", "num_steps", "adapts", "fit.epochs", "fit.clip"}
    assert cells == {
        "a_prune": {"command": "prune", "num_steps": 5, "adapts": "True"},
        "b_train": {"command": "train", "fit.epochs": 3, "fit.clip": "None"},
    }
    assert {run: score["final/score"] for run, score in scores.items()} == {
        "a_prune": 0.25,
        "b_train": 0.5,
    }


def test_hparams_without_a_logger_are_dropped() -> None:
    log_hparams(None, {"seed": 0}, {"x": 1.0})


def test_settings_are_named_by_their_path_without_the_classes_that_take_them() -> None:
    settings = {
        "data": {
            "class_path": "A",
            "init_args": {"size": [8, 8], "source": {"init_args": {"x": 1}}},
        },
        "seed": 3,
        "empty": {},
    }
    assert flat(settings) == {
        "data.class_path": "A",
        "data.size": [8, 8],
        "data.source.x": 1,
        "seed": 3,
        "empty": {},
    }


def test_runs_of_all_commands_share_some_settings() -> None:
    task = Classification(["a", "b"], (32, 32))
    assert common_hparams("train", task, 3, 0.1) == {
        "command": "train", "net": "small", "epochs": 3, "lr": 0.1
    }  # fmt: skip
