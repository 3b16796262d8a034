"""Decoupled weight decay for JAX, as pure optax transformations: ``θ' = W(θ + Δ_t − c_t · m ⊙ pull(θ))``.

The paper: Loshchilov & Hutter, *Decoupled Weight Decay Regularization*, arXiv 1711.05101.
"""

from decoupled_wd import masks as masks
from decoupled_wd import rounding as rounding
from decoupled_wd import rules as rules
from decoupled_wd import theory as theory
from decoupled_wd.aliases import adam as adam
from decoupled_wd.aliases import adamw as adamw
from decoupled_wd.aliases import adamwr as adamwr
from decoupled_wd.aliases import sgd as sgd
from decoupled_wd.aliases import sgdw as sgdw
from decoupled_wd.aliases import sgdwr as sgdwr
from decoupled_wd.coupling import CONSTANT as CONSTANT
from decoupled_wd.coupling import CORRECTED as CORRECTED
from decoupled_wd.coupling import FRAMEWORKS as FRAMEWORKS
from decoupled_wd.coupling import LR as LR
from decoupled_wd.coupling import PAPER as PAPER
from decoupled_wd.coupling import Coupling as Coupling
from decoupled_wd.coupling import convert_weight_decay as convert_weight_decay
from decoupled_wd.diagnostics.describe import describe as describe
from decoupled_wd.diagnostics.equivalents import equivalents as equivalents
from decoupled_wd.diagnostics.preflight import preflight as preflight
from decoupled_wd.diagnostics.record import record as record
from decoupled_wd.diagnostics.record import recorded as recorded
from decoupled_wd.preconditioners import scale_by_adabound as scale_by_adabound
from decoupled_wd.preconditioners import scale_by_adam as scale_by_adam
from decoupled_wd.preconditioners import scale_by_momentum as scale_by_momentum
from decoupled_wd.schedules import warm_restarts as warm_restarts
from decoupled_wd.strengths import from_cost_penalty as from_cost_penalty
from decoupled_wd.strengths import from_half_life as from_half_life
from decoupled_wd.strengths import from_timescale as from_timescale
from decoupled_wd.strengths import keep_normalized as keep_normalized
from decoupled_wd.strengths import keep_timescale as keep_timescale
from decoupled_wd.strengths import normalized as normalized
from decoupled_wd.strengths import normalized_per_cycle as normalized_per_cycle
from decoupled_wd.transforms import add_decayed_weights as add_decayed_weights
from decoupled_wd.transforms import decay_weights as decay_weights
from decoupled_wd.transforms import decouple as decouple

__version__ = "0.1.0"
