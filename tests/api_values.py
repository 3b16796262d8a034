"""Values for every argument of the public API, right and wrong, as the text of a program that can be pasted.

A tab stands for a space inside a value. A new argument is one line in POOLS: by its name, or by ``function.name``
or ``room.name`` where it means something else. GRADIENTS says what may arrive in place of gradients.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import decoupled_wd as dwd

P = {
    "dense": {"bias": jnp.array([0.5, -1.5]), "kernel": jnp.array([[1.0, -2.0], [0.25, 3.0]])},
    "scale": jnp.array([1.0]),
}
BFLOAT16 = jax.tree.map(lambda p: p.astype(jnp.bfloat16), P)
NAMESPACE = {"dwd": dwd, "jax": jax, "jnp": jnp, "np": np, "optax": optax, "P": P, "BF": BFLOAT16}


class Pool(NamedTuple):
    """Values of one argument."""

    good: tuple
    either: tuple = ()
    wrong: tuple = ()


def pool(good, either="", wrong=""):
    return Pool(*(tuple(filter(None, text.split(" "))) for text in (good, either, wrong)))


def also(base, good="", either="", wrong=""):
    return Pool(*(a + b for a, b in zip(base, pool(good, either, wrong), strict=True)))


NOT_NUMBERS = pool(
    "",
    "",
    "'0.1' b'1' True False np.True_ 1j np.complex64(1) [0.1] (0.1,) {} object() jnp.ones(2) "
    "np.ones((1,1)) "
    "jnp.bool_(True) jnp.bfloat16(0.5) np.float16(0.5) jax.random.key(0) np.datetime64('2020') "
    "float jnp.ones "
    "float('nan') float('inf') -float('inf') np.nan jnp.array(np.nan) jnp.array(jnp.inf) 10**400 "
    "jax.ShapeDtypeStruct((),jnp.float32) slice(1) print",
)
NEGATIVE = pool("", "", "-0.1 -1 -1e-30 np.float32(-2) jnp.array(-0.5) np.int32(-3)")
SCALARS = pool(
    "0.1 0.01 np.float32(0.1) np.float64(0.02) jnp.float32(0.1) jnp.array(0.05)", "1 1e-20"
)
MISSING = pool("", "", "None")
NONNEGATIVE = also(
    Pool(*(a + b + c for a, b, c in zip(SCALARS, NEGATIVE, NOT_NUMBERS, strict=True))), "0 0.0"
)
POSITIVE = also(NONNEGATIVE._replace(good=SCALARS.good), wrong="0 0.0 jnp.zeros(()) None")
REQUIRED = also(NONNEGATIVE, wrong="None")
TRAINED = also(REQUIRED, wrong="1e39")  # infinite in float32
AVERAGING = also(REQUIRED, "0.9 0.5", "0.99999999999", "1 1.0 1.5 2 np.float32(1)")
COUNT = Pool(
    ("1", "2", "100", "7.0", "np.int32(5)"), ("2.5", "10**7", "1e39"), (*POSITIVE.wrong, "-5")
)
AT_LEAST_ONE = also(COUNT, wrong="0.5 np.float32(0.9)")
SCHEDULES = pool(
    "",
    "optax.constant_schedule(0.1) optax.cosine_decay_schedule(0.1,10) "
    "optax.linear_schedule(0.1,0.0,5) "
    "(lambda\tt:0.1) (lambda\tt:True) (lambda\tt:jnp.float32(0.1)/(1+t))",
    "(lambda\tt:-0.1) (lambda\tt:float('nan')) (lambda\tt:jnp.inf) (lambda\tt:jnp.ones(2)) "
    "(lambda:0.1) (lambda\tt:'x') "
    "(lambda\tt:None) (lambda\tt:1j) (lambda\tt:jnp.ones((1,))) (lambda\tt:{}) "
    "(lambda\tt:1e39)",
)
RATE = Pool(*(a + b for a, b in zip(TRAINED, SCHEDULES, strict=True)))
RATE = RATE._replace(wrong=tuple(x for x in RATE.wrong if x not in ("float", "print")))
STRENGTH = also(
    RATE,
    "optax.constant_schedule(0.1)",
    "{'dense':{'bias':0,'kernel':0.2},'scale':1}",
    "{'dense':0.1} {'dense':-0.1,'scale':0.1} {'dense':'x','scale':0.1} "
    "{'dense':None,'scale':0.1} [0.1,0.2] "
    "{'dense':float('nan'),'scale':0.1} {'dense':jnp.ones(2),'scale':0.1} {'other':0.1}",
)
STRENGTH = STRENGTH._replace(either=(*STRENGTH.either, "{'dense':0.1,'scale':0.0}"))
DTYPE = pool(
    "None jnp.float32 jnp.bfloat16 'float32' np.float32",
    "jnp.float16 jnp.float64 jnp.float8_e4m3fn",
    "jnp.int32 jnp.int8 jnp.bool_ bool 'int32' jnp.complex64 'no' 3 object() {} jnp.uint8 0.5 []",
)
COUPLING = pool(
    "dwd.PAPER dwd.CONSTANT",
    "dwd.LR dwd.CORRECTED dwd.Coupling(0.5,0.5) 'torch' 'paper' 'optax'",
    "None 'no' (0,1) 1 dwd.Coupling jnp.ones(2) True {} object()",
)
FRAMEWORK = pool(
    "dwd.PAPER dwd.LR 'paper' 'torch' 'keras' 'adamc'",
    "'optax.adamw' 'torch.optim.AdamW' 'PyTorch' dwd.Coupling(2,3)",
    "None 'no' '' 1 (0,1) [] {} b'torch' dwd.Coupling object() jnp.ones(2)",
)
RULE = pool(
    "dwd.rules.towards_zero() dwd.rules.towards_start() dwd.rules.towards_norm() "
    "dwd.rules.lp(1) dwd.rules.towards(0.5)",
    "dwd.rules.cautious(dwd.rules.towards_start()) dwd.rules.towards(P) "
    "dwd.rules.towards_norm(0.5,axis=0) optax.stateless(lambda\tu,p:u)",
    "None 'zero' dwd.rules.towards_zero dwd.rules.cautious 1 {} [] "
    "dwd.masks.everything() jnp.ones(2)",
)
MASK = pool(
    "dwd.masks.everything() None",
    "dwd.masks.matrices() dwd.masks.without('bias') dwd.masks.matching(('.*',0.5)) "
    "{'dense':True,'scale':0.5} True "
    "(lambda\tp:jax.tree.map(lambda\tx:x.ndim>1,p)) (lambda\tp:None) 1.0",
    "dwd.masks.matrices dwd.masks.everything 'all' -1.0 {'dense':True} "
    "{'dense':'x','scale':True} object() 1j "
    "{'dense':float('nan'),'scale':1} {'dense':-1,'scale':1} jnp.ones(3) float('inf') "
    "{'dense':False,'scale':False} False "
    "(lambda:True) (lambda\tp:'x') (lambda\tp:-1.0) dwd.rules.towards_zero() 1e39 dwd.PAPER [] "
    "{'dense':None,'scale':1}",
)
ROUNDING = pool(
    "None",
    "dwd.rounding.residual() dwd.rounding.stochastic_rounding(0) optax.identity() optax.sgd(0.1) "
    "dwd.rounding.residual(bits=8)",
    "dwd.rounding.residual dwd.rounding.stochastic_rounding 'residual' True 1 {} "
    "dwd.rules.towards_zero()  "
    "jnp.bfloat16 [] object()",
)
INNER = pool(
    "optax.sgd(0.1) optax.adam(0.1) optax.identity() optax.lion(0.1,weight_decay=0.0) "
    "optax.chain(optax.sgd(0.1))",
    "optax.sgd(optax.linear_schedule(0.1,0.0,5)) optax.set_to_zero() dwd.sgdw(0.1,0.1)",
    "None optax.sgd 'sgd' 1 {} (optax.sgd(0.1),) object() dwd.adamw dwd.masks.everything() True",
)
RECORDED = pool(
    "dwd.sgdw(0.1,0.1) dwd.adamw(0.1,0.1) dwd.decouple(optax.sgd(0.1),0.1)",
    "optax.chain(optax.sgd(0.1),dwd.decay_weights(0.1)) "
    "dwd.sgdw(0.1,0.1,mask=dwd.masks.matrices())",
    "optax.sgd(0.1) dwd.adam(0.1,0.1) dwd.record(dwd.sgdw(0.1,0.1)) None 'x' dwd.sgdw 1",
)
PARAMS = pool(
    "P BF jax.tree.map(np.asarray,P) {'dense':P['dense'],'scale':P['scale'],'none':None} "
    "{'dense':P['dense'],'scale':P['scale'],'steps':jnp.array([1,2])}",
    "jnp.ones(3) jnp.ones((2,3)) jnp.ones(()) {} () None [jnp.ones((2,2)),jnp.ones(2)] "
    "{'w':jnp.ones((2,2),jnp.complex64)} "
    "{'w':jnp.ones((2,2),jnp.float16)} {'w':jnp.ones((2,2),jnp.float8_e4m3fn)} "
    "{'w':1.0,'b':0.5} {'w':jnp.ones((0,3))} "
    "{'w':jnp.arange(3)} {'w':jnp.array([True])} {'w':jnp.ones(2),'s':'text'} "
    "{'w':np.ones(3)} {'w':optax.MaskedNode(),'b':jnp.ones(2)} "
    "{'a/b':jnp.ones(2),'a':{'b':jnp.ones(2)}} "
    "{'w':[0.5,1.0]} {'w':np.float32(1)} {1:jnp.ones((2,2)),2:jnp.ones(2)} "
    "{('a','b'):jnp.ones(2),('a','c'):jnp.ones(2)} "
    "{'w':jnp.full(2,1e15)}",
)
SHAPES = also(
    PARAMS,
    "jax.eval_shape(lambda:P)",
    "{'w':jnp.ones(2),'k':jax.random.key(0)}",
    wrong="",
)
NORMALIZED = {
    "batch_size": COUNT,
    "dataset_size": COUNT,
    "epochs": COUNT,
    "first_cycle_epochs": COUNT,
}
RUN_RATE = also(RATE, "optax.linear_schedule(0.1,0.0,500)")._replace(
    either=(*RATE.either, "0", "0.0"), good=SCALARS.good
)
RUN_FRACTION = RUN_RATE._replace(good=(*SCALARS.good, "0"), wrong=(*RUN_RATE.wrong, "1.5"))
RUN_STEPS = COUNT._replace(either=("10**5", "2.5", "1e39"), wrong=(*COUNT.wrong, "0.5"))
OPTIONAL = also(POSITIVE, "None")._replace(wrong=tuple(x for x in POSITIVE.wrong if x != "None"))
TUNED = "[dwd.Run(1e-3,8,d,1,8/d**.5,1e3)for\td\tin(1e3,4e3,2e4)]"
POOLS = {
    "learning_rate": RATE._replace(  # whether an array is its own peak cannot be known
        good=tuple(x for x in RATE.good if "jnp" not in x),
        either=(*RATE.either, *(x for x in RATE.good if "jnp" in x)),
    ),
    "weight_decay": STRENGTH,
    "l2": STRENGTH,
    "peak_learning_rate": also(POSITIVE, "None", "1e-3")._replace(
        good=("1.0", "np.float32(2)", "jnp.array(1.0)", "3"),
        either=("None", *SCALARS.good, *SCALARS.either),  # below the learning rate
        wrong=tuple(x for x in POSITIVE.wrong if x != "None"),
    ),
    "coupling": COUPLING,
    "rule": RULE,
    "mask": MASK,
    "rounding": ROUNDING,
    "preflight.rounding": ROUNDING._replace(either=ROUNDING.either),
    "inner": INNER,
    "record.inner": RECORDED,
    "direction": pool(
        "optax.scale_by_adam() optax.identity() dwd.scale_by_adam() optax.trace(0.9)",
        "optax.sgd(0.1) optax.set_to_zero() optax.scale_by_sign()",
        "None optax.scale_by_adam 'adam' 1 {} (optax.identity(),) object() True "
        "dwd.adamw(0.1,0.1) dwd.rounding.residual()",
    ),
    "hyperball.mask": MASK._replace(
        either=(*MASK.either, "{'dense':True,'scale':0} {'dense':False,'scale':True}")
    ),
    "momentum": AVERAGING,
    "b1": AVERAGING,
    "b2": AVERAGING,
    "eps": also(TRAINED, "1e-8")._replace(good=(*SCALARS.good, "1e-8")),
    "eps_root": also(TRAINED, "1e-8")._replace(good=(*SCALARS.good, "1e-8")),
    "nesterov": pool("True False", "", "None 'no' 2 [] jnp.ones(2)"),
    "momentum_dtype": DTYPE,
    "mu_dtype": DTYPE,
    "nu_dtype": DTYPE,
    "gamma": also(POSITIVE, wrong="1e39"),
    "final_learning_rate": also(POSITIVE, wrong="1e39"),
    "normalized_weight_decay": REQUIRED,
    **NORMALIZED,
    "cycle_factor": also(AT_LEAST_ONE, "2.0 1.5 1", "1.000001 1e300"),
    "first_cycle_steps": also(AT_LEAST_ONE, "", "1e300"),
    "floor": NONNEGATIVE._replace(good=("0", "0.0", "0.001")),
    "peak": REQUIRED._replace(good=("0.1", "1", "np.float32(0.5)")),
    "steps": AT_LEAST_ONE,
    "penalty": REQUIRED,
    "p": REQUIRED,
    "s": REQUIRED,
    "lp.p": also(AT_LEAST_ONE, "1 1.5 2"),
    "from_": FRAMEWORK,
    "to": FRAMEWORK,
    "on_loss": pool("'warn' 'return'", "'raise'", "None 'no' 1 True []"),
    "every": AT_LEAST_ONE,
    "params": PARAMS,
    "describe.params": SHAPES,
    "preflight.params": SHAPES,
    "recorded.params": pool("P", "BF", "{} {'w':jnp.ones(2)} None 1 'x' jnp.ones(2)"),
    "recorded.state": pool(
        "dwd.record(dwd.sgdw(0.1,0.1)).init(P)",
        "(dwd.record(dwd.sgdw(0.1,0.1)).init(P),)",
        "None {} () dwd.sgdw(0.1,0.1).init(P) 'x' 1 "
        "dwd.record(dwd.sgdw(0.1,0.1)).init({'w':jnp.ones(2)})",
    ),
    "weights.params": pool(
        "BF", "P", "{} {'w':jnp.ones(2,jnp.bfloat16)} None 1 'x' {'dense':BF['dense']}"
    ),
    "weights.state": pool(
        "dwd.rounding.residual().init(BF)",
        "dwd.adamw(0.1,0.1,rounding=dwd.rounding.residual()).init(BF) optax.identity().init(BF) "
        "dwd.rounding.stochastic_rounding(0).init(BF)",
        "None 'x' 1 dwd.rounding.residual().init({'w':jnp.ones(2,jnp.bfloat16)}) "
        "dwd.rounding.residual",
    ),
    "from_float32.params": pool(
        "P jax.tree.map(np.asarray,P) {'w':jnp.ones((2,2)),'n':None,'steps':jnp.array([1,2])}",
        "BF {'w':jnp.ones(2),'b':jnp.ones(2,jnp.bfloat16)} {} {'w':jnp.arange(3)} jnp.ones(3) "
        "{'w':jnp.ones(2),'c':jnp.ones(2)*1j} {'w':jnp.ones(2),'k':jax.random.key(0)} "
        "{'w':[0.5,1.0]} {'w':jnp.full(2,jnp.nan)}",
        "None {'w':jnp.ones(2,jnp.float16)} {'w':jnp.ones(2,jnp.float8_e4m3fn)}",
    ),
    "from_float32.optimizer": pool(
        "dwd.rounding.residual() dwd.adamw(0.1,0.1,rounding=dwd.rounding.residual()) "
        "dwd.sgdw(0.1,0.1,rounding=dwd.rounding.residual(bits=8))",
        "optax.MultiSteps(dwd.sgdw(0.1,0.1,rounding=dwd.rounding.residual()),2)"
        ".gradient_transformation() optax.chain(optax.sgd(0.1),dwd.rounding.residual())",
        "None 'x' 1 P dwd.rounding.residual dwd.rounding.stochastic_rounding(0) optax.sgd(0.1) "
        "dwd.adamw(0.1,0.1) dwd.rules.towards_zero()",
    ),
    "bits": pool(
        "8 16 np.int32(16)",
        "",
        "0 4 24 32 -8 8.0 '8' None True [8] jnp.ones(2) jnp.array(8) jnp.int8 object()",
    ),
    "adopt.optimizer": pool(
        "dwd.adamw(0.1,0.1) dwd.adam(0.1,0.1) dwd.decouple(optax.adam(0.1),0.1) "
        "dwd.record(dwd.adamw(0.1,0.1)) dwd.adamw(0.1,0.1,rule=dwd.rules.towards_start())",
        "dwd.sgdw(0.1,0.1) optax.adam(0.1) optax.sgd(0.1) dwd.decouple(optax.sgd(0.1),0.1)",
        "None 'x' 1 dwd.adamw {} optax.adam",
    ),
    "adopt.params": pool(
        "P jax.tree.map(np.asarray,P)", "BF", "{} {'w':jnp.ones(2)} None 1 'x' jnp.ones(2)"
    ),
    "adopt.state": pool(
        "optax.adam(0.1).init(P) optax.adamw(0.1).init(P) optax.adam(lambda\tt:0.1).init(P)",
        "dwd.adamw(0.1,0.1).init(P) optax.adam(0.1).init(BF) (optax.adam(0.1).init(P),)",
        "None 'x' 1 {} () P optax.sgd(0.1).init(P) optax.adam(0.1).init({'w':jnp.ones(2)}) "
        "optax.lion(0.1).init(P) optax.adam(0.1)",
    ),
    "adopt.count": pool(
        "None 0 5 np.int32(3) jnp.array(7)",
        "",
        "-1 2**31 0.5 5.0 '5' True np.True_ [5] jnp.ones(2,int) 1j object() float('nan')",
    ),
    "examine.optimizer": pool(
        "dwd.adamw(0.1,0.1) dwd.adamw(0.1,0.1,b1=0.5,coupling=dwd.LR) dwd.adamw(0.01,0.0)",
        "dwd.adamw(0.1,0.1,mask=dwd.masks.matrices()) dwd.adamw(0.1,0.1,rounding=None)",
        "None 'x' 1 dwd.adamw {} optax.adam dwd.sgdw(0.1,0.1) optax.adam(0.1)",
    ),
    "examine.params": pool(
        "P jax.tree.map(np.asarray,P)", "BF", "{} {'w':jnp.ones(2)} None 1 'x' jnp.ones(2)"
    ),
    "examine.state": pool(
        "dwd.adamw(0.1,0.1).update(P,dwd.adamw(0.1,0.1).init(P),P)[1]",
        # without a step it tells no gradient
        "dwd.adamw(0.1,0.1).init(P)",
        "None 'x' 1 {} () P optax.adam(0.1).init(P) dwd.adamw(0.1,0.1).init({'w':jnp.ones(2)})",
    ),
    "examine.gradients": pool(
        "P jax.tree.map(np.asarray,P)",
        # a state without a step tells no gradient
        "None BF jax.tree.map(lambda\tp:None,P)",
        "{} 1 'x' jnp.ones(2) {'dense':P['dense']} jax.tree.map(lambda\tp:p*jnp.nan,P) "
        "jax.tree.map(lambda\tp:p[:1],P)",
    ),
    "tree": pool("P", "BF", "{'w':1} None"),
    "multipliers": pool("dwd.masks.multipliers(None,P)", "", "{'w':1.0} None 'x'"),
    "radius": also(NONNEGATIVE, "None", wrong="1e39"),
    "onto_norm.radius": also(POSITIVE, "", wrong="1e39")._replace(
        either=("None", *POSITIVE.either), wrong=tuple(x for x in POSITIVE.wrong if x != "None")
    ),
    "one_sided": pool("True False", "", "None 'no' 1 [] jnp.ones(2) np.True_ 0.5"),
    "axis": pool(
        "None",
        "0 -1 (0,) 1 (0,1) slice(1) slice(1,None)",
        "5 'x' 0.5 {} jnp.ones(2) (7,) True object()",
    ),
    "delta": also(POSITIVE, wrong="1e39"),
    "touched.axis": pool(
        "0", "-1 1 (0,) (0,1)", "None 'x' 0.5 {} () [0] jnp.ones(2) (7,) 5 True slice(1) object()"
    ),
    "target": pool(
        "0.0 1.0 np.float32(0.5) P jax.tree.map(np.asarray,P)",
        "{'dense':1.0,'scale':P['scale']} 1 np.arange(2.0)",
        "None 'x' float('nan') float('inf') {'dense':1.0} 1j "
        "{'dense':jnp.ones((3,3)),'scale':1.0} object() {} "
        "{'dense':float('nan'),'scale':1.0} jax.tree.map(lambda\tp:p*jnp.nan,P) jnp.ones((5,5)) "
        "True 1e39 jnp.array(-jnp.inf)",
    ),
    "stacked_axes": pool(
        "0",
        "1 2 1.0 np.int32(1)",
        "-1 0.5 None 'x' float('nan') True jnp.ones(2) [] 1j float('inf')",
    ),
    "*kinds": pool(
        "('bias',) ('bias','norm')",
        "('embedding',)",
        "() ('biases',) (1,) (None,) (['bias'],) ('bias','x') ({},)",
    ),
    "*rules": pool(
        "(('.*',1.0),) (('.*bias',0.0),('.*',1.0))",
        "(('nothing',1.0),('.*',1.0)) (['.*',0.5],)",
        "() ('.*',) (1,) (('(',1.0),) (('.*',-1.0),) (('.*','x'),) ((1,1.0),) "
        "(('.*',float('nan')),) (('.*',),) (('.*',1,2),) (None,) "
        "(('.*',1e39),) (('.*',None),) (('.*',jnp.ones(2)),)",
    ),
    "seed": pool(
        "0 7 np.int32(3)",
        "-1 2**31 2**40",
        "None 0.5 '0' 2**64 [] True jnp.ones(2) float('nan') 1j object()",
    ),
    "fraction": also(
        NONNEGATIVE,
        "1e-4",
        "np.array([0.1,0.2]) jnp.array([0.1]) jnp.ones(2)",
        "None np.array([0.1,-1]) 'x'",
    ),
    "base_shapes": pool(
        "P BF jax.eval_shape(lambda:P)", "{'w':jnp.ones(2)}", "None 1 'x' {} [] {'w':1}"
    ),
    "exponent": also(SCALARS, "-0.5 1 0", "1e3", "'x' None True np.nan 1j jnp.ones(2) 10**400"),
    "omega": POSITIVE,
    "log_time.start": also(NONNEGATIVE, "10 100.0", wrong="None"),
    "influence.learning_rate": RUN_RATE,
    "influence.fraction": RUN_FRACTION,
    "influence.steps": RUN_STEPS,
    "norms.learning_rate": RUN_RATE,
    "norms.fraction": RUN_FRACTION,
    "norms.steps": RUN_STEPS,
    "norms.start": REQUIRED,
    "step_norm": REQUIRED,
    "shape": pool(
        "(3,4) [4,4]",
        "(1,1) (np.int32(3),2) (0.5,2)",
        "None 3 (3,) (3,4,5) (0,3) (3,-1) ('3',4) (True,2) (np.nan,2) {} jnp.ones(2) 'ab' object()",
    ),
    "ball_radius.fraction": also(POSITIVE, wrong="1.5"),
    "hyperball_learning_rate.fraction": also(
        NONNEGATIVE, "1e-4", "0.5 np.array([0.1,0.2])", "None 100.0"
    ),
    "size": COUNT._replace(
        wrong=tuple(x for x in COUNT.wrong if x not in ("jnp.ones(2)", "np.ones((1,1))"))
    ),
    "gradient_norm": also(REQUIRED, "", "np.array([0.1,0.2]) jnp.ones(2)"),
    "theory.learning_rate": also(
        REQUIRED, "", "np.array([0.1,0.2]) jnp.ones(2)", "np.array([0.1,-1.0])"
    ),
    "from_cost_penalty.learning_rate": REQUIRED,
    "convert_weight_decay.learning_rate": POSITIVE,
    "equivalents.learning_rate": POSITIVE,
    "from_timescale.learning_rate": also(POSITIVE, "None")._replace(
        wrong=tuple(x for x in POSITIVE.wrong if x != "None")
    ),
    "from_half_life.learning_rate": also(POSITIVE, "None")._replace(
        wrong=tuple(x for x in POSITIVE.wrong if x != "None")
    ),
    "sgdwr.learning_rate": POSITIVE,
    "adamwr.learning_rate": POSITIVE,
    "scale_by_adabound.learning_rate": RATE._replace(
        good=SCALARS.good[:4], either=(*RATE.either, *SCALARS.good[4:]), wrong=(*RATE.wrong, "0")
    ),
    **dict.fromkeys(
        ("adamw_norm.fraction", "sgdw_norm.fraction", "lion_norm.fraction", "muon_norm.fraction"),
        POSITIVE,
    ),
    "convert_weight_decay.weight_decay": REQUIRED,
    "equivalents.weight_decay": REQUIRED,
    "keep_normalized.weight_decay": REQUIRED,
    "keep_timescale.weight_decay": REQUIRED,
    "equivalents.batch_size": COUNT._replace(either=(*COUNT.either, *COUNT.good, "None"), good=()),
    "equivalents.dataset_size": COUNT._replace(
        either=(*COUNT.either, *COUNT.good, "None"), good=()
    ),
    "equivalents.epochs": COUNT._replace(either=(*COUNT.either, *COUNT.good, "None"), good=()),
    "Run.learning_rate": POSITIVE,
    "Run.batch_size": COUNT._replace(good=("1", "2", "np.int32(2)"), either=("100", *COUNT.either)),
    "Run.dataset_size": COUNT._replace(good=("100", "1e4", "jnp.array(500)")),
    "Run.epochs": COUNT,
    "Run.weight_decay": NONNEGATIVE._replace(good=(*NONNEGATIVE.good, "None")),
    "parameters": OPTIONAL,
    "width": OPTIONAL,
    "depth": OPTIONAL,
    "Run.schedule": pool(
        "None 'cosine' 'linear'",
        "optax.constant_schedule(0.1) optax.cosine_decay_schedule(0.1,100) (lambda\tt:0.1)",
        "'step' 0.1 True {} [] object() jnp.ones(2) (lambda:0.1) (lambda\tt:-0.1) (lambda\tt:'x') "
        "(lambda\tt:float('nan')) (lambda\tt:1e9) (lambda\tt:0.0) dwd.Run optax.adam",
    ),
    "plan.run": pool(
        "dwd.Run(0.1,2,100) dwd.Run(1e-3,8,1e4,3,1e-3,1e6,64,2,'torch','cosine')",
        "",
        "None 'run' 1 {} dwd.Run object() (0.1,2,100)",
    ),
    "reference": pool(
        "None dwd.Run(0.1,2,100,weight_decay=0.1) dwd.Run(0.1,2,100,1,1e-3,1e5,32,1,dwd.LR)",
        "",
        "dwd.Run(0.1,2,100) dwd.Run(0.1,2,100,weight_decay=0) 'run' 1 {} dwd.Run object()",
    ),
    "fitted": pool(f"None dwd.fit_timescale({TUNED})", "", "'fit' 1 {} dwd.fit_timescale object()"),
    "runs": pool(
        TUNED,
        f"2*{TUNED} tuple({TUNED})",
        f"None 1 'runs' [] {{}} {TUNED}[:2] 3*{TUNED}[:1] 3*[dwd.Run(0.1,2,100)] 3*[None] "
        "3*[dwd.Run(0.1,2,100,weight_decay=0,parameters=1)] [1,2,3]",
    ),
    "over": pool(
        "'data_per_parameter' 'data_seen'", "'parameters' 'width'", "None 'tokens' 1 [] {} 'steps'"
    ),
    "level": pool("0.95 0.5", "np.float32(0.9)", "0 1 1.5 -1 None '0.9' float('nan') True [] 1j"),
    "batch_ratio": POSITIVE,
    "dataset_ratio": POSITIVE,
    "epochs_ratio": POSITIVE,
    "learning_rate_ratio": POSITIVE,
    "other": MASK,
}
ARRAYS = {"jnp.ones(2)", "np.ones((1,1))"}  # as good as numbers in theory
for _name in POOLS:
    if _name.endswith(("fraction", "gradient_norm", "theory.learning_rate")):
        _wrong = tuple(x for x in POOLS[_name].wrong if x not in ARRAYS)
        POOLS[_name] = POOLS[_name]._replace(wrong=_wrong)
MAY_BE_NONE = [
    *(f"equivalents.{name}" for name in ("batch_size", "dataset_size", "epochs", "steps")),
    *(f"{name}.learning_rate" for name in ("describe", "preflight", "decouple", "decay_weights")),
    "preflight.steps",
]
for _name in MAY_BE_NONE:
    _base = POOLS.get(_name, POOLS[_name.split(".")[1]])
    _wrong = tuple(x for x in _base.wrong if x != "None")
    POOLS[_name] = _base._replace(wrong=_wrong, either=(*_base.either, "None"))


GRADIENTS = {  # of the params p, by what becomes of them
    "good": {
        "cos": lambda p: each(lambda x: np.asarray(jnp.cos(x)).astype(x.dtype), p),
        "zero": lambda p: each(np.zeros_like, p),
        "jnp": lambda p: each(jnp.ones_like, p),
    },
    "either": {
        "none": lambda p: each(lambda x: None, p),
        "wide": lambda p: each(lambda x: np.ones(x.shape, np.float32), p),
        "narrow": lambda p: each(lambda x: jnp.ones(x.shape, jnp.bfloat16), p),
        "float16": lambda p: each(lambda x: np.ones(x.shape, np.float16), p),
        "nan": lambda p: each(lambda x: x * np.nan, p),
    },
    "wrong": {
        "int": lambda p: each(lambda x: np.ones(x.shape, np.int32), p),
        "bool": lambda p: each(lambda x: np.ones(x.shape, bool), p),
        "float0": lambda p: each(lambda x: np.zeros(x.shape, jax.dtypes.float0), p),
        "longer": lambda p: each(lambda x: np.ones((2, *x.shape), x.dtype), p),
        "scalar": lambda p: each(lambda x: np.ones((), x.dtype), p),
        "numbers": lambda p: each(lambda x: 1.0, p),
        "strings": lambda p: each(lambda x: "x", p),
        "complex": lambda p: each(lambda x: np.ones(x.shape, np.complex64), p),
        "missing": lambda p: {k: v for k, v in p.items() if k != "scale"},
        "more": lambda p: p | {"more": jnp.ones(2)},
        "other": lambda p: {"w": jnp.ones(2)},
        "array": lambda p: jnp.ones(2),
        "nothing": lambda p: None,
    },
}


def each(function, params):
    """The function of every leaf that trains, and the others as they are."""
    return jax.tree.map(lambda x: function(x) if trains(x) else x, params)


def trains(x):
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)
