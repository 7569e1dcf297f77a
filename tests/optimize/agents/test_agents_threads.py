"""One BLAS thread in any environment: sums in another order would change a score's last digits."""

import subprocess
import sys


def test_the_loaded_blas_keeps_to_one_thread_in_an_environment_that_allows_four() -> None:
    program = (
        "import numpy, threadpoolctl\n"
        "from optimize.agents.threads import limit_threads\n"
        "limit_threads(1)\n"
        "blas = [each for each in threadpoolctl.threadpool_info() if each['user_api'] == 'blas']\n"
        "print(len(blas) >= 2, {each['num_threads'] for each in blas})"
    )
    environment = {"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["True", "{1}"]
