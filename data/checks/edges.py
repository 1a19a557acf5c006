"""Edges of an image: how far what is drawn on it may stick out."""

import numpy as np

ROUNDING = 0.5  # pixels; files round their numbers, and boxes that end so far outside stay
# A box may stick out of its image by a hair: tools let people draw so, and some count pixels from
# 0 that others count from 1. As torchvision and others do, it is cut at the edge. A hair is 2 % of
# the side, or a pixel where that is less than 5 %. A box that sticks out further is of another.
HAIR, PIXEL, SMALL = 0.02, 1.0, 0.05


def hair(limits: np.ndarray) -> np.ndarray:
    """Return how far annotations may stick out of an image, in pixels.

    Args:
        limits: The sides of the image, in pixels.
    """
    return np.maximum(np.maximum(ROUNDING, HAIR * limits), np.minimum(PIXEL, SMALL * limits))
