"""`fashionflow ARGUMENTS` whose catalogues are made with `quick_model`: python quick_run.py ARGUMENTS"""

import os

from quick_model import OPENER, PATIENCE

from fashionflow_cli.main import main
from fashionflow_core.catalogue import supervisor
from fashionflow_core.catalogue.jobs import RunSpec

if __name__ == "__main__":
    defaults = RunSpec.__init__.__defaults__
    assert defaults is not None and list(RunSpec.__dataclass_fields__)[-1] == "opener"
    RunSpec.__init__.__defaults__ = (*defaults[:-1], OPENER)
    supervisor.PATIENCE = float(os.environ.get(PATIENCE, supervisor.PATIENCE))
    main()
