"""The scripts that look at the alarms of all shards, on one server.

The index over all shards has the key of each set of alarms, which is that of a shard and
a type, by the earliest of it. What a look costs grows with the sets that are due, not
with the alarms.
"""

from __future__ import annotations

INDEX = r"""
-- KEYS: earliest alarms, then each shard's types by their earliest alarm.
-- Builds the index anew.
redis.call('DEL', KEYS[1])
for number = 2, #KEYS do
  local found = redis.call('ZRANGE', KEYS[number], 0, -1, 'WITHSCORES')
  for at = 1, #found, 2 do
    redis.call('ZADD', KEYS[1], found[at + 1], KEYS[number] .. ':' .. found[at])
  end
end
return redis.call('ZCARD', KEYS[1])
"""

WANTED = r"""
-- ARGV[3] and more: packed types, or none for all of them.
local earliest, types, all = KEYS[1], {}, #ARGV < 3
for number = 3, #ARGV do
  types[ARGV[number]] = true
end

local function is_wanted(alarms)
  local _, last = string.find(alarms, '}:w:', #earliest - 1, true)
  return all or types[string.sub(alarms, last + 1)]
end

-- The sets of the wanted types that have alarms up to then.
local function due_sets(latest)
  local due = {}
  for _, alarms in ipairs(redis.call('ZRANGEBYSCORE', earliest, '-inf', latest)) do
    if is_wanted(alarms) then
      due[#due + 1] = alarms
    end
  end
  return due
end
"""

ALARMS = (
    WANTED
    + r"""
-- KEYS: earliest alarms, which names the others.  ARGV: now, limit, types.
-- Gives {time, id, time, id, ...}: at least the `limit` earliest, in no order.
local limit, latest = tonumber(ARGV[2]), ARGV[1]
local found = {}

local function keep_the_earliest()
  table.sort(found, function(one, other)
    return one.time < other.time or (one.time == other.time and one.id < other.id)
  end)
  for number = #found, limit + 1, -1 do
    found[number] = nil
  end
  latest = found[limit].text
end

for _, alarms in ipairs(due_sets(latest)) do
  local due =
    redis.call('ZRANGEBYSCORE', alarms, '-inf', latest, 'WITHSCORES', 'LIMIT', 0, limit)
  for number = 1, #due, 2 do
    local text = due[number + 1]
    found[#found + 1] = {time = tonumber(text), text = text, id = due[number]}
  end
  if #found >= 4 * limit then
    keep_the_earliest()
  end
end
local reply = {}
for _, alarm in ipairs(found) do
  reply[#reply + 1] = alarm.text
  reply[#reply + 1] = alarm.id
end
return reply
"""
)

NEXT_ALARM = (
    WANTED
    + r"""
-- KEYS: earliest alarms, which names the others.  ARGV: the time to look behind, or
-- '-inf', nothing, types.
local after = ARGV[1]

-- Of sets that begin later the first is as early as any; the others hold some before.
local function first_of_later_sets()
  for start = 0, redis.call('ZCARD', earliest), 100 do
    local found = redis.call(
      'ZRANGEBYSCORE', earliest, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', start, 100)
    for at = 1, #found, 2 do
      if is_wanted(found[at]) then
        return found[at + 1]
      end
    end
    if #found == 0 then
      return false
    end
  end
  return false
end

local next_text = first_of_later_sets()
for _, alarms in ipairs(due_sets(after)) do
  local text = redis.call(
    'ZRANGEBYSCORE', alarms, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if text and (not next_text or tonumber(text) < tonumber(next_text)) then
    next_text = text
  end
end
return next_text
"""
)
