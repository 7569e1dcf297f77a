"""The market an agent lives in.

`import envs.vector`, or `import envs` after `import gymnasium`, registers its environments in Gymnasium;
`import envs` alone loads no Gymnasium, so that the commands that read records start fast.
"""

import sys

if "gymnasium" in sys.modules:
    from envs.registration import register_environments

    register_environments()
