"""A model behind FastAPI and uvicorn, as its documentation has it; for `benchmarks/serving.py`.

    PYTHON benchmarks/serving_fastapi.py MODEL --port 9000 --threads 1

PYTHON is that of an environment with FastAPI and what regrow needs. Decoding, network and answers
are regrow's, so that only the servers differ. A picture is uploaded to a function without `async`,
which FastAPI runs in a thread.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, UploadFile

from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.pictures import read_pictures
from regrow.deploy.serving.served_model import ServedModel


def make_app(model: ServedModel) -> FastAPI:
    """Return the application of a model."""
    app = FastAPI()

    @app.post("/predict")
    def predict(file: UploadFile) -> dict[str, Any]:
        pictures = read_pictures([file.file.read()], model.size, model.decoding)
        outputs = model.run(pictures.images, model.outputs)
        return {"predictions": predictions(model, outputs, pictures.sizes)}

    return app


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = ServedModel(options.model, num_threads=options.threads)
    model.warm_up(1)
    uvicorn.run(make_app(model), host="127.0.0.1", port=options.port, log_level="error")


if __name__ == "__main__":
    main()
