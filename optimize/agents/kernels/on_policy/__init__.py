"""PPO and A2C, compiled."""
