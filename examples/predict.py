"""Predict what a photo shows: python predict.py model.onnx photo.jpg."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, photo = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
entries = session.get_modelmeta().custom_metadata_map
about = {name.removeprefix("regrow."): json.loads(text) for name, text in entries.items()}
height, width = about["size"]

# In: RGB, resized, (1, 3, height, width).
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
images = pixels.transpose(2, 0, 1)[None]
if about["input"]["type"] == "float32":
    images = images.astype(np.float32) / 255
names = [output.name for output in session.get_outputs()]
outputs = dict(zip(names, session.run(None, {"images": images}), strict=True))

# Out: by the kind of labels.
if about["kind"] == "labels":
    chances = outputs["probabilities"][0]
    print(f"{about['classes'][chances.argmax()]} {chances.max():.3f}")
elif about["kind"] == "boxes":
    scale = np.array([image.width / width, image.height / height] * 2)
    found = [
        (outputs["scores"][0, label, place], about["classes"][label], outputs["boxes"][0, place])
        for _, label, place in outputs["selected"]
    ]
    found.sort(key=lambda one: -one[0])
    for score, name, box in found[: about["suppression"]["max_detections"]]:
        left, top, right, bottom = box * scale  # in pixels of the photo
        print(f"{name} {score:.3f} at {left:.1f}, {top:.1f}, {right:.1f}, {bottom:.1f}")
else:
    mask = outputs["mask"][0].astype(np.uint8)  # of the resized image: enlarge it, not blended
    Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST).save("mask.png")
    for number, name in enumerate(about["classes"]):
        print(f"{name} {(mask == number).mean():.3f}")
