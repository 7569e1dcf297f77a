"""What an agent must offer to act in a market."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Policy(Protocol):
    """Anything that maps observations to actions; recurrent agents thread their state through."""

    def act(
        self, observation: NDArray[np.float32], state: Any, start: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Any]:
        """Return actions and the next state for observation (N, D); start (N,) marks first steps."""
        ...
