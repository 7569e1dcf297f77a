"""The life of a trial: claimed under the cap, run, judged, told to Optuna."""
