"""The graphed engine is asked for by name, trains whole agents, and leaves ordinary SB3 files behind."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3

from optimize.agents.agent import load_agent, load_sb3
from optimize.agents.build import algorithm_of
from optimize.agents.compiled.qualify import choose_engine
from optimize.agents.graphed.algorithm import Graphed
from optimize.agents.graphed.ppo import GraphedPPO
from optimize.agents.graphed.sac import GraphedSAC
from optimize.agents.registry import ALGORITHMS, GRAPHED
from optimize.agents.spec import AgentSpec, check_agent
from optimize.errors import BadInputError
from tests.optimize.agents.compiled.support import collect, furthest, make_model, make_vec_env
from tests.optimize.agents.graphed.support import off_policy_pair, on_policy_pair, optimizers, train_rollouts
from tests.optimize.agents.support import probe_observations, same_weights, small_spec, train_small


@pytest.mark.parametrize("name", ["ppo", "sac", "td3", "dqn", "a2c"])
def test_an_agent_trains_as_stock_does_and_comes_back(name: str, tmp_path: Path) -> None:
    ours, again = (train_small(small_spec(name, engine="graphed", total_timesteps=192)) for _ in range(2))
    stock = train_small(small_spec(name, engine="stock", total_timesteps=192))
    assert isinstance(ours.model, Graphed)
    assert not ours.model._static
    assert same_weights(ours, again)
    assert furthest(ours.model, stock.model) < 1e-4  # type: ignore[arg-type]
    ours.save(tmp_path)
    seen = probe_observations(ours)
    start = np.ones(len(seen), dtype=bool)
    assert (load_agent(tmp_path).act(seen, None, start)[0] == ours.act(seen, None, start)[0]).all()
    assert type(load_sb3(tmp_path)) is {"ppo": PPO, "sac": SAC, "td3": TD3, "dqn": DQN, "a2c": A2C}[name]


def test_plain_sb3_loads_the_file_with_its_optimizer_and_trains_on(tmp_path: Path) -> None:
    ours, theirs = on_policy_pair(GraphedPPO, PPO, n_steps=16, batch_size=16, n_epochs=2)
    train_rollouts(ours, theirs, 2)
    ours.save(tmp_path / "model.zip")
    loaded = {cls: cls.load(tmp_path / "model.zip", env=make_vec_env()) for cls in (PPO, GraphedPPO)}
    (stored,) = loaded[PPO].policy.optimizer.state_dict()["param_groups"]
    assert type(stored["lr"]) is float
    assert stored["capturable"] is False
    for cls, model in loaded.items():
        model.set_logger(ours.logger)
        assert type(model) is cls
        state, mine = (next(iter(each.policy.optimizer.state.values())) for each in (model, ours))
        assert state["step"] == mine["step"] == 16
        assert (state["exp_avg"] == mine["exp_avg"]).all()
    collect(loaded[PPO])
    train_rollouts(loaded[GraphedPPO], loaded[PPO], 1)
    assert furthest(loaded[GraphedPPO], loaded[PPO]) < 1e-5
    assert furthest(loaded[PPO], ours) > 1e-3


def test_sac_keeps_its_temperature_in_the_file(tmp_path: Path) -> None:
    ours, _ = off_policy_pair(GraphedSAC, SAC)
    ours.train(5, 16)
    ours.save(tmp_path / "model.zip")
    loaded = SAC.load(tmp_path / "model.zip")
    assert loaded.log_ent_coef is not None
    assert float(loaded.log_ent_coef.detach()) == float(ours.log_ent_coef.detach()) != 0.0
    assert all(type(each.param_groups[0]["lr"]) is float for each in optimizers(loaded))


def test_a_file_of_plain_sb3_is_trained_on(tmp_path: Path) -> None:
    plain = make_model(PPO, n_steps=16, batch_size=16, n_epochs=2)
    collect(plain)
    plain.train()
    plain.save(tmp_path / "model.zip")
    ours, theirs = (cls.load(tmp_path / "model.zip", env=make_vec_env()) for cls in (GraphedPPO, PPO))
    for model in (ours, theirs):
        model.set_logger(plain.logger)
    collect(theirs)
    train_rollouts(ours, theirs, 2)
    assert furthest(ours, theirs) < 1e-5


def test_new_parameters_take_new_steps() -> None:
    ours, theirs = on_policy_pair(GraphedPPO, PPO, n_steps=16, batch_size=16, n_epochs=2)
    train_rollouts(ours, theirs, 1)
    assert ours._static
    ours.set_parameters(copy.deepcopy(theirs.get_parameters()), device="cpu")
    assert not ours._static
    train_rollouts(ours, theirs, 2)
    assert furthest(ours, theirs) < 1e-5


def test_it_is_had_by_name_only() -> None:
    assert choose_engine(AgentSpec(engine="graphed"), "cuda").name == "graphed"
    assert choose_engine(AgentSpec(), "cuda").name == "stock"
    assert choose_engine(AgentSpec(), "cpu").name == "compiled"
    assert set(GRAPHED) == set(ALGORITHMS)
    for name in GRAPHED:
        assert issubclass(algorithm_of(AgentSpec(name=name, engine="graphed")), Graphed)


def test_what_is_not_graphed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = AgentSpec(engine="graphed", hyperparameters={"use_sde": True})
    with pytest.raises(BadInputError, match=r"^agent\.engine='graphed' cannot be used: agent\.use_sde"):
        check_agent(spec)
    monkeypatch.delitem(GRAPHED, "td3")
    with pytest.raises(BadInputError, match=r"'td3' is not graphed, only ppo, sac, dqn, a2c; set"):
        check_agent(AgentSpec(name="td3", engine="graphed"))


def test_a_loss_that_is_no_number_is_logged_as_such() -> None:
    ours: Any
    ours, _ = on_policy_pair(GraphedPPO, PPO, n_steps=16, batch_size=16, n_epochs=1)
    collect(ours)
    with torch.no_grad():
        next(ours.policy.parameters()).fill_(math.nan)
    ours.train()
    assert math.isnan(ours.logger.name_to_value["train/loss"])
