"""Keys of an agent of an extension: a resume by name knows them, and names the one that was meant."""

from pathlib import Path

import pytest

from optimize import compose, extensions
from optimize.agents.registry import ALGORITHMS, hyperparameters_of
from tests.optimize.cli.conftest import Run
from tests.optimize.cli.test_cli_resume import store

AGENT = """from stable_baselines3 import PPO

from optimize.agents.registry import agent


@agent("mine")
class Mine(PPO):
    def __init__(self, policy, env, learning_rate: float = 3e-4, n_steps: int = 256, batch_size: int = 256,
                 n_epochs: int = 10, gamma: float = 0.99, gae_lambda: float = 0.95, clip_range: float = 0.2,
                 ent_coef: float = 0.0, vf_coef: float = 0.5, max_grad_norm: float = 0.5,
                 wobble: int = 3, **others):
        super().__init__(policy, env, **others)
"""


@pytest.mark.slow
def test_a_resume_by_name_knows_the_keys_of_a_stored_agent(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "my_agents.py"
    path.write_text(AGENT, encoding="utf-8")
    space = ["~space", "+space.agent.wobble=[2,3]"]
    chosen = [f"extensions=[{path}]", "data=synthetic", "agent.name=mine"]
    words = ["name=mine", *chosen, "agent.wobble=4", *space]
    spec = compose("study", words)
    assert spec.agent.hyperparameters["wobble"] == 4
    place = store(tmp_path, spec, words)
    for word, said in (
        ("agent.wobble=5", "  agent.wobble: started with 4, now 5"),
        ("agent.wobbel=5", "agent.wobbel is not an argument of mine: did you mean wobble?"),
        ("agent.wobble=many", "agent.wobble='many' is not allowed"),
        ("space.agent.wobbel=[2,3]", "did you mean space.agent.wobble?"),
    ):
        extensions._LOADED.clear()  # as a new process knows none
        ALGORITHMS.pop("mine", None)
        hyperparameters_of.cache_clear()
        code, _, error = run("study", "name=mine", place, word)
        assert (code, said in error) == (2, True), error
