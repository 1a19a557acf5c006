"""Draw the boxes of an exported detector: python predict_opencv.py model.onnx photo.jpg."""

import json
import sys

import cv2
import numpy as np
import onnxruntime

if len(sys.argv) != 3:
    sys.exit(__doc__)
model, photo = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
entries = session.get_modelmeta().custom_metadata_map
about = {name.removeprefix("regrow."): json.loads(text) for name, text in entries.items()}
if about["kind"] != "boxes":
    sys.exit(f"{model}: gives {about['kind']}, and this draws boxes; see predict.py")
height, width = about["size"]

image = cv2.imread(photo)  # BGR, turned as its EXIF data says
if image is None:
    sys.exit(f"{photo}: no image that OpenCV reads")
is_smaller = height * width < image.shape[0] * image.shape[1]
how = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
pixels = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=how), cv2.COLOR_BGR2RGB)
images = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
if about["input"]["type"] == "float32":
    images = images.astype(np.float32) / 255
boxes, scores, selected = session.run(["boxes", "scores", "selected"], {"images": images})

scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2)
for _, label, place in selected:
    score = scores[0, label, place]
    if score < 0.4:
        continue
    left, top, right, bottom = (int(round(value)) for value in boxes[0, place] * scale)
    text = f"{about['classes'][label]} {score:.2f}"
    cv2.rectangle(image, (left, top), (right, bottom), (0, 200, 0), 2)
    cv2.putText(image, text, (left, top - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 200, 0), 1)
    print(f"{text} at {left}, {top}, {right}, {bottom}")
cv2.imwrite("predicted.png", image)
