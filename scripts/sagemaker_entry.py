"""Train, serve or monitor in a SageMaker container: what lies under /opt/ml, as one run.

docker run image train                   # regrow-sagemaker is the entrypoint, in exec form
docker run image serve                   # an endpoint or a batch transform, see docs/serve.md
docker run image monitor                 # a job of a monitoring schedule, see docs/sagemaker.md
python scripts/sagemaker_entry.py        # or as the script of SageMaker's training toolkit
SAGEMAKER_TRAINING_MODULE=regrow.scripts.sagemaker_entry:train_module   # or as its module
SAGEMAKER_BASE_DIR=FOLDER python scripts/sagemaker_entry.py             # without a container

There are no options: besides `serve` and `monitor`, words on the command line are ignored, since
the toolkit repeats the hyperparameters there. What counts lies below /opt/ml, or below the
environment variable SAGEMAKER_BASE_DIR; of a training:

  input/config/hyperparameters.json   `config`: one of regrow's configs by name (classification), or
                                      a YAML file in the source folder. Any other name is an option
                                      of scripts/train.py (`fit.epochs`, `task.optimization.lr`);
                                      `run` and `resume` are the container's own. Without
                                      `config`, the hyperparameters are those of SageMaker's
                                      built-in Image Classification, Object Detection or Semantic
                                      Segmentation, see docs/sagemaker.md; options of
                                      scripts/train.py may stand beside them.
  input/data/train, .../validation,   The images, in any format of regrow. One channel is split by
  .../test                            regrow; several are the official splits.
  input/data/train_lst, ...           What SageMaker's built-in algorithms have beside the images:
                                      train_lst, train_annotation, label_map.
  input/data/model                    The model to start from: a checkpoint, or the model.tar.gz of
                                      an earlier job, of which the memory is replayed.
  checkpoints                         The run, which is continued from here if it was interrupted.
  model                               What is delivered: best.ckpt, model.onnx, report.json, with
                                      `replay` the memory ...
  output/failure                      Why the job failed; one line, then the traceback.

Exit codes: 0 done, 2 bad input, 3 the gate is shut or the exported model does not agree,
143 stopped by SIGTERM.
"""

import sys
from collections.abc import Sequence

from regrow.guard import HELP, ExitCode, entry

SERVE, MONITOR = "serve", "monitor"
run = entry("regrow.pipelines.sagemaker", "train_job", None)
run_endpoint = entry("regrow.pipelines.sagemaker", "serve_endpoint", None)
run_monitoring = entry("regrow.pipelines.monitoring.job", "monitor_job", None)
WORDS = {SERVE: run_endpoint, MONITOR: run_monitoring}


def main(args: Sequence[str] | None = None) -> int:
    """Train, serve or monitor, or print what this is for."""
    words = list(sys.argv[1:] if args is None else args)
    # With more words `--help` is a hyperparameter, which the toolkit repeats.
    if len(words) == 1 and words[0] in HELP:
        print(__doc__)
        return 0
    return WORDS[words[0]]([]) if len(words) == 1 and words[0] in WORDS else run(words)


def train_module() -> None:
    """Train within the process of SageMaker's toolkit.

    Raises:
        ExitCode: If the training ends with a code other than 0.
    """
    code = main([])
    if code:
        raise ExitCode(code)


if __name__ == "__main__":
    raise SystemExit(main())
