"""What runs inside of Redis: each script is one step, which all gateways see whole or not at all.

Of each user there are four keys:

- `events`, a sorted set by time. A member is a number of 16 digits that grows with arrival, which
  orders events of the same time; the event's id; where there is more to say of it a byte that no
  UTF-8 has, 254, and what `gateway/history/event.py` writes of it; another such byte, 255; and the
  item's id. Until 0.1.0 it was the number and a JSON list of the two ids: that is read, too.
- `others`, the same of the events that the models do not read.
- `ids`, a sorted set of the ids of all events that were recorded, kept or not, by the times of the
  events. Until 0.1.0 it was a plain set of those that are kept: that is converted.
- `state`, a hash: `version` is another one after each change, and `born` is the time of the
  deletion after which the history began, if the user was ever deleted.

`deleted` is a sorted set of the deleted users, their hashes by the time of deletion; times only
grow. All scripts are told the newest deletion that their gateway knows to be in it. Where that is
missing, Redis has lost deletions (all of one key, or the last of all keys), and they do nothing and
return nil until the gateway has put them back. A history that was not `born` after the deletion of
its user is what Redis should not have any more: it goes as soon as somebody asks for it.
"""

from typing import Final

SEPARATOR: Final = b"\xff"
DETAILS: Final = b"\xfe"
ARRIVAL: Final = 16
"""Digits of the number that a member begins with."""

_BEGIN: Final = """
local events, others, ids, state, deleted = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local user, newest, newest_time = ARGV[1], ARGV[2], ARGV[3]

if newest ~= '' then
  local found = redis.call('ZSCORE', deleted, newest)
  if not found or tonumber(found) < tonumber(newest_time) then
    return false
  end
end
-- When a user was deleted, whose keys go if they are of before.
local function deletion_of(user, events, others, ids, state)
  local deletion = redis.call('ZSCORE', deleted, user)
  if deletion then
    deletion = string.format('%.0f', deletion)
    if tonumber(redis.call('HGET', state, 'born') or -1) < tonumber(deletion) then
      redis.call('DEL', events, others, ids, state)
    end
  end
  return deletion
end
local deletion = deletion_of(user, events, others, ids, state)

local find, sub = string.find, string.sub
"""

_WRITE: Final = """
local function id_of(member)
  local cut = find(member, '\\255', 17, true)
  if not cut then
    return cjson.decode(sub(member, 17))[1]
  end
  local details = find(member, '\\254', 17, true)
  return sub(member, 17, (details and details < cut and details or cut) - 1)
end

-- Makes a sorted set of the plain one of 0.1.0.
local function upgrade(ids, events)
  if redis.call('TYPE', ids).ok == 'set' then
    redis.call('DEL', ids)
    local rows = redis.call('ZRANGE', events, 0, -1, 'WITHSCORES')
    for i = 1, #rows, 2 do
      redis.call('ZADD', ids, rows[i + 1], id_of(rows[i]))
    end
  end
end

-- Of a full list, the time that an event must be newer than.
local function full_since(list, kept)
  return redis.call('ZRANGE', list, -kept, -kept, 'WITHSCORES')[2]
end

-- Adds an event to a list, unless it is known or too old: 'new', 'known' or 'outdated'.
local function add(list, ids, arrivals, full, oldest, time, id, rest)
  local before = redis.call('ZSCORE', ids, id)
  if before and tonumber(before) >= tonumber(oldest) then
    return 'known'
  elseif tonumber(time) < tonumber(oldest) or (full and tonumber(time) <= tonumber(full)) then
    return 'outdated'
  end
  local arrival = string.format('%016d', redis.call('INCR', arrivals))
  redis.call('ZADD', list, time, arrival .. rest)
  redis.call('ZADD', ids, time, id)
  return 'new'
end

-- Only at the end: a script that has removed something adds to a memory that is full.
local function trim(list, ids, kept, oldest)
  redis.call('ZREMRANGEBYRANK', list, 0, -kept - 1)
  redis.call('ZREMRANGEBYSCORE', list, '-inf', '(' .. oldest)
  redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. oldest)
end

local function expire(lifetime, events, others, ids, state)
  local last = -1
  for _, key in ipairs({events, others}) do
    last = math.max(last, tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] or -1))
  end
  if lifetime > 0 and last >= 0 then
    local expiry = string.format('%.0f', (last + lifetime) / 1000)
    for _, key in ipairs({events, others, ids, state}) do
      redis.call('PEXPIREAT', key, expiry)
    end
  end
end
"""

