"""`fashionflow ARGUMENTS` whose catalogues are made with `quick_model`: python quick_run.py ARGUMENTS"""

from quick_model import OPENER

from fashionflow_cli.main import main
from fashionflow_core.catalogue.work import Work

if __name__ == "__main__":
    defaults = Work.__init__.__defaults__
    assert defaults is not None and list(Work.__dataclass_fields__)[-1] == "opener"
    Work.__init__.__defaults__ = (*defaults[:-1], OPENER)
    main()
