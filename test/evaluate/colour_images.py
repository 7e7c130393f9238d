"""A labelled image folder that the ladders of `ladders.py` can read: noisy colours."""

import cv2
import numpy as np

from ladders import LABELS

SIZE = 36


def write_images(folder, *, train=20, test=10, classes=LABELS, noise=40):
    """Writes `train/<class>/` and `test/<class>/`, so noisy that some answers are wrong."""
    rng = np.random.default_rng(0)
    for part, count in (('train', train), ('test', test)):
        for name in classes:
            target = folder / part / name
            target.mkdir(parents=True)
            for i in range(count):
                image = np.full((SIZE, SIZE, 3), 120.0)
                if name in LABELS:
                    image[..., LABELS.index(name)] += 40
                image += rng.normal(0, noise, 3)  # one tint for the whole image
                pixels = np.clip(image, 0, 255).astype(np.uint8)
                cv2.imwrite(str(target / f'{i:03}.png'), pixels[..., ::-1])
    return folder
