"""What workers import for the contract of backends: all its tasks and flows, those in its tables of tasks too."""

import pkgutil
from importlib import import_module

from millstream import testing
from millstream.authoring.flow import Flow
from millstream.authoring.task import Task
from millstream.testing import contract_backend

_modules = [
    import_module(f"{package.__name__}.{found.name}")
    for package in (testing, contract_backend)
    for found in pkgutil.iter_modules(package.__path__)
    if package is contract_backend or found.name in ("contract_attempts", "contract_bound", "contract_tasks")
]
for _module in _modules:
    for _value in list(vars(_module).values()):
        for _known in _value.values() if isinstance(_value, dict) else [_value]:
            if isinstance(_known, Task | Flow) and globals().setdefault(_known.name, _known) is not _known:
                raise TypeError(f"two tasks of the suite are named {_known.name}")
