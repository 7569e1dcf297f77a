"""What people look at in optuna-dashboard: notes, pictures and figures."""
