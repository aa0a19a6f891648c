"""The scripts that Redis runs, each atomic and over keys of one shard.

A script that fails must not have written half of a change, since nothing is
rolled back. So each reads first, and its first write is one that Redis refuses
for the whole script when it is out of memory or read-only.

Only the index over the shards' alarms is outside the shard. Redis lets a script
write it in the same step because it is one server; a cluster would not, and has
no such index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from rivet_ray_drivers.redis.layout import FORMAT
from rivet_ray_drivers.redis.lease_scripts import KEPT, MARK_DEAD, RENEW

PRELUDE = (
    f"local FORMAT = '{FORMAT}'\n"
    + r"""
-- The values of some fields of a hash; nothing of another format is touched.
local function fields(key, ...)
  local found = redis.call('HMGET', key, 'v', ...)
  if found[1] and found[1] ~= FORMAT then
    error('rivet format ' .. found[1])
  end
  return unpack(found, 2, #found)
end

-- Enters the earliest alarm of a shard into the index over shards, or takes it out.
local function index_alarms(earliest, alarms, indexed)
  local first = redis.call('ZRANGE', alarms, 0, 0, 'WITHSCORES')[2]
  if not first then
    redis.call('ZREM', earliest, alarms)
  elseif first ~= indexed then
    redis.call('ZADD', earliest, first, alarms)
  end
end

-- A command with the arguments ARGV[first] to ARGV[last], which may be more than
-- Lua's stack holds. Chunks are even, so that pairs stay together.
local function call_with_arguments(command, key, first, last)
  for start = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, start, math.min(start + 999, last)))
  end
end
"""
)

GUARD = r"""
-- KEYS[1]: a shard's identity.  ARGV[1], ARGV[2]: the store that the caller opened, and
-- the changes with which it has seen this shard.  Nothing is done in a shard of another
-- store, or in one that has fewer: it has lost some of what was confirmed.
-- Replies begin with the changes there are now.
local shard = KEYS[1]
local store, changes = fields(shard, 'store', 'changes')
if store ~= ARGV[1] then
  error('rivet lost ' .. (store and 'other' or 'empty'))
elseif tonumber(changes) < tonumber(ARGV[2]) then
  error('rivet lost older')
end

local function count_a_change()
  changes = redis.call('HINCRBY', shard, 'changes', 1)
end
"""

BEGIN = r"""
-- KEYS: a shard's identity.  ARGV: a store.  Makes the shard that store's, where it is
-- nobody's; gives the store that it is of.
local store = fields(KEYS[1], 'store')
if not store then
  store = ARGV[1]
  redis.call('HSET', KEYS[1], 'v', FORMAT, 'store', store, 'changes', 0)
end
return store
"""

CREATE = r"""
-- KEYS: identity, actor, ids.  ARGV: store, seen, the 16 digits, then pairs of fields and
-- values.  Gives {changes, 1, generation} where this call created, else {changes, 0, the
-- living record}.
local actor, ids = KEYS[2], KEYS[3]
local generation, created = fields(actor, 'generation', 'created')
if created then
  return {tonumber(changes), 0,
    redis.call('HMGET', actor, 'v', 'generation', 'created', 'place', 'input', 'region')}
end
generation = tonumber(generation or 0) + 1
local id = ARGV[3]
if generation > 1 then
  id = string.format('%s-%d', id, generation)
end
redis.call('ZADD', ids, 0, id)
redis.call('HSET', actor, 'v', FORMAT, 'generation', generation, unpack(ARGV, 4))
count_a_change()
return {changes, 1, generation}
"""

CLAIM = r"""
-- KEYS: identity, actor, alarms.  ARGV: store, seen, id, generation, token, owner,
-- '1' to compare, the expected owner and epoch, the namespace or '', '1' where types are
-- named, then pairs of types and the state versions that the claimant has of them.
-- Gives {changes, alarm, every field of the actor}, {changes} where it does not live,
-- {changes, why} where the claim is refused.
local actor, alarms = KEYS[2], KEYS[3]
local id, wanted, token, owner, compares, expected_owner, expected_epoch, namespace, named =
  unpack(ARGV, 3, 11)
local generation, created, epoch, place, stored_owner, version =
  fields(actor, 'generation', 'created', 'epoch', 'place', 'owner', 'version')
