"""What a history store promises, as plainly as it can be said: a model to compare stores with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.history import Event, Recorded, Retention


@dataclass
class _User:
    lists: dict[bool, list[Event]] = field(default_factory=lambda: {True: [], False: []})
    """Those that the models read, and the others. Oldest first; of the same time, in the order of
    arrival."""
    times: dict[str, int] = field(default_factory=dict)
    """Of every event that was recorded and is not too old, by its identifier."""


@dataclass
class HistoryModel:
    """Histories in lists. Nothing is dropped before its user has an event to record."""

    retention: Retention
    users: dict[str, _User] = field(default_factory=lambda: defaultdict(_User))

    def record(self, events: Sequence[Event]) -> Recorded:
        lists = defaultdict(list)
        for event in events:
            lists[event.user_id, event.in_history].append(event)
        return sum((self._record(*which, part) for which, part in lists.items()), Recorded())

    def _record(self, user_id: str, in_history: bool, events: Sequence[Event]) -> Recorded:
        user, oldest = self.users[user_id], self.retention.oldest()
        most, kept = self.retention.most(in_history=in_history), user.lists[in_history]
        user.times = {name: time for name, time in user.times.items() if time >= oldest}
        full = kept[-most].time if len(kept) >= most else -1
        added, known = [], 0
        for event in events:
            if event.event_id in user.times:
                known += 1
            elif event.time >= oldest and event.time > full:
                added.append(event)
                user.times[event.event_id] = event.time
        if added:
            kept = sorted([*kept, *added], key=lambda e: e.time)  # stable
            user.lists[in_history] = [e for e in kept[-most:] if e.time >= oldest]
        return Recorded.of(added, known, len(events))

    def events(self, user_id: str, *, in_history: bool = True) -> list[Event]:
        most = self.retention.most(in_history=in_history)
        kept = self.users[user_id].lists[in_history][-most:]
        return [e for e in kept if e.time >= self.retention.oldest()]

    def merge(self, source: str, user_id: str) -> Recorded:
        total, oldest = Recorded(), self.retention.oldest()
        for in_history in (True, False):
            kept = [e for e in self.users[source].lists[in_history] if e.time >= oldest]
            if kept:
                theirs = [replace(event, user_id=user_id) for event in kept]
                total += self._record(user_id, in_history, theirs)
        times = self.users[user_id].times
        for name, time in self.users[source].times.items():
            times[name] = max(time, times.get(name, 0))
        self.delete(source)
        return total

    def delete(self, user_id: str) -> None:
        self.users.pop(user_id, None)
