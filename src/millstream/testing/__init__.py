"""What tests of flows and of adapters use: a clock that the test moves, kills anywhere, and the suites of adapters.

`VirtualClock` and `crash_sweep` need nothing but millstream. The suites (`LedgerContract`, `SharedLedgerContract`,
`AccountsContract`, `FlowStoreContract`, `EventLogContract`, `SegmentBackendContract`) need pytest with the AnyIO
plugin, and are loaded when they are asked for.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from millstream.testing.clock import Hold, VirtualClock
from millstream.testing.sweep import Sweep, SweepError, crash_sweep

if TYPE_CHECKING:
    from millstream.testing.contract_accounts import AccountsContract
    from millstream.testing.contract_backend import SegmentBackendContract
    from millstream.testing.contract_events import EventLogContract
    from millstream.testing.contract_flow_store import FlowStoreContract
    from millstream.testing.contract_ledger import LedgerContract
    from millstream.testing.contract_shared_ledger import SharedLedgerContract

__all__ = [
    "AccountsContract",
    "EventLogContract",
    "FlowStoreContract",
    "Hold",
    "LedgerContract",
    "SegmentBackendContract",
    "SharedLedgerContract",
    "Sweep",
    "SweepError",
    "VirtualClock",
    "crash_sweep",
]

_SUITES = {
    "AccountsContract": "millstream.testing.contract_accounts",
    "EventLogContract": "millstream.testing.contract_events",
    "FlowStoreContract": "millstream.testing.contract_flow_store",
    "LedgerContract": "millstream.testing.contract_ledger",
    "SegmentBackendContract": "millstream.testing.contract_backend",
    "SharedLedgerContract": "millstream.testing.contract_shared_ledger",
}

_SUITE_PARTS = ("waits", "aliases", "finding", "sides")


def __getattr__(name: str) -> Any:
    """Load a suite on first use, with asserts that show what they compared."""
    if name not in _SUITES:
        raise AttributeError(f"module 'millstream.testing' has no attribute {name!r}")
    module = _SUITES[name]
    if module not in sys.modules:
        import pytest  # noqa: PLC0415  only the suites need it

        pytest.register_assert_rewrite(module, *(f"{module}_{part}" for part in _SUITE_PARTS))
    return getattr(import_module(module), name)
