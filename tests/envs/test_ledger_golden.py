"""A table worked by hand: twice the equity long, then short, with every cost at once."""

import numpy as np
import pytest

from envs.costs import CostSpec
from envs.spec import EnvSpec
from tests.envs.environments import make_env, play, with_gaps
from tests.markets import make_market

LONG, SHORT = 2, 0
COST = CostSpec(commission_bps=10.0, slippage_bps=20.0, borrow_rate=0.10, short_rate=0.20, cash_rate=0.05)
OPEN = [100.0, 100.0, 106.0, 110.0, 104.5]
CLOSE = [100.0, 105.0, 110.0, 104.5, 99.5]

# A year has pauses of 0.01 before bars of 0.09, so a rate of 10 % takes 0.001 over a pause, 0.009 over a bar.
#
# bar 1, buys: idle cash earns 5 % x 0.01 = 0.0005 over the pause; 2 x 1.0005 / 100 = 0.02001 units
#   slippage 2.001 x 0.002, commission 0.02001 x 100.2 x 0.001; cash 1.0005 - 2.001 - 0.006007002
#   borrows 1.006507002: 0.009058563018 over the bar; equity 0.02001 x 105 - 1.015565565018
# bar 2, holds: 0.001 x 1.015565565018 = 0.001015565565018, then 0.009 x 1.016581130583018
#   = 0.009149230175247; equity 0.02001 x 110 - 1.025730360758265
# bar 3, turns: 0.001 x 1.025730360758265; equity at the fill 2.2011 - 1.026756091119023 = 1.174343908880977
#   short 2 x 1.174343908880977 / 110 = 0.0213517074341996, so sells 0.0413617074341996 for 4.549787817761953
#   slippage x 0.002, commission 0.0413617074341996 x 109.78 x 0.001; cash 3.509391462765279
#   over the bar 20 % on 2.348687817761953 short is 0.042276380719715, and 5 % earned on the
#   1.160703645003326 that is not proceeds 0.005223166402515; equity 3.472338248448079 - 0.02135... x 104.5
# bar 4, closes: pause 0.002 x 2.231253426873856 - 0.0005 x (3.472338248448079 - 2.231253426873856)
#   buys back at 104.5: slippage x 0.002, commission 0.02135... x 104.709 x 0.001; cash 1.230544634343786
#   idle over the bar earns 0.0045 x 1.230544634343786 = 0.005537450854547
TABLE = {
    "traded": [0.02001, 0.0, -0.0413617074341996, 0.0213517074341996],
    "quantity": [0.02001, 0.02001, -0.0213517074341996, 0.0],
    "price": [100.0, 106.0, 110.0, 104.5],
    "commission": [0.002005002, 0.0, 0.00454068824212643, 0.0022357159337276],
    "slippage": [0.004002, 0.0, 0.00909957563552391, 0.00446250685374771],
    "financing": [0.008558563018, 0.0101647957402652, 0.0380789446779585, -0.00169548641158645],
    "turnover": [2.0, 0.0, 4.549787817761953 / 1.174343908880977, 2.231253426873856 / 1.23724285713126],
    "cash": [-1.015565565018, -1.02573036075827, 3.47233824844808, 1.23608208519833],
    "equity": [1.085484434982, 1.17536963924173, 1.24108482157422, 1.23608208519833],
    "weight": [1.93558740437843, 1.87268747338071, -1.79782508663967, 0.0],
}


@pytest.mark.parametrize("column", list(TABLE))
def test_leverage_and_financing_equal_the_table(column: str) -> None:
    market = with_gaps(make_market(CLOSE, open=OPEN), 0.01, 0.09)
    env = make_env(market, env=EnvSpec(action="discrete", max_leverage=2.0), cost=COST)
    steps = play(env, [LONG, LONG, SHORT, SHORT])
    shown = np.reshape(getattr(steps, column), len(CLOSE) - 1)
    np.testing.assert_allclose(shown, TABLE[column], rtol=1e-13, atol=1e-14)
