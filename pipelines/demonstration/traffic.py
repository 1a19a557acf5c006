"""Pictures sent to a server over HTTP, as a camera would."""

import http.client
import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from regrow.data.batches.sampling import counter_seed
from regrow.errors import CheckFailed

LIGHT, NOISE = 0.4, 20.0  # what is left of the light, and the standard deviation of the noise
SECONDS = 60.0  # in which a request is answered


@dataclass(slots=True)
class Sent:
    """What became of the pictures that were sent.

    Args:
        requests: How many were sent.
        answers: How many of them were answered with a prediction.
        seconds: How long all took together.
        refusal: The first answer that was none, if there is one.
    """

    requests: int = 0
    answers: int = 0
    seconds: float = 0.0
    refusal: str = ""


def at_night(pixels: np.ndarray, number: int) -> np.ndarray:
    """Return a picture darker and noisier, as a camera takes it at night.

    Args:
        pixels: The picture, uint8 (h, w, 3).
        number: What tells the noise of this picture from that of others.
    """
    noise = np.random.default_rng(counter_seed(0, number)).normal(0, NOISE, pixels.shape)
    return (pixels * LIGHT + noise).clip(0, 255).astype(np.uint8)


def send(address: str, pictures: Iterable[tuple[str, np.ndarray]]) -> Sent:
    """Send pictures to `/invocations` as PNG, one after the other.

    Args:
        address: The server's, such as `http://127.0.0.1:8080`.
        pictures: The client's id of each request, and the pixels, uint8 RGB (h, w, 3).

    Raises:
        CheckFailed: If there is no server, or it goes away.
    """
    sent, started = Sent(), time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=SECONDS)
    try:
        for name, pixels in pictures:
            sent.requests += 1
            about = {"Content-Type": "image/png", "X-Amzn-SageMaker-Inference-Id": name}
            connection.request("POST", "/invocations", _png(pixels), about)
            answer = connection.getresponse()
            content = answer.read()
            sent.answers += answer.status == 200
            if answer.status != 200 and not sent.refusal:
                sent.refusal = f"{answer.status} {content[:200].decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        raise CheckFailed(f"{address}: picture {sent.requests} got no answer ({error})") from error
    finally:
        connection.close()
    sent.seconds = time.monotonic() - started
    return sent


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
