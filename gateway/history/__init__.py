"""What users interacted with: recorded, kept, read and deleted.

store.py    what every store promises
bundle.py   the users of the data that the bundle was built from; read-only
sqlite.py   one file, for one gateway: the default
redis.py    shared by several gateways
"""

from gateway.history.bundle import BundleHistoryStore
from gateway.history.store import Event, HistoryStore, Recorded, Retention

__all__ = ["BundleHistoryStore", "Event", "HistoryStore", "Recorded", "Retention"]
