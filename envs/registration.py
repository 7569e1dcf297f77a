"""The environments under their name in Gymnasium: `gymnasium.make("Walkforge/Trading-v0")` makes one."""

import gymnasium

ENVIRONMENT_ID = "Walkforge/Trading-v0"


def register_environments() -> None:
    """Register the single and the vector environment, once."""
    if ENVIRONMENT_ID not in gymnasium.registry:
        gymnasium.register(
            ENVIRONMENT_ID,
            entry_point="envs.single:TradingEnv",
            vector_entry_point="envs.vector:TradingVectorEnv",
        )