RECORD: Final = (
    _BEGIN
    + _WRITE
    + """
local arrivals = KEYS[6]
local seeded, in_history, version = ARGV[4], ARGV[5] == '1', ARGV[6]
local kept, oldest, lifetime = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
local list = in_history and events or others
if deletion and seeded == '1' then
  return {0}
end

upgrade(ids, events)
local full = full_since(list, kept)
local answer = {0}
for i = 10, #ARGV, 3 do
  local id = ARGV[i + 1]
  local done = add(list, ids, arrivals, full, oldest, ARGV[i], id, id .. ARGV[i + 2])
  if done == 'known' then
    answer[1] = answer[1] + 1
  elseif done == 'new' then
    table.insert(answer, (i - 10) / 3)
  end
end
if #answer > 1 then
  if in_history then
    redis.call('HSET', state, 'version', version)
  end
  if deletion then
    redis.call('HSET', state, 'born', deletion)
  end
  trim(list, ids, kept, oldest)
end
expire(lifetime, events, others, ids, state)
return answer
"""
)
"""Records events of one list of a user: how many were known, and the places of those that are new.

Arguments: whether a bundle's history is what is recorded, whether the models read it, a new
version, how many events are kept, the time of the oldest that is, the microseconds that one is kept
or 0; then the time, the id and the rest of each event's member.
"""

ITEMS: Final = (
    _BEGIN
    + """
local version = redis.call('HGET', state, 'version') or ''
if version ~= '' and version == ARGV[4] then
  return {version}
end
local members = redis.call('ZREVRANGEBYSCORE', events, '+inf', ARGV[5], 'LIMIT', 0, ARGV[6])
local items, count = {}, #members
for place = 1, count do
  local member = members[place]
  local cut = find(member, '\\255', 17, true)
  items[count - place + 1] = cut and sub(member, cut + 1) or cjson.decode(sub(member, 17))[2]
end
local since = count > 0 and redis.call('ZSCORE', events, members[count]) or '0'
return {version, since, table.concat(items, '\\255')}
"""
)
"""The newest items of a user: version, time of the oldest, and the items in one string, in order.

Arguments: the version that is known, for which the answer is that version alone; the time of the
oldest event that counts; how many.
"""

EVENTS: Final = (
    _BEGIN
    + """
local list = ARGV[6] == '1' and events or others
return redis.call(
  'ZREVRANGEBYSCORE', list, '+inf', ARGV[4], 'WITHSCORES', 'LIMIT', 0, ARGV[5])
"""
)
"""The newest events of one list of a user, newest first: members and times in turns.

Arguments: the time of the oldest event that counts; how many; whether the models read them.
"""

_END: Final = """
redis.call('DEL', events, others, ids, state)
local last = redis.call('ZRANGE', deleted, -1, -1, 'WITHSCORES')[2]
local time = tonumber(ARGV[4])
if last and time <= tonumber(last) then
  time = tonumber(last) + 1
end
time = string.format('%.0f', time)
redis.call('ZADD', deleted, time, user)
"""
"""Deletes the user. Argument: the time now. The deletion gets a later one where there is a deletion
as new, because a gateway's clock may be behind another's."""

DELETE: Final = (
    _BEGIN
    + """
local count = redis.call('ZCARD', events) + redis.call('ZCARD', others)
"""
    + _END
    + """
return {count, time}
"""
)
"""Deletes a user: how many events there were, and the time that the deletion got.

Argument: the time now.
"""

MERGE: Final = (
    _BEGIN
    + _WRITE
    + """
local to_events, to_others, to_ids, to_state = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local arrivals, target, version = KEYS[10], ARGV[5], ARGV[6]
local oldest, lifetime = ARGV[7], tonumber(ARGV[8])
local to_deletion = deletion_of(target, to_events, to_others, to_ids, to_state)

upgrade(ids, events)
upgrade(to_ids, to_events)
local counts = {new = 0, known = 0, outdated = 0}
for place, lists in ipairs({{events, to_events}, {others, to_others}}) do
  local from, to, kept = lists[1], lists[2], tonumber(ARGV[8 + place])
  local full, before = full_since(to, kept), counts.new
  local rows = redis.call('ZRANGEBYSCORE', from, oldest, '+inf', 'WITHSCORES')
  for i = 1, #rows, 2 do
    local id, rest = id_of(rows[i]), sub(rows[i], 17)
    local done = add(to, to_ids, arrivals, full, oldest, rows[i + 1], id, rest)
    counts[done] = counts[done] + 1
  end
  if counts.new > before then
    if place == 1 then
      redis.call('HSET', to_state, 'version', version)
    end
    if to_deletion then
      redis.call('HSET', to_state, 'born', to_deletion)
    end
    trim(to, to_ids, kept, oldest)
  end
end
local known = redis.call('ZRANGE', ids, 0, -1, 'WITHSCORES')
if redis.call('EXISTS', to_events, to_others) > 0 then
  for i = 1, #known, 2 do
    redis.call('ZADD', to_ids, 'GT', known[i + 1], known[i])
  end
end
expire(lifetime, to_events, to_others, to_ids, to_state)
"""
    + _END
    + """
return {counts.new, counts.known, counts.outdated, time}
"""
)
"""Moves a user's events to another, and deletes the user: how many were new, known and outdated,
and the time that the deletion got.

Keys: of the user, of the other without `deleted`, and `arrivals`. Arguments: the time now, the
other, a new version, the time of the oldest event that is kept, the microseconds that one is kept
or 0, and how many of each list are.
"""
