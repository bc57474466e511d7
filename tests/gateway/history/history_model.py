"""What a history store promises, as plainly as it can be said: a model to compare stores with."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.history import Event, Recorded, Retention


@dataclass
class _User:
    events: list[Event] = field(default_factory=list)
    """Oldest first; of the same time, in the order of arrival."""
    times: dict[str, int] = field(default_factory=dict)
    """Of every event that was recorded and is not too old, by its identifier."""


@dataclass
class HistoryModel:
    """Histories in lists. Nothing is dropped before its user has an event to record."""

    retention: Retention
    users: dict[str, _User] = field(default_factory=lambda: defaultdict(_User))

    def record(self, events: Sequence[Event]) -> Recorded:
        by_user = defaultdict(list)
        for event in events:
            by_user[event.user_id].append(event)
        return sum((self._record(*part) for part in by_user.items()), Recorded())

    def _record(self, user_id: str, events: Sequence[Event]) -> Recorded:
        user, oldest, most = self.users[user_id], self.retention.oldest(), self.retention.events
        user.times = {name: time for name, time in user.times.items() if time >= oldest}
        full = user.events[-most].time if len(user.events) >= most else -1
        new = known = 0
        for event in events:
            if event.event_id in user.times:
                known += 1
            elif event.time >= oldest and event.time > full:
                new += 1
                user.times[event.event_id] = event.time
                user.events.append(event)
        user.events.sort(key=lambda e: e.time)  # stable
        if new:
            user.events = [e for e in user.events[-most:] if e.time >= oldest]
        return Recorded(new, known, len(events) - new - known)

    def events(self, user_id: str) -> list[Event]:
        kept = self.users[user_id].events[-self.retention.events :]
        return [e for e in kept if e.time >= self.retention.oldest()]

    def delete(self, user_id: str) -> None:
        self.users.pop(user_id, None)
