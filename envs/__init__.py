"""The market an agent lives in."""

import gymnasium

gymnasium.register(
    "Walkforge/Trading-v0",
    entry_point="envs.single:TradingEnv",
    vector_entry_point="envs.vector:TradingVectorEnv",
)
