"""What users interacted with: recorded, kept, read and deleted.

event.py       what is known of an event
store.py       what every store promises
bundle.py      the users of the data that the bundle was built from; read-only
sqlite.py      one file, for one gateway: the default
partitions.py  its tables, of which a part can be written anew
scrubs.py      when that is done, to leave nothing of deleted users
writer.py      its thread, which writes what comes together in one transaction
recent.py      the histories that were read lately, in memory beside it
redis.py       shared by several gateways
opening.py     which of these the settings ask for
upkeep.py      fills a new store, and lets events expire
servicer.py    the methods of the contract, with requests.py and paging.py
"""

from gateway.history.bundle import BundleHistoryStore
from gateway.history.event import Event, Shown
from gateway.history.store import HistoryStore, Recorded, Retention

__all__ = ["BundleHistoryStore", "Event", "HistoryStore", "Recorded", "Retention", "Shown"]
