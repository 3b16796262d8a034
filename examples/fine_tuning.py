# %% [markdown]
# # Fine-tuning towards the start
#
# Plain decay pulls a fine-tuned network towards zero, away from what it learned before. `rules.towards_start`
# pulls towards the weights it started from. Here a network learns the digits 0 to 4, and then 5 to 9 from three
# images each; how well does it still know the first five?

# %%
import jax
import jax.numpy as jnp
import optax

import decoupled_wd as dwd
from decoupled_wd.study.tasks.data import digits
from decoupled_wd.study.tasks.models import mlp

data = digits(train_size=600)
model = mlp(64, 10, normalize=False)
old = data.y_train < 5
few = jnp.concatenate([jnp.flatnonzero(data.y_train == label)[:3] for label in range(5, 10)])


# %%
def train(optimizer, params, rows, steps):
    """Full batches, one compiled loop."""
    x, y = jnp.asarray(data.x_train)[rows], jnp.asarray(data.y_train)[rows]

    def step(carry, _):
        params, state = carry
        gradients = jax.grad(model.loss)(params, x, y, jax.random.key(0))
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]


def of_kind(kept):
    return data.x_test[kept], data.y_test[kept]


@jax.jit
def errors(params):
    """Test error in percent on the old and on the new digits."""
    held_out = {"old": of_kind(data.y_test < 5), "new": of_kind(data.y_test >= 5)}
    measured = model.evaluate(params, (data.x_train, data.y_train), held_out)
    return measured["old_error"], measured["new_error"]


# %%
pretrained = train(dwd.adamw(3e-3, 1e-3), model.init(jax.random.key(0)), jnp.flatnonzero(old), 300)
print("pretrained: error {:.1f} % on old digits, {:.1f} % on new ones".format(*errors(pretrained)))

for name, rule in {
    "towards zero": dwd.rules.towards_zero(),
    "towards the start": dwd.rules.towards_start(),
}.items():
    tune = jax.jit(lambda λ, rule=rule: train(dwd.adamw(1e-3, λ, rule=rule), pretrained, few, 300))
    for weight_decay in (0.0, 1e-3, 1e-2, 3e-2):
        tuned = tune(weight_decay)  # λ is traced: one compilation for all of them
        moved = optax.global_norm(optax.tree.sub(tuned, pretrained))
        shares = "error {:4.1f} % on old, {:4.1f} % on new digits".format(*errors(tuned))
        print(f"{name:18} λ = {weight_decay:<6} {shares}, moved by {moved:.2f}")
