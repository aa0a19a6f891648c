"""The scripts that Redis runs, each atomic and over keys of one shard.

A script that fails must not have written half of a change, since nothing is
rolled back. So each reads first, and its first write is one that Redis refuses
for the whole script when it is out of memory or read-only.

Only the index over the alarms of all shards is outside the shard. Redis lets a
script write it in the same step because it is one server; a cluster would not, and
has no such index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from rivet_ray_drivers.redis.alarm_scripts import ALARMS, INDEX, NEXT_ALARM
from rivet_ray_drivers.redis.commit_script import COMMIT
from rivet_ray_drivers.redis.layout import FORMAT
from rivet_ray_drivers.redis.lease_scripts import KEPT, MARK_DEAD, RENEW, WRITTEN

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
-- KEYS: identity, actor, ids, sizes, index 0 of the type.  ARGV: store, seen, the 16 digits,
-- the packed type, the packed key, the size of the input, then pairs of fields and values.
-- Gives {changes, 1, generation} where this call created, else {changes, 0, the living record}.
local actor, ids, sizes, index = unpack(KEYS, 2)
local id, kind, key, size = unpack(ARGV, 3, 6)
local generation, created = fields(actor, 'generation', 'created')
if created then
  return {tonumber(changes), 0,
    redis.call('HMGET', actor, 'v', 'generation', 'created', 'place', 'input', 'region')}
end
generation = tonumber(generation or 0) + 1
if generation > 1 then
  id = string.format('%s-%d', id, generation)
end
-- A key of another kind fails before anything is written.
redis.call('ZCARD', index)
redis.call('HLEN', sizes)
redis.call('ZADD', ids, 0, id)
redis.call('ZADD', index, 0, key .. '\0\0' .. id)
redis.call('HINCRBY', sizes, 'n:' .. kind, 1)
redis.call('HINCRBY', sizes, 'b:' .. kind, size)
redis.call('HSET', actor, 'v', FORMAT, 'generation', generation, 'size', size, unpack(ARGV, 7))
redis.call('PERSIST', actor)
count_a_change()
return {changes, 1, generation}
"""

CLAIM = r"""
-- KEYS: identity, actor.  ARGV: store, seen, generation, token, owner, '1' to compare,
-- the expected owner and epoch, the namespace or '', '1' where types are named, then pairs
-- of names of types and the state versions that the claimant has of them.
-- Gives {changes, every field of the actor}, {changes} where it does not live,
-- {changes, why} where the claim is refused.
local actor = KEYS[2]
local wanted, token, owner, compares, expected_owner, expected_epoch, namespace, named =
  unpack(ARGV, 3, 10)
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
    for number = 11, #ARGV, 2 do
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
redis.call('HSET', actor, 'epoch', string.format('%.0f', tonumber(epoch or 0) + 1),
  'token', token, 'owner', owner)
count_a_change()
return {changes, redis.call('HGETALL', actor)}
"""

LIST = r"""
-- KEYS: the ids of successive shards.  ARGV: '-' or '(' and an id, limit, how much
-- to look at, what a place must start with, what its key must start with, '1'
-- where a shard may be on its way to another node of a cluster, then the fields to give.
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
        rows[#rows + 1] = redis.call('HMGET', actor, unpack(ARGV, 7))
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
renew = _guarded(KEPT + WRITTEN + RENEW)
mark_dead = _guarded(KEPT + WRITTEN + MARK_DEAD)

ALL = (begin, create, claim, commit, index, alarms, next_alarm, list_actors, renew, mark_dead)
