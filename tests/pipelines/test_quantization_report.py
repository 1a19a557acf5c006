"""The report of a network in INT8 says what could not be timed, simulated or fine-tuned."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch
from quantised import SIZE, data_of

from regrow.metrics.budget import Budget
from regrow.models.classification import Classification
from regrow.models.latency import Clock
from regrow.models.onnx.graph import export_graph
from regrow.pipelines.quantization import Calibration, quantize_verified
from regrow.pipelines.quantization_aware import Tuned
from regrow.pipelines.quantization_report import add_int8, int8_in_words
from regrow.reporting.report import Report


def test_a_clock_that_takes_no_int8_is_told_and_loses_nothing(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], SIZE, net_args={"width": 4}).eval()
    with torch.no_grad():
        task.net.head.weight.mul_(20)
    data, path = data_of(task), tmp_path / "model.float.onnx"
    export_graph(task, path)
    code = shlex.quote("import sys; print(7); sys.exit('INT8' in sys.argv[1])")
    clock = Clock(command=f"{shlex.quote(sys.executable)} -ISc {code} {{onnx}}", runs=1)
    made = quantize_verified(
        task, None, path, data, Calibration(data, 256, 0), Budget(max_drop=1), clock
    )
    assert made.untimed.endswith("ended with exit code 1; its last line was '7'")
    assert made.networks["INT8"].figures()["latency_ms"] is None
    assert made.path.is_file()
    report = Report.of(task, tmp_path, "INT8", "-")
    add_int8(report, made)
    assert "There is no latency: clock.command: python" in report.to_markdown()
    assert "- ms and -. From float" in int8_in_words(made)
    page = report.to_markdown()
    assert "fine-tuned" not in page
    odd = Tuned(2, 0.5, num_simulated=9, left=("node_odd",), checkpoint="int8.ckpt")
    report = Report.of(task, tmp_path, "INT8", "-")
    add_int8(report, replace(made, before=made, tuned=odd))
    page = report.to_markdown()
    assert "for 2 epochs at a learning rate of 0.5 with 9 layers in simulated INT8" in page
    assert "no layer of the network was found for them, are node_odd." in page
    assert "| INT8 before fine-tuning |" in page
    assert "most 10 %, where it is 5 % of a single decision" in page
    report = Report.of(task, tmp_path, "INT8", "-")
    add_int8(report, replace(made, untuned="it is not fine-tuned: for a reason"))
    assert "It is not fine-tuned: for a reason." in report.to_markdown()
