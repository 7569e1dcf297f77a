"""gym-anytrading's forex environment on the features it is handed, as its documentation tells to add them."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from gym_anytrading.envs import ForexEnv
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from benchmarks.peers.rounds import Tape, batch, read_tape, serve, single


def make(tape: Tape) -> ForexEnv:
    """Make one environment: short or long, one fee, each observation a view of the features."""
    frame = pd.DataFrame({"Close": tape.close[:, 0]})

    class OnFeatures(ForexEnv):
        def _process_data(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            return tape.close[:, 0].astype(np.float32), tape.features[:, 0]

    return OnFeatures(frame, tape.lookback, (tape.lookback, len(frame)))


if __name__ == "__main__":
    handed = read_tape(Path(sys.argv[1]))
    sides = handed.choices % 2
    serve(
        {
            "sync": lambda: batch(
                SyncVectorEnv([lambda: make(handed)] * handed.num_envs, copy=False), sides, handed.num_envs
            ),
            "single": lambda: single(make(handed), sides[:, 0].tolist()),
        }
    )
