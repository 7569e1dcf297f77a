"""stable-baselines3 agents behind the Policy protocol; the only home of torch."""
