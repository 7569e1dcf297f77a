"""Run a study: launch, workers, trials up to an exact cap, phases, dashboard."""
