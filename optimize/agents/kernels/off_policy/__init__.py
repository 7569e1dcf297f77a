"""SAC, TD3 and DQN, compiled."""