if not created or generation ~= wanted then
  return {tonumber(changes)}
end

local function refusal()
  local _, namespace_end = string.find(place, '\0\1', 1, true)
  if namespace ~= '' and string.sub(place, 1, namespace_end) ~= namespace then
    return 'foreign'
  end
  if named == '1' then
    local _, name_end = string.find(place, '\0\1', namespace_end + 1, true)
    local name, known = string.sub(place, namespace_end + 1, name_end), nil
    for number = 12, #ARGV, 2 do
      if ARGV[number] == name then
        known = tonumber(ARGV[number + 1])
      end
    end
    if not known then
      return 'foreign'
    elseif tonumber(version or 0) > known then
      return 'newer'
    end
  end
  if compares == '1'
    and ((stored_owner or '') ~= expected_owner or tonumber(epoch or 0) ~= tonumber(expected_epoch))
  then
    return 'owned'
  end
end

local why = refusal()
if why then
  return {tonumber(changes), why}
end
local alarm = redis.call('ZSCORE', alarms, id)
redis.call('HSET', actor, 'epoch', string.format('%.0f', tonumber(epoch or 0) + 1),
  'token', token, 'owner', owner)
count_a_change()
return {changes, alarm, redis.call('HGETALL', actor)}
"""

COMMIT = r"""
-- KEYS: identity, alarms, ids, for each commit its actor and tombstones, then earliest
-- alarms, which a cluster has none of.
-- ARGV: store, seen, then for each commit: id, generation, epoch, token, sequence, alarm or '',
-- '1' to destroy, number of deleted fields, number of put fields and values,
-- the deleted fields, the put fields and values.  Gives {changes, the results}.
local alarms, ids, commits = KEYS[2], KEYS[3], math.floor((#KEYS - 3) / 2)
local earliest = KEYS[2 * commits + 4]
local indexed = earliest and redis.call('ZSCORE', earliest, alarms)
local alarms_changed = 0

local function set_alarm(id, alarm, stored)
  if alarm ~= '' then
    alarms_changed = alarms_changed + redis.call('ZADD', alarms, 'CH', alarm, id)
  elseif stored then
    alarms_changed = alarms_changed + redis.call('ZREM', alarms, id)
  end
end

local function destroy(actor, tombstones, id, generation, epoch, tombstone, stored_alarm)
  redis.call('HSET', tombstones, generation, tombstone)
  set_alarm(id, '', stored_alarm)
  redis.call('ZREM', ids, id)
  redis.call('UNLINK', actor)
  redis.call('HSET', actor, 'v', FORMAT, 'generation', generation, 'epoch', epoch)
end

local function commit(actor, tombstones, first)
  local id, generation, epoch, token, sequence, alarm, destroyed =
    unpack(ARGV, first, first + 6)
  local deletes, puts = first + 9, first + 9 + tonumber(ARGV[first + 7])
  local stored_generation, stored_epoch, stored_token, stored_sequence =
    fields(actor, 'generation', 'epoch', 'token', 'sequence')
  local tombstone = epoch .. ' ' .. sequence .. ' ' .. token
  if stored_generation ~= generation or not stored_token then
    if redis.call('HGET', tombstones, generation) == tombstone then
      return 'already_done'
    end
    return 'fenced'
  end
  if stored_epoch ~= epoch or stored_token ~= token then
    return 'fenced'
  end
  local ahead = tonumber(sequence) - tonumber(stored_sequence or 0)
  if ahead == 0 then
    return 'already_done'
  elseif ahead > 1 then
    return 'behind'
  elseif ahead < 0 then
    return 'fenced'
  end
  local stored_alarm = redis.call('ZSCORE', alarms, id)
  if destroyed == '1' then
    destroy(actor, tombstones, id, generation, epoch, tombstone, stored_alarm)
    return 'committed'
  end
  -- The first write: one that needs memory, since Redis refuses none behind another.
  redis.call('HSET', actor, 'sequence', sequence)
  set_alarm(id, alarm, stored_alarm)
  call_with_arguments('HDEL', actor, deletes, puts - 1)
  call_with_arguments('HSET', actor, puts, puts + tonumber(ARGV[first + 8]) - 1)
  return 'committed'
end

local results, first = {}, 3
for number = 4, 2 * commits + 2, 2 do
  results[#results + 1] = commit(KEYS[number], KEYS[number + 1], first)
  first = first + 9 + tonumber(ARGV[first + 7]) + tonumber(ARGV[first + 8])
end
if earliest and alarms_changed > 0 then
  index_alarms(earliest, alarms, indexed)
end
return {tonumber(changes), results}
"""

INDEX = r"""
-- KEYS: earliest alarms, then the alarms of all shards.  Builds the index anew.
local earliest = KEYS[1]
for number = 2, #KEYS do
  index_alarms(earliest, KEYS[number], redis.call('ZSCORE', earliest, KEYS[number]))
end
return redis.call('ZCARD', earliest)
"""

ALARMS = r"""
-- KEYS: earliest alarms, which names the others.  ARGV: now, limit.
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

for _, alarms in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', latest)) do
  local due = redis.call('ZRANGEBYSCORE', alarms, '-inf', latest, 'WITHSCORES', 'LIMIT', 0, limit)
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

NEXT_ALARM = r"""
-- KEYS: earliest alarms, which names the others.  ARGV: the time to look behind.
local earliest, after = KEYS[1], ARGV[1]

local function first_behind(set)
  return redis.call('ZRANGEBYSCORE', set, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
end

-- Of shards that start later the first is as early as any; the others hold some before.
local next_text = first_behind(earliest)
for _, alarms in ipairs(redis.call('ZRANGEBYSCORE', earliest, '-inf', after)) do
  local text = first_behind(alarms)
  if text and (not next_text or tonumber(text) < tonumber(next_text)) then
    next_text = text
  end
end
return next_text or false
"""

LIST = r"""
-- KEYS: the ids of successive shards.  ARGV: '-' or '(' and an id, limit, how much
-- to look at, what a place must start with, what its key must start with, and '1'
-- where a shard may be on its way to another node of a cluster.
-- Gives {rows, the shard to go on with, the id to go on after}.
local after, limit, budget, start, prefix, moves =
  ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]

local function starts_with(text, wanted, from)
  return string.sub(text, from, from + #wanted - 1) == wanted
end

local function is_wanted(place)
  if not place or not starts_with(place, start, 1) then
    return false
  end
  if prefix == '' then
    return true
  end
  local _, name_end = string.find(place, '\0\1', #start + 1, true)
  return starts_with(place, prefix, name_end + 1)
end

local rows = {}
for shard, ids in ipairs(KEYS) do
  local actors = string.sub(ids, 1, -2) .. 'a:'
  repeat
    local page = redis.call('ZRANGEBYLEX', ids, after, '+', 'LIMIT', 0, 100)
    for _, id in ipairs(page) do
      after = '(' .. id
      local actor = actors .. string.sub(id, 1, 16)
      local place = redis.call('HGET', actor, 'place')
      if not place and moves == '1' then
        return redis.error_reply('TRYAGAIN the ids have moved before their actors')
      end
      if is_wanted(place) then
        rows[#rows + 1] = redis.call(
          'HMGET', actor, 'v', 'generation', 'created', 'place', 'input', 'region')
        if #rows == limit then
          return {rows, shard, after}
        end
      end
    end
    budget = budget - 1 - #page
    if budget < 0 then
      return {rows, #page < 100 and shard + 1 or shard, after}
    end
  until #page < 100
end
return {rows, #KEYS + 1, after}
"""


@dataclass(frozen=True)
class Script:
    """A script as Redis knows it: by its source, or by the hash of that."""

    source: bytes
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.source).hexdigest().encode())


def _script(body: str) -> Script:
    return Script((PRELUDE + body).encode())


def _guarded(body: str) -> Script:
    return _script(GUARD + body)


begin = _script(BEGIN)
create = _guarded(CREATE)
claim = _guarded(CLAIM)
commit = _guarded(COMMIT)
index = _script(INDEX)
alarms = _script(ALARMS)
next_alarm = _script(NEXT_ALARM)
list_actors = _script(LIST)
renew = _guarded(KEPT + RENEW)
mark_dead = _guarded(KEPT + MARK_DEAD)

ALL = (begin, create, claim, commit, index, alarms, next_alarm, list_actors, renew, mark_dead)
