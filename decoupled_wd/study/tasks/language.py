"""Language: any text as a data set, and a small transformer that learns its next characters.

A row of the data is a piece of the text, and its label the character that follows it. So every
character of the text stands in one row, is predicted once, and is judged once.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from decoupled_wd._base.types import PyTree
from decoupled_wd.study.tasks import files
from decoupled_wd.study.tasks.data import Dataset, from_splits
from decoupled_wd.study.tasks.models import Model

LENGTH = 32
"""Characters in a row."""
