import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from decoupled_wd.figures._style import COLOURS

# Machado, Oliveira & Fernandes 2009, severity 1: protanopia, deuteranopia, tritanopia
BLINDNESS = [
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
]


@pytest.mark.parametrize("blindness", [np.eye(3), *BLINDNESS])
def test_the_colours_are_told_apart_by_the_colour_blind(blindness):
    rgb = np.array([to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = lab(np.clip(linear @ np.array(blindness).T, 0, 1))
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 10  # 2.3 is just noticeable


def lab(linear):
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    ratio = linear @ np.array(to_xyz).T / [0.95047, 1, 1.08883]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
