"""The hyperparameters of the agents: arguments of stable-baselines3 with their meaning, type and range.

Free of torch, so that the command line starts fast; which algorithm takes which is found in its signature.
"""

from typing import Any

from envs.fields import RUN, UNSET, Declared, Setting


def _declare(
    kind: Any,
    meaning: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    excluded: tuple[float, ...] = (),
    allowed: str = "",
    null: str = "",
) -> Declared:
    setting = Setting(
        RUN, meaning, unit, low=low, high=high, above=above, excluded=excluded, allowed=allowed, null=null
    )
    return Declared(kind, UNSET, setting)


HYPERPARAMETERS: dict[str, Declared] = {
    "learning_rate": _declare(float, "Step size of the optimizer.", above=0, high=1),
    "n_steps": _declare(
        int,
        "Length of a rollout in each environment; off-policy, the steps whose rewards one target joins.",
        unit="bars",
        low=1,
    ),
    "batch_size": _declare(int, "Steps in one update of the networks.", unit="steps", low=1),
    "n_epochs": _declare(int, "Passes over a rollout.", low=1),
    "gamma": _declare(
        float, "Discount of the next bar's reward; at 0 an agent looks one step ahead.", unit="a bar",
        low=0, high=1,
    ),
    "gae_lambda": _declare(
        float, "Weight of later rewards against the critic in the estimate of an advantage.", low=0, high=1
    ),
    "clip_range": _declare(float, "Largest change of a policy's probability ratio in an update.", above=0),
    "clip_range_vf": _declare(
        float | None, "Largest change of the critic's value in an update.", above=0, null="no limit"
    ),
    "normalize_advantage": _declare(bool, "Whether advantages are scaled to deviation 1."),
    "ent_coef": _declare(
        float | str, "Weight of the policy's entropy; auto learns it (SAC), auto_0.1 from 0.1 on.", low=0
    ),
    "vf_coef": _declare(float, "Weight of the critic's loss.", low=0),
    "max_grad_norm": _declare(float, "Largest norm of the gradient.", above=0),
    "use_sde": _declare(bool, "Whether exploration noise depends on the state (gSDE)."),
    "sde_sample_freq": _declare(
        int, "Steps between new noise of gSDE.", unit="steps", low=-1, excluded=(0,),
        allowed="at least 1, or -1 (once a rollout)",
    ),
    "target_kl": _declare(
        float | None, "Divergence from the old policy at which a rollout's updates end.", above=0,
        null="no limit",
    ),
    "buffer_size": _declare(int, "Transitions in the replay buffer.", unit="transitions", low=1),
    "learning_starts": _declare(int, "Steps before the first update.", unit="steps", low=0),
    "tau": _declare(float, "Weight of the new weights in each update of a target network.", above=0, high=1),
    "train_freq": _declare(int, "Steps between updates.", unit="steps of each environment", low=1),
    "gradient_steps": _declare(
        int, "Gradient steps of an update.", low=-1, excluded=(0,), allowed="at least 1, or -1 (one a step)"
    ),
    "target_update_interval": _declare(
        int, "Steps between updates of the target network.", unit="steps", low=1
    ),
    "target_entropy": _declare(float | str, "Entropy that SAC aims for; auto is minus the number of assets."),
    "use_sde_at_warmup": _declare(bool, "Whether gSDE explores before the first update too."),
    "policy_delay": _declare(int, "Updates of the critics for each of the policy.", low=1),
    "target_policy_noise": _declare(float, "Deviation of the noise on target actions.", low=0),
    "target_noise_clip": _declare(float, "Largest noise on target actions.", low=0),
    "exploration_fraction": _declare(
        float, "Part of the training in which random actions become rarer.", low=0, high=1
    ),
    "exploration_initial_eps": _declare(float, "First share of random actions.", low=0, high=1),
    "exploration_final_eps": _declare(float, "Last share of random actions.", low=0, high=1),
    "rms_prop_eps": _declare(float, "Constant that RMSprop adds to what it divides by.", above=0),
    "use_rms_prop": _declare(bool, "Whether RMSprop replaces Adam."),
}  # fmt: skip
