"""Writes torch_adamw.json: 50 steps of torch.optim.AdamW in float64 on given gradients.

Run once with ``pip install torch==2.13.0`` and ``python tests/data/torch_adamw.py``; torch is no test dependency.
"""

import json
from pathlib import Path

import torch

torch.manual_seed(0)
LEARNING_RATE, WEIGHT_DECAY, STEPS = 3e-3, 0.1, 50
gradients = torch.randn(STEPS, 5, dtype=torch.float64)
theta = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
optimizer = torch.optim.AdamW([theta], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
trajectory = [theta.tolist()]
for gradient in gradients:
    theta.grad = gradient
    optimizer.step()
    trajectory.append(theta.tolist())
record = {
    "made_by": f"torch {torch.__version__}, torch.optim.AdamW, tests/data/torch_adamw.py",
    "learning_rate": LEARNING_RATE,
    "weight_decay": WEIGHT_DECAY,
    "gradients": gradients.tolist(),
    "trajectory": trajectory,
}
Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
