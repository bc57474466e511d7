"""What runs inside of Redis: each script is one step, which all gateways see whole or not at all.

Of each user there are three keys:

- `events`, a sorted set by time. A member is a number of 16 digits that grows with arrival, which
  orders events of the same time; the event's id; a byte that no UTF-8 has; and the item's id. Until
  0.1.0 it was the number and a JSON list of the two ids: that is read, too.
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
ARRIVAL: Final = 16
"""Digits of the number that a member begins with."""

KEYS: Final = 4
"""events, ids, state and deleted, of a script's keys."""

_BEGIN: Final = """
local events, ids, state, deleted = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local user, newest, newest_time = ARGV[1], ARGV[2], ARGV[3]

if newest ~= '' then
  local found = redis.call('ZSCORE', deleted, newest)
  if not found or tonumber(found) < tonumber(newest_time) then
    return false
  end
end
local deletion = redis.call('ZSCORE', deleted, user)
if deletion then
  deletion = string.format('%.0f', deletion)
  if tonumber(redis.call('HGET', state, 'born') or -1) < tonumber(deletion) then
    redis.call('DEL', events, ids, state)
  end
end

local find, sub = string.find, string.sub
"""

RECORD: Final = (
    _BEGIN
    + """
local arrivals = KEYS[5]
local seeded, version = ARGV[4], ARGV[5]
local kept, oldest, lifetime = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
if deletion and seeded == '1' then
  return {0, 0}
end

if redis.call('TYPE', ids).ok == 'set' then
  redis.call('DEL', ids)
  local rows = redis.call('ZRANGE', events, 0, -1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local cut = find(rows[i], '\\255', 17, true)
    local id = cut and sub(rows[i], 17, cut - 1) or cjson.decode(sub(rows[i], 17))[1]
    redis.call('ZADD', ids, rows[i + 1], id)
  end
end

-- Of a full history, the time that an event must be newer than.
local full = redis.call('ZRANGE', events, -kept, -kept, 'WITHSCORES')[2]
local new, known = 0, 0
for i = 9, #ARGV, 3 do
  local time, id = tonumber(ARGV[i]), ARGV[i + 1]
  local before = redis.call('ZSCORE', ids, id)
  if before and tonumber(before) >= oldest then
    known = known + 1
  elseif time >= oldest and (not full or time > tonumber(full)) then
    local arrival = string.format('%016d', redis.call('INCR', arrivals))
    redis.call('ZADD', events, ARGV[i], arrival .. id .. '\\255' .. ARGV[i + 2])
    redis.call('ZADD', ids, ARGV[i], id)
    new = new + 1
  end
end
if new > 0 then
  redis.call('HSET', state, 'version', version)
  if deletion then
    redis.call('HSET', state, 'born', deletion)
  end
  -- Only now: a script that has removed something adds to a memory that is full.
  redis.call('ZREMRANGEBYRANK', events, 0, -kept - 1)
  redis.call('ZREMRANGEBYSCORE', events, '-inf', '(' .. ARGV[7])
  redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. ARGV[7])
end
if lifetime > 0 then
  local last = redis.call('ZRANGE', events, -1, -1, 'WITHSCORES')[2]
  if last then
    local expiry = string.format('%.0f', (tonumber(last) + lifetime) / 1000)
    for _, key in ipairs({events, ids, state}) do
      redis.call('PEXPIREAT', key, expiry)
    end
  end
end
return {new, known}
"""
)
"""Records events of a user: how many were new, and how many known.

Arguments: whether a bundle's history is what is recorded, a new version, how many events are kept,
the time of the oldest that is, the microseconds that one is kept or 0; then the time, id and item
of each event.
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
return redis.call(
  'ZREVRANGEBYSCORE', events, '+inf', ARGV[4], 'WITHSCORES', 'LIMIT', 0, ARGV[5])
"""
)
"""The newest events of a user, newest first: members and times in turns.

Arguments: the time of the oldest event that counts; how many.
"""

DELETE: Final = (
    _BEGIN
    + """
local count = redis.call('ZCARD', events)
redis.call('DEL', events, ids, state)
local last = redis.call('ZRANGE', deleted, -1, -1, 'WITHSCORES')[2]
local time = tonumber(ARGV[4])
if last and time <= tonumber(last) then
  time = tonumber(last) + 1
end
time = string.format('%.0f', time)
redis.call('ZADD', deleted, time, user)
return {count, time}
"""
)
"""Deletes a user: how many events there were, and the time that the deletion got.

Argument: the time now. The deletion gets a later one where there is a deletion as new, because a
gateway's clock may be behind another's.
"""
