"""The paper's algorithms in NumPy float64, literally and line by line: the slow oracle of the tests.

Line numbers are those of arXiv 1711.05101. `gradient(t, theta)` is the mini-batch gradient of step t = 1, 2, …;
`eta(t)` the schedule multiplier and `weight_decay(t)` the decay of that step.
"""

import numpy as np


def algorithm_1(
    theta, gradient, *, alpha, beta1, weight_decay, eta, decoupled, steps, lr_in_buffer=True
):
    """SGD with L2 regularisation (decoupled=False) or SGDW (decoupled=True): every theta, from 0 to steps."""
    theta = np.asarray(theta, np.float64)
    m = np.zeros_like(theta)  # line 2
    trajectory = [theta]
    for t in range(1, steps + 1):  # lines 3 and 4
        g = gradient(t, theta)  # line 5
        if not decoupled:
            g = g + weight_decay(t) * theta  # line 6
        eta_t = eta(t)  # line 7
        if lr_in_buffer:
            m = beta1 * m + eta_t * alpha * g  # line 8
            new = theta - m  # line 9
        else:  # the order of the authors' released code, optax and PyTorch
            m = beta1 * m + g
            new = theta - eta_t * alpha * m
        if decoupled:
            new = new - eta_t * weight_decay(t) * theta  # line 9
        theta = new
        trajectory.append(theta)
    return np.stack(trajectory)


def algorithm_2(
    theta,
    gradient,
    *,
    alpha,
    weight_decay,
    eta,
    decoupled,
    steps,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
):
    """Adam with L2 regularisation (decoupled=False) or AdamW (decoupled=True): every theta."""
    theta = np.asarray(theta, np.float64)
    m = np.zeros_like(theta)  # line 2
    v = np.zeros_like(theta)
    trajectory = [theta]
    for t in range(1, steps + 1):  # lines 3 and 4
        g = gradient(t, theta)  # line 5
        if not decoupled:
            g = g + weight_decay(t) * theta  # line 6
        m = beta1 * m + (1 - beta1) * g  # line 7
        v = beta2 * v + (1 - beta2) * g**2  # line 8
        m_hat = m / (1 - beta1**t)  # line 9
        v_hat = v / (1 - beta2**t)  # line 10
        eta_t = eta(t)  # line 11
        step = alpha * m_hat / (np.sqrt(v_hat) + eps)
        if decoupled:
            step = step + weight_decay(t) * theta
        theta = theta - eta_t * step  # line 12
        trajectory.append(theta)
    return np.stack(trajectory)


def constant(t):
    """No schedule."""
    return 1.0


def cosine(steps):
    """Cosine annealing to zero, without restarts."""
    return lambda t: 0.5 + 0.5 * np.cos(np.pi * (t - 1) / steps)


def warm_restarts(steps, first_cycle_steps, cycle_factor):
    """Appendix B.2 by counting: the multiplier and the length of the current cycle at each step."""
    t_cur, t_i = 0, first_cycle_steps
    multipliers, lengths = [], []
    for _ in range(steps):
        multipliers.append(0.5 + 0.5 * np.cos(np.pi * t_cur / t_i))
        lengths.append(t_i)
        t_cur += 1
        if t_cur == t_i:
            t_cur, t_i = 0, t_i * cycle_factor
    return multipliers, lengths


def normalized(normalized_weight_decay, batch_size, dataset_size, epochs):
    """Appendix B.1."""
    return normalized_weight_decay * np.sqrt(batch_size / (dataset_size * epochs))


def hyperball(theta, direction, *, learning_rate, steps, axes=None):
    """levanter's adamh and muonh from their directions u of step t = 1, 2, …: every theta, arXiv 2606.16899."""

    def normed(x):
        return x / np.sqrt(np.sum(x**2, axis=axes, keepdims=True))

    theta = np.asarray(theta, np.float64)
    trajectory = [theta]
    for t in range(1, steps + 1):
        radius = np.sqrt(np.sum(theta**2, axis=axes, keepdims=True))
        moved = theta - learning_rate(t) * normed(direction(t, theta)) * radius
        theta = normed(moved) * radius
        trajectory.append(theta)
    return np.stack(trajectory)


def adam_direction(gradient, beta1=0.9, beta2=0.999, eps=1e-8):
    """Adam's m̂/(√v̂ + ε), Algorithm 2 lines 7 to 10, of the gradients so far."""
    m, v = 0.0, 0.0

    def direction(t, theta):
        nonlocal m, v
        g = gradient(t, theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        return m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + eps)

    return direction


def muon_direction(gradient, momentum=0.95, eps=1e-8):
    """Momentum made nearly orthogonal by five steps of Newton and Schulz, of a matrix no higher than wide."""
    buffer = 0.0

    def direction(t, theta):
        nonlocal buffer
        buffer = momentum * buffer + gradient(t, theta)
        x = buffer / (np.linalg.norm(buffer) + eps)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x

    return direction
