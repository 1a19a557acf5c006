"""A model behind LitServe, as its documentation has it; for `benchmarks/serving.py`.

    PYTHON benchmarks/serving_litserve.py MODEL --port 9000 --threads 1

PYTHON is that of an environment with LitServe and what regrow needs. Decoding, network and answers
are regrow's, so that only the servers differ. A picture comes as base64 in JSON, and one worker
decodes, runs and answers one after the other.
"""

import argparse
import base64
from pathlib import Path
from typing import Any

import litserve
import torch

from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.pictures import Pictures, read_pictures
from regrow.deploy.serving.served_model import ServedModel


class Api(litserve.LitAPI):
    """One model.

    Args:
        file: The ONNX file.
        threads: Threads of the network.
    """

    def __init__(self, file: Path, threads: int) -> None:
        super().__init__()
        self.file, self.threads = file, threads

    def setup(self, device: str) -> None:
        """Open the model in the process of the worker, and run it once."""
        torch.set_num_threads(1)
        self.model = ServedModel(self.file, num_threads=self.threads)
        self.model.warm_up(1)

    # Without a type, by which LitServe would check the body.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Return the picture of a request."""
        body = base64.b64decode(request["image_data"])
        return read_pictures([body], self.model.size, self.model.decoding)

    def predict(self, pictures: Pictures) -> tuple[Any, Any]:
        """Return the outputs, and the size of the picture."""
        return self.model.run(pictures.images, self.model.outputs), pictures.sizes

    def encode_response(self, output: tuple[Any, Any]) -> dict[str, Any]:
        """Return the answer."""
        return {"predictions": predictions(self.model, *output)}


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    server = litserve.LitServer(Api(options.model, options.threads), accelerator="cpu")
    server.run(port=options.port, host="127.0.0.1", generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
