"""The script of a commit; `scripts` puts its prelude before it."""

from __future__ import annotations

from rivet_ray.store import TOMBSTONE_KEPT, TOMBSTONES

COMMIT = (
    f"""
-- Tombstones are swept after this, and are those of the last lives: nobody repeats a
-- destroy as late.
local TOMBSTONE_KEPT, TOMBSTONES = {TOMBSTONE_KEPT:.0f}, {TOMBSTONES}
"""
    + r"""
-- KEYS: identity, the shard's types by their earliest alarm, sizes, ids; for each commit its
-- actor, the alarms of its type and the index of each entry that it changes; then the
-- earliest alarms of all shards, which a cluster has none of.
-- ARGV: store, seen, then for each commit: id, generation, packed type, epoch, token,
-- sequence, alarm or '', '1' to destroy, number of entries, number of deleted fields, number
-- of put fields and values; the entries as pairs of a number and '+' and a packed value, or
-- '-'; the deleted fields; the put fields and values.  Gives {changes, the results}.
local alarm_types, sizes, ids = KEYS[2], KEYS[3], KEYS[4]
local at_key, at_argument = 5, 3
local alarm_changes = {}

-- A command with the arguments ARGV[first] to ARGV[last], which may be more than
-- Lua's stack holds. Chunks are even, so that pairs stay together.
local function call_with_arguments(command, key, first, last)
  for start = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, start, math.min(start + 999, last)))
  end
end

local function earliest_of(alarms)
  return redis.call('ZRANGE', alarms, 0, 0, 'WITHSCORES')[2]
end

local function earliest_without(alarms, id)
  local found = redis.call('ZRANGE', alarms, 0, 1, 'WITHSCORES')
  if found[1] == id then
    return found[4]
  end
  return found[2]
end

-- Reads what is going to be written, so that a key of another kind fails first. From here
-- on no key may be used once it has gone: while its slot moves, Redis takes it for one
-- that has moved, and ends the script. So what is new is added before the old is removed.
local function look(one, alarm, bytes)
  if alarm ~= one.stored_alarm then
    one.earliest = earliest_of(one.alarms)
    redis.call('ZCARD', alarm_types)
  end
  if bytes ~= 0 then
    redis.call('HLEN', sizes)
  end
  for _, index in ipairs(one.indexes) do
    redis.call('ZCARD', index)
  end
end

local function set_alarm(one, alarm)
  if alarm == one.stored_alarm then
    return
  end
  local before, now = one.earliest, nil
  if alarm == '' then
    redis.call('HDEL', one.actor, 'alarm')
    now = earliest_without(one.alarms, one.id)
    redis.call('ZREM', one.alarms, one.id)
  else
    redis.call('HSET', one.actor, 'alarm', alarm)
    redis.call('ZADD', one.alarms, alarm, one.id)
    now = earliest_of(one.alarms)
  end
  if now and now ~= before then
    redis.call('ZADD', alarm_types, now, one.kind)
  elseif not now and before then
    redis.call('ZREM', alarm_types, one.kind)
  end
  if now ~= before then
    alarm_changes[one.alarms] = now or false
  end
end

-- A member is the value, which index 0 has none of, the key, two zeros and the id.
local function set_entries(one, place)
  local key = string.sub(place, #one.kind + 1) .. '\0\0' .. one.id
  for number = 1, one.entries do
    local index, wanted = ARGV[one.first + 2 * number - 2], ARGV[one.first + 2 * number - 1]
    local entries, field = one.indexes[number], 'i:' .. index
    local stored = index == '0' and '' or redis.call('HGET', one.actor, field)
    local value = string.sub(wanted, 1, 1) == '+' and string.sub(wanted, 2)
    if value then
      redis.call('HSET', one.actor, field, value)
      redis.call('ZADD', entries, 0, value .. key)
    else
      redis.call('HDEL', one.actor, field)
    end
    if stored and stored ~= value then
      redis.call('ZREM', entries, stored .. key)
    end
  end
end

local function length(actor, field)
  return redis.call('HSTRLEN', actor, field)
end

local function grow(one, bytes)
  if bytes ~= 0 then
    redis.call('HINCRBY', one.actor, 'size', bytes)
    redis.call('HINCRBY', sizes, 'b:' .. one.kind, bytes)
  end
end

-- The tombstone, and those of the lives before, as fields and values.
local function tombstones_with(one, tombstone)
  local last, kept = tonumber(one.generation), {'d:' .. one.generation, tombstone}
  for generation = last - 1, math.max(1, last - TOMBSTONES + 1), -1 do
    local field = string.format('d:%d', generation)
    local earlier = redis.call('HGET', one.actor, field)
    if earlier then
      kept[#kept + 1], kept[#kept + 2] = field, earlier
    end
  end
  return kept
end

-- Removes every field but those of the tombstone, which expires.
local function bury(one, kept)
  local stay, gone = {v = true, generation = true, epoch = true}, {}
  for at = 1, #kept, 2 do
    stay[kept[at]] = true
  end
  for _, field in ipairs(redis.call('HKEYS', one.actor)) do
    if not stay[field] then
      gone[#gone + 1] = field
    end
  end
  for start = 1, #gone, 1000 do
    redis.call('HDEL', one.actor, unpack(gone, start, math.min(start + 999, #gone)))
  end
  redis.call('EXPIRE', one.actor, TOMBSTONE_KEPT)
end

local function destroy(one, place, tombstone, size)
  local kept = tombstones_with(one, tombstone)
  look(one, '', -1)
  redis.call('ZCARD', ids)
  redis.call('HSET', one.actor, 'v', FORMAT, 'generation', one.generation, 'epoch', one.epoch,
    unpack(kept))
  set_alarm(one, '')
  set_entries(one, place)
  redis.call('ZREM', ids, one.id)
  redis.call('HINCRBY', sizes, 'n:' .. one.kind, -1)
  if size ~= '0' then
    redis.call('HINCRBY', sizes, 'b:' .. one.kind, '-' .. size)
  end
  bury(one, kept)
end

local function growth(one, deletes, puts, last)
  local bytes = 0
  for number = deletes, puts - 1 do
    bytes = bytes - length(one.actor, ARGV[number])
  end
  for number = puts, last, 2 do
    if string.sub(ARGV[number], 1, 2) == 'p:' then
      bytes = bytes + #ARGV[number + 1] - length(one.actor, ARGV[number])
    end
  end
  return bytes
end

local function commit(one)
  local generation, epoch, token, sequence, alarm, place, size =
    fields(one.actor, 'generation', 'epoch', 'token', 'sequence', 'alarm', 'place', 'size')
  local tombstone = table.concat({one.epoch, one.sequence, one.token}, ' ')
  if generation ~= one.generation or not token then
    local destroyed = redis.call('HGET', one.actor, 'd:' .. one.generation)
    return destroyed == tombstone and 'already_done' or 'fenced'
  end
  if epoch ~= one.epoch or token ~= one.token or string.sub(place, 1, #one.kind) ~= one.kind then
    return 'fenced'
  end
  one.stored_alarm = alarm or ''
  local ahead = tonumber(one.sequence) - tonumber(sequence or 0)
  if ahead == 0 then
    return 'already_done'
  elseif ahead > 1 then
    return 'behind'
  elseif ahead < 0 then
    return 'fenced'
  end
  if one.destroyed == '1' then
    destroy(one, place, tombstone, size)
    return 'committed'
  end
  local deletes = one.first + 2 * one.entries
  local puts = deletes + one.deletes
  local last = puts + one.puts - 1
  local bytes = growth(one, deletes, puts, last)
  look(one, one.alarm, bytes)
  -- The first write: one that needs memory, since Redis refuses none behind another.
  redis.call('HSET', one.actor, 'sequence', one.sequence)
  set_alarm(one, one.alarm)
  if one.entries > 0 then
    set_entries(one, place)
  end
  call_with_arguments('HDEL', one.actor, deletes, puts - 1)
  call_with_arguments('HSET', one.actor, puts, last)
  grow(one, bytes)
  return 'committed'
end

local function next_commit()
  local one = {actor = KEYS[at_key], alarms = KEYS[at_key + 1], first = at_argument + 11}
  one.id, one.generation, one.kind, one.epoch, one.token, one.sequence, one.alarm, one.destroyed =
    unpack(ARGV, at_argument, at_argument + 7)
  one.entries, one.deletes, one.puts = tonumber(ARGV[at_argument + 8]),
    tonumber(ARGV[at_argument + 9]), tonumber(ARGV[at_argument + 10])
  one.indexes = {unpack(KEYS, at_key + 2, at_key + 1 + one.entries)}
  at_key = at_key + 2 + one.entries
  at_argument = one.first + 2 * one.entries + one.deletes + one.puts
  return one
end

local results = {}
while at_argument <= #ARGV do
  results[#results + 1] = commit(next_commit())
end
local earliest = KEYS[at_key]
if earliest then
  for alarms, first in pairs(alarm_changes) do
    if first then
      redis.call('ZADD', earliest, first, alarms)
    else
      redis.call('ZREM', earliest, alarms)
    end
  end
end
return {tonumber(changes), results}
"""
)
